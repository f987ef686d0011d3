//! Single texts, batches and message rules by SMS.

use postroom::{id::AccountId, suppressions::AddressKeys};
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use super::{NUMBER, account_with, said, text, to_gateway};
use crate::{
    inbound::account,
    on_both,
    support::{
        Client, TestApp,
        customers::{list, person, store},
        outbound::{send, use_sink},
        smtp_sink::{Behaviour, SmtpSink},
    },
};

async fn template(admin: &Client, words: &str) -> String {
    let name: String = words.chars().take(40).collect();
    let fields = json!([{ "name": "words", "type": "string" }]);
    let body = json!({ "name": name, "channel": "sms", "text": words, "fields": fields });
    let id = admin.post("/v1/templates", body).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id
}

/// `c1` has a number, `c2` has none.
async fn people(app: &TestApp) -> postroom::id::ListId {
    let list = list(&app.app, "Numbers", None).await;
    let mut with = person(&app.app, list, 1);
    with.sms_key = Some(AddressKeys::of(&app.app).key(NUMBER));
    with.sms_number = Some(NUMBER.into());
    store(&app.app, vec![with, person(&app.app, list, 2)]).await;
    list
}

async fn campaign(admin: &Client, account: AccountId, rules: Value) -> String {
    let body = json!({ "name": "Texts", "sms_account_id": account, "message_rules": rules });
    let id = admin.post("/v1/campaigns", body).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/campaigns/{id}/start"), json!({})).await.ok();
    id
}

