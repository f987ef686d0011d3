//! Agents' answers to texts: words alone, counted, to the number, never twice.

use std::time::Duration;

use serde_json::{Value, json};

use super::{NUMBER, desk, got, mail, said, text, to_gateway};
use crate::{
    answers::Desk,
    on_both,
    support::{
        Reply,
        outbound::{send, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

async fn answer(desk: &Desk, way: &str, members: Value) -> Reply {
    let mut body = json!({ "expected_last_message_id": desk.message, "text": "On Monday." });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    desk.agent.post(&desk.path(way), body).await
}

on_both! {
    async fn the_answer_to_a_text_goes_to_the_gateways_address_for_the_number(app) {
        let sink = SmtpSink::start(Behaviour::default()).await;
        let desk = desk(&app, json!({}), "Where is it?").await;
        use_sink(&desk.admin, &sink).await;
        let item = desk.agent.get(&format!("/v1/work-items/{}", desk.item)).await.ok();
        let allowed = item["allowed_actions"].as_array().unwrap();
        assert!(allowed.contains(&json!("reply")) && !allowed.contains(&json!("reply_all")) && !allowed.contains(&json!("forward")), "{allowed:?}");
        let begun = desk.agent.get(&format!("{}?kind=reply", desk.path("reply-template"))).await.ok();
        assert_eq!((&begun["to"][0]["address"], &begun["subject"], &begun["quote_text"]), (&json!(NUMBER), &json!(""), &json!("")));
        let sent = answer(&desk, "reply", json!({})).await.ok();
        assert_eq!(
            (&sent["to"][0]["address"], &sent["segments"]["segments"], &sent["segments"]["units"], &sent["subject"]),
            (&json!(NUMBER), &json!(1), &json!(10), &json!(""))
        );
        send(&app).await;
        assert_eq!(said(&sink), [to_gateway("On Monday.")]);
        let (_, gone) = &got(&sink)[0];
        assert_eq!((gone.html.as_ref(), gone.attachments.len(), gone.from.as_ref().map(|from| from.address.as_str())), (None, 0, Some("texts@example.com")));
        let message = desk.admin.get(&format!("/v1/messages/{}", sent["message_id"].as_str().unwrap())).await.ok();
        assert_eq!((&message["state"], &message["channel"], &message["to"][0]["address"], &message["text"]), (&json!("sent"), &json!("sms"), &json!(NUMBER), &json!("On Monday.\n")));
        let conversation = desk.admin.get(&format!("/v1/conversations/{}", desk.conversation)).await.ok();
        assert_eq!((&conversation["state"], &conversation["channel"]), (&json!("waiting_customer"), &json!("sms")));
    }

    async fn an_address_for_all_numbers_gets_the_number_where_the_account_says(app) {
        let sink = SmtpSink::start(Behaviour::default()).await;
        let number = json!({ "source": "subject", "pattern": "(?P<number>[0-9]{8,})" });
        let sms = json!({ "destination": "sms@gw.test", "number_prefix": "00", "inbound_pattern": { "number": number } });
        let desk = desk(&app, sms, "ignored").await;
        use_sink(&desk.admin, &sink).await;
        let taken = mail(&desk.admin, desk.account.id, "sms@gw.test", "SMS 447700900123", "Hello").await.ok();
        let item = taken["work_item_id"].as_str().unwrap().to_owned();
        let desk = Desk { conversation: taken["conversation_id"].as_str().unwrap().to_owned(), message: taken["message"]["id"].as_str().unwrap().to_owned(), item, ..desk };
        desk.assign(&app, desk.agent_id).await;
        answer(&desk, "reply", json!({})).await.ok();
        send(&app).await;
        let path = format!("/v1/accounts/{}", desk.account.id);
        desk.admin.patch(&path, json!({ "sms": { "number_in": "first_line", "subject": "key7" } })).await.ok();
        answer(&desk, "reply", json!({ "text": "Really." })).await.ok();
        send(&app).await;
        let told = got(&sink);
        let told: Vec<(&str, &str)> = told.iter().map(|(to, mail)| (to.as_str(), mail.subject.as_deref().unwrap_or_default())).collect();
        assert_eq!(told, [("sms@gw.test", "00447700900123"), ("sms@gw.test", "key7")]);
        assert_eq!(said(&sink)[1].1, "00447700900123\nReally.");
    }

    async fn what_texts_have_not_is_refused(app) {
        let desk = desk(&app, json!({ "max_segments": 2 }), "Hello").await;
        for way in ["reply-all", "forward"] {
            let body = match way {
                "forward" => json!({ "to": [{ "address": "ben@example.net" }], "text": "x" }),
                _ => json!({ "expected_last_message_id": desk.message, "text": "x" }),
            };
            desk.agent.post(&desk.path(way), body).await.problem(409, "not_for_texts");
        }
        desk.agent.get(&format!("{}?kind=forward", desk.path("reply-template"))).await.problem(409, "not_for_texts");
        let person = json!([{ "address": "anna@example.org" }]);
        let cases = [
            (json!({ "html": "<p>x</p>" }), "/html", "not_for_sms"),
            (json!({ "to": person }), "/to", "not_for_sms"),
            (json!({ "cc": person }), "/cc", "not_for_sms"),
            (json!({ "bcc": person }), "/bcc", "not_for_sms"),
            (json!({ "subject": "x" }), "/subject", "not_for_sms"),
            (json!({ "attachment_ids": [uuid::Uuid::now_v7()] }), "/attachment_ids", "not_for_sms"),
            (json!({ "text": " \n" }), "/text", "required"),
            (json!({ "text": "a".repeat(307) }), "/text", "too_many_segments"),
            (json!({ "text": "ç".repeat(135) }), "/text", "too_many_segments"),
            (json!({ "text": 7 }), "/text", "type"),
        ];
        for (members, pointer, code) in cases {
            let refused = answer(&desk, "reply", members.clone()).await;
            refused.problem(422, "validation_failed");
            assert_eq!((refused.pointers(), &refused.body["errors"][0]["code"]), (vec![pointer], &json!(code)), "{members}");
        }
        assert_eq!(answer(&desk, "reply", json!({ "text": "a".repeat(306) })).await.ok()["segments"]["segments"], 2);
    }

    async fn what_is_no_text_has_no_number_to_answer(app) {
        let desk = desk(&app, json!({}), "Hello").await;
        let stranger = mail(&desk.admin, desk.account.id, "ben@example.net", "Hi", "Buy!").await.ok();
        let desk = Desk {
            conversation: stranger["conversation_id"].as_str().unwrap().to_owned(),
            message: stranger["message"]["id"].as_str().unwrap().to_owned(),
            item: stranger["work_item_id"].as_str().unwrap().to_owned(),
            ..desk
        };
        desk.assign(&app, desk.agent_id).await;
        answer(&desk, "reply", json!({})).await.problem(422, "no_recipients");
    }

    async fn a_number_that_wants_no_more_texts_gets_none_from_agents_either(app) {
        let sink = SmtpSink::start(Behaviour::default()).await;
        let desk = desk(&app, json!({ "stop_reply": "" }), "Hello").await;
        use_sink(&desk.admin, &sink).await;
        let waits = answer(&desk, "reply", json!({})).await.ok();
        // What somebody here decided of sends that we begin hides nothing of what the number's owner decides.
        desk.admin.post("/v1/suppressions", json!({ "address": NUMBER })).await.ok();
        text(&desk.admin, desk.account.id, NUMBER, "STOP").await;
        answer(&desk, "reply", json!({ "text": "Why?" })).await.problem(409, "number_stopped");
        send(&app).await;
        assert!(sink.received().is_empty());
        let waits = desk.admin.get(&format!("/v1/messages/{}", waits["message_id"].as_str().unwrap())).await.ok();
        assert_eq!(waits["state"], "suppressed");
        text(&desk.admin, desk.account.id, NUMBER, "START").await;
        answer(&desk, "reply", json!({ "text": "Welcome back." })).await.ok();
        send(&app).await;
        assert_eq!(said(&sink).last().unwrap(), &to_gateway("Welcome back."));
    }

    async fn a_text_whose_fate_nobody_knows_is_not_sent_again(app) {
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::TakeAndClose).times(1))).await;
        let desk = desk(&app, json!({}), "Hello").await;
        use_sink(&desk.admin, &sink).await;
        let sent = answer(&desk, "reply", json!({})).await.ok();
        for _ in 0..3 {
            send(&app).await;
            app.app.clock.advance(Duration::from_secs(700));
        }
        let admin = app.admin().await;
        let message = admin.get(&format!("/v1/messages/{}", sent["message_id"].as_str().unwrap())).await.ok();
        assert_eq!((&message["state"], sink.received().len()), (&json!("uncertain"), 1));
    }
}
