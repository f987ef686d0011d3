//! The audit log, and rows that are removed in time.

use std::time::Duration;

use postroom::{access::audit, housekeeping, workers::Step};
use reqwest::Method;
use serde_json::{Value, json};

use super::{PASSWORD, log_in, make_user, text};
use crate::{
    on_both,
    support::{Client, TestApp},
};

async fn entries(app: &TestApp, admin: &Client, query: &str) -> Vec<Value> {
    while audit::write_batch(app.app.clone()).await.unwrap() != Step::Idle {}
    admin.get(&format!("/v1/audit-log{query}")).await.ok()["items"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<(&str, &str)> {
    entries.iter().map(|entry| (text(entry, "action"), text(entry, "outcome"))).collect()
}

on_both! {
    async fn changes_failed_logins_and_denied_calls_are_recorded_newest_first(app) {
        let admin = app.admin().await;
        let path = make_user(&admin, "anna", "agent").await;
        let class = admin.post("/v1/classes", json!({ "name": "Complaint" })).await;
        let class = class.header("location").rsplit('/').next().unwrap().to_owned();
        admin.post("/v1/classes", json!({ "name": "Complaint" })).await.problem(409, "already_exists");
        admin.get("/v1/classes").await.ok();
        log_in(&app, "anna", "a wrong password").await.problem(400, "invalid_grant");
        log_in(&app, "a-password-in-the-wrong-field", "x").await.problem(400, "invalid_grant");
        log_in(&app, "anna", PASSWORD).await.ok();
        let (anna, anna_id) = app.agent("anna").await;
        anna.delete(&path).await.problem(403, "forbidden");
        let all = entries(&app, &admin, "").await;
        let mut sorted = actions(&all);
        sorted.sort_unstable();
        assert_eq!(sorted, [
            ("create_class", "succeeded"),
            ("create_user", "succeeded"),
            ("delete_user", "denied"),
            ("issue_token", "failed"),
            ("issue_token", "failed"),
            ("issue_token", "succeeded"),
        ]);
        let ids: Vec<&str> = all.iter().map(|entry| text(entry, "id")).collect();
        assert!(ids.is_sorted_by(|newer, older| newer > older));
        let made = &entries(&app, &admin, &format!("?subject_id={class}")).await[0];
        assert_eq!((text(made, "action"), text(made, "subject_type"), text(made, "actor_name")), ("create_class", "classes", "admin"));
        assert!(made["request_id"].is_string());
        assert_eq!(actions(&entries(&app, &admin, &format!("?actor_id={anna_id}")).await), [("delete_user", "denied"), ("issue_token", "succeeded")]);
        assert_eq!(entries(&app, &admin, "?action=issue_token&outcome=failed").await.len(), 2);
        let whole = serde_json::to_string(&all).unwrap();
        for secret in [PASSWORD, "a wrong password", "a-password-in-the-wrong-field", "argon2"] {
            assert!(!whole.contains(secret), "{secret}");
        }
        let page = admin.get("/v1/audit-log?limit=4").await.ok();
        let rest = admin.get(&format!("/v1/audit-log?limit=4&cursor={}", text(&page, "next_cursor"))).await.ok();
        assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    }

    async fn what_is_made_below_a_resource_is_noted_with_it(app) {
        let admin = app.admin().await;
        let list = admin.post("/v1/lists", json!({ "name": "Winter" })).await.ok();
        let list = text(&list, "id");
        let import = admin.post(&format!("/v1/lists/{list}/imports"), json!({ "format": "csv" })).await.ok();
        let noted = entries(&app, &admin, &format!("?subject_id={list}")).await;
        assert_eq!(actions(&noted), [("create_import", "succeeded"), ("create_list", "succeeded")]);
        assert_eq!(text(&noted[0], "subject_type"), "lists");
        assert_eq!(noted[0]["details"]["made"], format!("/v1/imports/{}", text(&import, "id")));
    }

    async fn a_time_range_bounds_the_log(app) {
        let app = TestApp::frozen(app.backend).await;
        let admin = app.admin().await;
        for name in ["a", "b", "c"] {
            admin.post("/v1/classes", json!({ "name": name })).await.ok();
            app.app.clock.advance(Duration::from_secs(10));
        }
        assert_eq!(entries(&app, &admin, "?from=2026-03-02T09:00:10Z&to=2026-03-02T09:00:20Z").await.len(), 1);
        assert_eq!(entries(&app, &admin, "?from=2026-03-02T09:00:10Z").await.len(), 2);
        admin.get("/v1/audit-log?from=yesterday").await.problem(400, "invalid_parameter");
        admin.get("/v1/audit-log?actor_id=me").await.problem(400, "invalid_parameter");
    }

    async fn a_stop_writes_what_is_queued_and_later_entries_are_written_at_once(app) {
        let admin = app.admin().await;
        app.start_workers();
        admin.post("/v1/classes", json!({ "name": "a" })).await.ok();
        app.app.stop().await;
        assert_eq!(actions(admin.get("/v1/audit-log").await.ok()["items"].as_array().unwrap()), [("create_class", "succeeded")]);
        admin.post("/v1/classes", json!({ "name": "b" })).await.ok();
        assert_eq!(admin.get("/v1/audit-log").await.ok()["items"].as_array().unwrap().len(), 2);
    }

    async fn a_replayed_answer_is_recorded_once(app) {
        let admin = app.admin().await;
        for _ in 0..2 {
            let request = admin.request(Method::POST, "/v1/classes").header("Idempotency-Key", "k");
            admin.send(request.json(&json!({ "name": "a" }))).await.ok();
        }
        assert_eq!(entries(&app, &admin, "").await.len(), 1);
    }

    async fn stored_answers_and_failures_are_removed_when_their_time_is_over(app) {
        let app = TestApp::frozen(app.backend).await;
        let admin = app.admin().await;
        let create = || {
            let request = admin.request(Method::POST, "/v1/classes").header("Idempotency-Key", "k");
            admin.send(request.json(&json!({ "name": "a" })))
        };
        create().await.ok();
        log_in(&app, "nobody", "wrong").await.problem(400, "invalid_grant");
        assert_eq!(housekeeping::remove_old_rows(app.app.clone()).await.unwrap(), Step::Idle);
        app.app.clock.advance(Duration::from_secs(900));
        assert_eq!(housekeeping::remove_old_rows(app.app.clone()).await.unwrap(), Step::Worked(2));
        app.app.clock.advance(Duration::from_secs(24 * 3600));
        assert_eq!(housekeeping::remove_old_rows(app.app.clone()).await.unwrap(), Step::Worked(1));
        assert_eq!(housekeeping::remove_old_rows(app.app.clone()).await.unwrap(), Step::Idle);
    }
}
