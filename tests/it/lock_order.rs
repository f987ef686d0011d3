//! Everybody locks in one order: conversation, agent, offer, item. Only PostgreSQL locks rows.
//!
//! Each test holds what comes first, waits until the code under test waits for it, and then takes what comes later: were
//! that taken already, the two would wait for each other.

use std::time::Duration;

use postroom::{
    http::{Problem, problem::Code},
    id::{ConversationId, WorkItemId},
    work::{state, timers::expire},
};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::{
    answers::Desk,
    floor::Floor,
    support::{Backend, TestApp},
    texts::{NUMBER, account_with},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_completes_its_item_waits_for_the_agent_before_it_takes_the_item() {
    let app = TestApp::start(Backend::Postgres).await;
    let desk = Desk::new(&app).await;
    Floor(&app).agent("paula", &[]).await;
    let item: WorkItemId = desk.item.parse().unwrap();
    let tx = app.app.db.begin().await.unwrap();
    assert_eq!(state::lock_agents(&tx, [desk.agent_id]).await.unwrap().len(), 1);
    let transfer = async {
        app.wait_until_blocked().await;
        state::lock(&tx, item).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (reply, ()) = tokio::join!(desk.reply("reply", json!({ "complete": true })), transfer);
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_answers_waits_for_the_conversation_before_it_takes_the_item() {
    let app = TestApp::start(Backend::Postgres).await;
    let floor = Floor(&app);
    let queue = floor.queue(&[], |_| {}).await;
    let body = json!({ "name": "Thanks", "subject": "Thanks", "text": "Thank you." });
    let admin = app.admin().await;
    let template = admin.post("/v1/templates", body).await.ok()["id"].clone();
    admin.post(&format!("/v1/templates/{}/publish", template.as_str().unwrap()), json!({})).await.ok();
    let ways = json!({ "assigned": "done", "timeout": "thanks", "queue_full": "done", "closed": "done" });
    let script = floor.script(json!({
        "start": "queue",
        "steps": {
            "queue": { "type": "enqueue", "queue_id": queue.id, "timeout_s": 100, "next": ways },
            "thanks": { "type": "send_template", "template_id": template, "next": { "sent": "done", "not_sent": "done" } },
            "done": { "type": "end", "result": "done" },
        },
    }));
    let account = floor.account(Some(queue.id), Some(script.await)).await;
    let item = floor.item(&account, "hello").await;
    app.app.clock.advance(Duration::from_secs(101));
    let tx = app.app.db.begin().await.unwrap();
    state::lock_conversation(&tx, item.conversation_id).await.unwrap();
    let complete = async {
        app.wait_until_blocked().await;
        state::lock(&tx, item.id).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (expired, ()) = tokio::join!(expire(app.app.clone()), complete);
    expired.unwrap();
    let receipts = postroom::conversations::entity::auto_answer::Entity::find();
    assert_eq!(receipts.all(app.app.db.read()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_with_a_note_needs_no_lock_on_the_conversation() {
    let app = TestApp::start(Backend::Postgres).await;
    let floor = Floor(&app);
    let queue = floor.queue(&[], |_| {}).await;
    let account = floor.account(Some(queue.id), None).await;
    let item = floor.item(&account, "hello").await;
    let supervisor = app.supervisor().await;
    let tx = app.app.db.begin().await.unwrap();
    state::lock_conversation(&tx, item.conversation_id).await.unwrap();
    let body = json!({ "queue_id": queue.id, "note": "Please look" });
    let path = format!("/v1/work-items/{}/transfer", item.id);
    // Only so that a test that fails does not hang.
    let done = tokio::time::timeout(Duration::from_secs(60), supervisor.post(&path, body)).await;
    done.expect("it waits for nobody").ok();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_texts_waits_for_its_first_conversation_before_it_takes_another() {
    let app = TestApp::start(Backend::Postgres).await;
    let admin = app.admin().await;
    account_with(&admin, json!({})).await;
    let to = |number: &str| json!({ "to": { "number": number }, "content": { "text": "Hello" } });
    let mut known: Vec<ConversationId> = Vec::new();
    for number in [NUMBER, "+447700900124"] {
        let made = admin.post("/v1/messages", to(number)).await.ok();
        known.push(made["conversation_id"].as_str().unwrap().parse().unwrap());
    }
    let tx = app.app.db.begin().await.unwrap();
    state::lock_conversation(&tx, known[0]).await.unwrap();
    let batch = json!({ "messages": [to("+447700900124"), to(NUMBER)] });
    let other = async {
        app.wait_until_blocked().await;
        state::lock_conversation(&tx, known[1]).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (sent, ()) = tokio::join!(admin.post("/v1/messages/batch", batch), other);
    assert_eq!(sent.ok()["created"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_database_gives_up_for_another_one_may_be_tried_again() {
    let app = TestApp::start(Backend::Postgres).await;
    let floor = Floor(&app);
    let (anna, ben) = (floor.agent("anna", &[]).await.id, floor.agent("ben", &[]).await.id);
    let (one, two) = (app.app.db.begin().await.unwrap(), app.app.db.begin().await.unwrap());
    state::lock_agents(&one, [anna]).await.unwrap();
    state::lock_agents(&two, [ben]).await.unwrap();
    let first = async {
        let locked = state::lock_agents(&one, [ben]).await;
        one.rollback().await.unwrap();
        locked
    };
    let second = async {
        let locked = state::lock_agents(&two, [anna]).await;
        two.rollback().await.unwrap();
        locked
    };
    let (first, second) = tokio::join!(first, second);
    let given_up = first.err().or(second.err()).unwrap();
    assert_eq!(Problem::from(given_up).code, Code::ConcurrentChange);
}
