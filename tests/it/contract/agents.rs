//! What is shown of agents, and to whom.

use postroom::{accounts::entity::Channel, work::entity::WorkState};
use serde_json::json;

use crate::{floor::Floor, on_both, support::TestApp};

on_both! {
    async fn an_agent_is_shown_with_what_the_agent_has_and_may_have(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let small = floor.group(|group| (group.capacity_email, group.capacity_sms) = (2, 4)).await;
        let large = floor.group(|group| (group.capacity_email, group.capacity_sms) = (3, 1)).await;
        let queue = floor.queue(&[small.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        assert_eq!(account.channel, Channel::Email);
        let anna = floor.agent("anna", &[small.id, large.id]).await;
        let ben = floor.agent("ben", &[]).await;
        floor.item(&account, "claimed").await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        floor.item(&account, "held out").await;
        floor.distribute().await;

        let me = anna.client.get("/v1/agents/me").await.ok();
        assert_eq!((&me["load"], &me["capacity"]), (&json!({ "email": 2, "sms": 0 }), &json!(null)));
        assert_eq!(me["effective_capacity"], json!({ "email": 3, "sms": 4 }));
        let supervisor = app.supervisor().await;
        let all = supervisor.get("/v1/agents").await.ok();
        assert_eq!((&all["items"][0], &all["items"][1]["id"]), (&me, &json!(ben.id)));
        assert_eq!(all["items"][1]["effective_capacity"], json!({ "email": 1, "sms": 1 }));
        let own = json!({ "capacity": { "email": 1, "sms": 9 } });
        let changed = supervisor.patch(&format!("/v1/agents/{}", anna.id), own.clone()).await.ok();
        assert_eq!((&changed["effective_capacity"], &changed["load"]["email"]), (&own["capacity"], &json!(2)));
        let left = anna.client.put("/v1/agents/me/state", json!({ "state": "not_ready" })).await.ok();
        assert_eq!(left["load"], json!({ "email": 1, "sms": 0 }));
    }

    async fn what_is_held_for_an_agent_is_kept_over_lunch_and_given_away_at_the_end_of_the_day(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|group| group.capacity_email = 2).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        floor.item(&account, "in work").await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let offered = floor.item(&account, "offered").await;
        floor.distribute().await;
        let held = floor.item(&account, "held").await;
        let to_anna = json!({ "agent_id": anna.id });
        app.supervisor().await.post(&format!("/v1/work-items/{}/transfer", held.id), to_anna).await.ok();
        assert_eq!(floor.reload(&held).await.state, WorkState::Queued);

        anna.client.put("/v1/agents/me/state", json!({ "state": "not_ready", "reason": "lunch" })).await.ok();
        assert_eq!(floor.reload(&offered).await.state, WorkState::Queued);
        assert_eq!(floor.reload(&held).await.target_agent_id, Some(anna.id));
        let ben = floor.agent("ben", &[group.id]).await;
        assert_eq!(floor.distribute().await, 1);
        floor.check().await;
        anna.client.put("/v1/agents/me/state", json!({ "state": "logged_off" })).await.ok();
        assert_eq!(floor.reload(&held).await.target_agent_id, None);
        assert_eq!(floor.distribute().await, 1);
        let given: Vec<_> = floor.offers().await.into_iter().skip(1).map(|offer| (offer.work_item_id, offer.agent_id)).collect();
        assert_eq!(given, [(offered.id, ben.id), (held.id, ben.id)]);
        floor.check().await;
    }

    async fn whoever_asks_is_told_why_an_item_is_not_given_to_an_agent_outside_its_groups(app) {
        let floor = Floor(&app);
        let (group, other) = (floor.group(|_| {}).await, floor.group(|_| {}).await);
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let (anna, ben) = (floor.agent("anna", &[group.id]).await, floor.agent("ben", &[other.id]).await);
        let cleo = floor.agent("cleo", &[]).await;
        let item = floor.item(&account, "hello").await;
        let path = format!("/v1/work-items/{}/explain", item.id);
        let supervisor = app.supervisor().await;
        let agents = supervisor.get(&path).await.ok()["agents"].clone();
        assert_eq!((agents.as_array().unwrap().len(), &agents[0]["agent_id"]), (1, &json!(anna.id)));
        let why = supervisor.get(&format!("{path}?agent_id={}", ben.id)).await.ok();
        assert_eq!(why["agents"].as_array().unwrap().len(), 1);
        assert_eq!(why["agents"][0]["agent_id"], json!(ben.id));
        assert_eq!(why["agents"][0]["reasons"], json!([{ "code": "not_in_group" }]));
        assert_eq!(why["agents"][0]["can_be_given"], false);
        supervisor.get(&format!("{path}?agent_id={}", item.id)).await.problem(404, "not_found");

        // The item was cleo's once: cleo sees it, and is told of herself too.
        let to_cleo = json!({ "agent_id": cleo.id });
        supervisor.post(&format!("/v1/work-items/{}/transfer", item.id), to_cleo).await.ok();
        let offer = floor.offers().await.pop().unwrap();
        cleo.client.post(&format!("/v1/offers/{}/accept", offer.id), json!({})).await.ok();
        let agents = cleo.client.get(&path).await.ok()["agents"].clone();
        let ids: Vec<_> = agents.as_array().unwrap().iter().map(|agent| agent["agent_id"].clone()).collect();
        assert_eq!(ids, [json!(anna.id), json!(cleo.id)]);
        assert_eq!(cleo.client.get(&format!("{path}?agent_id={}", cleo.id)).await.ok()["agents"][0], agents[1]);
        cleo.client.get(&format!("{path}?agent_id={}", anna.id)).await.problem(403, "not_yours");
    }

    async fn agents_are_listed_by_name_in_pages(app) {
        let floor = Floor(&app);
        for name in ["cleo", "anna", "dora", "ben"] {
            floor.agent(name, &[]).await;
        }
        let supervisor = app.supervisor().await;
        for (sort, expected) in [
            ("username", ["anna", "ben", "cleo", "dora"]),
            ("-username", ["dora", "cleo", "ben", "anna"]),
            ("display_name", ["anna", "ben", "cleo", "dora"]),
            ("-display_name", ["dora", "cleo", "ben", "anna"]),
        ] {
            let path = format!("/v1/agents?state=ready&limit=3&sort={sort}");
            let first = supervisor.get(&path).await.ok();
            let rest = format!("{path}&cursor={}", first["next_cursor"].as_str().unwrap());
            let rest = supervisor.get(&rest).await.ok();
            assert!(rest["next_cursor"].is_null());
            let both = [&first, &rest].into_iter().flat_map(|page| page["items"].as_array().unwrap());
            let names: Vec<_> = both.map(|agent| agent["username"].as_str().unwrap()).collect();
            assert_eq!(names, expected, "{sort}");
        }
    }

    async fn an_agent_finds_another_to_transfer_to_and_learns_no_more_than_that(app) {
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let (anna, ben) = (floor.agent("anna", &[group.id]).await, floor.agent("ben", &[group.id]).await);
        let skill = floor.skill("German").await;
        floor.give_skill(ben.id, skill, 7).await;
        floor.set_agent(ben.id, |agent| (agent.reason, agent.capacity_email, agent.capacity_sms) = (Some("x".into()), Some(9), Some(9))).await;
        let colleagues = anna.client.get(&format!("/v1/agents?group_id={}", group.id)).await.ok();
        let mut seen = colleagues["items"][1].clone();
        assert!(seen.as_object_mut().unwrap().remove("state_changed_at").is_some());
        assert_eq!(seen, json!({
            "id": ben.id, "username": "ben", "display_name": seen["display_name"], "state": "ready",
            "reason": null, "capacity": null, "group_ids": [group.id],
        }));
        assert_eq!(colleagues["items"][0], anna.client.get("/v1/agents/me").await.ok());
        let full = app.supervisor().await.get("/v1/agents").await.ok();
        assert_eq!((&full["items"][1]["reason"], &full["items"][1]["skills"][0]["level"]), (&json!("x"), &json!(7)));

        let item = floor.item(&account, "hello").await;
        anna.client.post("/v1/work-items/claim", json!({})).await.ok();
        let to = json!({ "agent_id": seen["id"] });
        anna.client.post(&format!("/v1/work-items/{}/transfer", item.id), to).await.ok();
    }
}
