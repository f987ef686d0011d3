//! Items and their scripts: branches, time-outs, the last agent, failures, and what is left after a crash.

use std::sync::Arc;

use postroom::{
    accounts::entity::account,
    agents::entity::AgentState,
    clock::Clock,
    conversations::entity::{ConversationState, MessageKind, auto_answer, conversation, message},
    id::{ScriptVersionId, TemplateId},
    queues::entity::QueueState,
    work::{
        entity::{OfferState, Timer, WorkState, work_item},
        timers::expire,
    },
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
};
use serde_json::{Value, json};

use crate::{
    floor::Floor,
    on_both,
    support::{Backend, Client, TestApp},
};

async fn still(app: &TestApp) -> TestApp {
    TestApp::frozen(app.backend).await
}

fn enqueue(queue: &impl serde::Serialize, next: Value) -> Value {
    json!({ "type": "enqueue", "queue_id": queue, "next": next })
}

/// A published template.
async fn publish(admin: &Client, template: Value) -> TemplateId {
    let made = admin.post("/v1/templates", template).await;
    admin.post(&format!("{}/publish", made.header("location")), json!({})).await.ok();
    made.ok()["id"].as_str().unwrap().parse().unwrap()
}

/// The receipts that were sent.
async fn receipts(app: &TestApp) -> Vec<message::Model> {
    let sent = message::Entity::find().filter(message::Column::Kind.eq(MessageKind::Receipt));
    sent.order_by_asc(message::Column::Id).all(app.app.db.read()).await.unwrap()
}

