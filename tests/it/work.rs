//! Work items and offers: every way through their states, by the API and by the workers' steps.

use postroom::{
    accounts::entity::Channel,
    agents::entity::{AgentState, MissedOfferAction},
    conversations::entity::{Classification, ConversationState, conversation, message},
    queues::entity::{Distribution, QueueState},
    work::{
        self,
        claim::{Claim, Reach, next_of_each},
        entity::{OfferState, WorkState, work_item},
        journal::Journal,
    },
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
use serde_json::json;

use crate::{
    floor::Floor,
    on_both,
    support::{Backend, Client, TestApp},
};

/// The suite's tests need a clock that stands still.
async fn still(app: &TestApp) -> TestApp {
    TestApp::frozen(app.backend).await
}

on_both! {
    async fn a_mail_is_queued_offered_accepted_and_completed(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let mail = floor.mail(&account, "Where is my order?").await;
        floor.arrive(vec![mail.clone()]).await;
        let item = floor.item_of(&mail).await;
        assert_eq!((item.state, item.queue_id, item.priority), (WorkState::Queued, Some(queue.id), 5));
        let stored = message::Entity::find_by_id(mail.message.id).one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!(stored.work_item_id, Some(item.id));
        assert_eq!(floor.distribute().await, 1);
        let offers = anna.client.get("/v1/offers").await.ok();
        let offer = &offers["items"][0];
        assert_eq!(offer["work_item"]["subject"], "Where is my order?");
        assert_eq!(offer["allowed_actions"], json!(["accept", "reject"]));
        let path = format!("/v1/offers/{}", offer["id"].as_str().unwrap());
        let accepted = anna.client.post(&format!("{path}/accept"), json!({})).await.ok();
        assert_eq!((&accepted["state"], &accepted["work_item"]["state"]), (&json!("accepted"), &json!("assigned")));
        anna.client.post(&format!("{path}/accept"), json!({})).await.problem(409, "offer_not_pending");
        let path = format!("/v1/work-items/{}", item.id);
        let done = anna.client.post(&format!("{path}/complete"), json!({ "outcome_code": "resolved" })).await.ok();
        assert_eq!((&done["state"], &done["outcome_code"]), (&json!("completed"), &json!("resolved")));
        let closed = conversation::Entity::find_by_id(item.conversation_id).one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!((closed.state, closed.last_agent_id), (ConversationState::Closed, Some(anna.id)));
        anna.client.post(&format!("{path}/release"), json!({})).await.problem(409, "invalid_state");
        let trace = anna.client.get(&format!("{path}/trace")).await.ok();
        let kinds: Vec<&str> = trace["items"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["script_step", "state", "offer", "offer", "state", "state"]);
        floor.check().await;
    }

    async fn a_rejected_item_keeps_its_place_and_goes_to_another_agent_first(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 1).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let first = floor.item(&account, "first").await;
        let second = floor.item(&account, "second").await;
        assert_eq!(floor.distribute().await, 1);
        let offer = floor.offers().await.remove(0);
        assert_eq!(offer.work_item_id, first.id);
        let path = format!("/v1/offers/{}/reject", offer.id);
        let ben = floor.agent("ben", &[group.id]).await;
        ben.client.post(&path, json!({})).await.problem(403, "not_yours");
        anna.client.post(&path, json!({ "reason": "Not my language" })).await.ok();
        let back = floor.reload(&first).await;
        assert_eq!((back.state, back.rank, back.queued_at), (WorkState::Queued, first.rank, first.queued_at));
        assert_eq!(floor.distribute().await, 2);
        let offers = floor.offers().await;
        let to = |item: &work_item::Model| offers.iter().rfind(|offer| offer.work_item_id == item.id).unwrap().agent_id;
        assert_eq!((to(&first), to(&second)), (ben.id, anna.id));
        floor.check().await;
    }

    async fn a_missed_offer_goes_back_and_makes_the_agent_not_ready_where_the_group_says_so(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.missed_offer_action = MissedOfferAction::NotReady).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&account, "hello").await;
        floor.distribute().await;
        let offer = floor.offers().await.remove(0);
        app.app.clock.advance(std::time::Duration::from_secs(30));
        let path = format!("/v1/offers/{}/accept", offer.id);
        anna.client.post(&path, json!({})).await.problem(409, "offer_not_pending");
        floor.wait_s(0).await;
        assert_eq!(floor.offers().await[0].state, OfferState::TimedOut);
        assert_eq!(floor.reload(&item).await.state, WorkState::Queued);
        let agents = postroom::agents::entity::agent::Entity::find_by_id(anna.id);
        let row = agents.one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!((row.state, row.reason.as_deref()), (AgentState::NotReady, Some("missed_offer")));
        assert_eq!(floor.distribute().await, 0);
        floor.check().await;
    }

    async fn two_hundred_parallel_accepts_give_one_success(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        floor.item(&account, "hello").await;
        floor.distribute().await;
        let path = format!("/v1/offers/{}/accept", floor.offers().await[0].id);
        let calls = (0..200).map(|_| anna.client.post(&path, json!({})));
        let answers = futures::future::join_all(calls).await;
        let accepted = answers.iter().filter(|answer| answer.status == 200).count();
        let late = answers.iter().filter(|answer| answer.body["code"] == "offer_not_pending").count();
        assert_eq!((accepted, late), (1, 199));
        floor.check().await;
    }

    async fn capacity_is_reserved_while_an_offer_is_pending(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 2).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        for _ in 0..3 {
            floor.item(&account, "hello").await;
        }
        assert_eq!(floor.distribute().await, 2);
        anna.client.post("/v1/work-items/claim", json!({})).await.problem(409, "no_capacity");
        floor.set_agent(anna.id, |agent| agent.state = AgentState::NotReady).await;
        anna.client.post("/v1/work-items/claim", json!({})).await.problem(409, "agent_not_ready");
        floor.check().await;
    }

    async fn claims_take_the_next_item_and_nothing_twice(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 10).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let other = floor.queue(&[], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let ben = floor.agent("ben", &[group.id]).await;
        let hidden = floor.item(&floor.account(Some(other.id), None).await, "hidden").await;
        for number in 0..6 {
            floor.item(&account, &number.to_string()).await;
        }
        let first = anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        assert_eq!(first["subject"], "0");
        let calls = (0..8).map(|number| {
            let desk = if number % 2 == 0 { &anna } else { &ben };
            desk.client.post("/v1/work-items/claim", json!({ "queue_id": queue.id }))
        });
        let answers = futures::future::join_all(calls).await;
        let mut subjects: Vec<&str> = answers.iter().filter_map(|answer| answer.body["subject"].as_str()).collect();
        subjects.sort_unstable();
        assert_eq!(subjects, ["1", "2", "3", "4", "5"]);
        let empty = answers.iter().filter(|answer| answer.body["code"] == "nothing_to_claim").count();
        assert_eq!(empty, 3);
        anna.client.post("/v1/work-items/claim", json!({ "queue_id": other.id })).await.problem(409, "nothing_to_claim");
        let path = format!("/v1/work-items/{}/claim", hidden.id);
        anna.client.post(&path, json!({})).await.problem(403, "not_yours");
        anna.client.get(&format!("/v1/work-items/{}", hidden.id)).await.problem(403, "not_yours");
        floor.check().await;
    }

    async fn what_was_transferred_to_a_group_is_claimed_by_its_members_whatever_queue_it_is_in(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let (group, experts) = (floor.group(|_| {}).await, floor.group(|_| {}).await);
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let (anna, ben) = (floor.agent("anna", &[group.id]).await, floor.agent("ben", &[experts.id]).await);
        let item = floor.item(&account, "hello").await;
        let transfer = format!("/v1/work-items/{}/transfer", item.id);
        app.supervisor().await.post(&transfer, json!({ "group_id": experts.id })).await.ok();
        anna.client.post("/v1/work-items/claim", json!({})).await.problem(409, "nothing_to_claim");
        let claimed = ben.client.post("/v1/work-items/claim", json!({})).await.ok();
        assert_eq!(claimed["id"], json!(item.id));
        floor.check().await;
    }

    async fn claims_of_one_moment_each_get_their_own_item_or_their_own_answer(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 2).await;
        let queue = floor.queue(&[group.id], |queue| queue.distribution = Distribution::Manual).await;
        let account = floor.account(Some(queue.id), None).await;
        let stranger = floor.agent("stranger", &[]).await;
        let away = floor.agent("away", &[group.id]).await;
        floor.set_agent(away.id, |agent| agent.state = AgentState::NotReady).await;
        let mut desks = Vec::new();
        for number in 0..5 {
            desks.push(floor.agent(&format!("agent{number}"), &[group.id]).await);
        }
        for number in 0..8 {
            floor.item(&account, &number.to_string()).await;
        }
        // Three claims of each of five agents who have room for two: eight items, so that seven get nothing.
        let claims = (0..15).map(|number| desks[number % 5].client.post("/v1/work-items/claim", json!({})));
        let others = [&stranger, &away].map(|desk| desk.client.post("/v1/work-items/claim", json!({})));
        let (answers, others) =
            futures::join!(futures::future::join_all(claims), futures::future::join_all(others));
        let mut subjects: Vec<&str> =
            answers.iter().filter_map(|answer| answer.body["subject"].as_str()).collect();
        subjects.sort_unstable();
        assert_eq!(subjects, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        let refused = |code: &str| answers.iter().filter(|answer| answer.body["code"] == code).count();
        assert_eq!(refused("no_capacity") + refused("nothing_to_claim"), 7);
        assert_eq!(others[0].body["code"], "nothing_to_claim");
        assert_eq!(others[1].body["code"], "agent_not_ready");
        for desk in &desks {
            let mine = app.supervisor().await.get(&format!("/v1/work-items?agent_id={}", desk.id)).await.ok();
            assert!(mine["items"].as_array().unwrap().len() <= 2);
        }
        floor.check().await;
    }

    async fn claims_of_agents_with_room_on_different_channels_never_share_an_item(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |queue| queue.distribution = Distribution::Manual).await;
        let account = floor.account(Some(queue.id), None).await;
        let (anna, ben) = (floor.agent("anna", &[group.id]).await, floor.agent("ben", &[group.id]).await);
        floor.set_agent(ben.id, |agent| agent.capacity_sms = Some(0)).await;
        let (first, text, second) =
            (floor.item(&account, "1").await, floor.item(&account, "text").await, floor.item(&account, "2").await);
        let tx = app.app.db.begin().await.unwrap();
        let as_text = work_item::Entity::update_many().filter(work_item::Column::Id.eq(text.id));
        as_text.col_expr(work_item::Column::Channel, Expr::value(Channel::Sms)).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let claims = [anna.id, ben.id].map(|agent| Claim { agent, queue: None });
        let reach = Reach::of(app.app.db.read(), &claims).await.unwrap();
        let tx = app.app.db.begin().await.unwrap();
        let mut journal = Journal::new(floor.now());
        let given = next_of_each(&tx, &mut journal, &reach, &claims).await.unwrap();
        journal.write(&tx).await.unwrap();
        tx.commit().await.unwrap();
        let given: Vec<_> = given.into_iter().map(|item| item.unwrap().id).collect();
        assert_eq!(given, [first.id, second.id]);
        floor.check().await;
    }

    async fn a_manual_queue_offers_nothing_and_its_items_are_claimed(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |queue| queue.distribution = Distribution::Manual).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&floor.account(Some(queue.id), None).await, "hello").await;
        assert_eq!(floor.distribute().await, 0);
        let claimed = anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        assert_eq!(claimed["id"], json!(item.id));
        floor.check().await;
    }

    async fn a_repeated_claim_with_the_same_key_takes_one_item(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        floor.item(&account, "one").await;
        floor.item(&account, "two").await;
        let claim = || anna.client.request(reqwest::Method::POST, "/v1/work-items/claim")
            .header("Idempotency-Key", "k").json(&json!({}));
        let first = anna.client.send(claim()).await.ok();
        let again = anna.client.send(claim()).await.ok();
        assert_eq!(first["id"], again["id"]);
    }

    async fn priorities_go_first_and_with_aging_waiting_makes_up_for_them(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        for (aging_s, order) in [(None, ["urgent", "old"]), (Some(10), ["old", "urgent"])] {
            let queue = floor.queue(&[group.id], |queue| queue.aging_s = aging_s).await;
            let account = floor.account(Some(queue.id), None).await;
            let supervisor = app.supervisor().await;
            floor.item(&account, "old").await;
            app.app.clock.advance(std::time::Duration::from_secs(60));
            let urgent = floor.item(&account, "urgent").await;
            let path = format!("/v1/work-items/{}/set-priority", urgent.id);
            supervisor.post(&path, json!({ "priority": 1 })).await.ok();
            let name = format!("agent-{}", order[0]);
            let desk = floor.agent(&name, &[group.id]).await;
            for subject in order {
                let claimed = desk.client.post("/v1/work-items/claim", json!({ "queue_id": queue.id })).await.ok();
                assert_eq!(claimed["subject"], subject, "aging {aging_s:?}");
            }
        }
    }

    async fn a_new_aging_holds_for_what_waits_already(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let supervisor = app.supervisor().await;
        let queue = floor.queue(&[], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        floor.item(&account, "old").await;
        app.app.clock.advance(std::time::Duration::from_secs(60));
        let urgent = floor.item(&account, "urgent").await;
        supervisor.post(&format!("/v1/work-items/{}/set-priority", urgent.id), json!({ "priority": 1 })).await.ok();
        let path = format!("/v1/queues/{}", queue.id);
        for (aging_s, order) in [
            (json!(null), ["urgent", "old", "new"]), (json!(10), ["old", "urgent", "new"]), (json!(null), ["urgent", "old", "new"]),
        ] {
            supervisor.patch(&path, json!({ "aging_s": aging_s })).await.ok();
            app.app.clock.advance(std::time::Duration::from_secs(60));
            let new = floor.item(&account, "new").await;
            let listed = supervisor.get(&format!("{path}/items")).await.ok();
            let subjects: Vec<&str> =
                listed["items"].as_array().unwrap().iter().map(|item| item["subject"].as_str().unwrap()).collect();
            assert_eq!(subjects, order, "aging {aging_s}");
            let tx = app.app.db.begin().await.unwrap();
            work_item::Entity::delete_by_id(new.id).exec(&*tx).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    async fn skills_decide_and_explain_tells_why(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |queue| queue.distribution = Distribution::BestSkill).await;
        let french = floor.skill("French").await;
        let script = floor.script(json!({
            "start": "queue",
            "steps": {
                "queue": { "type": "enqueue", "queue_id": queue.id, "priority": 2,
                    "skills": [{ "skill_id": french, "min_level": 5 }],
                    "next": { "assigned": "done", "queue_full": "done", "closed": "done" } },
                "done": { "type": "end", "result": "done" },
            },
        })).await;
        let account = floor.account(None, Some(script)).await;
        let plain = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&account, "bonjour").await;
        let anybodys = floor.item(&plain, "hello").await;
        assert_eq!((item.state, item.priority), (WorkState::Queued, 2));
        let path = format!("/v1/work-items/{}/explain", item.id);
        let why = app.supervisor().await.get(&path).await.ok();
        assert_eq!(why["agents"][0]["reasons"],
            json!([{ "code": "missing_skill", "skill_id": french, "have": 0, "need": 5 }]));
        // What nobody present can take does not keep the rest from being taken.
        assert_eq!(floor.distribute().await, 1);
        assert_eq!(floor.offers().await[0].work_item_id, anybodys.id);
        let (good, best) = (floor.agent("ben", &[group.id]).await, floor.agent("cleo", &[group.id]).await);
        floor.give_skill(good.id, french, 5).await;
        floor.give_skill(best.id, french, 9).await;
        floor.give_skill(anna.id, french, 4).await;
        assert_eq!(floor.distribute().await, 1);
        let offers = floor.offers().await;
        assert_eq!((offers[1].work_item_id, offers[1].agent_id), (item.id, best.id));
        let why = app.supervisor().await.get(&path).await.ok();
        assert_eq!(why["reasons"], json!([{ "code": "not_queued" }]));
    }

    async fn new_mail_joins_the_open_item_and_a_closed_conversation_gets_a_new_one_for_the_last_agent(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let mail = floor.mail(&account, "hello").await;
        floor.arrive(vec![mail.clone()]).await;
        let item = floor.item_of(&mail).await;
        let more = floor.answer(&mail).await;
        floor.arrive(vec![more.clone()]).await;
        let joined = floor.item_of(&mail).await;
        assert_eq!((joined.id, joined.message_count, joined.last_message_id), (item.id, 2, more.message.id));
        let anna = floor.agent("anna", &[group.id]).await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        anna.client.post(&format!("/v1/work-items/{}/complete", item.id), json!({})).await.ok();
        let _idle_for_longer = floor.agent("ben", &[group.id]).await;
        let again = floor.answer(&mail).await;
        floor.arrive(vec![again]).await;
        let new = floor.item_of(&mail).await;
        assert_ne!(new.id, item.id);
        assert_eq!(new.last_agent_id, Some(anna.id));
        floor.distribute().await;
        assert_eq!(floor.offers().await[0].agent_id, anna.id);
    }

    async fn many_messages_of_one_batch_make_one_item_for_each_conversation(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let mut arrivals = Vec::new();
        for number in 0..40 {
            let mail = floor.mail(&account, &number.to_string()).await;
            if number % 4 == 0 {
                let more = floor.answer(&mail).await;
                arrivals.push(mail);
                arrivals.push(more);
            } else {
                arrivals.push(mail);
            }
        }
        floor.arrive(arrivals).await;
        let items = work_item::Entity::find().all(app.app.db.read()).await.unwrap();
        assert_eq!(items.len(), 40);
        assert_eq!(items.iter().map(|item| item.message_count).sum::<i64>(), 50);
        let messages = message::Entity::find().all(app.app.db.read()).await.unwrap();
        assert!(messages.iter().all(|message| message.work_item_id.is_some()));
    }

    async fn a_snoozed_item_comes_back_to_its_place_in_time_or_when_the_customer_writes(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let mail = floor.mail(&account, "hello").await;
        floor.arrive(vec![mail.clone()]).await;
        let item = floor.item_of(&mail).await;
        let path = format!("/v1/work-items/{}", item.id);
        let until = floor.now().plus_s(600);
        for by_message in [false, true] {
            anna.client.post(&format!("{path}/claim"), json!({})).await.ok();
            let past = json!({ "until": floor.now() });
            let refused = anna.client.post(&format!("{path}/snooze"), past).await;
            assert!(refused.body["detail"].as_str().unwrap().contains("in the past"), "{}", refused.body);
            refused.problem(422, "validation_failed");
            let until = if by_message { floor.now().plus_s(600) } else { until };
            let snoozed = anna.client.post(&format!("{path}/snooze"), json!({ "until": until })).await.ok();
            assert_eq!(snoozed["state"], "waiting");
            floor.check().await;
            if by_message {
                let mut machine = floor.answer(&mail).await;
                machine.message.classification = Classification::AutoReply;
                floor.arrive(vec![machine]).await;
                assert_eq!(floor.reload(&item).await.state, WorkState::Waiting);
                let person = floor.answer(&mail).await;
                floor.arrive(vec![person]).await;
            } else {
                floor.wait_s(599).await;
                assert_eq!(floor.reload(&item).await.state, WorkState::Waiting);
                floor.wait_s(1).await;
            }
            let back = floor.reload(&item).await;
            assert_eq!((back.state, back.rank, back.last_agent_id), (WorkState::Queued, item.rank, Some(anna.id)));
        }
    }

    async fn wrap_up_ends_in_time_or_early_and_counts_as_work(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| { group.wrap_up_s = 60; group.capacity_email = 1 }).await;
        let (queue, other) = (floor.queue(&[group.id], |_| {}).await, floor.queue(&[], |_| {}).await);
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        for early in [false, true] {
            let mail = floor.mail(&account, "hello").await;
            floor.arrive(vec![mail.clone()]).await;
            let item = floor.item_of(&mail).await;
            let path = format!("/v1/work-items/{}", item.id);
            anna.client.post(&format!("{path}/claim"), json!({})).await.ok();
            let wrapping = anna.client.post(&format!("{path}/complete"), json!({})).await.ok();
            assert_eq!(wrapping["state"], "wrapping");
            assert_eq!(wrapping["allowed_actions"], json!(["note", "set_outcome", "finish_wrap_up"]));
            let waits = floor.mail(&account, "waits").await;
            floor.arrive(vec![waits.clone()]).await;
            anna.client.post("/v1/work-items/claim", json!({})).await.problem(409, "no_capacity");
            let away = format!("/v1/work-items/{}/transfer", floor.item_of(&waits).await.id);
            app.supervisor().await.post(&away, json!({ "queue_id": other.id })).await.ok();
            floor.check().await;
            if early {
                anna.client.post(&format!("{path}/finish-wrap-up"), json!({})).await.ok();
            } else {
                floor.wait_s(60).await;
            }
            assert_eq!(floor.reload(&item).await.state, WorkState::Completed);
        }
    }

    async fn mail_during_wrap_up_is_new_work(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.wrap_up_s = 60).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let mail = floor.mail(&account, "hello").await;
        floor.arrive(vec![mail.clone()]).await;
        let item = floor.item_of(&mail).await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        anna.client.post(&format!("/v1/work-items/{}/complete", item.id), json!({})).await.ok();
        let more = floor.answer(&mail).await;
        floor.arrive(vec![more]).await;
        assert_eq!(floor.reload(&item).await.state, WorkState::Completed);
        let new = floor.item_of(&mail).await;
        assert_eq!((new.state, new.message_count), (WorkState::Queued, 1));
    }

    async fn items_are_transferred_to_queues_agents_and_groups(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let (group, experts) = (floor.group(|_| {}).await, floor.group(|_| {}).await);
        let queue = floor.queue(&[group.id], |_| {}).await;
        let second = floor.queue(&[group.id], |_| {}).await;
        let closed = floor.queue(&[group.id], |queue| queue.state = QueueState::Closed).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&account, "hello").await;
        let path = format!("/v1/work-items/{}", item.id);
        let transfer = format!("{path}/transfer");
        anna.client.post(&transfer, json!({ "queue_id": second.id })).await.problem(409, "not_assigned");
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let both = json!({ "queue_id": second.id, "group_id": group.id });
        let refused = anna.client.post(&transfer, both).await;
        assert_eq!(refused.body["detail"], "name one of queue_id, agent_id and group_id");
        refused.problem(422, "validation_failed");
        let to_oneself = anna.client.post(&transfer, json!({ "agent_id": anna.id })).await;
        assert_eq!(to_oneself.body["errors"][0]["pointer"], "/agent_id");
        to_oneself.problem(422, "validation_failed");
        anna.client.post(&transfer, json!({ "queue_id": closed.id })).await.problem(409, "queue_closed");
        anna.client.post(&transfer, json!({ "queue_id": item.id })).await.problem(422, "unknown_reference");
        anna.client.post(&transfer, json!({ "agent_id": item.id })).await.problem(422, "unknown_reference");
        let moved = anna.client.post(&transfer, json!({ "queue_id": second.id, "note": "Please look" })).await.ok();
        assert_eq!((&moved["state"], &moved["queue_id"]), (&json!("queued"), &json!(second.id)));
        let supervisor = app.supervisor().await;
        let ben = floor.agent("ben", &[experts.id]).await;
        floor.set_agent(ben.id, |agent| agent.state = AgentState::LoggedOff).await;
        supervisor.post(&transfer, json!({ "agent_id": ben.id })).await.problem(409, "agent_not_ready");
        floor.set_agent(ben.id, |agent| agent.state = AgentState::Ready).await;
        let offered = supervisor.post(&transfer, json!({ "agent_id": ben.id })).await.ok();
        assert_eq!(offered["state"], "offered");
        floor.check().await;
        let taken_back = supervisor.post(&transfer, json!({ "group_id": experts.id })).await.ok();
        assert_eq!((&taken_back["state"], &taken_back["group_id"]), (&json!("queued"), &json!(experts.id)));
        assert_eq!(floor.offers().await[0].state, OfferState::Rescinded);
        // The group serves no queue at all, and gets the item all the same.
        assert_eq!(floor.distribute().await, 1);
        assert_eq!(floor.offers().await[1].agent_id, ben.id);
        floor.check().await;
    }

    async fn a_group_that_work_is_held_for_cannot_be_deleted(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let supervisor = app.supervisor().await;
        let (experts, others) = (floor.group(|_| {}).await, floor.group(|_| {}).await);
        let queue = floor.queue(&[others.id], |_| {}).await;
        let anna = floor.agent("anna", &[experts.id]).await;
        let item = floor.item(&floor.account(Some(queue.id), None).await, "hello").await;
        let path = format!("/v1/work-items/{}", item.id);
        supervisor.post(&format!("{path}/transfer"), json!({ "group_id": experts.id })).await.ok();
        let group = format!("/v1/agent-groups/{}", experts.id);
        supervisor.delete(&group).await.problem(409, "in_use");
        anna.client.post(&format!("{path}/claim"), json!({})).await.ok();
        supervisor.delete(&group).await.problem(409, "in_use");
        anna.client.post(&format!("{path}/complete"), json!({})).await.ok();
        assert_eq!(supervisor.delete(&group).await.status, 204);
    }

    async fn an_agent_who_leaves_keeps_assigned_work_unless_it_is_released(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let has = floor.item(&account, "has").await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let offered = floor.item(&account, "offered").await;
        floor.distribute().await;
        for (release, state) in [(false, WorkState::Assigned), (true, WorkState::Queued)] {
            floor.set_agent(anna.id, |agent| agent.state = AgentState::LoggedOff).await;
            let tx = app.app.db.begin().await.unwrap();
            work::agent_left(&tx, anna.id, floor.now(), release).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(floor.reload(&offered).await.state, WorkState::Queued);
            assert_eq!(floor.reload(&has).await.state, state);
            floor.check().await;
        }
        assert_eq!(floor.offers().await[0].state, OfferState::Rescinded);
    }

    async fn an_auto_accepting_group_gets_items_at_once(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.auto_accept = true).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&account, "hello").await;
        assert_eq!(floor.distribute().await, 1);
        let item = floor.reload(&item).await;
        assert_eq!((item.state, item.assigned_agent_id), (WorkState::Assigned, Some(anna.id)));
        assert_eq!(floor.offers().await[0].state, OfferState::Accepted);
        floor.check().await;
    }

    async fn closed_queues_give_nothing_and_draining_ones_give_what_they_have(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        floor.agent("anna", &[group.id]).await;
        for (state, given) in [(QueueState::Closed, 0), (QueueState::Draining, 1)] {
            let queue = floor.queue(&[group.id], |queue| queue.state = state).await;
            let account = floor.account(Some(queue.id), None).await;
            floor.item(&account, "hello").await;
            assert_eq!(floor.distribute().await, given, "{state:?}");
        }
    }

    async fn queue_statistics_count_what_there_is(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 1).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        floor.agent("ben", &[group.id]).await;
        for number in 0..4 {
            floor.item(&account, &number.to_string()).await;
        }
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        floor.distribute().await;
        app.app.clock.advance(std::time::Duration::from_secs(90));
        let stats = work::stats::queue(app.app.db.read(), queue.id, floor.now()).await.unwrap().unwrap();
        assert_eq!((stats.waiting, stats.offered, stats.assigned, stats.oldest_wait_s), (2, 1, 1, 90));
        let level = stats.service_level.unwrap();
        assert_eq!((level.in_time, level.counted, level.percent), (1, 4, Some(25.0)));
        assert_eq!((stats.agents.ready, stats.agents.logged_off), (2, 0));
    }

    async fn the_service_level_counts_when_an_item_was_first_taken(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&account, "hello").await;
        let level = async || {
            let stats = work::stats::queue(app.app.db.read(), queue.id, floor.now()).await.unwrap().unwrap();
            let level = stats.service_level.unwrap();
            (level.in_time, level.counted)
        };
        let path = format!("/v1/work-items/{}", item.id);
        let mut taken = Vec::new();
        for _ in 0..2 {
            anna.client.post(&format!("{path}/claim"), json!({})).await.ok();
            assert_eq!(level().await, (1, 1));
            taken.push(floor.reload(&item).await);
            anna.client.post(&format!("{path}/release"), json!({})).await.ok();
            app.app.clock.advance(std::time::Duration::from_secs(600));
            assert_eq!(level().await, (1, 1));
        }
        assert!(taken[0].first_assigned_at.is_some() && taken[0].assigned_at != taken[1].assigned_at);
        assert_eq!(taken[0].first_assigned_at, taken[1].first_assigned_at);
    }

    async fn what_an_agent_may_not_do_is_refused_with_its_code(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let ben = floor.agent("ben", &[group.id]).await;
        let item = floor.item(&account, "hello").await;
        let path = format!("/v1/work-items/{}", item.id);
        let bodies = [
            ("release", json!({})), ("complete", json!({})), ("set-outcome", json!({ "code": "x" })),
            ("transfer", json!({ "queue_id": queue.id })), ("snooze", json!({ "until": floor.now().plus_s(60) })),
        ];
        for (action, body) in &bodies {
            anna.client.post(&format!("{path}/{action}"), body.clone()).await.problem(409, "not_assigned");
        }
        anna.client.post(&format!("{path}/claim"), json!({})).await.ok();
        for (action, body) in &bodies {
            ben.client.post(&format!("{path}/{action}"), body.clone()).await.problem(403, "not_yours");
        }
        anna.client.post(&format!("{path}/claim"), json!({})).await.problem(409, "invalid_state");
        anna.client.post(&format!("{path}/finish-wrap-up"), json!({})).await.problem(409, "invalid_state");
        anna.client.post(&format!("{path}/set-priority"), json!({ "priority": 1 })).await.problem(403, "forbidden");
        let supervisor = app.supervisor().await;
        supervisor.post(&format!("{path}/set-priority"), json!({ "priority": 11 })).await.problem(422, "validation_failed");
        let nothing = json!({ "class_id": null });
        supervisor.post(&format!("{path}/set-class"), nothing).await.ok();
        let unknown = json!({ "class_id": item.id });
        supervisor.post(&format!("{path}/set-class"), unknown).await.problem(422, "unknown_reference");
        supervisor.post(&format!("{path}/complete"), json!({})).await.ok();
        supervisor.post("/v1/work-items/claim", json!({})).await.problem(409, "agent_not_ready");
        let nobody = "/v1/work-items/019aa1b2-0000-7000-8000-000000000001";
        anna.client.post(&format!("{nobody}/complete"), json!({})).await.problem(404, "not_found");
        let nobody = "/v1/offers/019aa1b2-0000-7000-8000-000000000001/accept";
        anna.client.post(nobody, json!({})).await.problem(404, "not_found");
        let listed = ben.client.get("/v1/work-items").await.ok();
        assert_eq!(listed["items"], json!([]));
        let listed = anna.client.get("/v1/work-items?state=completed&sort=-updated_at").await.ok();
        assert_eq!(listed["items"][0]["id"], json!(item.id));
    }

    async fn only_the_agent_who_has_an_item_is_shown_the_answers_to_it(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&floor.account(Some(queue.id), None).await, "hello").await;
        let path = format!("/v1/work-items/{}", item.id);
        anna.client.post(&format!("{path}/claim"), json!({})).await.ok();
        let seen = async |client: &Client| client.get(&path).await.ok()["allowed_actions"].clone();
        let rest = ["transfer", "release", "snooze", "set_outcome", "complete"];
        let of_anna = [&["note", "reply", "reply_all", "forward", "draft"][..], &rest].concat();
        assert_eq!(seen(&anna.client).await, json!(of_anna));
        let of_others = [&["note"][..], &rest, &["set_priority", "set_class"]].concat();
        for client in [app.supervisor().await, app.admin().await] {
            assert_eq!(seen(&client).await, json!(of_others));
            let answer = json!({ "expected_last_message_id": item.last_message_id, "text": "x" });
            client.post(&format!("{path}/reply"), answer).await.problem(409, "not_assigned");
            client.put(&format!("{path}/draft"), json!({ "text": "x" })).await.problem(409, "not_assigned");
        }
    }

    async fn claim_is_shown_to_whom_it_would_be_granted(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 1).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let (anna, ben) = (floor.agent("anna", &[group.id]).await, floor.agent("ben", &[group.id]).await);
        let item = floor.item(&account, "hello").await;
        let supervisor = app.supervisor().await;
        let path = format!("/v1/work-items/{}", item.id);
        let shown = async |client: &Client, list: &str| {
            let (one, list) = (client.get(&path).await.ok(), client.get(list).await.ok());
            let listed = list["items"].as_array().unwrap().iter().find(|other| other["id"] == one["id"]).unwrap();
            assert_eq!(listed["allowed_actions"], one["allowed_actions"]);
            one["allowed_actions"].as_array().unwrap().contains(&json!("claim"))
        };
        assert!(shown(&anna.client, "/v1/work-items").await);
        // Neither serves the queue; an administrator has no desk at all.
        for client in [&supervisor, &app.admin().await] {
            assert!(!shown(client, "/v1/work-items").await);
            assert!(!shown(client, &format!("/v1/queues/{}/items", queue.id)).await);
        }
        floor.set_agent(anna.id, |agent| agent.state = AgentState::NotReady).await;
        assert!(!shown(&anna.client, "/v1/work-items").await);
        floor.set_agent(anna.id, |agent| agent.state = AgentState::Ready).await;
        let other = floor.item(&account, "other").await;
        anna.client.post(&format!("/v1/work-items/{}/claim", other.id), json!({})).await.ok();
        assert!(!shown(&anna.client, "/v1/work-items").await);
        anna.client.post(&format!("/v1/work-items/{}/complete", other.id), json!({})).await.ok();
        floor.set_agent(anna.id, |agent| agent.state = AgentState::NotReady).await;
        let held = supervisor.post(&format!("{path}/transfer"), json!({ "agent_id": anna.id })).await.ok();
        assert_eq!((&held["state"], &held["target_agent_id"]), (&json!("queued"), &json!(anna.id)));
        floor.set_agent(anna.id, |agent| agent.state = AgentState::Ready).await;
        assert!(shown(&anna.client, "/v1/work-items").await);
        ben.client.get(&path).await.problem(403, "not_yours");
    }

    async fn a_note_can_be_written_in_every_state_by_whoever_has_or_had_the_item(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.wrap_up_s = 60).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let item = floor.item(&floor.account(Some(queue.id), None).await, "hello").await;
        let supervisor = app.supervisor().await;
        let path = format!("/v1/work-items/{}", item.id);
        let can_note = async |client: &Client| {
            let shown = client.get(&path).await.ok()["allowed_actions"].as_array().unwrap().contains(&json!("note"));
            let written = client.post(&format!("{path}/notes"), json!({ "text": "x" })).await.status == 201;
            assert_eq!(shown, written);
            shown
        };
        assert!(can_note(&supervisor).await && !can_note(&anna.client).await);
        for (action, body) in [
            ("claim", json!({})), ("release", json!({})), ("claim", json!({})),
            ("snooze", json!({ "until": floor.now().plus_s(60) })), ("release", json!({})), ("claim", json!({})),
            ("complete", json!({})), ("finish-wrap-up", json!({})),
        ] {
            anna.client.post(&format!("{path}/{action}"), body).await.ok();
            assert!(can_note(&anna.client).await, "after {action}");
            assert!(can_note(&supervisor).await, "after {action}");
        }
    }

    async fn the_items_of_a_conversation_are_listed(app) {
        let app = still(&app).await;
        let floor = Floor(&app);
        let queue = floor.queue(&[], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let (item, _other) = (floor.item(&account, "hello").await, floor.item(&account, "other").await);
        let listed = app.supervisor().await.get(&format!("/v1/work-items?conversation_id={}", item.conversation_id)).await.ok();
        let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        assert_eq!(ids, [json!(item.id)]);
    }

    async fn an_item_that_arrives_while_an_agent_is_ready_is_offered_without_any_tick(app) {
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        floor.agent("anna", &[group.id]).await;
        let mut tail = app.app.tail.subscribe();
        app.start_workers();
        let mail = floor.mail(&account, "hello").await;
        let began = std::time::Instant::now();
        floor.arrive(vec![mail]).await;
        let offered = async {
            while tail.recv().await.unwrap().kind != "offer.created" {}
        };
        tokio::time::timeout(std::time::Duration::from_secs(3), offered).await.expect("nothing was offered");
        println!("{:?}: offered after {:?}", app.backend, began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_that_distribute_at_once_make_one_offer_for_each_item() {
    let app = TestApp::start(Backend::Postgres).await;
    let floor = Floor(&app);
    let group = floor.group(|group| group.capacity_email = 4).await;
    let queue = floor.queue(&[group.id], |_| {}).await;
    let account = floor.account(Some(queue.id), None).await;
    for name in ["a", "b", "c", "d", "e"] {
        floor.agent(name, &[group.id]).await;
    }
    let mut arrivals = Vec::new();
    for number in 0..40 {
        arrivals.push(floor.mail(&account, &number.to_string()).await);
    }
    floor.arrive(arrivals).await;
    let replica = app.replica().await;
    let other = Floor(&replica);
    let both = async || tokio::join!(floor.distribute(), other.distribute());
    let (one, two) = both().await;
    assert_eq!(one + two, 20);
    floor.check().await;
}
