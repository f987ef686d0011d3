//! Accounts: their settings, their states, and the check of a mailbox.

use postroom::{
    accounts::{entity::account, mailbox::password_purpose},
    id::AccountId,
};
use reqwest::Method;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{
        TestApp,
        imap_server::{ImapBehaviour, ImapServer},
        mailbox::{act, draft, queue, read},
    },
};

async fn row(app: &TestApp, id: AccountId) -> account::Model {
    account::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap()
}

fn steps(report: &Value) -> Vec<(String, bool)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps.map(|step| (step["name"].as_str().unwrap().to_owned(), step["ok"].as_bool().unwrap())).collect()
}

on_both! {
    async fn an_account_is_made_as_a_draft_read_changed_and_deleted(app) {
        let admin = app.admin().await;
        let made = admin.post("/v1/accounts", json!({ "address": "Help@Example.COM" })).await;
        assert_eq!((made.status, made.header("etag")), (201, "\"1\""));
        let path = made.header("location").to_owned();
        let body = made.ok();
        assert_eq!((&body["address"], &body["state"], &body["channel"]), (&json!("Help@example.com"), &json!("draft"), &json!("email")));
        assert_eq!(body["inbound"]["protocol"], "none");
        assert_eq!(body["allowed_actions"], json!(["activate", "disable"]));
        let changed = admin.patch(&path, json!({ "display_name": "Help", "inbound": { "protocol": "imap" } })).await;
        assert_eq!(changed.header("etag"), "\"2\"");
        let changed = changed.ok();
        assert_eq!((&changed["display_name"], &changed["inbound"]["port"]), (&json!("Help"), &json!(993)));
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "description": "x" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        assert_eq!(admin.get("/v1/accounts?state=draft&channel=email").await.ok()["items"].as_array().unwrap().len(), 1);
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&path).await.problem(404, "not_found");
    }

    async fn an_address_is_taken_whatever_its_case(app) {
        let admin = app.admin().await;
        admin.post("/v1/accounts", json!({ "address": "help@example.com" })).await.ok();
        let again = admin.post("/v1/accounts", json!({ "address": "HELP@Example.com" })).await;
        again.problem(409, "already_exists");
        assert_eq!(again.pointers(), ["/address"]);
    }

    async fn settings_that_break_a_rule_are_refused_at_their_pointer(app) {
        let admin = app.admin().await;
        let nobody = uuid::Uuid::now_v7();
        let gateway = json!({ "destination": "{number}@sms.example.com", "max_segments": 3 });
        let cases = [
            (json!({ "address": "nobody" }), "/address"),
            (json!({ "address": "a@example.com\r\nBcc: b@example.com" }), "/address"),
            (json!({ "script_settings": { "a": "x".repeat(40_000) } }), "/script_settings"),
            (json!({ "inbound": { "protocol": "imap", "host": "mail.example.com", "security": "none" } }), "/inbound/allow_plaintext"),
            (json!({ "inbound": { "after_fetch": { "action": "move" } } }), "/inbound/after_fetch/folder"),
            (json!({ "inbound": { "after_fetch": { "action": "move", "folder": "inbox" } } }), "/inbound/after_fetch/folder"),
            (json!({ "inbound": { "port": 0 } }), "/inbound/port"),
            (json!({ "inbound": { "protocol": "pop3" } }), "/inbound/protocol"),
            (json!({ "inbound": { "folder": "a\r\nb" } }), "/inbound/folder"),
            (json!({ "channel": "sms" }), "/sms"),
            (json!({ "sms": gateway }), "/sms"),
            (json!({ "channel": "sms", "sms": { "destination": "x@" } }), "/sms/destination"),
            (json!({ "oauth": { "client_id": "c" } }), "/oauth/token_url"),
            (json!({ "colour": "red" }), "/colour"),
        ];
        for (change, pointer) in cases {
            let mut wanted = json!({ "address": "help@example.com" });
            json_patch::merge(&mut wanted, &change);
            let refused = admin.post("/v1/accounts", wanted).await;
            refused.problem(422, "validation_failed");
            assert_eq!(refused.pointers(), [pointer], "{change}");
        }
        for pointer in ["script_id", "fallback_queue_id", "class_id", "receipt_template_id"] {
            let refused = admin.post("/v1/accounts", json!({ "address": "help@example.com", pointer: nobody })).await;
            refused.problem(422, "unknown_reference");
            assert_eq!(refused.pointers(), [format!("/{pointer}")]);
        }
        assert_eq!(admin.get("/v1/accounts").await.ok()["items"], json!([]));
        let texts = json!({ "address": "text@example.com", "channel": "sms", "sms": gateway });
        let made = admin.post("/v1/accounts", texts).await.ok();
        assert_eq!((&made["sms"]["destination"], &made["sms"]["max_segments"]), (&gateway["destination"], &json!(3)));
    }

    async fn secrets_are_sealed_kept_removed_and_never_returned(app) {
        let admin = app.admin().await;
        let oauth = json!({ "token_url": "https://login.example.com/token", "client_id": "c", "client_secret": "hush-1", "refresh_token": "hush-2" });
        let made = admin.post("/v1/accounts", json!({ "address": "help@example.com", "password": "hush-0", "oauth": oauth })).await;
        let path = made.header("location").to_owned();
        let shown = |body: &Value| (body["has_password"].clone(), body["oauth"]["has_client_secret"].clone(), body["oauth"]["has_refresh_token"].clone());
        let body = made.ok();
        assert_eq!(shown(&body), (json!(true), json!(true), json!(true)));
        let id: AccountId = body["id"].as_str().unwrap().parse().unwrap();
        let sealed = row(&app, id).await.password_sealed.unwrap();
        assert_eq!(app.app.sealer.open_text(&password_purpose(id), &sealed).unwrap().as_str(), "hush-0");
        let kept = admin.patch(&path, json!({ "display_name": "x", "oauth": { "scope": "mail" } })).await.ok();
        assert_eq!(shown(&kept), (json!(true), json!(true), json!(true)));
        let removed = admin.patch(&path, json!({ "password": null, "oauth": { "client_secret": null } })).await.ok();
        assert_eq!(shown(&removed), (json!(false), json!(false), json!(true)));
        let events = admin.get("/v1/events").await.ok();
        for body in [&body, &kept, &removed, &events] {
            assert!(!body.to_string().contains("hush-"), "{body}");
        }
        assert_eq!(admin.patch(&path, json!({ "oauth": null })).await.ok()["oauth"], Value::Null);
        assert!(row(&app, id).await.oauth_sealed.is_none());
    }

    async fn an_account_is_activated_when_it_is_complete_and_stays_so(app) {
        let admin = app.admin().await;
        let made = admin.post("/v1/accounts", json!({ "address": "help@example.com", "inbound": { "protocol": "imap" } })).await;
        let path = made.header("location").to_owned();
        let refused = admin.post(&format!("{path}/activate"), json!({})).await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/fallback_queue_id", "/inbound/host", "/username", "/password"]);
        let complete = json!({ "fallback_queue_id": queue(&admin).await, "username": "u", "password": "p", "inbound": { "host": "127.0.0.1", "port": 1 } });
        admin.patch(&path, complete).await.ok();
        assert_eq!(admin.post(&format!("{path}/activate"), json!({})).await.ok()["state"], "active");
        admin.post(&format!("{path}/activate"), json!({})).await.problem(409, "invalid_state");
        let broken = admin.patch(&path, json!({ "password": null })).await;
        broken.problem(422, "validation_failed");
        assert_eq!(broken.pointers(), ["/password"]);
        admin.patch(&path, json!({ "channel": "sms", "sms": { "destination": "{number}@x.example" } })).await.problem(422, "validation_failed");
        admin.delete(&path).await.problem(409, "in_use");
    }

    async fn an_account_goes_only_the_ways_its_state_allows(app) {
        let admin = app.admin().await;
        let id = draft(&admin, 1, json!({})).await;
        let refused = async |action: &str| {
            admin.post(&format!("/v1/accounts/{id}/{action}"), json!({})).await.problem(409, "invalid_state");
        };
        for action in ["pause", "resume", "poll", "backfill"] {
            refused(action).await;
        }
        assert_eq!(act(&admin, id, "activate").await["allowed_actions"], json!(["check", "pause", "disable", "poll", "backfill"]));
        assert!(row(&app, id).await.due_at.is_some());
        assert_eq!(act(&admin, id, "poll").await["state"], "active");
        assert!(row(&app, id).await.poll_requested);
        assert_eq!(act(&admin, id, "pause").await["state"], "paused");
        assert_eq!(row(&app, id).await.due_at, None);
        refused("poll").await;
        assert_eq!(act(&admin, id, "resume").await["state"], "active");
        assert_eq!(act(&admin, id, "disable").await["state"], "disabled");
        for action in ["activate", "pause", "resume", "disable", "poll"] {
            refused(action).await;
        }
        assert_eq!(row(&app, id).await.due_at, None);
        let nobody = AccountId::new(app.app.clock.now());
        admin.post(&format!("/v1/accounts/{nobody}/poll"), json!({})).await.problem(404, "not_found");
    }

    async fn supervisors_read_accounts_and_agents_do_not(app) {
        let admin = app.admin().await;
        let id = draft(&admin, 1, json!({})).await;
        let supervisor = app.supervisor().await;
        act(&admin, id, "activate").await;
        assert_eq!(read(&supervisor, id).await["allowed_actions"], json!(["poll"]));
        supervisor.post("/v1/accounts", json!({ "address": "a@example.com" })).await.problem(403, "forbidden");
        app.agent("anna").await.0.get("/v1/accounts").await.problem(403, "forbidden");
        app.anonymous().get("/v1/accounts").await.problem(401, "unauthenticated");
    }

    async fn a_check_reports_each_step_and_a_bad_mailbox_is_no_error_of_ours(app) {
        let admin = app.admin().await;
        let server = ImapServer::start(ImapBehaviour::default()).await;
        server.append("INBOX", b"Subject: x\r\n\r\ntext");
        let id = draft(&admin, server.addr.port(), json!({})).await;
        let path = format!("/v1/accounts/{id}");
        let good = act(&admin, id, "check").await;
        assert_eq!(good["ok"], true, "{good}");
        let ok = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true)).collect::<Vec<_>>();
        assert_eq!(steps(&good), ok(&["resolve", "connect", "login", "select", "count"]));
        assert!(good["steps"][4]["detail"].as_str().unwrap().contains("1 messages"));
        let failing = async |change: Value, last: &str| {
            admin.patch(&path, change).await.ok();
            let report = act(&admin, id, "check").await;
            assert_eq!((&report["ok"], steps(&report).last().cloned()), (&json!(false), Some((last.to_owned(), false))), "{report}");
        };
        failing(json!({ "password": "wrong" }), "login").await;
        failing(json!({ "password": "pass", "inbound": { "folder": "Nowhere" } }), "select").await;
        failing(json!({ "inbound": { "folder": "INBOX", "security": "starttls" } }), "tls").await;
        failing(json!({ "inbound": { "security": "tls" } }), "tls").await;
        failing(json!({ "inbound": { "security": "none", "port": 1 } }), "connect").await;
        failing(json!({ "inbound": { "host": "x".repeat(64), "allow_plaintext": true } }), "resolve").await;
        failing(json!({ "password": null }), "settings").await;
        let push = admin.post("/v1/accounts", json!({ "address": "p@example.com", "inbound": { "protocol": "push" } })).await;
        admin.post(&format!("{}/check", push.header("location")), json!({})).await.problem(409, "invalid_state");
    }
}
