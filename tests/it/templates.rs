//! Templates of automatic answers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{Client, Reply},
};

fn receipt() -> Value {
    json!({
        "name": "Receipt", "purpose": "receipt", "subject": "Re: {{ message.subject }}",
        "text": "Dear {{ message.from.name }}", "html": "<p>Dear {{ message.from.name }}</p>"
    })
}

async fn post(client: &Client, path: &str) -> Reply {
    client.send(client.request(Method::POST, path)).await
}

async fn create(client: &Client, body: Value) -> String {
    client.post("/v1/templates", body).await.header("location").to_owned()
}

on_both! {
    async fn a_template_goes_from_draft_to_published_to_archived(app) {
        let admin = app.admin().await;
        let created = admin.post("/v1/templates", receipt()).await;
        assert_eq!((created.status, created.header("etag")), (201, "\"1\""));
        let path = created.header("location").to_owned();
        let body = created.ok();
        assert_eq!((&body["state"], &body["category"], &body["channel"]), (&json!("draft"), &json!("transactional"), &json!("email")));
        assert_eq!(body["allowed_actions"], json!(["update", "delete", "publish", "preview"]));
        let changed = admin.patch(&path, json!({ "html": null, "description": "x" })).await.ok();
        assert_eq!((&changed["html"], &changed["description"]), (&Value::Null, &json!("x")));
        post(&admin, &format!("{path}/archive")).await.problem(409, "invalid_state");
        let published = post(&admin, &format!("{path}/publish")).await;
        assert_eq!(published.header("etag"), "\"3\"");
        assert_eq!(published.ok()["allowed_actions"], json!(["archive", "preview"]));
        post(&admin, &format!("{path}/publish")).await.problem(409, "invalid_state");
        admin.patch(&path, json!({ "text": "x" })).await.problem(409, "version_locked");
        admin.delete(&path).await.problem(409, "invalid_state");
        assert_eq!(post(&admin, &format!("{path}/archive")).await.ok()["state"], "archived");
        admin.patch(&path, json!({ "text": "x" })).await.problem(409, "version_locked");
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&path).await.problem(404, "not_found");
    }

    async fn a_template_that_does_not_fit_is_refused_with_every_error(app) {
        let admin = app.admin().await;
        let refused = admin.post("/v1/templates", json!({
            "name": "x".repeat(101), "purpose": "spam", "subject": "a\r\nBcc: b@example.com", "html": 7
        })).await;
        refused.problem(422, "validation_failed");
        let mut pointers = refused.pointers();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/html", "/name", "/purpose", "/subject", "/text"]);
        let syntax = admin.post("/v1/templates", json!({ "name": "x", "subject": "{{ a", "text": "{% if %}" })).await;
        syntax.problem(422, "validation_failed");
        assert_eq!(syntax.pointers(), ["/subject", "/text"]);
        create(&admin, receipt()).await;
        admin.post("/v1/templates", receipt()).await.problem(409, "already_exists");
        let path = admin.get("/v1/templates?name=Receipt").await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/templates/{path}");
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"9\"").json(&json!({ "name": "x" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        admin.patch(&path, json!({ "text": "{{" })).await.problem(422, "validation_failed");
        assert_eq!(admin.get(&path).await.ok()["text"], receipt()["text"]);
    }

    async fn a_receipt_that_reads_what_it_is_not_given_is_not_published(app) {
        let admin = app.admin().await;
        let path = create(&admin, json!({ "name": "x", "purpose": "receipt", "subject": "{{ message.weight }}",
            "text": "{{ account.address }} {{ customer.name }}" })).await;
        let refused = post(&admin, &format!("{path}/publish")).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/subject", "/text"]);
        assert_eq!(admin.get(&path).await.ok()["state"], "draft");
        let failing = create(&admin, json!({ "name": "y", "purpose": "receipt", "subject": "Hi",
            "text": "{{ account.address | nonsense }}" })).await;
        let refused = post(&admin, &format!("{failing}/publish")).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/text"]));
    }

    async fn a_preview_shows_the_parts_and_what_is_missing(app) {
        let admin = app.admin().await;
        let path = format!("{}/preview", create(&admin, receipt()).await);
        let variables = json!({ "message": { "subject": "Hi", "from": { "name": "<Kim>" } } });
        let shown = admin.post(&path, json!({ "variables": variables })).await.ok();
        assert_eq!(shown, json!({ "subject": "Re: Hi", "text": "Dear <Kim>", "html": "<p>Dear &lt;Kim&gt;</p>", "missing": [] }));
        let empty = admin.post(&path, json!({})).await.ok();
        assert_eq!((&empty["text"], &empty["missing"]), (&json!("Dear "), &json!(["message.from.name", "message.subject"])));
        let injected = admin.post(&path, json!({ "variables": { "message": { "subject": "a\r\nBcc: b@example.com" } } })).await;
        injected.problem(422, "validation_failed");
        assert_eq!(injected.body["errors"][0]["code"], "control_character");
        admin.post(&path, json!({ "variables": [] })).await.problem(422, "validation_failed");
    }

    async fn a_template_without_end_is_cut(app) {
        let admin = app.admin().await;
        let loops = format!("{}x{}", "{% for i in l %}".repeat(12), "{% endfor %}".repeat(12));
        let path = create(&admin, json!({ "name": "x", "subject": "Hi", "text": loops })).await;
        let list = vec![1; 100];
        let refused = admin.post(&format!("{path}/preview"), json!({ "variables": { "l": list } })).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["code"], "render_failed");
        assert!(refused.body["errors"][0]["detail"].as_str().unwrap().contains("fuel"), "{}", refused.body);
    }

    async fn only_a_published_template_can_be_sent_by_an_active_script(app) {
        let admin = app.admin().await;
        let path = create(&admin, receipt()).await;
        let id = path.rsplit('/').next().unwrap();
        let created = admin.post("/v1/scripts", json!({ "name": "Desk", "definition": { "start": "send", "steps": {
            "send": { "type": "send_template", "template_id": id, "next": { "sent": "done", "not_sent": "done" } },
            "done": { "type": "end", "result": "done" } } } })).await;
        let version = format!("{}/versions/1", created.header("location"));
        let refused = post(&admin, &format!("{version}/activate")).await;
        refused.problem(422, "invalid_script");
        assert_eq!(refused.pointers(), ["/definition/steps/send/template_id"]);
        post(&admin, &format!("{path}/publish")).await.ok();
        post(&admin, &format!("{version}/activate")).await.ok();
        let tried = admin.post(&format!("{version}/simulate"), json!({})).await.ok();
        assert_eq!(tried["effects"], json!([{ "kind": "send_template", "template_id": id }]));
    }

    async fn supervisors_read_templates_and_agents_do_not(app) {
        let path = create(&app.admin().await, receipt()).await;
        let supervisor = app.supervisor().await;
        assert_eq!(supervisor.get(&path).await.ok()["allowed_actions"], json!(["preview"]));
        supervisor.post("/v1/templates", receipt()).await.problem(403, "forbidden");
        post(&supervisor, &format!("{path}/publish")).await.problem(403, "forbidden");
        app.agent("anna").await.0.get(&path).await.problem(403, "forbidden");
    }
}
