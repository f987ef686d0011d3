//! What the document promises to front ends: headers, fields, events and what agents may see.

mod agents;
mod told;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postroom::{clock::Clock, work::entity::WorkState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    floor::Floor,
    on_both,
    support::{Client, Reply, TestApp},
};

async fn keyed(client: &Client, path: &str, body: Value) -> Reply {
    let key = format!("key of {path}").replace(' ', "-");
    client.send(client.request(Method::POST, path).header("Idempotency-Key", key).json(&body)).await
}

on_both! {
    async fn a_repeated_action_with_the_same_key_is_done_once(app) {
        let app = TestApp::frozen(app.backend).await;
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await;
        let mut steps = Vec::new();
        let first = floor.item(&account, "first").await;
        floor.distribute().await;
        steps.push((format!("/v1/offers/{}/reject", floor.offers().await[0].id), json!({})));
        steps.push((format!("/v1/work-items/{}/claim", first.id), json!({})));
        for (action, body) in [
            ("set-outcome", json!({ "code": "resolved" })),
            ("release", json!({})),
            ("claim", json!({})),
            ("complete", json!({ "outcome_code": "resolved" })),
        ] {
            steps.push((format!("/v1/work-items/{}/{action}", first.id), body));
        }
        let mut claimed = false;
        for (path, body) in steps {
            if path.ends_with("/claim") && std::mem::replace(&mut claimed, true) {
                anna.client.post(&path, body).await.ok();
                continue;
            }
            let done = keyed(&anna.client, &path, body.clone()).await;
            let again = keyed(&anna.client, &path, body).await;
            assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"), "{path}");
            assert_eq!(again.body, done.ok(), "{path}");
        }
        assert_eq!(floor.reload(&first).await.state, WorkState::Completed);

        let second = floor.item(&account, "second").await;
        floor.distribute().await;
        let offer = floor.offers().await.into_iter().find(|offer| offer.work_item_id == second.id).unwrap();
        let path = format!("/v1/offers/{}/accept", offer.id);
        let done = keyed(&anna.client, &path, json!({})).await.ok();
        assert_eq!(keyed(&anna.client, &path, json!({})).await.ok(), done);
        anna.client.post(&path, json!({})).await.problem(409, "offer_not_pending");
        floor.check().await;
    }

    async fn a_cursor_that_this_list_cannot_have_given_out_is_refused(app) {
        let admin = app.admin().await;
        for name in ["a", "b", "c"] {
            admin.post("/v1/classes", json!({ "name": name })).await.ok();
        }
        let first = admin.get("/v1/classes?sort=name&limit=1").await.ok();
        let given = first["next_cursor"].as_str().unwrap();
        let rest = admin.get(&format!("/v1/classes?sort=name&cursor={given}")).await.ok();
        assert_eq!(rest["items"].as_array().unwrap().len(), 2);
        let cursor: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(given).unwrap()).unwrap();
        for key in [json!({ "Number": 1 }), json!("Id"), json!({ "Text": "a\u{0}" }), json!({ "Text": 1 })] {
            let mut forged = cursor.clone();
            forged["key"] = key;
            let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
            admin.get(&format!("/v1/classes?sort=name&cursor={forged}")).await.problem(400, "invalid_cursor");
        }
        let forged = json!({ "order": "rank", "key": { "Text": "first" }, "id": cursor["id"] });
        let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
        admin.get(&format!("/v1/work-items?sort=rank&cursor={forged}")).await.problem(400, "invalid_cursor");
    }

    async fn an_id_that_is_none_is_named(app) {
        let refused = app.admin().await.get("/v1/work-items/first").await;
        assert_eq!(refused.body["detail"], "id: not a UUID");
        refused.problem(400, "invalid_parameter");
    }

    async fn browsers_of_allowed_origins_may_read_errors_too(app) {
        let app = TestApp::with(app.backend, Clock::system(), "[http]\ncors_origins = [\"https://desk.test\"]").await;
        let (admin, nobody) = (app.admin().await, app.anonymous());
        let cases = [
            (&admin, Method::GET, "/v1/queues", 200),
            (&admin, Method::GET, "/v1/queues?limit=0", 400),
            (&nobody, Method::GET, "/v1/queues", 401),
            (&admin, Method::GET, "/v1/queues/019a0000-0000-7000-8000-000000000000", 404),
            (&admin, Method::GET, "/v1/nothing", 404),
            (&admin, Method::DELETE, "/v1/queues", 405),
            (&admin, Method::POST, "/v1/queues", 415),
        ];
        for (client, method, path, status) in cases {
            let from = |origin| client.send(client.request(method.clone(), path).header("Origin", origin));
            let answer = from("https://desk.test").await;
            let header = |answer: &Reply, name| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            let allowed = header(&answer, "access-control-allow-origin");
            assert_eq!(allowed.as_deref(), Some("https://desk.test"), "{method} {path}: {answer:?}");
            let exposed = header(&answer, "access-control-expose-headers").unwrap().to_lowercase();
            assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
            assert_eq!(header(&from("https://elsewhere.test").await, "access-control-allow-origin"), None);
        }
    }

    async fn a_body_of_which_nothing_has_to_be_given_may_be_left_out(app) {
        let floor = Floor(&app);
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await;
        let anna = floor.agent("anna", &[group.id]).await.client;
        let item = floor.item(&account, "hello").await;
        let complete = format!("/v1/work-items/{}/complete", item.id);
        anna.send(anna.request(Method::POST, "/v1/work-items/claim")).await.ok();
        let unnamed = anna.request(Method::POST, &complete).body("outcome_code=resolved");
        anna.send(unnamed).await.problem(415, "unsupported_media_type");
        let snooze = format!("/v1/work-items/{}/snooze", item.id);
        anna.send(anna.request(Method::POST, &snooze)).await.problem(415, "unsupported_media_type");
        anna.send(anna.request(Method::POST, &complete)).await.ok();
        assert_eq!(floor.reload(&item).await.state, WorkState::Completed);
    }

    async fn an_agents_state_is_changed_only_where_its_etag_fits(app) {
        let floor = Floor(&app);
        let anna = floor.agent("anna", &[]).await;
        let set = |etag: &str, state: &str| {
            let request = anna.client.request(Method::PUT, "/v1/agents/me/state").header("If-Match", etag);
            anna.client.send(request.json(&json!({ "state": state })))
        };
        let changed = set("\"1\"", "not_ready").await;
        assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
        set("\"1\"", "ready").await.problem(412, "precondition_failed");
        let bare = set("2", "ready").await;
        assert_eq!(bare.body["detail"], "the current ETag is \"2\"; an ETag has quotes, which belong to it");
        bare.problem(412, "precondition_failed");
        assert_eq!(anna.client.get("/v1/agents/me").await.ok()["state"], "not_ready");
    }
}
