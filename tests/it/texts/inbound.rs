//! What a gateway mails: texts in their number's conversation, words that are obeyed, receipts, and everything else.

use std::time::Duration;

use serde_json::{Value, json};

use super::{NUMBER, account_with, desk, got, mail, said, text, to_gateway, work_of};
use crate::{
    inbound::push,
    on_both,
    support::{
        Client, TestApp,
        customers::{list, person, store},
        outbound::{send, timeline, use_sink},
        smtp_sink::{Behaviour, SmtpSink},
    },
};
use postroom::{events::entity as event, suppressions::AddressKeys};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

async fn suppression(admin: &Client) -> Vec<Value> {
    let page = admin.get("/v1/suppressions?channel=sms").await.ok();
    page["items"].as_array().unwrap().iter().map(|one| one["reason"].clone()).collect()
}

async fn send_to(admin: &Client, words: &str) -> Value {
    admin.post("/v1/messages", json!({ "to": { "number": NUMBER }, "content": { "text": words } })).await.ok()
}

async fn customer(app: &TestApp) {
    let list = list(&app.app, "Numbers", None).await;
    let mut anna = person(&app.app, list, 1);
    anna.name = "Anna".into();
    anna.sms_key = Some(AddressKeys::of(&app.app).key(NUMBER));
    anna.sms_number = Some(NUMBER.into());
    store(&app.app, vec![anna]).await;
}

