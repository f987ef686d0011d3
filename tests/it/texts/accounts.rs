//! Accounts for texts: what of a gateway's settings is refused, and trying them on a mail.

use serde_json::{Value, json};

use super::account_with;
use crate::{inbound::account, on_both, support::Client};

async fn preview(admin: &Client, account: impl ToString, body: Value) -> Value {
    admin.post(&format!("/v1/accounts/{}/preview-text", account.to_string()), body).await.ok()
}

on_both! {
    async fn settings_of_a_gateway_that_cannot_be_used_are_refused_at_their_pointer(app) {
        let admin = app.admin().await;
        let pattern = |pattern: &str| json!({ "source": "subject", "pattern": pattern });
        let cases = [
            (json!({}), "/sms/destination"),
            (json!({ "destination": "sms@" }), "/sms/destination"),
            (json!({ "number_prefix": "x" }), "/sms/number_prefix"),
            (json!({ "country_code": "044" }), "/sms/country_code"),
            (json!({ "senders": ["gw.test"] }), "/sms/senders/0"),
            (json!({ "inbound_pattern": { "number": pattern("(?P<number>") } }), "/sms/inbound_pattern/number/pattern"),
            (json!({ "inbound_pattern": { "number": pattern("^[0-9]+$") } }), "/sms/inbound_pattern/number/pattern"),
            (json!({ "inbound_pattern": { "text": pattern("(?P<number>.)") } }), "/sms/inbound_pattern/text/pattern"),
            (json!({ "inbound_pattern": { "text": pattern("(?P<text>\\w{1000}){1000}") } }), "/sms/inbound_pattern/text/pattern"),
            (json!({ "inbound_pattern": { "text": { "source": "body", "pattern": "x" } } }), "/sms/inbound_pattern/text/source"),
            (json!({ "receipt_pattern": pattern("(?P<number>.)") }), "/sms/receipt_pattern/pattern"),
            (json!({ "max_segments": 0 }), "/sms/max_segments"),
            (json!({ "stop_words": ["stop it"] }), "/sms/stop_words/0"),
            (json!({ "start_words": ["STOP"] }), "/sms/start_words/0"),
            (json!({ "stop_reply": "x".repeat(200), "max_segments": 1 }), "/sms/stop_reply"),
        ];
        for (members, pointer) in cases {
            let mut sms = if pointer == "/sms/destination" { json!({}) } else { json!({ "destination": "@gw.test" }) };
            sms.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let refused = admin.post("/v1/accounts", json!({ "channel": "sms", "address": "texts@example.com", "sms": sms })).await;
            refused.problem(422, "validation_failed");
            assert_eq!(refused.pointers(), [pointer], "{members}");
        }
        for destination in ["@gw.test", "gw.test", "sms@gw.test", "send+{number}@gw.test"] {
            let made = json!({ "channel": "sms", "address": format!("{}@example.com", destination.len()), "sms": { "destination": destination } });
            let made = admin.post("/v1/accounts", made).await.ok();
            assert_eq!((&made["sms"]["destination"], &made["sms"]["max_segments"]), (&json!(destination), &json!(6)));
        }
    }

    async fn what_an_account_would_make_of_a_mail_is_shown(app) {
        let admin = app.admin().await;
        let id = account_with(&admin, json!({})).await;
        let shown = preview(&admin, id, json!({ "from": "Gate <447700900123@gw.test>", "text": "Héllo €" })).await;
        assert_eq!(
            (&shown["kind"], &shown["number"], &shown["text"], &shown["answered_at"], &shown["segments"]["encoding"], &shown["segments"]["units"]),
            (&json!("text"), &json!("+447700900123"), &json!("Héllo €"), &json!("447700900123@gw.test"), &json!("gsm7"), &json!(8))
        );
        assert_eq!(preview(&admin, id, json!({ "from": "07700900123@gw.test", "text": "stop" })).await["keyword"], "stop");
        let none = |body: Value| (body["kind"].clone(), body["code"].clone());
        let stranger = json!({ "from": "447700900123@evil.test", "text": "x" });
        assert_eq!(none(preview(&admin, id, stranger).await), (json!("none"), json!("not_from_gateway")));
        assert_eq!(none(preview(&admin, id, json!({ "from": "sms@gw.test" })).await), (json!("none"), json!("invalid_number")));
        // Other settings are tried without being stored, on a mail's source too.
        let sms = json!({
            "destination": "sms@gw.test",
            "inbound_pattern": {
                "number": { "source": "subject", "pattern": "^SMS from (?P<number>[+0-9 ]+)$" },
                "text": { "source": "text", "pattern": "(?s)^Message: (?P<text>.*?)\\s+-- " },
            },
            "receipt_pattern": { "source": "subject", "pattern": "^Report (?P<number>[0-9]+): (?P<status>.*)$" },
        });
        let source = "From: sms@gw.test\r\nSubject: SMS from +44 7700 900456\r\n\r\nMessage: See you\r\nat nine\r\n-- \r\ngw.test\r\n";
        let shown = preview(&admin, id, json!({ "mail": source, "sms": sms })).await;
        assert_eq!((&shown["number"], &shown["text"]), (&json!("+447700900456"), &json!("See you\nat nine")), "{shown}");
        let receipt = json!({ "from": "sms@gw.test", "subject": "Report 447700900456: UNDELIVERED (27)", "sms": sms });
        let shown = preview(&admin, id, receipt).await;
        assert_eq!((&shown["kind"], &shown["fate"], &shown["status"]), (&json!("receipt"), &json!("failed"), &json!("UNDELIVERED (27)")));
        let unmatched = json!({ "from": "sms@gw.test", "subject": "SMS from +44 7700 900456", "text": "Hello", "sms": sms });
        assert_eq!(none(preview(&admin, id, unmatched).await).1, "text_not_found");
        let missing = json!({ "from": "sms@gw.test", "subject": "Hello", "sms": sms });
        assert_eq!(none(preview(&admin, id, missing).await).1, "number_not_found");
    }

    async fn what_cannot_be_tried_is_refused(app) {
        let admin = app.admin().await;
        let id = account_with(&admin, json!({})).await;
        let path = format!("/v1/accounts/{id}/preview-text");
        let refused = admin.post(&path, json!({ "sms": { "destination": "@gw.test", "senders": ["x y@z"] } })).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/sms/senders/0"]);
        admin.post(&path, json!({ "from": 1 })).await.problem(422, "validation_failed");
        let post = account(&app, "support@example.com").await.id;
        admin.post(&format!("/v1/accounts/{post}/preview-text"), json!({})).await.problem(409, "invalid_state");
        admin.post(&format!("/v1/accounts/{}/preview-text", uuid::Uuid::now_v7()), json!({})).await.problem(404, "not_found");
    }
}
