//! Two at once, and once only.

use postroom::inbound::{accept, batch::Batch};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Desk, MAIL};
use crate::{
    inbound::{break_commits, incoming, push, push::objects},
    on_both,
};

on_both! {
    async fn an_answer_to_a_conversation_that_went_on_is_refused(app) {
        let desk = Desk::new(&app).await;
        let again = MAIL.replace("c1@", "c2@").replace("Subject:", "In-Reply-To: <c1@example.org>\r\nSubject:");
        push(&desk.admin, desk.account.id, again).await.ok();
        let stale = json!({ "expected_last_message_id": desk.message, "text": "x" });
        desk.agent.post(&desk.path("reply"), stale.clone()).await.problem(409, "conversation_changed");
        desk.agent.post(&desk.path("reply-all"), stale).await.problem(409, "conversation_changed");
        let forward = json!({ "expected_last_message_id": desk.message, "to": [{ "address": "ben@example.net" }] });
        desk.agent.post(&desk.path("forward"), forward).await.problem(409, "conversation_changed");
        assert_eq!(desk.messages().await.len(), 2);
        desk.reply("reply", json!({ "message_id": desk.message })).await.ok();
    }

    async fn an_answer_and_a_customers_mail_at_once_come_one_after_the_other(app) {
        let desk = Desk::new(&app).await;
        let mut seen = desk.message.clone();
        for round in 0..10 {
            let again = MAIL.replace("c1@", &format!("r{round}@")).replace("Subject:", "In-Reply-To: <c1@example.org>\r\nSubject:");
            let body = json!({ "expected_last_message_id": seen, "text": "x" });
            let path = desk.path("reply");
            let (pushed, answered) = tokio::join!(push(&desk.admin, desk.account.id, again), desk.agent.post(&path, body));
            let pushed = pushed.ok()["message"]["id"].as_str().unwrap().to_owned();
            let conversation = desk.admin.get(&format!("/v1/conversations/{}", desk.conversation)).await.ok();
            // The mail came after the answer, or the answer was refused for it.
            assert_eq!(conversation["last_message_id"], pushed.as_str());
            assert_eq!(conversation["state"], "open");
            match answered.status {
                201 => {}
                _ => answered.problem(409, "conversation_changed"),
            }
            seen = pushed;
        }
    }

    async fn the_same_key_twice_sends_once(app) {
        let desk = Desk::new(&app).await;
        let upload = desk.upload(&desk.agent, "a.txt", "text/plain", b"x".to_vec()).await.ok();
        let body = json!({ "expected_last_message_id": desk.message, "text": "x", "attachment_ids": [upload["id"]] });
        let send = || desk.agent.send(desk.agent.request(Method::POST, &desk.path("reply")).header("Idempotency-Key", "k1").json(&body));
        let (one, two) = tokio::join!(send(), send());
        let (done, other) = if one.status == 201 { (one, two) } else { (two, one) };
        if other.status != 201 {
            other.problem(409, "idempotency_in_progress");
        }
        let third = send().await;
        assert_eq!((third.status, third.header("idempotent-replayed")), (201, "true"));
        assert_eq!(third.body, done.body);
        assert_eq!(desk.messages().await.len(), 2);
    }

    async fn the_bytes_of_an_answer_stay_when_nobody_knows_whether_it_was_committed(app) {
        let desk = Desk::new(&app).await;
        let upload = desk.upload(&desk.agent, "a.bin", "application/octet-stream", vec![7; 70_000]).await.ok();
        let before = objects(&app);
        break_commits(&app).await;
        assert_ne!(desk.reply("reply", json!({ "attachment_ids": [upload["id"]] })).await.status, 201);
        assert_eq!(objects(&app), before + 1);
    }

    async fn of_two_different_answers_at_once_both_are_sent(app) {
        let desk = Desk::new(&app).await;
        let path = desk.path("reply");
        let post = |text: &str| desk.agent.post(&path, json!({ "expected_last_message_id": desk.message, "text": text }));
        let (one, two) = tokio::join!(post("It left today."), post("One thing more."));
        assert_eq!((one.status, two.status), (201, 201));
        assert_eq!(desk.messages().await.len(), 3);
    }

    async fn an_answer_must_have_seen_the_customers_newest_message_and_no_more(app) {
        let desk = Desk::new(&app).await;
        let item = desk.admin.get(&format!("/v1/work-items/{}", desk.item)).await.ok();
        let seen = &item["last_message_id"];
        let answer = |action: &str, expected: &Value| {
            let body = json!({ "expected_last_message_id": expected, "text": "x", "to": [{ "address": "ben@example.net" }] });
            let (agent, path) = (&desk.agent, desk.path(action));
            async move { agent.post(&path, body).await }
        };
        answer("forward", seen).await.ok();
        let ours = answer("reply", seen).await.ok();
        // A machine's answer to it makes no work: the item's newest message stays the same.
        let machine = MAIL.replace("c1@", "away@").replace("Subject:", &format!(
            "Auto-Submitted: auto-replied\r\nIn-Reply-To: <{}>\r\nSubject:", ours["message_id_header"].as_str().unwrap()));
        let machine = push(&desk.admin, desk.account.id, machine).await.ok();
        assert_eq!(machine["conversation_id"], desk.conversation.as_str());
        answer("reply", seen).await.ok();
        answer("reply", &ours["message_id"]).await.ok();
        assert_eq!(desk.agent.get(&desk.path("reply-template?kind=reply")).await.ok()["expected_last_message_id"], *seen);

        let again = MAIL.replace("c1@", "c2@").replace("Subject:", "In-Reply-To: <c1@example.org>\r\nSubject:");
        let again = push(&desk.admin, desk.account.id, again).await.ok();
        for stale in [seen, &ours["message_id"], &machine["message"]["id"]] {
            answer("reply", stale).await.problem(409, "conversation_changed");
        }
        let elsewhere = MAIL.replace("c1@", "d1@").replace("anna@", "dora@");
        let elsewhere = push(&desk.admin, desk.account.id, elsewhere).await.ok();
        for foreign in [&elsewhere["message"]["id"], &json!(uuid::Uuid::now_v7())] {
            let refused = answer("reply", foreign).await;
            assert_eq!(refused.body["errors"][0]["pointer"], "/expected_last_message_id");
            refused.problem(422, "unknown_reference");
        }
        answer("reply", &again["message"]["id"]).await.ok();
    }

    async fn an_answer_that_was_stored_before_a_mail_that_was_read_earlier_has_not_seen_it(app) {
        let desk = Desk::new(&app).await;
        let later = MAIL.replace("c1@", "c2@").replace("Subject:", "In-Reply-To: <c1@example.org>\r\nSubject:");
        let batch = Batch { incoming: vec![incoming(1, later)], ..Batch::default() };
        let read = accept::read(&app.app, &desk.account, batch).await.unwrap();
        let ours = desk.reply("reply", json!({})).await.ok();
        let stored = accept::take_in(&app.app, &desk.account, read).await.unwrap().stored;
        assert!(stored[0].message_id.to_string().as_str() < ours["message_id"].as_str().unwrap());
        let answer = async |expected: Value| {
            desk.agent.post(&desk.path("reply"), json!({ "expected_last_message_id": expected, "text": "x" })).await
        };
        answer(ours["message_id"].clone()).await.problem(409, "conversation_changed");
        let seen = answer(json!(stored[0].message_id)).await.ok();
        answer(seen["message_id"].clone()).await.ok();
    }
}