on_both! {
    async fn texts_of_a_number_go_on_in_its_conversation_and_an_old_ones_agent_comes_first(app) {
        let app = TestApp::frozen(app.backend).await;
        let desk = desk(&app, json!({}), "Where is my order?").await;
        customer(&app).await;
        let (admin, id) = (&desk.admin, desk.account.id);
        let message = admin.get(&format!("/v1/messages/{}", desk.message)).await.ok();
        assert_eq!(
            (&message["channel"], &message["state"], &message["classification"], &message["from"]["address"], &message["text"], &message["subject"]),
            (&json!("sms"), &json!("parsed"), &json!("normal"), &json!(NUMBER), &json!("Where is my order?"), &json!(""))
        );
        let item = admin.get(&format!("/v1/work-items/{}", desk.item)).await.ok();
        assert_eq!((&item["channel"], &item["customer_address"]), (&json!("sms"), &json!(NUMBER)));
        // The same number in another spelling, and now a customer whom we know.
        let second = mail(admin, id, "\"+44 7700 900123\" <07700900123@gw.test>", "SMS", "Hello?").await.ok();
        assert_eq!((&second["conversation_id"], &second["work_item_id"]), (&json!(desk.conversation), &json!(desk.item)));
        assert_eq!((&second["message"]["from"]["name"], second["message"]["customer_id"].is_string()), (&json!("Anna"), true));
        assert_ne!(text(admin, id, "+447700900999", "Hi").await["conversation_id"], json!(desk.conversation));
        for written in ["%2B447700900123", "+447700900123", "447700900123"] {
            let found = admin.get(&format!("/v1/messages?address={written}")).await.ok();
            assert_eq!(found["items"].as_array().unwrap().len(), 2, "{written}");
        }
        let reply = json!({ "expected_last_message_id": second["message"]["id"], "text": "On Monday.", "complete": true });
        desk.agent.post(&desk.path("reply"), reply).await.ok();
        let third = text(admin, id, NUMBER, "Thank you").await;
        assert_eq!(third["conversation_id"], json!(desk.conversation), "it was closed a moment ago");
        desk.assign(&app, desk.agent_id).await;
        let item = third["work_item_id"].as_str().unwrap();
        assert_ne!(item, desk.item);
        desk.agent.post(&format!("/v1/work-items/{item}/complete"), json!({})).await.ok();
        app.app.clock.advance(Duration::from_secs(8 * 24 * 3600));
        let admin = &app.admin().await;
        let fourth = text(admin, id, NUMBER, "One more thing").await;
        assert_ne!(fourth["conversation_id"], json!(desk.conversation), "that was long ago");
        let item = work_of(admin, fourth["conversation_id"].as_str().unwrap()).await;
        assert_eq!(item[0]["last_agent_id"], json!(desk.agent_id));
    }

    async fn mail_of_others_is_kept_for_an_agent_and_no_number_in_it_is_believed(app) {
        let admin = app.admin().await;
        let id = account_with(&admin, json!({})).await;
        let first = text(&admin, id, NUMBER, "Hello").await;
        for (from, code) in [("447700900123@evil.test", "not_from_gateway"), ("sms@gw.test", "invalid_number")] {
            let taken = mail(&admin, id, from, "SMS", "STOP").await.ok();
            assert_ne!(taken["conversation_id"], first["conversation_id"]);
            let reason = taken["message"]["state_reason"].as_str().unwrap();
            assert_eq!(taken["message"]["state"], "unparsed");
            assert!(reason.starts_with(code), "{reason}");
            assert_eq!(taken["message"]["from"]["address"], from);
            assert_eq!(work_of(&admin, taken["conversation_id"].as_str().unwrap()).await.len(), 1);
        }
        assert!(suppression(&admin).await.is_empty());
    }

    async fn a_stop_word_bars_the_number_with_one_confirmation_and_a_start_word_lifts_only_that(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let id = account_with(&admin, json!({ "stop_reply": "Bye.", "start_reply": "" })).await;
        let waiting = send_to(&admin, "Before").await;
        let stopped = text(&admin, id, NUMBER, " Stop! ").await;
        assert_eq!((&stopped["work_item_id"], &stopped["conversation_id"]), (&Value::Null, &waiting["conversation_id"]));
        assert!(stopped["message"]["state_reason"].as_str().unwrap().starts_with("stop_word"), "{stopped}");
        assert_eq!(suppression(&admin).await, ["stopped"]);
        text(&admin, id, NUMBER, "STOPALL").await;
        send(&app).await;
        assert_eq!(said(&sink), [to_gateway("Bye.")], "what waited is held back, and it is confirmed once");
        assert_eq!(got(&sink)[0].1.headers["auto-submitted"], ["auto-replied"]);
        assert_eq!(sink.received()[0].from, "texts@example.com");
        assert_eq!(admin.get(&format!("/v1/messages/{}", waiting["id"].as_str().unwrap())).await.ok()["state"], "suppressed");
        let barred = send_to(&admin, "After").await;
        assert_eq!((&barred["state"], &barred["suppressed_by"]), (&json!("suppressed"), &json!("stopped")));
        let back = text(&admin, id, NUMBER, "start").await;
        assert_eq!((&back["work_item_id"], suppression(&admin).await), (&Value::Null, vec![]));
        assert_eq!(send_to(&admin, "Again").await["state"], "queued");
        send(&app).await;
        assert_eq!(said(&sink).last().unwrap(), &to_gateway("Again"));
        let told = event::Entity::find().filter(event::Column::Kind.starts_with("suppression."));
        let told = told.order_by_asc(event::Column::Seq).all(app.app.db.read()).await.unwrap();
        let told: Vec<&str> = told.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(told, ["suppression.created", "suppression.deleted"]);
        // What somebody here decided is not lifted.
        admin.post("/v1/suppressions", json!({ "address": NUMBER, "reason": "manual" })).await.ok();
        text(&admin, id, NUMBER, "STOP").await;
        text(&admin, id, NUMBER, "START").await;
        assert_eq!(suppression(&admin).await, ["manual"]);
        assert!(work_of(&admin, back["conversation_id"].as_str().unwrap()).await.is_empty());
    }

    async fn words_are_the_accounts_own_and_help_is_answered_once_and_then_work(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let id = account_with(&admin, json!({ "stop_words": ["ARRÊT"], "help_reply": "Call us." })).await;
        let asked = text(&admin, id, NUMBER, "help").await;
        assert_eq!(asked["work_item_id"], Value::Null);
        send(&app).await;
        assert_eq!(said(&sink), [to_gateway("Call us.")]);
        assert!(text(&admin, id, NUMBER, "HELP").await["work_item_id"].is_string(), "the same answer helps nobody");
        assert!(text(&admin, id, NUMBER, "STOP").await["work_item_id"].is_string(), "it is no word of this account");
        assert!(suppression(&admin).await.is_empty());
        text(&admin, id, NUMBER, "arrêt").await;
        assert_eq!(suppression(&admin).await, ["stopped"]);
    }

    async fn receipts_and_bounces_move_the_text_and_are_nobodys_work(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let receipts = json!({ "receipt_pattern": { "source": "subject", "pattern": "^Report (?P<number>\\+?[0-9]+): (?P<status>.*)$" } });
        let id = account_with(&admin, receipts).await;
        let one = send_to(&admin, "One").await;
        send(&app).await;
        let report = async |status: &str| mail(&admin, id, "reports@gw.test", &format!("Report 447700900123: {status}"), "-").await.ok();
        let state = async |message: &Value| {
            let shown = admin.get(&format!("/v1/messages/{}", message["id"].as_str().unwrap())).await.ok();
            (shown["state"].clone(), shown["state_reason"].clone())
        };
        let noted = report("buffered at the phone's network").await;
        assert_eq!((&noted["work_item_id"], &noted["conversation_id"]), (&Value::Null, &one["conversation_id"]));
        assert_eq!(state(&one).await.0, "sent");
        report("DELIVRD").await;
        assert_eq!(state(&one).await, (json!("delivered"), json!("DELIVRD")));
        let steps = timeline(&admin, one["id"].as_str().unwrap().parse().unwrap()).await;
        assert_eq!(&steps[steps.len() - 2..], ["reported", "delivered"]);
        // Only the gateway's receipts count.
        let forged = mail(&admin, id, "reports@evil.test", "Report 447700900123: failed", "-").await.ok();
        assert_eq!((&forged["message"]["state"], state(&one).await.0), (&json!("unparsed"), json!("delivered")));
        let two = send_to(&admin, "Two").await;
        send(&app).await;
        let header = got(&sink)[1].1.message_id.clone().unwrap();
        let bounced = push(&admin, id, crate::broadcasts::bounce("447700900123@gw.test", "5.1.1", &header)).await.ok();
        assert_eq!((&bounced["work_item_id"], state(&two).await.0), (&Value::Null, json!("bounced")));
        assert!(suppression(&admin).await.is_empty(), "it says nothing of the number");
        // A receipt about nothing of ours is kept and is no work either.
        let stray = mail(&admin, id, "reports@gw.test", "Report 447700900777: DELIVRD", "-").await.ok();
        assert_eq!(stray["work_item_id"], Value::Null);
    }
}
