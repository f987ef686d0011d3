//! What is shown of agents, and to whom.

use postroom::accounts::entity::Channel;
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
}
