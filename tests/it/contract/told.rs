//! Who is told of what: events reach whom they concern, and nobody learns of what they may not read.

use postroom::{
    agents::entity::MissedOfferAction,
    events::{
        Audience,
        entity::{Column, Entity, Model},
    },
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;

use crate::{floor::Floor, on_both, support::TestApp};

/// All events whose type begins so, in the order of writing.
async fn told(app: &TestApp, kind: &str) -> Vec<Model> {
    let select = Entity::find().filter(Column::Kind.starts_with(kind)).order_by_asc(Column::Seq);
    select.all(app.app.db.read()).await.unwrap()
}

on_both! {
    async fn everybody_is_told_when_an_item_leaves_its_queue_for_a_desk(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let claimed = floor.item(&account, "claimed").await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let offered = floor.item(&account, "offered").await;
        floor.distribute().await;
        assert_eq!(told(&app, "work_item.left_queue").await.len(), 1);
        assert_eq!(told(&app, "offer.created").await[0].data["agent_id"], json!(anna.id));
        let path = format!("/v1/offers/{}/accept", floor.offers().await[0].id);
        anna.client.post(&path, json!({})).await.ok();
        let left = told(&app, "work_item.left_queue").await;
        let left: Vec<_> = left.into_iter().map(|event| (event.audience, event.data)).collect();
        let expected = [claimed, offered]
            .map(|item| (Audience::Everyone, json!({ "id": item.id, "queue_id": queue.id })));
        assert_eq!(left, expected);
        anna.client.post(&format!("/v1/work-items/{}/snooze", expected[0].1["id"].as_str().unwrap()),
            json!({ "until": floor.now().plus_s(60) })).await.ok();
        assert_eq!(told(&app, "work_item.left_queue").await.len(), 2);
    }

    async fn a_note_is_told_to_the_agent_who_has_the_item(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let (anna, ben) = (floor.agent("anna", &[group.id]).await, floor.agent("ben", &[group.id]).await);
        let mail = floor.mail(&account, "hello").await;
        floor.arrive(vec![mail.clone()]).await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let path = format!("/v1/work-items/{}", floor.item_of(&mail).await.id);
        anna.client.post(&format!("{path}/complete"), json!({})).await.ok();
        let closed = told(&app, "conversation.updated").await.pop().unwrap();
        assert_eq!((closed.agent_id, &closed.data["state"]), (Some(anna.id), &json!("closed")));
        assert!(told(&app, "conversation.note_added").await.is_empty());

        floor.arrive(vec![floor.answer(&mail).await]).await;
        let item = floor.item_of(&mail).await;
        let path = format!("/v1/work-items/{}", item.id);
        let supervisor = app.supervisor().await;
        let to_ben = json!({ "agent_id": ben.id, "note": "Please look" });
        supervisor.post(&format!("{path}/transfer"), to_ben).await.ok();
        let offer = floor.offers().await.pop().unwrap();
        ben.client.post(&format!("/v1/offers/{}/accept", offer.id), json!({})).await.ok();
        supervisor.post(&format!("{path}/notes"), json!({ "text": "Be kind." })).await.ok();
        supervisor.post(&format!("/v1/conversations/{}/notes", item.conversation_id), json!({ "text": "Soon." })).await.ok();
        let notes = told(&app, "conversation.note_added").await;
        assert_eq!(notes.iter().map(|note| note.agent_id).collect::<Vec<_>>(), [Some(ben.id); 3]);
        assert_eq!(notes[0].data["work_item_id"], json!(item.id));
        let written = supervisor.get(&format!("/v1/conversations/{}/notes", item.conversation_id)).await.ok();
        assert_eq!(notes[0].data["note_id"], written["items"][0]["id"]);
    }

    async fn agents_are_not_told_of_settings_that_they_may_not_read(app) {
        let admin = app.admin().await;
        admin.put("/v1/variables/closed", json!({ "type": "boolean", "value": true })).await.ok();
        admin.post("/v1/calendars", json!({ "name": "Office", "timezone": "Europe/London" })).await.ok();
        let end = json!({ "start": "end", "steps": { "end": { "type": "end", "result": "done" } } });
        admin.post("/v1/scripts", json!({ "name": "Ends", "definition": end })).await.ok();
        admin.post("/v1/templates", json!({ "name": "Receipt", "subject": "Re", "text": "Dear" })).await.ok();
        for kind in ["variable.", "calendar.", "script.", "script_version.", "template."] {
            let events = told(&app, kind).await;
            assert!(!events.is_empty(), "{kind}");
            assert!(events.iter().all(|event| event.audience == Audience::Supervisors), "{kind}");
        }
    }

    async fn an_agents_state_is_told_in_one_shape(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.missed_offer_action = MissedOfferAction::NotReady).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        floor.item(&account, "hello").await;
        floor.distribute().await;
        floor.wait_s(31).await;
        anna.client.put("/v1/agents/me/state", json!({ "state": "ready" })).await.ok();
        let events = told(&app, "agent.state_changed").await;
        assert_eq!(events.len(), 2);
        for event in events {
            assert_eq!((event.agent_id, &event.data["agent_id"]), (Some(anna.id), &json!(anna.id)));
            assert!(event.data.get("id").is_none());
        }
    }
}
