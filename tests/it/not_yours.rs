//! What is one agent's is no other agent's: tried on every operation that takes the id of such a thing.

use postroom::{
    access::matrix::Access,
    agents::entity::AgentState,
    clock::Timestamp,
    events::{Audience, entity as event},
    http::caller::Role,
    id::MessageId,
    work::entity::{WorkState, work_item},
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::{
    answers::Desk,
    floor::Floor,
    on_both,
    support::{Client, TestApp},
};

/// Everything that belongs to one agent, as the paths of its operations begin.
struct Belongings {
    things: Vec<(&'static str, String)>,
    /// An item that waits for the agent: what could be claimed.
    held: String,
    item: work_item::Model,
}

/// Paula has an item with a draft, an answer, an upload, and an offer.
async fn belongings(app: &TestApp, desk: &Desk, floor: &Floor<'_>) -> (Belongings, Client) {
    let group = floor.group(|group| group.offer_timeout_s = 3600).await;
    let queue = floor.queue(&[group.id], |_| {}).await;
    let account = floor.account(Some(queue.id), None).await;
    floor.agent("paula", &[group.id]).await;
    let otto = floor.agent("otto", &[group.id]).await;
    floor.set_agent(otto.id, |agent| agent.state = AgentState::NotReady).await;
    let item = floor.item(&account, "offered").await;
    assert_eq!(floor.distribute().await, 1);
    let offer = floor.offers().await.remove(0);
    assert_eq!((offer.work_item_id, offer.agent_id), (item.id, desk.agent_id));
    floor.set_agent(otto.id, |agent| agent.state = AgentState::Ready).await;
    let held = floor.item(&account, "held").await;
    let tx = app.app.db.begin().await.unwrap();
    let target = work_item::ActiveModel {
        id: Set(held.id),
        target_agent_id: Set(Some(desk.agent_id)),
        ..Default::default()
    };
    work_item::Entity::update(target).exec(&*tx).await.unwrap();
    tx.commit().await.unwrap();
    let sent = desk.reply("reply", json!({})).await.ok();
    desk.agent.put(&desk.path("draft"), json!({ "text": "half" })).await.ok();
    let upload = desk.upload(&desk.agent, "a.txt", "text/plain", b"hello".to_vec()).await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let things = vec![
        ("/v1/work-items/{id}", desk.item.clone()),
        ("/v1/offers/{id}", offer.id.to_string()),
        ("/v1/messages/{id}", desk.message.clone()),
        ("/v1/messages/{id}", text(&sent["message_id"])),
        ("/v1/conversations/{id}", desk.conversation.clone()),
        ("/v1/uploads/{id}", text(&upload["id"])),
        ("/v1/agents/{id}", desk.agent_id.to_string()),
    ];
    (Belongings { things, held: held.id.to_string(), item }, otto.client)
}

/// A body that would do if the thing were the caller's.
fn body(operation: &str, desk: &Desk, until: Timestamp) -> Value {
    let answer = json!({ "expected_last_message_id": desk.message, "text": "x" });
    match operation {
        "transfer_work_item" => json!({ "agent_id": desk.agent_id }),
        "snooze_work_item" => json!({ "until": until }),
        "set_work_item_outcome" => json!({ "code": "x" }),
        "complete_work_item" | "reject_offer" => json!({}),
        "reply_work_item" | "reply_all_work_item" => answer,
        "forward_work_item" => json!({ "to": [{ "address": "x@example.org" }], "text": "x",
            "expected_last_message_id": desk.message }),
        "replace_draft" | "create_work_item_note" | "create_conversation_note" => json!({ "text": "x" }),
        "set_agent_state" => json!({ "state": "not_ready" }),
        other => panic!("say what {other} is sent"),
    }
}

/// The operations for agents whose paths begin with `start`: method, path, operationId, whether they take a body.
fn operations(start: &str) -> Vec<(Method, String, String, bool)> {
    let document = postroom::api::document().unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if path != start && !path.starts_with(&format!("{start}/")) {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else { continue };
            let Some(id) = operation["operationId"].as_str() else { continue };
            let for_agents =
                matches!(Access::of(id).unwrap(), Access::Roles(roles, _) if roles.contains(&Role::Agent));
            if for_agents {
                found.push((method, path.clone(), id.to_owned(), !operation["requestBody"].is_null()));
            }
        }
    }
    assert!(!found.is_empty(), "{start} has no operations");
    found
}

on_both! {
    async fn no_operation_shows_or_changes_what_another_agent_has(app) {
        let desk = Desk::new(&app).await;
        let floor = Floor(&app);
        let (mut belongings, otto) = Box::pin(belongings(&app, &desk, &floor)).await;
        for (start, id) in &belongings.things {
            // The ids are good: their owner sees the things.
            desk.agent.get(&start.replace("{id}", id)).await.ok();
        }
        belongings.things.push(("/v1/work-items/{id}/claim", belongings.held.clone()));
        for (start, id) in &belongings.things {
            for (method, path, operation, takes_body) in operations(start) {
                if operation == "claim_work_item" && *id != belongings.held {
                    continue;
                }
                let query = if operation == "get_reply_template" { "?kind=reply" } else { "" };
                let path = format!("{}{query}", path.replace("{id}", id).replace("{number}", "1"));
                let mut request = otto.request(method, &path);
                if takes_body {
                    request = request.json(&body(&operation, &desk, floor.now().plus_s(60)));
                }
                let answer = otto.send(request).await;
                let code = answer.body["code"].as_str();
                assert!(matches!((answer.status, code), (403, Some("not_yours")) | (404, Some("not_found"))),
                    "{operation} {path}: {} {}", answer.status, answer.body);
            }
        }
        assert_eq!(floor.reload(&belongings.item).await.state, WorkState::Offered);
        desk.agent.get(&desk.path("draft")).await.ok();
    }

    async fn agents_hear_of_their_own_messages_only(app) {
        let desk = Desk::new(&app).await;
        let sent = desk.reply("reply", json!({})).await.ok();
        let id: MessageId = sent["message_id"].as_str().unwrap().parse().unwrap();
        let told = event::Entity::find().filter(event::Column::SubjectId.eq(id.uuid()));
        let told = told.all(app.app.db.read()).await.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].kind.as_str(), told[0].audience, told[0].agent_id), ("message.held", Audience::Agent, Some(desk.agent_id)));
    }
}
