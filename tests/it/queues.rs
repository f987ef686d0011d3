//! Queues, agent groups, skills and agents.

use postroom::{
    agents::entity::{AgentState, agent},
    id::UserId,
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use crate::{on_both, support::TestApp};

async fn make_agent(app: &TestApp, name: &str) -> (crate::support::Client, UserId) {
    let (client, id) = app.agent(name).await;
    let now = app.app.clock.now();
    let row = agent::ActiveModel {
        id: Set(id),
        state: Set(AgentState::LoggedOff),
        reason: Set(None),
        state_changed_at: Set(now),
        idle_since: Set(now),
        last_offered_at: Set(now),
        capacity_email: Set(None),
        capacity_sms: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let tx = app.app.db.begin().await.unwrap();
    agent::Entity::insert(row).exec_without_returning(&*tx).await.unwrap();
    tx.commit().await.unwrap();
    (client, id)
}

fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}

on_both! {
    async fn a_queue_is_served_by_groups_of_agents(app) {
        let supervisor = app.supervisor().await;
        let (_, anna) = make_agent(&app, "anna").await;
        let group = supervisor.post("/v1/agent-groups", json!({ "name": "Sales", "member_ids": [anna] })).await.ok();
        assert_eq!((&group["offer_timeout_s"], &group["capacity"]["email"]), (&json!(30), &json!(3)));
        let queue = supervisor.post("/v1/queues", json!({ "name": "Sales", "agent_group_ids": [id(&group)] })).await.ok();
        assert_eq!((&queue["state"], &queue["distribution"]), (&json!("open"), &json!("longest_idle")));
        assert_eq!(supervisor.get(&format!("/v1/queues/{}", id(&queue))).await.ok()["agent_group_ids"], json!([id(&group)]));
        let refused = supervisor.delete(&format!("/v1/agent-groups/{}", id(&group))).await;
        assert_eq!(refused.body["detail"], "the group serves queues: Sales");
        refused.problem(409, "in_use");
        let path = format!("/v1/queues/{}", id(&queue));
        let changed = supervisor.patch(&path, json!({ "agent_group_ids": [], "aging_s": 600, "state": "draining" })).await.ok();
        assert_eq!((&changed["aging_s"], &changed["agent_group_ids"]), (&json!(600), &json!([])));
        assert_eq!(supervisor.patch(&path, json!({ "aging_s": null })).await.ok()["aging_s"], Value::Null);
        assert_eq!(supervisor.delete(&format!("/v1/agent-groups/{}", id(&group))).await.status, 204);
    }

    async fn references_to_nothing_are_refused_at_their_pointer(app) {
        let supervisor = app.supervisor().await;
        let nobody = uuid::Uuid::now_v7();
        let group = supervisor.post("/v1/agent-groups", json!({ "name": "Sales", "member_ids": [nobody] })).await;
        group.problem(422, "unknown_reference");
        assert_eq!(group.pointers(), ["/member_ids/0"]);
        supervisor.post("/v1/queues", json!({ "name": "Q", "agent_group_ids": [nobody] })).await.problem(422, "unknown_reference");
        assert_eq!(supervisor.get("/v1/queues").await.ok()["items"], json!([]));
        assert_eq!(supervisor.get("/v1/agent-groups").await.ok()["items"], json!([]));
        let refused = supervisor.post("/v1/queues", json!({ "name": "Q", "default_priority": 11, "aging_s": 0 })).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers().len(), 2);
    }

    async fn an_agent_has_skills_and_a_capacity(app) {
        let supervisor = app.supervisor().await;
        let (anna, anna_id) = make_agent(&app, "anna").await;
        let skill = supervisor.post("/v1/skills", json!({ "name": "German" })).await.ok();
        let path = format!("/v1/agents/{anna_id}");
        let wanted = json!({ "skills": [{ "skill_id": id(&skill), "level": 7 }], "capacity": { "email": 2, "sms": 1 } });
        let changed = supervisor.patch(&path, wanted.clone()).await.ok();
        assert_eq!((&changed["skills"], &changed["capacity"]), (&wanted["skills"], &wanted["capacity"]));
        anna.patch(&path, json!({ "capacity": { "email": 99, "sms": 1 } })).await.problem(403, "forbidden");
        let stale = supervisor.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "skills": [] }));
        supervisor.send(stale).await.problem(412, "precondition_failed");
        supervisor.delete(&format!("/v1/skills/{}", id(&skill))).await.problem(409, "in_use");
        let twice = json!({ "skills": [wanted["skills"][0], wanted["skills"][0]] });
        supervisor.patch(&path, twice).await.problem(422, "validation_failed");
    }

    async fn an_agent_sets_the_own_state_and_nobody_elses(app) {
        let (anna, anna_id) = make_agent(&app, "anna").await;
        let (_, ben_id) = make_agent(&app, "ben").await;
        assert_eq!(anna.put("/v1/agents/me/state", json!({ "state": "ready" })).await.ok()["state"], "ready");
        let lunch = anna.put(&format!("/v1/agents/{anna_id}/state"), json!({ "state": "not_ready", "reason": "lunch" })).await.ok();
        assert_eq!(lunch["reason"], "lunch");
        anna.put(&format!("/v1/agents/{ben_id}/state"), json!({ "state": "ready" })).await.problem(403, "not_yours");
        anna.get(&format!("/v1/agents/{ben_id}")).await.problem(403, "not_yours");
        anna.put("/v1/agents/me/state", json!({ "state": "asleep" })).await.problem(422, "validation_failed");
        anna.put("/v1/agents/nobody/state", json!({ "state": "ready" })).await.problem(400, "invalid_parameter");
        app.admin().await.get("/v1/agents/me").await.problem(404, "not_found");
        let ready = app.supervisor().await.get("/v1/agents?state=logged_off").await.ok();
        assert_eq!(ready["items"].as_array().unwrap().len(), 1);
    }
}