on_both! {
    async fn a_full_or_closed_queue_leads_to_the_scripts_other_ways(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let small = floor.queue(&[], |queue| queue.max_length = Some(1)).await;
        let closed = floor.queue(&[], |queue| queue.state = QueueState::Closed).await;
        let overflow = floor.queue(&[], |_| {}).await;
        let on = |other: &str| json!({ "assigned": "done", "queue_full": other, "closed": other });
        let script = floor.script(json!({
            "start": "first",
            "steps": {
                "first": enqueue(&closed.id, on("second")),
                "second": enqueue(&small.id, on("third")),
                "third": enqueue(&overflow.id, on("done")),
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let mut arrivals = Vec::new();
        for _ in 0..3 {
            arrivals.push(floor.mail(&account, "hello").await);
        }
        floor.arrive(arrivals.clone()).await;
        let mut queues = Vec::new();
        for mail in &arrivals {
            queues.push(floor.item_of(mail).await.queue_id.unwrap());
        }
        assert_eq!(queues, [small.id, overflow.id, overflow.id]);
        let item = floor.item_of(&arrivals[1]).await;
        let trace = app.admin().await.get(&format!("/v1/work-items/{}/trace", item.id)).await.ok();
        let steps: Vec<(&str, &str)> = trace["items"].as_array().unwrap().iter()
            .filter(|entry| entry["kind"] == "script_step")
            .map(|entry| (entry["data"]["step"].as_str().unwrap(), entry["data"]["outcome"].as_str().unwrap_or("")))
            .collect();
        assert_eq!(steps, [("first", "closed"), ("second", "queue_full"), ("third", "")]);
    }

    async fn time_in_a_queue_leads_to_the_scripts_way_and_a_pending_offer_comes_first(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let (first, second) = (floor.queue(&[group.id], |_| {}).await, floor.queue(&[], |_| {}).await);
        let mut start = enqueue(&first.id, json!({
            "assigned": "done", "timeout": "later", "queue_full": "done", "closed": "done",
        }));
        start["timeout_s"] = json!(100);
        let script = floor.script(json!({
            "start": "queue",
            "steps": {
                "queue": start,
                "later": enqueue(&second.id, json!({ "assigned": "done", "queue_full": "done", "closed": "done" })),
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let plain = floor.item(&account, "plain").await;
        floor.wait_s(90).await;
        let anna = floor.agent("anna", &[group.id]).await;
        floor.set_agent(anna.id, |agent| agent.capacity_email = Some(1)).await;
        assert_eq!(floor.distribute().await, 1);
        floor.wait_s(10).await;
        assert_eq!(floor.reload(&plain).await.state, WorkState::Offered);
        floor.check().await;
        floor.set_agent(anna.id, |agent| agent.state = AgentState::NotReady).await;
        floor.wait_s(21).await;
        let item = floor.reload(&plain).await;
        assert_eq!((item.state, item.queue_id), (WorkState::Queued, Some(second.id)));
        assert_eq!(item.queued_at, plain.queued_at);
        floor.check().await;
    }

    async fn an_overdue_item_without_a_script_goes_to_the_fallback_queue(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let fallback = floor.queue(&[], |queue| queue.max_wait_s = Some(50)).await;
        let queue = floor.queue(&[], |queue| queue.max_wait_s = Some(100)).await;
        let account = floor.account(Some(fallback.id), None).await;
        let item = floor.item(&account, "hello").await;
        let transfer = format!("/v1/work-items/{}/transfer", item.id);
        app.supervisor().await.post(&transfer, json!({ "queue_id": queue.id })).await.ok();
        floor.wait_s(100).await;
        let item = floor.reload(&item).await;
        assert_eq!((item.state, item.queue_id), (WorkState::Queued, Some(fallback.id)));
        floor.wait_s(50).await;
        let item = floor.reload(&item).await;
        assert_eq!((item.state, item.queue_id, item.timer), (WorkState::Queued, Some(fallback.id), None));
    }

    async fn the_last_agent_is_asked_and_the_script_goes_on_with_what_comes_of_it(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let script = floor.script(json!({
            "start": "known",
            "steps": {
                "known": { "type": "offer_last_agent", "timeout_s": 20,
                    "next": { "accepted": "done", "not_available": "urgent", "timeout": "queue" } },
                "urgent": { "type": "set_priority", "priority": 1, "next": { "done": "queue" } },
                "queue": enqueue(&queue.id, json!({ "assigned": "done", "queue_full": "done", "closed": "done" })),
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let anna = floor.agent("anna", &[group.id]).await;
        for (what, priority) in [("accept", 5), ("reject", 1), ("miss", 5)] {
            let mut mail = floor.mail(&account, what).await;
            mail.conversation.last_agent_id = Some(anna.id);
            floor.arrive(vec![mail.clone()]).await;
            let item = floor.item_of(&mail).await;
            assert_eq!((item.state, item.target_agent_id, item.queue_id), (WorkState::Queued, Some(anna.id), None));
            assert_eq!(floor.distribute().await, 1);
            let offer = floor.offers().await.pop().unwrap();
            assert_eq!((offer.work_item_id, offer.expires_at), (item.id, floor.now().plus_s(20)));
            let path = format!("/v1/offers/{}", offer.id);
            match what {
                "accept" => {
                    anna.client.post(&format!("{path}/accept"), json!({})).await.ok();
                    assert_eq!(floor.reload(&item).await.state, WorkState::Assigned);
                    let complete = format!("/v1/work-items/{}/complete", item.id);
                    anna.client.post(&complete, json!({})).await.ok();
                    continue;
                }
                "reject" => {
                    anna.client.post(&format!("{path}/reject"), json!({})).await.ok();
                    let between = floor.reload(&item).await;
                    assert_eq!((between.state, between.timer), (WorkState::Routing, Some(Timer::Route)));
                    floor.check().await;
                    floor.wait_s(0).await;
                }
                _ => floor.wait_s(20).await,
            }
            let item = floor.reload(&item).await;
            assert_eq!((item.state, item.queue_id, item.priority), (WorkState::Queued, Some(queue.id), priority), "{what}");
            floor.check().await;
            let claimed = anna.client.post("/v1/work-items/claim", json!({})).await.ok();
            anna.client.post(&format!("/v1/work-items/{}/complete", claimed["id"].as_str().unwrap()), json!({})).await.ok();
        }
        floor.set_agent(anna.id, |agent| agent.state = AgentState::NotReady).await;
        let mut mail = floor.mail(&account, "away").await;
        mail.conversation.last_agent_id = Some(anna.id);
        floor.arrive(vec![mail.clone()]).await;
        assert_eq!(floor.item_of(&mail).await.priority, 1);
    }

    async fn a_script_goes_on_after_an_agent_has_the_item(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let class = app.admin().await.post("/v1/classes", json!({ "name": "Taken" })).await.ok();
        let script = floor.script(json!({
            "start": "queue",
            "steps": {
                "queue": enqueue(&queue.id, json!({ "assigned": "class", "queue_full": "done", "closed": "done" })),
                "class": { "type": "set_class", "class_id": class["id"], "next": { "done": "done" } },
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&account, "hello").await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let claimed = floor.reload(&item).await;
        assert_eq!((claimed.state, claimed.timer, claimed.class_id), (WorkState::Assigned, Some(Timer::Route), None));
        floor.wait_s(0).await;
        let item = floor.reload(&item).await;
        assert_eq!((item.state, item.timer, item.run), (WorkState::Assigned, None, None));
        assert_eq!(json!(item.class_id), class["id"]);
    }

    async fn an_item_that_an_agent_has_stays_with_the_agent_when_its_script_is_gone(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let (queue, fallback) = (floor.queue(&[group.id], |_| {}).await, floor.queue(&[], |_| {}).await);
        let script = floor.script(json!({
            "start": "queue",
            "steps": {
                "queue": enqueue(&queue.id, json!({ "assigned": "urgent", "queue_full": "done", "closed": "done" })),
                "urgent": { "type": "set_priority", "priority": 1, "next": { "done": "done" } },
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(Some(fallback.id), Some(script)).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let (kept, done) = (floor.item(&account, "kept").await, floor.item(&account, "done").await);
        let ids = [kept.id, done.id].map(|id| id.to_string());
        for _ in &ids {
            anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        }
        anna.client.post(&format!("/v1/work-items/{}/complete", ids[1]), json!({})).await.ok();
        let tx = app.app.db.begin().await.unwrap();
        let free = account::ActiveModel { id: Set(account.id), script_id: Set(None), ..Default::default() };
        free.update(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let admin = app.admin().await;
        let path = format!("/v1/scripts/{script}");
        let refused = admin.delete(&path).await;
        refused.problem(409, "in_use");
        assert!(refused.body["detail"].as_str().unwrap().contains("under way"), "{}", refused.body);
        // A version that no process remembers.
        let lost = work_item::ActiveModel {
            script_version_id: Set(Some(ScriptVersionId::new(floor.now()))),
            ..Default::default()
        };
        let tx = app.app.db.begin().await.unwrap();
        work_item::Entity::update_many().set(lost).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        floor.wait_s(0).await;
        for (item, state) in [(&kept, WorkState::Assigned), (&done, WorkState::Completed)] {
            let item = floor.reload(item).await;
            assert_eq!((item.state, item.timer, item.run, item.error), (state, None, None, None));
            assert_eq!(item.queue_id, Some(queue.id));
        }
        assert_eq!(admin.delete(&path).await.status, 204);
    }

    async fn a_script_that_fails_sends_the_item_to_the_fallback_queue_with_the_error_on_it(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let broken = json!({
            "start": "ask",
            "steps": {
                "ask": { "type": "condition", "when": "message.subject.nothing.more", "next": { "yes": "done", "no": "done" } },
                "done": { "type": "end", "result": "done" },
            },
        });
        let script = floor.script(broken).await;
        let account = floor.account(Some(queue.id), Some(script)).await;
        let item = floor.item(&account, "hello").await;
        assert_eq!((item.state, item.queue_id), (WorkState::Queued, Some(queue.id)));
        assert_eq!(item.error.unwrap()["step"], "ask");
        let homeless = floor.account(None, Some(script)).await;
        let item = floor.item(&homeless, "hello").await;
        assert_eq!(item.state, WorkState::Failed);
        let supervisor = app.supervisor().await;
        let listed = supervisor.get("/v1/work-items?state=failed").await.ok();
        assert_eq!(listed["items"][0]["id"], json!(item.id));
        assert_eq!(listed["items"][0]["allowed_actions"], json!(["note", "transfer", "set_priority", "set_class"]));
        let path = format!("/v1/work-items/{}/transfer", item.id);
        let moved = supervisor.post(&path, json!({ "queue_id": queue.id })).await.ok();
        assert_eq!((&moved["state"], &moved["error"]), (&json!("queued"), &Value::Null));
    }

    async fn an_account_whose_script_has_no_active_version_runs_the_default_one(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let fallback = floor.queue(&[], |_| {}).await;
        let admin = app.admin().await;
        let draft = admin.post("/v1/scripts", json!({ "name": "Not active yet" })).await.ok()["id"].as_str().unwrap().parse().unwrap();
        let by_default = floor.item(&floor.account(Some(fallback.id), None).await, "hello").await;
        let item = floor.item(&floor.account(Some(fallback.id), Some(draft)).await, "hello").await;
        assert!(item.script_version_id.is_some());
        assert_eq!(item.script_version_id, by_default.script_version_id);
    }

    async fn what_a_script_discards_is_closed_and_new_mail_begins_anew(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let script = floor.script(json!({
            "start": "done", "steps": { "done": { "type": "end", "result": "discard" } },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let mail = floor.mail(&account, "spam").await;
        let more = floor.answer(&mail).await;
        floor.arrive(vec![mail.clone(), more]).await;
        let item = floor.item_of(&mail).await;
        assert_eq!((item.state, item.message_count), (WorkState::Discarded, 1));
        let closed = conversation::Entity::find_by_id(mail.conversation.id).one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!(closed.state, ConversationState::Closed);
        assert_eq!(postroom::work::entity::work_item::Entity::find().all(app.app.db.read()).await.unwrap().len(), 2);
    }

    async fn a_conversation_with_open_work_stays_open_whatever_became_of_its_first_mail(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let script = floor.script(json!({
            "start": "answer",
            "steps": {
                "answer": { "type": "condition", "when": "'Re:' in message.subject", "next": { "yes": "queue", "no": "spam" } },
                "queue": enqueue(&queue.id, json!({ "assigned": "done", "queue_full": "done", "closed": "done" })),
                "spam": { "type": "end", "result": "discard" },
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let mail = floor.mail(&account, "spam").await;
        let more = floor.answer(&mail).await;
        floor.arrive(vec![mail.clone(), more]).await;
        assert_eq!(floor.item_of(&mail).await.state, WorkState::Queued);
        let row = conversation::Entity::find_by_id(mail.conversation.id).one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!(row.state, ConversationState::Open);
    }

    async fn a_receipt_goes_to_a_sender_once_in_seven_days(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let admin = app.admin().await;
        let text = json!({ "name": "Thanks", "subject": "Thank you", "text": "We have your mail." });
        let template = publish(&admin, text).await;
        let script = floor.script(json!({
            "start": "thanks",
            "steps": {
                "thanks": { "type": "send_template", "template_id": template, "next": { "sent": "first", "not_sent": "again" } },
                "first": { "type": "set_priority", "priority": 1, "next": { "done": "done" } },
                "again": { "type": "set_priority", "priority": 9, "next": { "done": "done" } },
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(Some(queue.id), Some(script)).await;
        let (one, two) = (floor.mail(&account, "one").await, floor.mail(&account, "two").await);
        floor.arrive(vec![one.clone(), two.clone()]).await;
        assert_eq!((floor.item_of(&one).await.priority, floor.item_of(&two).await.priority), (1, 9));
        assert_eq!(auto_answer::Entity::find().all(app.app.db.read()).await.unwrap().len(), 1);
        app.app.clock.advance(std::time::Duration::from_secs(6 * 24 * 3600));
        assert_eq!(floor.item(&account, "three").await.priority, 9);
        app.app.clock.advance(std::time::Duration::from_secs(2 * 24 * 3600));
        assert_eq!(floor.item(&account, "four").await.priority, 1);
        let mut machine = floor.mail(&account, "out of office").await;
        machine.message.headers = json!({ "auto-submitted": ["auto-replied"] });
        machine.message.from_address = Some("else@customer.example".into());
        floor.arrive(vec![machine.clone()]).await;
        assert_eq!(floor.item_of(&machine).await.priority, 9);
    }

    async fn an_accounts_own_receipt_answers_new_work_once_for_each_sender(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let admin = app.admin().await;
        let own = publish(&admin, json!({ "name": "Thanks", "subject": "Thank you", "text": "We have your mail." })).await;
        let with_receipt = |account: &account::Model| Arc::new(account::Model { receipt_template_id: Some(own), ..account.clone() });
        let account = with_receipt(&*floor.account(Some(queue.id), None).await);
        let mail = floor.mail(&account, "hello").await;
        let more = floor.answer(&mail).await;
        floor.arrive(vec![mail.clone(), more]).await;
        let sent = receipts(&app).await;
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].subject.as_str(), sent[0].work_item_id), ("Thank you", Some(floor.item_of(&mail).await.id)));
        let again = floor.item(&account, "again").await;
        assert_eq!(receipts(&app).await.len(), 1);
        let trace = admin.get(&format!("/v1/work-items/{}/trace", again.id)).await.ok();
        let why = trace["items"].as_array().unwrap().iter().find(|entry| entry["data"]["event"] == "receipt.not_sent").unwrap();
        assert_eq!(why["data"]["reason"], "the sender had this answer within the last 7 days");

        // A script goes first: with its own answer, or by throwing the mail away.
        let other = publish(&admin, json!({ "name": "Script", "subject": "From the script", "text": "Hello." })).await;
        let answers = floor.script(json!({ "start": "thanks", "steps": {
            "thanks": { "type": "send_template", "template_id": other, "next": { "sent": "done", "not_sent": "done" } },
            "done": { "type": "end", "result": "done" } } })).await;
        let discards = floor.script(json!({ "start": "done", "steps": { "done": { "type": "end", "result": "discard" } } })).await;
        for script in [answers, discards] {
            let account = with_receipt(&*floor.account(Some(queue.id), Some(script)).await);
            floor.item(&account, "to a script").await;
        }
        let subjects: Vec<String> = receipts(&app).await.into_iter().map(|sent| sent.subject).collect();
        assert_eq!(subjects, ["Thank you", "From the script"]);
    }

    async fn a_receipt_is_chosen_among_published_templates(app) {
        let admin = app.admin().await;
        let text = |name: &str| json!({ "name": name, "subject": "Thank you", "text": "We have your mail." });
        let draft = admin.post("/v1/templates", text("Draft")).await.ok()["id"].clone();
        let account = |template: &Value| json!({ "address": "help@example.com", "receipt_template_id": template });
        let refused = admin.post("/v1/accounts", account(&draft)).await;
        refused.problem(422, "unknown_reference");
        assert_eq!(refused.pointers(), ["/receipt_template_id"]);
        let published = publish(&admin, text("Published")).await;
        let made = admin.post("/v1/accounts", account(&json!(published))).await;
        let path = made.header("location").to_owned();
        admin.patch(&path, json!({ "receipt_template_id": draft })).await.problem(422, "unknown_reference");
        admin.post(&format!("/v1/templates/{published}/archive"), json!({})).await.ok();
        admin.patch(&path, json!({ "display_name": "Help" })).await.ok();
    }

    async fn an_archived_template_is_not_sent(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let admin = app.admin().await;
        let template = publish(&admin, json!({ "name": "Thanks", "subject": "Thank you", "text": "We have your mail." })).await;
        admin.post(&format!("/v1/templates/{template}/archive"), json!({})).await.ok();
        let script = floor.script(json!({
            "start": "thanks",
            "steps": {
                "thanks": { "type": "send_template", "template_id": template, "next": { "sent": "done", "not_sent": "again" } },
                "again": { "type": "set_priority", "priority": 9, "next": { "done": "done" } },
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(Some(queue.id), Some(script)).await;
        let account = Arc::new(account::Model { receipt_template_id: Some(template), ..(*account).clone() });
        let item = floor.item(&account, "hello").await;
        assert_eq!(item.priority, 9);
        assert!(receipts(&app).await.is_empty());
        let trace = admin.get(&format!("/v1/work-items/{}/trace", item.id)).await.ok();
        assert!(trace.to_string().contains("the template is not published"), "{trace}");
    }

    async fn an_agent_who_leaves_before_being_asked_sends_the_item_back_to_its_script(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let script = floor.script(json!({
            "start": "known",
            "steps": {
                "known": { "type": "offer_last_agent", "timeout_s": 20,
                    "next": { "accepted": "done", "not_available": "queue", "timeout": "done" } },
                "queue": enqueue(&queue.id, json!({ "assigned": "done", "queue_full": "done", "closed": "done" })),
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let anna = floor.agent("anna", &[group.id]).await;
        for (offered, paused) in [(false, false), (true, false), (false, true), (true, true)] {
            floor.set_agent(anna.id, |agent| agent.state = AgentState::Ready).await;
            let mut mail = floor.mail(&account, "hello").await;
            mail.conversation.last_agent_id = Some(anna.id);
            floor.arrive(vec![mail.clone()]).await;
            if offered {
                floor.distribute().await;
            }
            let state = if paused { AgentState::NotReady } else { AgentState::LoggedOff };
            floor.set_agent(anna.id, |agent| agent.state = state).await;
            let tx = app.app.db.begin().await.unwrap();
            if paused {
                postroom::work::agent_paused(&tx, anna.id, floor.now()).await.unwrap();
            } else {
                postroom::work::agent_left(&tx, anna.id, floor.now(), false).await.unwrap();
            }
            tx.commit().await.unwrap();
            floor.check().await;
            floor.wait_s(0).await;
            let item = floor.item_of(&mail).await;
            assert_eq!((item.state, item.queue_id), (WorkState::Queued, Some(queue.id)));
        }
        assert!(floor.offers().await.iter().any(|offer| offer.state == OfferState::Rescinded));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_item_is_leased_by_the_databases_time() {
    // Its clock is months behind the database's, as a replica's may be by seconds.
    let app = TestApp::frozen(Backend::Postgres).await;
    let floor = Floor(&app);
    let queue = floor.queue(&[], |queue| queue.max_wait_s = Some(50)).await;
    let account = floor.account(Some(queue.id), None).await;
    let item = floor.item(&account, "hello").await;
    let tx = app.app.db.begin().await.unwrap();
    let refuse = "ALTER TABLE work_items ADD CONSTRAINT refuse CHECK (timer IS NOT NULL)";
    tx.execute_unprepared(refuse).await.unwrap();
    tx.commit().await.unwrap();
    app.app.clock.advance(std::time::Duration::from_secs(51));
    expire(app.app.clone()).await.unwrap();
    let item = floor.reload(&item).await;
    assert_eq!(item.attempts, 1);
    assert!(item.lease_until > Clock::system().now(), "{item:?}");
}
