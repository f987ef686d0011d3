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
}
