//! Templates: receipts, and what reads customers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    campaigns::Crowd,
    inbound::account,
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
        assert_eq!(published.ok()["allowed_actions"], json!(["publish", "revise", "archive", "preview"]));
        let again = post(&admin, &format!("{path}/publish")).await;
        assert_eq!((again.header("etag"), &again.body["revision"]), ("\"3\"", &json!(1)), "nothing that it includes has changed");
        admin.patch(&path, json!({ "text": "x" })).await.problem(409, "version_locked");
        admin.delete(&path).await.problem(409, "invalid_state");
        assert_eq!(post(&admin, &format!("{path}/archive")).await.ok()["state"], "archived");
        post(&admin, &format!("{path}/publish")).await.problem(409, "invalid_state");
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
        assert_eq!(shown, json!({ "subject": "Re: Hi", "text": "Dear <Kim>", "html": "<p>Dear &lt;Kim&gt;</p>", "segments": null, "variant": null, "missing": [] }));
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

    async fn a_template_has_fields_that_are_checked_when_it_is_stored(app) {
        let admin = app.admin().await;
        let with = |fields: Value| json!({ "name": "Due", "subject": "Hi", "text": "x", "fields": fields });
        for (fields, pointer) in [
            (json!([{ "name": "customer", "type": "string" }]), "/fields/0/name"),
            (json!([{ "name": "a", "type": "string" }, { "name": "a", "type": "date" }]), "/fields/1/name"),
            (json!([{ "name": "a", "type": "integer", "default": 1.5 }]), "/fields/0/default"),
            (json!([{ "name": "a", "type": "string", "source": "customer.(" }]), "/fields/0/source"),
            (json!([{ "name": "A b", "type": "string" }]), "/fields/0/name"),
            (json!([{ "name": "a", "type": "money" }]), "/fields/0/type"),
            (json!([{ "type": "string" }]), "/fields/0/name"),
            (json!([{ "name": "a", "type": "string", "colour": "red" }]), "/fields/0/colour"),
            (json!((0..51).map(|n| json!({ "name": format!("f{n}"), "type": "string" })).collect::<Vec<_>>()), "/fields"),
        ] {
            let refused = admin.post("/v1/templates", with(fields)).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{}", refused.body);
        }
        let fields = json!([{ "name": "due", "type": "number", "source": "customer.data.due", "required": true, "default": null }]);
        let path = create(&admin, with(fields.clone())).await;
        assert_eq!(admin.get(&path).await.ok()["fields"], fields);
        let receipt = admin.post("/v1/templates", json!({ "name": "R", "purpose": "receipt", "subject": "x", "text": "y", "fields": fields })).await;
        assert_eq!(receipt.pointers(), ["/fields"]);
    }

    async fn what_a_template_reads_and_is_not_given_keeps_it_from_being_published(app) {
        let admin = app.admin().await;
        let mut number = 0;
        for (members, expected) in [
            (json!({ "text": "{{ customer.nam }}" }), json!([["/text", "unknown_name"]])),
            (json!({ "text": "{{ order.number }}", "html": "{{ message.subject }}" }), json!([["/text", "unknown_name"], ["/html", "unknown_name"]])),
            (json!({ "subject": "{{ to.name | shout }}" }), json!([["/subject", "unknown_filter"]])),
            (json!({ "text": "{% if to.name is green %}{% endif %}" }), json!([["/text", "unknown_test"]])),
            (json!({ "fields": [{ "name": "a", "type": "string", "source": "vars.x | nope" }] }), json!([["/fields/0/source", "unknown_filter"], ["/fields/0/source", "unknown_name"]])),
            (json!({ "category": "marketing", "html": "<p>x</p>" }), json!([["/text", "missing_unsubscribe"], ["/html", "missing_unsubscribe"]])),
            (json!({ "category": "marketing", "text": "{{ unsubscribe_url }}" }), json!([])),
            (json!({ "text": "{{ customer.data.a.b }} {{ customer.name }} {{ campaign.name }} {{ due }}", "fields": [{ "name": "due", "type": "number" }] }), json!([])),
        ] {
            number += 1;
            let mut body = json!({ "name": format!("T{number}"), "subject": "Hi", "text": "x" });
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let path = create(&admin, body).await;
            let answer = post(&admin, &format!("{path}/publish")).await;
            let errors = answer.body["errors"].as_array().cloned().unwrap_or_default();
            let found: Vec<Value> = errors.iter().map(|error| json!([error["pointer"], error["code"]])).collect();
            assert_eq!((json!(found), answer.status == 200), (expected.clone(), expected == json!([])), "{members}");
        }
    }

    async fn a_template_for_texts_has_neither_a_subject_nor_html(app) {
        let admin = app.admin().await;
        let text = json!({ "name": "Text", "channel": "sms", "text": "Dear {{ customer.name }}" });
        let made = admin.post("/v1/templates", text.clone()).await.ok();
        assert_eq!((&made["subject"], &made["html"], &made["channel"]), (&json!(""), &Value::Null, &json!("sms")));
        for (member, value, pointer) in [
            ("subject", json!("Hi"), "/subject"), ("html", json!("<p>x</p>"), "/html"), ("purpose", json!("receipt"), "/purpose"),
            ("channel", json!("email"), "/subject"),
        ] {
            let mut body = text.clone();
            body["name"] = json!("Other");
            body[member] = value;
            assert_eq!(admin.post("/v1/templates", body).await.pointers(), [pointer]);
        }
        post(&admin, &format!("/v1/templates/{}/publish", made["id"].as_str().unwrap())).await.ok();
        assert_eq!(admin.get("/v1/templates?channel=sms").await.ok()["items"].as_array().unwrap().len(), 1);
    }

    async fn a_preview_reads_a_customer_and_fills_the_fields(app) {
        let admin = app.admin().await;
        let crowd = Crowd::new(&app).await;
        let customer = crowd.customer("C-1", json!({ "due": "12.50", "city": null })).await;
        let path = create(&admin, json!({ "name": "Due", "subject": "Dear {{ customer.name }}",
            "text": "{{ due }} {{ note }} {{ customer.data.city | default('Bath') }} {{ to.address }} {{ unsubscribe_url }}",
            "fields": [{ "name": "due", "type": "number", "source": "customer.data.due", "required": true }, { "name": "note", "type": "string", "default": "soon" }] })).await;
        let path = format!("{path}/preview");
        let shown = admin.post(&path, json!({ "customer_id": customer.id })).await.ok();
        let text = format!("12.5 soon Bath c-1@example.org {}/u/preview", app.url);
        assert_eq!((&shown["subject"], &shown["text"], &shown["missing"]), (&json!("Dear Kim C-1"), &json!(text), &json!([])));
        let given = admin.post(&path, json!({ "customer_id": customer.id, "variables": { "due": 3 } })).await.ok();
        assert!(given["text"].as_str().unwrap().starts_with("3 soon"), "{given}");
        let bare = admin.post(&path, json!({})).await.ok();
        assert_eq!(bare["missing"], json!(["customer.data.city", "customer.name", "due", "to.address"]));
        let wrong = admin.post(&path, json!({ "variables": { "due": "x" } })).await;
        assert_eq!((wrong.status, wrong.pointers()), (422, vec!["/variables/due"]));
        let nobody = admin.post(&path, json!({ "customer_id": uuid::Uuid::now_v7() })).await;
        nobody.problem(422, "unknown_reference");
    }

    async fn a_draft_is_sent_once_as_a_test_and_says_so(app) {
        let admin = app.admin().await;
        let crowd = Crowd::new(&app).await;
        let customer = crowd.customer("C-1", json!({ "due": 7 })).await;
        let path = create(&admin, json!({ "name": "Due", "subject": "Dear {{ customer.name }}", "category": "marketing",
            "text": "{{ due }} {{ unsubscribe_url }}", "fields": [{ "name": "due", "type": "number", "source": "customer.data.due", "required": true }] })).await;
        let test = format!("{path}/test-send");
        let to = json!({ "address": "editor@example.net" });
        assert_eq!(admin.post(&test, json!({ "to": to, "customer_id": customer.id })).await.pointers(), ["/account_id"]);
        account(&app, "support@example.com").await;
        assert_eq!(admin.post(&test, json!({ "to": to })).await.pointers(), ["/variables/due"]);
        let sent = admin.post(&test, json!({ "to": to, "customer_id": customer.id })).await;
        assert_eq!((sent.status, &sent.body["subject"], &sent.body["to"]["address"]), (201, &json!("[Test] Dear Kim C-1"), &to["address"]));
        let message = admin.get(sent.header("location")).await.ok();
        assert_eq!((&message["template_id"], &message["customer_id"]), (&sent.body["template_id"], &Value::Null));
        assert_eq!(admin.post(&test, json!({ "to": { "address": "nobody" } })).await.pointers(), ["/to/address"]);
        assert_eq!(admin.post(&test, json!({})).await.pointers(), ["/to"]);
        let receipt = create(&admin, receipt()).await;
        admin.post(&format!("{receipt}/test-send"), json!({ "to": to })).await.problem(409, "invalid_state");
        admin.post(&format!("/v1/templates/{}/test-send", uuid::Uuid::now_v7()), json!({ "to": to })).await.problem(404, "not_found");
        app.agent("anna").await.0.post(&test, json!({ "to": to })).await.problem(403, "forbidden");
    }
}