on_both! {
    async fn a_text_goes_to_a_number_or_a_customers_and_a_dry_run_counts_it(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        // Another account for mail does not matter.
        account(&app, "support@example.com").await;
        let id = account_with(&admin, json!({})).await;
        people(&app).await;
        let template = template(&admin, "Dear {{ customer.name }}, {{ to.address }}").await;
        let shown = admin.post("/v1/messages", json!({ "customer_ref": "c1", "template_id": template, "dry_run": true })).await.ok();
        assert_eq!(
            (&shown["channel"], &shown["account_id"], &shown["text"], &shown["segments"]["units"], &shown["to"]["address"]),
            (&json!("sms"), &json!(id), &json!("Dear Customer 1, +447700900123\n"), &json!(30), &json!(NUMBER))
        );
        let first = admin.post("/v1/messages", json!({ "customer_ref": "c1", "template_id": template })).await.ok();
        let second = json!({ "to": { "number": "0044 7700 900-123" }, "content": { "text": "And this." }, "external_ref": "x" });
        let second = admin.post("/v1/messages", second).await.ok();
        assert_eq!(first["conversation_id"], second["conversation_id"], "one number, one conversation");
        send(&app).await;
        assert_eq!(said(&sink), [to_gateway("Dear Customer 1, +447700900123"), to_gateway("And this.")]);
        let answered = text(&admin, id, NUMBER, "Fine").await;
        assert_eq!(answered["conversation_id"], first["conversation_id"]);
        let test = json!({ "to": { "number": NUMBER }, "customer_id": first["customer_id"] });
        let test = admin.post(&format!("/v1/templates/{template}/test-send"), test).await.ok();
        assert_eq!(test["text"], "[Test] Dear Customer 1, +447700900123\n");
        let preview = admin.post(&format!("/v1/templates/{template}/preview"), json!({ "customer_id": first["customer_id"] })).await.ok();
        assert_eq!((&preview["text"], &preview["segments"]["segments"]), (&json!("Dear Customer 1, +447700900123"), &json!(1)));
    }

    async fn what_cannot_be_sent_as_a_text_is_refused(app) {
        let admin = app.admin().await;
        let post = account(&app, "support@example.com").await.id;
        let to = json!({ "number": NUMBER });
        let words = json!({ "text": "Hello" });
        let none = admin.post("/v1/messages", json!({ "to": to, "content": words })).await;
        none.problem(422, "validation_failed");
        assert_eq!(none.pointers(), ["/account_id"], "there is no account for texts");
        account_with(&admin, json!({ "max_segments": 1 })).await;
        people(&app).await;
        let long = template(&admin, "{{ words }}").await;
        let cases = [
            (json!({ "to": {}, "channel": "sms", "content": words }), "/to/number", "required"),
            (json!({ "to": { "number": "12" }, "content": words }), "/to/number", "invalid_number"),
            (json!({ "to": { "number": "07700 900123" }, "content": words }), "/to/number", "invalid_number"),
            (json!({ "to": { "number": NUMBER, "address": "a@example.org" }, "channel": "sms", "content": words }), "/to/number", "not_both"),
            (json!({ "to": { "address": "a@example.org" }, "channel": "sms", "content": words }), "/to/address", "wrong_channel"),
            (json!({ "to": { "number": NUMBER, "name": "a\r\nb" }, "content": words }), "/to/name", "header_injection"),
            (json!({ "to": to, "content": { "text": "x", "subject": "y" } }), "/content/subject", "not_for_sms"),
            (json!({ "to": to, "content": { "text": "x", "html": "<p>y</p>" } }), "/content/html", "not_for_sms"),
            (json!({ "to": to, "content": {} }), "/content/text", "required"),
            (json!({ "to": to, "content": { "text": "x".repeat(161) } }), "/content/text", "too_many_segments"),
            (json!({ "to": to, "template_id": long, "variables": { "words": "x".repeat(200) } }), "/variables", "too_many_segments"),
            (json!({ "to": to, "template_id": long, "variables": { "words": " " } }), "/variables", "empty_text"),
            (json!({ "to": to, "content": words, "account_id": post }), "/account_id", "wrong_channel"),
            (json!({ "to": { "address": "a@example.org" }, "template_id": long }), "/template_id", "wrong_channel"),
            (json!({ "customer_ref": "c2", "channel": "sms", "content": words }), "/customer_ref", "no_address"),
            (json!({ "to": { "address": "a@example.org" }, "content": { "text": "x" } }), "/content/subject", "required"),
            (json!({ "to": to, "channel": "fax", "content": words }), "/channel", "unknown_value"),
        ];
        for (body, pointer, code) in cases {
            let refused = admin.post("/v1/messages", body.clone()).await;
            refused.problem(422, "validation_failed");
            assert_eq!((refused.pointers(), &refused.body["errors"][0]["code"]), (vec![pointer], &json!(code)), "{body}");
        }
        let batch = json!({ "messages": [
            { "to": to, "content": { "text": "One" } }, { "to": to, "content": { "text": "x".repeat(161) } }, { "to": to, "content": { "text": "Two" } },
        ] });
        let batch = admin.post("/v1/messages/batch", batch).await.ok();
        assert_eq!((&batch["created"], &batch["refused"], &batch["items"][1]["status"]), (&json!(2), &json!(1), &json!(422)));
        assert_eq!(batch["items"][0]["message"]["conversation_id"], batch["items"][2]["message"]["conversation_id"]);
    }

    async fn rules_send_texts_once_to_customers_with_a_number_who_have_not_stopped(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let id = account_with(&admin, json!({ "max_segments": 1 })).await;
        let list = people(&app).await;
        let (tried, long) = (template(&admin, "We tried to reach you.").await, template(&admin, &"long ".repeat(40)).await);
        let campaign = campaign(&admin, id, json!([
            { "name": "tried", "trigger": "first_attempt", "channel": "sms", "template_id": tried },
            { "name": "long", "trigger": "first_attempt", "channel": "sms", "template_id": long },
            { "name": "callback", "trigger": "callback_set", "channel": "sms", "template_id": tried, "once": false },
        ])).await;
        let row = postroom::customers::entity::customer_list::ActiveModel { id: Set(list), campaign_id: Set(Some(campaign.parse().unwrap())), ..Default::default() };
        let tx = app.app.db.begin().await.unwrap();
        postroom::customers::entity::customer_list::Entity::update(row).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let attempt = async |customer: &str, body: Value| {
            let mut whole = json!({ "campaign_id": campaign });
            whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            admin.post(&format!("/v1/customers/by-ref/{customer}/attempts"), whole).await.ok()
        };
        let first = attempt("c1", json!({ "attempt_ref": "1" })).await;
        assert_eq!((&first["messages"][0]["name"], &first["messages"][0]["to"]["address"]), (&json!("tried"), &json!(NUMBER)), "{first}");
        assert_eq!((&first["skipped"][0]["name"], &first["skipped"][0]["reason"]), (&json!("long"), &json!("too_many_segments")), "{first}");
        let without = attempt("c2", json!({ "attempt_ref": "1" })).await;
        assert_eq!((&without["messages"], &without["skipped"][0]["reason"]), (&json!([]), &json!("no_address")));
        send(&app).await;
        assert_eq!(said(&sink), [to_gateway("We tried to reach you.")]);
        text(&admin, id, NUMBER, "STOP").await;
        let later = json!({ "attempt_ref": "2", "next": { "callback_at": "2030-01-01T09:00:00Z" } });
        let later = attempt("c1", later).await;
        assert_eq!((&later["skipped"][0]["reason"], &later["skipped"][0]["suppressed_by"]), (&json!("suppressed"), &json!("stopped")), "{later}");
    }
}
