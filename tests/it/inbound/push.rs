//! The push endpoint, and mail in every state.

use postroom::{accounts::entity::AccountState, clock::Clock};
use reqwest::Method;
use serde_json::{Value, json};

use super::{account, account_in, break_commits, fixture, fixtures, messages, push, refuse_subject};
use crate::{
    on_both,
    support::{Backend, TestApp},
};

on_both! {
    async fn every_fixture_is_taken_in_and_given_back_byte_for_byte(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let entries = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|name| name == "eml")).collect();
        paths.sort();
        assert!(paths.len() > 50);
        for path in paths {
            let raw = std::fs::read(&path).unwrap();
            let pushed = push(&admin, account.id, raw.clone()).await;
            assert_eq!(pushed.status, 201, "{}: {}", path.display(), pushed.body);
            let location = pushed.header("location").to_owned();
            let message = admin.get(&location).await.ok();
            assert_eq!(message["state"], "parsed", "{}", path.display());
            assert_eq!(message["size_bytes"], raw.len());
            let source = admin.get(&format!("{location}/raw")).await;
            assert_eq!(source.bytes, raw, "{}", path.display());
            assert_eq!((source.header("content-type"), source.header("x-content-type-options")), ("message/rfc822", "nosniff"));
        }
    }

    async fn a_pushed_mail_is_answered_with_what_it_became(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let pushed = push(&admin, account.id, fixture("plain_english.eml")).await.ok();
        let message = &pushed["message"];
        assert_eq!(message["conversation_id"], pushed["conversation_id"]);
        assert_eq!((&message["direction"], &message["classification"]), (&json!("inbound"), &json!("normal")));
        let conversation = admin.get(&format!("/v1/conversations/{}", pushed["conversation_id"].as_str().unwrap())).await.ok();
        assert_eq!(conversation["last_message_id"], message["id"]);
        assert_eq!((&conversation["state"], &conversation["message_count"]), (&json!("open"), &json!(1)));
        assert_eq!(conversation["subject"], message["subject"]);
    }

    async fn a_mail_that_the_database_refuses_is_kept_without_its_texts(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        refuse_subject(&app, "Order").await;
        let pushed = push(&admin, account.id, "From: anna@example.org\r\nSubject: Order\r\n\r\nHello\r\n").await.ok();
        assert_eq!(pushed["message"]["state"], "unparsed");
        assert!(pushed["work_item_id"].is_string());
        let raw = admin.get(&format!("/v1/messages/{}/raw", pushed["message"]["id"].as_str().unwrap())).await;
        assert!(raw.bytes.ends_with(b"Hello\r\n"));
    }

    async fn the_bytes_of_a_mail_stay_when_nobody_knows_whether_it_was_committed(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        break_commits(&app).await;
        let mut raw = b"Subject: Large\r\n\r\n".to_vec();
        raw.resize(70_000, b'x');
        assert_ne!(push(&admin, account.id, raw).await.status, 201);
        assert_eq!(objects(&app), 1);
    }

    async fn a_mail_that_cannot_be_parsed_is_kept_with_what_its_header_says(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let mut raw = String::from("From: Anna <anna@example.org>\r\nSubject: Deep\r\nMessage-ID: <deep@x>\r\n");
        for level in 0..1000 {
            raw.push_str(&format!("Content-Type: multipart/mixed; boundary=\"b{level}\"\r\n\r\n--b{level}\r\n"));
        }
        raw.push_str("Content-Type: text/plain\r\n\r\nbottom\r\n");
        let pushed = push(&admin, account.id, raw.clone()).await.ok();
        let path = format!("/v1/messages/{}", pushed["message"]["id"].as_str().unwrap());
        let message = admin.get(&path).await.ok();
        assert_eq!((&message["state"], &message["subject"]), (&json!("unparsed"), &json!("Deep")));
        assert_eq!(message["from"], json!({ "name": "Anna", "address": "anna@example.org" }));
        assert!(message["state_reason"].as_str().unwrap().starts_with("too_deep: "), "{message}");
        assert_eq!(admin.get(&format!("{path}/raw")).await.bytes, raw.as_bytes());
    }

    async fn nul_bytes_anywhere_reach_no_text(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let raw = b"From: An\0na <an\0na@example.org>\r\nTo: s\0@example.com\r\nSubject: N\0UL =?utf-8?B?AGEA?=\r\n\
            Message-ID: <n\0ul@x>\r\nReferences: <a\0@x>\r\nX-Postroom-Note: \0\r\nAuto-Submitted: no\0\r\n\
            Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>a\0b&#0;c</p>\r\n\
            --b\r\nContent-Type: x/\0y\r\nContent-ID: <c\0>\r\nContent-Disposition: attachment; filename=\"a\0.txt\"\r\n\r\nz\0\r\n--b--\r\n";
        let pushed = push(&admin, account.id, raw.to_vec()).await.ok();
        let path = format!("/v1/messages/{}", pushed["message"]["id"].as_str().unwrap());
        let message = admin.get(&path).await.ok();
        assert_eq!(message["state"], "parsed");
        assert!(!message.to_string().contains("\\u0000"), "{message}");
        assert_eq!(admin.get(&format!("{path}/raw")).await.bytes, raw);
    }

    async fn a_reused_message_id_makes_two_messages(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        for name in ["reused_message_id_1.eml", "reused_message_id_2.eml"] {
            push(&admin, account.id, fixture(name)).await.ok();
        }
        let messages = messages(&admin).await;
        assert_eq!(messages.len(), 2);
        assert_ne!(messages[0]["conversation_id"], messages[1]["conversation_id"]);
    }

    async fn the_same_bytes_pushed_twice_are_two_messages(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        for _ in 0..2 {
            push(&admin, account.id, fixture("plain_english.eml")).await.ok();
        }
        assert_eq!(messages(&admin).await.len(), 2);
    }

    async fn a_repeated_key_takes_the_message_in_once(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let path = format!("/v1/accounts/{}/messages", account.id);
        let request = |body: &'static str| {
            let request = admin.request(Method::POST, &path).header("Idempotency-Key", "k1");
            request.header("content-type", "message/rfc822").body(body)
        };
        let first = admin.send(request("Subject: a\r\n\r\nx")).await;
        let again = admin.send(request("Subject: a\r\n\r\nx")).await;
        assert_eq!((first.status, again.status, &first.body), (201, 201, &again.body));
        assert_eq!(again.header("idempotent-replayed"), "true");
        admin.send(request("Subject: b\r\n\r\nx")).await.problem(422, "idempotency_key_reused");
        assert_eq!(messages(&admin).await.len(), 1);
    }

    async fn what_is_not_a_mail_for_an_account_in_use_is_refused(app) {
        let (admin, active) = (app.admin().await, account(&app, "support@example.com").await);
        for (state, name) in [(AccountState::Draft, "a"), (AccountState::Paused, "b"), (AccountState::Disabled, "c")] {
            let idle = account_in(&app, &format!("{name}@example.com"), state).await;
            push(&admin, idle.id, "Subject: x\r\n\r\n").await.problem(409, "invalid_state");
        }
        let failing = account_in(&app, "failing@example.com", AccountState::Failing).await;
        push(&admin, failing.id, "Subject: x\r\n\r\n").await.ok();
        let path = format!("/v1/accounts/{}/messages", active.id);
        let json = admin.post(&path, json!({})).await;
        json.problem(415, "unsupported_media_type");
        push(&admin, active.id, "").await.problem(422, "unparsable_message");
        let unknown = postroom::id::AccountId::new(app.app.clock.now());
        push(&admin, unknown, "Subject: x\r\n\r\n").await.problem(404, "not_found");
        let (agent, _) = app.agent("anna").await;
        push(&agent, active.id, "Subject: x\r\n\r\n").await.problem(403, "forbidden");
        assert_eq!(messages(&admin).await.len(), 1);
    }

    async fn what_happened_is_in_the_event_log_without_texts(app) {
        use postroom::events::entity::Entity;
        use sea_orm::EntityTrait;
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        push(&admin, account.id, "From: a@x\r\nMessage-ID: <1@x>\r\nSubject: secret\r\n\r\nx").await.ok();
        push(&admin, account.id, "From: a@x\r\nIn-Reply-To: <1@x>\r\nSubject: secret\r\n\r\nx").await.ok();
        let events = Entity::find().all(app.app.db.read()).await.unwrap();
        let mut kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).filter(|kind| !kind.starts_with("work_item")).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["conversation.created", "conversation.updated", "message.received", "message.received"]);
        assert!(events.iter().all(|event| !event.data.to_string().contains("secret")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_is_refused_and_leaves_nothing() {
    let app = TestApp::with(Backend::Sqlite, Clock::system(), "[mail]\nmax_message_bytes = 65536").await;
    let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
    push(&admin, account.id, vec![b'x'; 65_537]).await.problem(413, "payload_too_large");
    assert_eq!(messages(&admin).await, Vec::<Value>::new());
    push(&admin, account.id, vec![b'x'; 65_536]).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_large_message_leaves_no_second_object() {
    let app = TestApp::with(Backend::Sqlite, Clock::system(), "[storage]\ninline_max_bytes = 10").await;
    let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
    let path = format!("/v1/accounts/{}/messages", account.id);
    for _ in 0..2 {
        let request = admin.request(Method::POST, &path).header("Idempotency-Key", "k1");
        admin
            .send(request.header("content-type", "message/rfc822").body("Subject: large\r\n\r\nx"))
            .await
            .ok();
    }
    assert_eq!(objects(&app), 1);
}

/// How many objects the local store holds.
pub fn objects(app: &TestApp) -> usize {
    fn files(dir: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }
    files(&app.dir.path().join("objects"))
}
