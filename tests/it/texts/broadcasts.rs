//! Broadcasts by SMS: to customers' numbers, each once, counted before, answered in their conversations.

use std::time::Duration;

use postroom::{
    broadcasts::watch::tend, customers::entity::customer, suppressions::AddressKeys, workers::Step,
};
use serde_json::{Value, json};

use super::{account_with, said, text};
use crate::{
    on_both,
    support::{
        Client, TestApp,
        customers::{list, person, store},
        outbound::{send, use_sink},
        smtp_sink::{Behaviour, SmtpSink},
    },
};

fn number(number: usize) -> String {
    format!("+4477009001{number:02}")
}

fn with_number(app: &TestApp, mut person: customer::Model, number: &str) -> customer::Model {
    person.sms_key = Some(AddressKeys::of(&app.app).key(number));
    person.sms_number = Some(number.to_owned());
    person
}

async fn template(admin: &Client, words: &str) -> String {
    let body = json!({ "name": "Offer", "channel": "sms", "category": "marketing", "text": words });
    let id = admin.post("/v1/templates", body).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id
}

/// Those who look at it get it as texts too.
async fn assert_tests(admin: &Client, id: &str) {
    let path = format!("/v1/broadcasts/{id}/test-send");
    let to = |to: Value| json!({ "to": to });
    let tested = admin.post(&path, to(json!([{ "number": "+44 7700 900777" }]))).await.ok();
    let sent = &tested["messages"][0];
    assert_eq!(
        (&tested["text"], &tested["subject"], &sent["to"]["number"], &sent["state"]),
        (&json!("[Test] Hello Customer 0\n"), &json!(""), &json!("+44 7700 900777"), &json!("queued")),
        "{tested}"
    );
    let refused = [
        (json!([{ "address": "editor@example.net" }]), "/to/0/address", "wrong_channel"),
        (json!([{ "number": "+447700900777" }, { "number": "+44 7700 900777" }]), "/to/1", "duplicate"),
        (json!([{ "number": "12" }]), "/to/0/number", "invalid_number"),
    ];
    for (people, pointer, code) in refused {
        let refused = admin.post(&path, to(people)).await;
        assert_eq!((refused.pointers(), &refused.body["errors"][0]["code"]), (vec![pointer], &json!(code)));
    }
}

async fn finish(app: &TestApp, admin: &Client, id: &str) -> Value {
    for _ in 0..100 {
        while let Step::Worked(_) = tend(app.app.clone()).await.unwrap() {}
        send(app).await;
        let shown = admin.get(&format!("/v1/broadcasts/{id}")).await.ok();
        if !shown["ended_at"].is_null() {
            return shown;
        }
        app.app.clock.advance(Duration::from_secs(2));
    }
    panic!("it does not end");
}

on_both! {
    async fn a_broadcast_by_sms_reaches_each_number_once_and_an_answer_goes_on_with_it(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let account = account_with(&admin, json!({ "max_segments": 2, "stop_reply": "" })).await;
        let list = list(&app.app, "Autumn", None).await;
        let mut people: Vec<customer::Model> = (0..6).map(|n| with_number(&app, person(&app.app, list, n), &number(n))).collect();
        people[1] = with_number(&app, people[1].clone(), &number(0));
        (people[2].sms_number, people[2].sms_key) = (None, None);
        people[4].name = "x".repeat(180);
        people[5].name = "y".repeat(310);
        store(&app.app, people).await;
        text(&admin, account, &number(3), "STOP").await;
        let template = template(&admin, "Hello {{ customer.name }}").await;
        let draft = json!({ "name": "Autumn", "channel": "sms", "target": { "list_id": list }, "template_id": template, "account_id": account });
        let id = admin.post("/v1/broadcasts", draft).await.ok()["id"].as_str().unwrap().to_owned();
        let preflight = admin.post(&format!("/v1/broadcasts/{id}/preflight"), json!({})).await.ok();
        assert_eq!(
            (&preflight["recipients"], &preflight["excluded"], &preflight["obstacles"]),
            (&json!(3), &json!({ "duplicate": 1, "no_address": 1, "suppressed": 1 }), &json!([])), "{preflight}"
        );
        assert_eq!(preflight["segments"], json!({ "total": 3, "most": 2, "too_long": 1, "failed": 0 }));
        assert_tests(&admin, &id).await;
        admin.post(&format!("/v1/broadcasts/{id}/start"), json!({})).await.ok();
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["channel"], &shown["counts"]["sent"], &shown["counts"]["failed"]), (&json!("sms"), &json!(2), &json!(1)), "{shown}");
        let mut told = said(&sink);
        told.sort_unstable();
        let expected = [
            ("447700900100@gw.test".to_owned(), "Hello Customer 0".to_owned()),
            ("447700900104@gw.test".to_owned(), format!("Hello {}", "x".repeat(180))),
            ("447700900777@gw.test".to_owned(), "[Test] Hello Customer 0".to_owned()),
        ];
        assert_eq!(told, expected);
        let ledger = admin.get(&format!("/v1/broadcasts/{id}/recipients?limit=200")).await.ok();
        let failed = ledger["items"].as_array().unwrap().iter().find(|row| row["state"] == "failed").unwrap();
        assert!(failed["reason"].as_str().unwrap().contains("segments"), "{failed}");

        let answer = text(&admin, account, &number(0), "Yes please").await;
        let conversation = answer["conversation_id"].as_str().unwrap();
        let messages = admin.get(&format!("/v1/conversations/{conversation}/messages")).await.ok();
        let kinds: Vec<&str> = messages["items"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
        assert_eq!((kinds, answer["work_item_id"].is_string()), (vec!["broadcast", "customer"], true));
        assert_eq!(text(&admin, account, &number(0), "And soon").await["conversation_id"], json!(conversation));
    }

    async fn what_keeps_a_broadcast_by_sms_from_being_begun_is_said(app) {
        let admin = app.admin().await;
        let account = account_with(&admin, json!({})).await;
        let post = crate::inbound::account(&app, "support@example.com").await.id;
        let list = list(&app.app, "Autumn", None).await;
        let template = template(&admin, "Hello").await;
        let draft = json!({ "name": "Autumn", "channel": "sms", "target": { "list_id": list }, "template_id": template });
        let with = |account: Value, channel: &str| {
            let mut body = draft.clone();
            (body["account_id"], body["channel"]) = (account, json!(channel));
            body
        };
        let refused = admin.post("/v1/broadcasts", draft.clone()).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/account_id"]);
        let refused = admin.post("/v1/broadcasts", with(json!(post), "sms")).await;
        assert_eq!((refused.pointers(), &refused.body["errors"][0]["code"]), (vec!["/account_id"], &json!("wrong_channel")));
        admin.post("/v1/broadcasts", with(json!(account), "fax")).await.problem(422, "validation_failed");
        let id = admin.post("/v1/broadcasts", with(json!(post), "email")).await.ok()["id"].as_str().unwrap().to_owned();
        let preflight = admin.post(&format!("/v1/broadcasts/{id}/preflight"), json!({})).await.ok();
        let obstacle = preflight["obstacles"].as_array().unwrap().iter().find(|one| one["code"] == "wrong_channel").unwrap().clone();
        assert_eq!((&obstacle["pointer"], &preflight["segments"]), (&json!("/template_id"), &Value::Null));
    }
}
