//! Calendars and global variables.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{on_both, support::Client};

fn office() -> Value {
    json!({
        "name": "Office",
        "timezone": "Europe/London",
        "entries": [
            { "name": "Hours", "kind": "open", "priority": 0, "rule": {
                "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:30" } },
            { "name": "Christmas", "kind": "holiday", "priority": 0, "rule": { "type": "yearly", "month": 12, "day": 25 } }
        ]
    })
}

/// Makes a script with one active version; gives its path.
async fn activate(client: &Client, name: &str, definition: Value) -> String {
    let created = client.post("/v1/scripts", json!({ "name": name, "definition": definition })).await;
    let path = format!("{}/versions/1/activate", created.header("location"));
    client.send(client.request(Method::POST, &path)).await.ok();
    created.header("location").to_owned()
}

on_both! {
    async fn a_calendar_is_created_read_changed_and_deleted(app) {
        let admin = app.admin().await;
        let created = admin.post("/v1/calendars", office()).await;
        assert_eq!((created.status, created.header("etag")), (201, "\"1\""));
        let path = created.header("location").to_owned();
        let read = admin.get(&path).await.ok();
        assert_eq!((&read["entries"], &read["timezone"]), (&office()["entries"], &json!("Europe/London")));
        let changed = admin.patch(&path, json!({ "timezone": "Europe/Berlin" })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        assert_eq!(changed.ok()["entries"], office()["entries"]);
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "name": "x" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        admin.post("/v1/calendars", office()).await.problem(409, "already_exists");
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&path).await.problem(404, "not_found");
        admin.get(&format!("{path}/status")).await.problem(404, "not_found");
    }

    async fn a_calendar_says_whether_it_is_open_and_until_when(app) {
        let admin = app.admin().await;
        let path = admin.post("/v1/calendars", office()).await.header("location").to_owned();
        let open = admin.get(&format!("{path}/status?at=2026-07-06T10:00:00Z")).await.ok();
        assert_eq!(open, json!({ "at": "2026-07-06T10:00:00.000Z", "open": true, "entry": "Hours",
            "next_change_at": "2026-07-06T16:30:00.000Z" }));
        let holiday = admin.get(&format!("{path}/status?at=2026-12-25T10:00:00Z")).await.ok();
        assert_eq!((&holiday["open"], &holiday["entry"]), (&json!(false), &json!("Christmas")));
        let night = admin.get(&format!("{path}/status?at=2026-07-06T22:00:00Z")).await.ok();
        assert_eq!((&night["entry"], &night["next_change_at"]), (&Value::Null, &json!("2026-07-07T08:00:00.000Z")));
        admin.get(&format!("{path}/status?at=tomorrow")).await.problem(400, "invalid_parameter");
        admin.get(&format!("{path}/status")).await.ok();
    }

    async fn a_calendar_that_makes_no_sense_is_refused_with_every_problem(app) {
        let admin = app.admin().await;
        let refused = admin.post("/v1/calendars", json!({ "name": "x", "timezone": "Europe/London", "entries": [
            { "name": "open", "kind": "open", "rule": { "type": "date", "on": "2026-01-01", "from": "09:00" } },
            { "name": "b", "kind": "closed", "rule": { "type": "yearly", "month": 2, "day": 30 } },
            { "name": "b", "kind": "closed", "rule": { "type": "date_range", "first": "2026-02-01", "last": "2026-01-01" } }
        ] })).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), [
            "/entries/0/name", "/entries/0/rule/to", "/entries/1/rule/day", "/entries/2/name", "/entries/2/rule/last",
        ]);
        let shape = admin.post("/v1/calendars", json!({ "name": "x", "timezone": "Europe/London", "entries": [
            { "name": "a", "kind": "ajar", "rule": { "type": "weekly", "days": [], "from": "9", "to": "10:00" } },
            { "name": "b", "kind": "open", "rule": { "type": "monthly" } }
        ] })).await;
        shape.problem(422, "validation_failed");
        assert_eq!(shape.pointers(), [
            "/entries/0/kind", "/entries/0/rule/days", "/entries/0/rule/from", "/entries/1/rule/type",
        ], "{}", shape.body);
        let zone = admin.post("/v1/calendars", json!({ "name": "x", "timezone": "Mars/Base" })).await;
        assert_eq!((zone.status, zone.pointers()), (422, vec!["/timezone"]));
        assert_eq!(admin.get("/v1/calendars").await.ok()["items"], json!([]));
    }

    async fn a_calendar_in_use_stays_and_its_changes_are_in_force_at_once(app) {
        let admin = app.admin().await;
        let calendar = admin.post("/v1/calendars", office()).await.ok();
        let path = format!("/v1/calendars/{}", calendar["id"].as_str().unwrap());
        activate(&admin, "Desk", json!({ "start": "hours", "steps": {
            "hours": { "type": "on_date", "calendar_id": calendar["id"], "next": { "open": "done", "closed": "done", "Christmas": "done" } },
            "done": { "type": "end", "result": "done" } } })).await;
        admin.delete(&path).await.problem(409, "in_use");
        let id = calendar["id"].as_str().unwrap().parse().unwrap();
        let entries = async || {
            app.app.scripts.snapshot(app.app.db.read()).await.unwrap().calendar(id).unwrap().entries.len()
        };
        assert_eq!(entries().await, 2);
        admin.patch(&path, json!({ "entries": [] })).await.ok();
        assert_eq!(entries().await, 0);
    }

    async fn a_variable_is_set_read_changed_and_deleted(app) {
        let supervisor = app.supervisor().await;
        let path = "/v1/variables/centre_closed";
        supervisor.get(path).await.problem(404, "not_found");
        let made = supervisor.put(path, json!({ "type": "boolean", "value": false, "description": "Switch" })).await;
        assert_eq!((made.status, made.header("etag")), (201, "\"1\""));
        let changed = supervisor.put(path, json!({ "type": "boolean", "value": true })).await;
        assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
        assert_eq!(supervisor.get(path).await.ok()["value"], true);
        let in_force = app.app.scripts.snapshot(app.app.db.read()).await.unwrap();
        assert_eq!(in_force.globals()["centre_closed"], true);
        let stale = supervisor.request(Method::PUT, path).header("If-Match", "\"1\"").json(&json!({ "type": "boolean", "value": false }));
        supervisor.send(stale).await.problem(412, "precondition_failed");
        supervisor.put("/v1/variables/a", json!({ "type": "json", "value": { "a": [1, null] } })).await.ok();
        let names: Vec<Value> = supervisor.get("/v1/variables?sort=name").await.ok()["items"].as_array().unwrap()
            .iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, [json!("a"), json!("centre_closed")]);
        assert_eq!(supervisor.delete(path).await.status, 204);
        supervisor.delete(path).await.problem(404, "not_found");
        let in_force = app.app.scripts.snapshot(app.app.db.read()).await.unwrap();
        assert_eq!(in_force.globals().keys().collect::<Vec<_>>(), ["a"]);
    }

    async fn a_value_of_another_type_is_refused(app) {
        let admin = app.admin().await;
        for (kind, value) in [("boolean", json!(1)), ("number", json!("1")), ("string", Value::Null)] {
            let refused = admin.put("/v1/variables/x", json!({ "type": kind, "value": value })).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec!["/value"]));
        }
        let large = admin.put("/v1/variables/x", json!({ "type": "string", "value": "x".repeat(17_000) })).await;
        assert_eq!((large.status, large.pointers()), (422, vec!["/value"]));
        let unknown = admin.put("/v1/variables/x", json!({ "type": "colour", "value": 1 })).await;
        assert_eq!((unknown.status, unknown.pointers()), (422, vec!["/type"]));
        let missing = admin.put("/v1/variables/x", json!({ "type": "json" })).await;
        assert_eq!((missing.status, missing.pointers()), (422, vec!["/value"]));
        admin.put("/v1/variables/No-Name", json!({ "type": "json", "value": 1 })).await.problem(400, "invalid_parameter");
        assert_eq!(admin.get("/v1/variables").await.ok()["items"], json!([]));
    }

    async fn what_an_active_script_names_cannot_be_deleted(app) {
        let admin = app.admin().await;
        let make = async |kind: &str, body: Value| admin.post(&format!("/v1/{kind}"), body).await.ok()["id"].clone();
        let (calendar, class) = (make("calendars", office()).await, make("classes", json!({ "name": "Complaint" })).await);
        let (skill, queue) = (make("skills", json!({ "name": "French" })).await, make("queues", json!({ "name": "French" })).await);
        let template = make("templates", json!({ "name": "Thanks", "subject": "Thanks", "text": "We have your mail." })).await;
        let template_path = format!("/v1/templates/{}", template.as_str().unwrap());
        admin.post(&format!("{template_path}/publish"), json!({})).await.ok();
        let definition = json!({ "start": "hours", "steps": {
            "hours": { "type": "on_date", "calendar_id": calendar, "next": { "open": "class", "closed": "class" } },
            "class": { "type": "set_class", "class_id": class, "next": { "done": "thanks" } },
            "thanks": { "type": "send_template", "template_id": template, "next": { "sent": "queue", "not_sent": "queue" } },
            "queue": { "type": "enqueue", "queue_id": queue, "skills": [{ "skill_id": skill, "min_level": 5 }],
                "next": { "assigned": "done", "queue_full": "done", "closed": "done" } },
            "done": { "type": "end", "result": "done" } } });
        let script = activate(&admin, "Desk", definition).await;
        admin.post(&format!("{template_path}/archive"), json!({})).await.ok();
        let things =
            [("calendars", &calendar), ("classes", &class), ("skills", &skill), ("queues", &queue), ("templates", &template)];
        let delete = async |(kind, id): (&str, &Value)| {
            admin.delete(&format!("/v1/{kind}/{}", id.as_str().unwrap())).await
        };
        for thing in things {
            let refused = delete(thing).await;
            assert_eq!((refused.status, &refused.body["code"]), (409, &json!("in_use")), "{thing:?}");
        }
        let nothing = json!({ "definition": { "start": "done", "steps": { "done": { "type": "end", "result": "done" } } } });
        admin.post(&format!("{script}/versions"), nothing).await.ok();
        admin.post(&format!("{script}/versions/2/activate"), json!({})).await.ok();
        for thing in things {
            assert_eq!(delete(thing).await.status, 204, "{thing:?}");
        }
    }

    async fn a_variable_that_an_active_script_reads_stays(app) {
        let admin = app.admin().await;
        admin.put("/v1/variables/closed", json!({ "type": "boolean", "value": false })).await.ok();
        activate(&admin, "Desk", json!({ "start": "ask", "steps": {
            "ask": { "type": "condition", "when": "globals.closed", "next": { "yes": "done", "no": "done" } },
            "done": { "type": "end", "result": "done" } } })).await;
        admin.delete("/v1/variables/closed").await.problem(409, "in_use");
    }

    async fn a_change_of_a_variable_is_in_the_log(app) {
        app.start_workers();
        let admin = app.admin().await;
        admin.put("/v1/variables/closed", json!({ "type": "boolean", "value": false })).await.ok();
        admin.put("/v1/variables/closed", json!({ "type": "boolean", "value": true })).await.ok();
        let mut told = app.app.tail.subscribe();
        admin.delete("/v1/variables/closed").await;
        while told.recv().await.unwrap().kind != "variable.deleted" {}
        let events = admin.get("/v1/events?limit=200").await.ok();
        let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap())
            .filter(|kind| kind.starts_with("variable.")).collect();
        assert_eq!(kinds, ["variable.created", "variable.updated", "variable.deleted"]);
    }

    async fn agents_set_no_variables(app) {
        let (agent, _) = app.agent("anna").await;
        agent.put("/v1/variables/x", json!({ "type": "json", "value": 1 })).await.problem(403, "forbidden");
        app.supervisor().await.post("/v1/calendars", office()).await.problem(403, "forbidden");
    }
}
