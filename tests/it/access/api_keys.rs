//! API keys.

use std::time::Duration;

use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use super::{client, text, token};
use crate::{
    on_both,
    support::{Client, TestApp},
};

async fn make(admin: &Client, body: Value) -> Value {
    admin.post("/v1/api-keys", body).await.ok()
}

fn with_key(app: &TestApp, key: &Value) -> Client {
    Client::new(&app.url, Some(text(key, "secret").to_owned()))
}

on_both! {
    async fn a_key_does_what_its_scopes_say_and_nothing_else(app) {
        let admin = app.admin().await;
        let key = make(&admin, json!({ "name": "CRM", "scopes": ["routing:read"] })).await;
        assert!(text(&key, "secret").starts_with(text(&key, "hint")));
        assert_eq!(text(&key, "secret").len(), 47);
        let crm = with_key(&app, &key);
        crm.get("/v1/classes").await.ok();
        crm.post("/v1/classes", json!({ "name": "x" })).await.problem(403, "forbidden");
        crm.post("/v1/auth/password", json!({})).await.problem(403, "forbidden");
        let me = crm.get("/v1/auth/me").await.ok();
        assert_eq!((&me["role"], &me["scopes"], &me["user"]), (&json!("integration"), &json!(["routing:read"]), &Value::Null));
        let path = format!("/v1/api-keys/{}", text(&key, "id"));
        admin.patch(&path, json!({ "scopes": ["routing:write"] })).await.ok();
        crm.get("/v1/classes").await.problem(403, "forbidden");
        crm.post("/v1/classes", json!({ "name": "x" })).await.ok();
        assert_eq!(admin.get(&path).await.ok()["secret"], Value::Null);
    }

    async fn a_key_ends_when_it_expires_or_is_revoked(app) {
        let app = TestApp::frozen(app.backend).await;
        let admin = app.admin().await;
        let short = make(&admin, json!({ "name": "short", "scopes": ["routing:read"], "expires_at": "2026-03-02T09:00:04Z" })).await;
        let long = make(&admin, json!({ "name": "long", "scopes": ["routing:read"] })).await;
        let (by_short, by_long) = (with_key(&app, &short), with_key(&app, &long));
        by_short.get("/v1/classes").await.ok();
        by_long.get("/v1/classes").await.ok();
        app.app.clock.advance(Duration::from_secs(4));
        by_short.get("/v1/classes").await.problem(401, "unauthenticated");
        let form = [("grant_type", "client_credentials"), ("client_id", text(&long, "id")), ("client_secret", text(&long, "secret"))];
        let by_token = client(&app, &token(&app, &form).await.ok());
        by_token.get("/v1/classes").await.ok();
        let path = format!("/v1/api-keys/{}/revoke", text(&long, "id"));
        assert_eq!(admin.post(&path, json!({})).await.ok()["revoked_at"], "2026-03-02T09:00:04.000Z");
        by_long.get("/v1/classes").await.problem(401, "unauthenticated");
        by_token.get("/v1/classes").await.problem(401, "unauthenticated");
        token(&app, &form).await.problem(401, "invalid_client");
        admin.post(&path, json!({})).await.problem(409, "invalid_state");
        let refused = admin.post("/v1/api-keys", json!({ "name": "past", "scopes": ["routing:read"], "expires_at": "2026-03-02T09:00:04Z" })).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/expires_at"]));
    }

    async fn use_of_a_key_is_noted_once_a_minute(app) {
        let app = TestApp::frozen(app.backend).await;
        let admin = app.admin().await;
        let key = make(&admin, json!({ "name": "CRM", "scopes": ["routing:read"] })).await;
        let (crm, path) = (with_key(&app, &key), format!("/v1/api-keys/{}", text(&key, "id")));
        assert_eq!(admin.get(&path).await.ok()["last_used_at"], Value::Null);
        for (advance, noted) in [(0, "09:00:00"), (30, "09:00:00"), (30, "09:01:00")] {
            app.app.clock.advance(Duration::from_secs(advance));
            crm.get("/v1/classes").await.ok();
            assert_eq!(admin.get(&path).await.ok()["last_used_at"], format!("2026-03-02T{noted}.000Z"));
        }
    }

    async fn a_token_got_with_a_key_has_at_most_the_keys_scopes(app) {
        let admin = app.admin().await;
        let key = make(&admin, json!({ "name": "CRM", "scopes": ["routing:read", "routing:write"] })).await;
        let ask = |scope: &'static str| {
            let request = app.anonymous().request(Method::POST, "/v1/auth/token");
            let request = request.basic_auth(text(&key, "id"), Some(text(&key, "secret")));
            request.form(&[("grant_type", "client_credentials"), ("scope", scope)])
        };
        let narrow = admin.send(ask("routing:read")).await.ok();
        assert_eq!((text(&narrow, "scope"), &narrow["refresh_token"]), ("routing:read", &Value::Null));
        let crm = client(&app, &narrow);
        crm.get("/v1/classes").await.ok();
        crm.post("/v1/classes", json!({ "name": "x" })).await.problem(403, "forbidden");
        admin.send(ask("access:write")).await.problem(400, "invalid_scope");
        let wrong = app.anonymous().request(Method::POST, "/v1/auth/token").basic_auth(text(&key, "id"), Some("prk_wrong"));
        let refused = admin.send(wrong.form(&[("grant_type", "client_credentials")])).await;
        refused.problem(401, "invalid_client");
        assert!(refused.header("www-authenticate").starts_with("Basic"));
    }

    async fn a_repeated_creation_shows_the_secret_again_to_its_maker_only_and_stores_it_nowhere_in_clear(app) {
        let admin = app.admin().await;
        let create = |client: &Client| {
            let body = json!({ "name": "CRM", "scopes": ["routing:read"] });
            client.request(Method::POST, "/v1/api-keys").header("Idempotency-Key", "k1").json(&body)
        };
        let first = admin.send(create(&admin)).await.ok();
        let again = admin.send(create(&admin)).await;
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(again.ok(), first);
        let (other, _) = app.user(postroom::http::caller::Role::Admin, "boss").await;
        other.send(create(&other)).await.problem(409, "already_exists");
        let stranger = app.anonymous();
        stranger.send(create(&stranger)).await.problem(401, "unauthenticated");
        let with_query = admin.request(Method::POST, "/v1/api-keys?x=1").header("Idempotency-Key", "k1");
        admin.send(with_query.json(&json!({ "name": "CRM", "scopes": ["routing:read"] }))).await.problem(400, "unknown_parameter");
        let read = Statement::from_string(app.app.db.backend(), "SELECT body_sealed FROM idempotency_keys");
        let row = app.app.db.read().query_one_raw(read).await.unwrap().unwrap();
        let stored: Vec<u8> = row.try_get_by_index(0).unwrap();
        assert!(!String::from_utf8_lossy(&stored).contains("prk_"));
    }

    async fn a_key_that_does_not_fit_is_refused(app) {
        let admin = app.admin().await;
        let pointers = |body: Value| async {
            let refused = admin.post("/v1/api-keys", body).await;
            refused.problem(422, "validation_failed");
            refused.pointers().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(pointers(json!({ "name": "x", "scopes": ["everything"] })).await, ["/scopes/0"]);
        assert_eq!(pointers(json!({ "name": "x", "scopes": [] })).await, ["/scopes"]);
        assert_eq!(pointers(json!({ "name": "x", "scopes": ["routing:read", "routing:read"] })).await, ["/scopes"]);
        assert_eq!(pointers(json!({ "name": "x".repeat(101), "scopes": ["routing:read"] })).await, ["/name"]);
        assert_eq!(pointers(json!({ "name": "x", "scopes": ["routing:read"], "expires_at": "soon" })).await, ["/expires_at"]);
        assert_eq!(admin.get("/v1/api-keys").await.ok()["items"], json!([]));
    }
}
