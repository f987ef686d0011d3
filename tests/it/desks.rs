//! What becomes of a desk, and of the work at it, when its user goes.

use postroom::{agents::entity::AgentState, work::entity::WorkState};
use serde_json::json;

use crate::{
    floor::Floor,
    on_both,
    support::{Client, TestApp},
};

/// Takes a user out of service in one of the ways there are.
async fn take_out(admin: &Client, path: &str, way: &str) {
    match way {
        "disabled" => admin.patch(path, json!({ "disabled": true })).await.ok(),
        "promoted" => admin.patch(path, json!({ "role": "admin" })).await.ok(),
        _ => admin.delete(path).await.ok(),
    };
}

on_both! {
    async fn the_work_of_a_user_who_is_taken_out_of_service_goes_back_to_its_queue(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let (admin, supervisor) = (app.admin().await, app.supervisor().await);
        for (way, state) in [
            ("disabled", AgentState::Ready), ("promoted", AgentState::NotReady), ("deleted", AgentState::LoggedOff),
        ] {
            let group = floor.group(|group| { group.wrap_up_s = 600; group.capacity_email = 10; }).await;
            let queue = floor.queue(&[group.id], |_| {}).await;
            let account = floor.account(Some(queue.id), None).await;
            let desk = floor.agent(way, &[group.id]).await;
            let (has, snoozed, done) =
                (floor.item(&account, "has").await, floor.item(&account, "snoozed").await, floor.item(&account, "done").await);
            for item in [&has, &snoozed, &done] {
                desk.client.post(&format!("/v1/work-items/{}/claim", item.id), json!({})).await.ok();
            }
            let until = json!({ "until": floor.now().plus_s(600) });
            desk.client.post(&format!("/v1/work-items/{}/snooze", snoozed.id), until).await.ok();
            let wrapping = desk.client.post(&format!("/v1/work-items/{}/complete", done.id), json!({})).await.ok();
            assert_eq!(wrapping["state"], "wrapping");
            let offered = floor.item(&account, "offered").await;
            assert_eq!(floor.distribute().await, 1);
            floor.set_agent(desk.id, |agent| agent.state = AgentState::NotReady).await;
            let held = floor.item(&account, "held").await;
            let to = json!({ "agent_id": desk.id });
            let waiting = supervisor.post(&format!("/v1/work-items/{}/transfer", held.id), to).await.ok();
            assert_eq!((&waiting["state"], &waiting["target_agent_id"]), (&json!("queued"), &json!(desk.id)));
            floor.set_agent(desk.id, |agent| agent.state = state).await;

            take_out(&admin, &format!("/v1/users/{}", desk.id), way).await;
            for item in [&has, &snoozed, &offered, &held] {
                let item = floor.reload(item).await;
                assert_eq!((item.state, item.target_agent_id), (WorkState::Queued, None), "{way}: {}", item.subject);
            }
            assert_eq!(floor.reload(&done).await.state, WorkState::Completed, "{way}");
            floor.check().await;
        }
    }

    async fn a_deleted_user_leaves_groups_skills_and_the_list_of_agents(app) {
        let floor = Floor(&app);
        let admin = app.admin().await;
        let group = floor.group(|_| {}).await;
        let desk = floor.agent("anna", &[group.id]).await;
        let french = floor.skill("French").await;
        floor.give_skill(desk.id, french, 5).await;
        let path = format!("/v1/agents/{}", desk.id);
        admin.get(&path).await.ok();
        admin.delete(&format!("/v1/users/{}", desk.id)).await.ok();
        assert_eq!(admin.get("/v1/agents").await.ok()["items"], json!([]));
        admin.get(&path).await.problem(404, "not_found");
        admin.put(&format!("{path}/state"), json!({ "state": "ready" })).await.problem(404, "not_found");
        admin.patch(&path, json!({ "capacity": null })).await.problem(404, "not_found");
        let group = format!("/v1/agent-groups/{}", group.id);
        assert_eq!(admin.get(&group).await.ok()["member_ids"], json!([]));
        let again = json!({ "member_ids": [desk.id] });
        admin.patch(&group, again).await.problem(422, "unknown_reference");
        // Nobody has the skill any more.
        assert_eq!(admin.delete(&format!("/v1/skills/{french}")).await.status, 204);
    }

    async fn a_user_who_may_not_work_cannot_be_made_ready(app) {
        let floor = Floor(&app);
        let (admin, supervisor) = (app.admin().await, app.supervisor().await);
        let (anna, ben) = (floor.agent("anna", &[]).await, floor.agent("ben", &[]).await);
        admin.patch(&format!("/v1/users/{}", anna.id), json!({ "disabled": true })).await.ok();
        admin.patch(&format!("/v1/users/{}", ben.id), json!({ "role": "admin" })).await.ok();
        for state in ["ready", "not_ready"] {
            let state = json!({ "state": state });
            supervisor.put(&format!("/v1/agents/{}/state", anna.id), state.clone()).await.problem(409, "invalid_state");
            supervisor.put(&format!("/v1/agents/{}/state", ben.id), state).await.problem(404, "not_found");
        }
        let listed = supervisor.get("/v1/agents").await.ok();
        let names: Vec<&str> =
            listed["items"].as_array().unwrap().iter().map(|agent| agent["username"].as_str().unwrap()).collect();
        assert_eq!(names, ["anna"]);
        admin.patch(&format!("/v1/users/{}", anna.id), json!({ "disabled": false })).await.ok();
        supervisor.put(&format!("/v1/agents/{}/state", anna.id), json!({ "state": "ready" })).await.ok();
    }
}
