//! Classes; as the first feature it also shows what every configuration resource does.

use reqwest::Method;
use serde_json::json;

use crate::on_both;

on_both! {
    async fn a_class_is_created_read_changed_and_deleted(app) {
        let admin = app.admin().await;
        let created = admin.post("/v1/classes", json!({ "name": "Complaint" })).await;
        assert_eq!((created.status, created.header("etag")), (201, "\"1\""));
        let path = created.header("location").to_owned();
        assert_eq!(admin.get(&path).await.ok()["name"], "Complaint");
        let changed = admin.patch(&path, json!({ "description": "Unhappy" })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        assert_eq!(changed.ok()["description"], "Unhappy");
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&path).await.problem(404, "not_found");
    }

    async fn a_stale_etag_changes_nothing(app) {
        let admin = app.admin().await;
        let path = admin.post("/v1/classes", json!({ "name": "Complaint" })).await.header("location").to_owned();
        admin.patch(&path, json!({ "name": "Praise" })).await.ok();
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "name": "Lost" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        assert_eq!(admin.get(&path).await.ok()["name"], "Praise");
    }

    async fn a_taken_name_is_a_conflict_at_its_pointer(app) {
        let admin = app.admin().await;
        admin.post("/v1/classes", json!({ "name": "Complaint" })).await.ok();
        let again = admin.post("/v1/classes", json!({ "name": "Complaint" })).await;
        again.problem(409, "already_exists");
        assert_eq!(again.pointers(), ["/name"]);
    }

    async fn a_body_that_does_not_fit_is_refused_with_every_error(app) {
        let admin = app.admin().await;
        let refused = admin.post("/v1/classes", json!({ "name": "", "description": 7, "colour": "red" })).await;
        refused.problem(422, "validation_failed");
        let mut pointers = refused.pointers();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/colour", "/description", "/name"]);
        let broken = admin.request(Method::POST, "/v1/classes").header("content-type", "application/json").body("{");
        admin.send(broken).await.problem(400, "malformed_json");
        let text = admin.request(Method::POST, "/v1/classes").header("content-type", "text/plain").body("{}");
        admin.send(text).await.problem(415, "unsupported_media_type");
        assert_eq!(admin.get("/v1/classes").await.ok()["items"], json!([]));
    }

    async fn a_repeated_key_gives_the_stored_answer_and_another_body_is_refused(app) {
        let admin = app.admin().await;
        let create = |body| admin.request(Method::POST, "/v1/classes").header("Idempotency-Key", "k1").json(&body);
        let first = admin.send(create(json!({ "name": "Complaint" }))).await;
        let second = admin.send(create(json!({ "name": "Complaint" }))).await;
        assert_eq!((first.status, second.status), (201, 201));
        assert_eq!((first.body, first.headers["location"].clone()), (second.body, second.headers["location"].clone()));
        assert_eq!(second.headers["idempotent-replayed"], "true");
        admin.send(create(json!({ "name": "Praise" }))).await.problem(422, "idempotency_key_reused");
    }

    async fn a_list_is_paged_in_the_wanted_order(app) {
        let admin = app.admin().await;
        for name in ["b", "d", "a", "c"] {
            admin.post("/v1/classes", json!({ "name": name })).await.ok();
        }
        let first = admin.get("/v1/classes?limit=3&sort=-name").await.ok();
        let names = |page: &serde_json::Value| -> Vec<String> {
            page["items"].as_array().unwrap().iter().map(|class| class["name"].as_str().unwrap().into()).collect()
        };
        assert_eq!(names(&first), ["d", "c", "b"]);
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = admin.get(&format!("/v1/classes?limit=3&sort=-name&cursor={cursor}")).await.ok();
        assert_eq!((names(&second), &second["next_cursor"]), (vec!["a".into()], &serde_json::Value::Null));
        admin.get(&format!("/v1/classes?cursor={cursor}")).await.problem(400, "invalid_cursor");
        admin.get("/v1/classes?limit=0").await.problem(400, "invalid_parameter");
        admin.get("/v1/classes?colour=red").await.problem(400, "unknown_parameter");
        admin.get("/v1/classes/not-an-id").await.problem(400, "invalid_parameter");
    }

    async fn strangers_and_agents_are_kept_out(app) {
        app.anonymous().get("/v1/classes").await.problem(401, "unauthenticated");
        let (agent, _) = app.agent("anna").await;
        agent.get("/v1/classes").await.ok();
        agent.post("/v1/classes", json!({ "name": "x" })).await.problem(403, "forbidden");
        agent.get("/v1/nothing").await.problem(404, "route_not_found");
        agent.put("/v1/classes", json!({})).await.problem(405, "method_not_allowed");
    }
}
