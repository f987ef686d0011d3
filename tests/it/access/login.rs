//! The token endpoint.

use std::time::Duration;

use postroom::{
    access::{
        entity::{refresh_token, user},
        refresh::{self as tokens, Use},
    },
    clock::Clock,
    housekeeping,
    workers::Step,
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, EntityTrait, PaginatorTrait};
use serde_json::json;

use super::{PASSWORD, client, log_in, make_user, refresh, text, token, token_over};
use crate::{
    on_both,
    support::{Backend, TestApp},
};

on_both! {
    async fn a_user_logs_in_and_is_told_who_they_are(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        let answer = log_in(&app, "Anna", PASSWORD).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        let tokens = answer.ok();
        assert_eq!((text(&tokens, "token_type"), &tokens["expires_in"]), ("Bearer", &json!(900)));
        assert!(text(&tokens, "scope").contains("routing:read"));
        let me = client(&app, &tokens).get("/v1/auth/me").await.ok();
        assert_eq!((text(&me, "name"), text(&me, "role"), text(&me["user"], "username")), ("anna", "agent", "anna"));
        assert!(me["user"]["last_login_at"].is_string());
    }

    async fn a_refresh_token_is_replaced_and_using_it_twice_ends_the_login(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        let first = log_in(&app, "anna", PASSWORD).await.ok();
        let other_login = log_in(&app, "anna", PASSWORD).await.ok();
        let second = refresh(&app, text(&first, "refresh_token")).await.ok();
        assert_ne!(first["refresh_token"], second["refresh_token"]);
        client(&app, &second).get("/v1/auth/me").await.ok();
        let reused = refresh(&app, text(&first, "refresh_token")).await;
        reused.problem(400, "invalid_grant");
        assert_eq!(reused.body["error"], "invalid_grant");
        refresh(&app, text(&second, "refresh_token")).await.problem(400, "invalid_grant");
        refresh(&app, text(&other_login, "refresh_token")).await.ok();
        refresh(&app, "prr_unknown").await.problem(400, "invalid_grant");
    }

    async fn of_many_uses_of_one_refresh_token_at_once_one_wins_and_the_login_ends(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        let first = log_in(&app, "anna", PASSWORD).await.ok();
        let given = text(&first, "refresh_token");
        let (stranger, form) = (app.anonymous(), [("grant_type", "refresh_token"), ("refresh_token", given)]);
        let answers = futures::future::join_all((0..10).map(|_| token_over(&stranger, &form))).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!((won.len(), lost.len()), (1, 9));
        lost.iter().for_each(|answer| answer.problem(400, "invalid_grant"));
        refresh(&app, text(&won[0].body, "refresh_token")).await.problem(400, "invalid_grant");
    }

    async fn a_refresh_token_ends_with_its_time_and_its_row_with_it(app) {
        let app = TestApp::frozen(app.backend).await;
        make_user(&app.admin().await, "anna", "agent").await;
        let first = log_in(&app, "anna", PASSWORD).await.ok();
        let used = log_in(&app, "anna", PASSWORD).await.ok();
        refresh(&app, text(&used, "refresh_token")).await.ok();
        app.app.clock.advance(Duration::from_secs(1_209_599));
        assert_eq!(housekeeping::remove_old_rows(app.app.clone()).await.unwrap(), Step::Idle);
        let last = refresh(&app, text(&first, "refresh_token")).await.ok();
        app.app.clock.advance(Duration::from_secs(1));
        refresh(&app, text(&used, "refresh_token")).await.problem(400, "invalid_grant");
        assert_eq!(housekeeping::remove_old_rows(app.app.clone()).await.unwrap(), Step::Worked(3));
        assert_eq!(refresh_token::Entity::find().count(app.app.db.read()).await.unwrap(), 1);
        refresh(&app, text(&last, "refresh_token")).await.ok();
    }

    async fn logging_out_ends_the_login_and_tells_nothing_of_unknown_tokens(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        let tokens = log_in(&app, "anna", PASSWORD).await.ok();
        let stranger = app.anonymous();
        let revoke = |token: String| stranger.request(Method::POST, "/v1/auth/revoke").form(&[("token", token)]);
        assert_eq!(stranger.send(revoke("prr_unknown".into())).await.status, 200);
        assert_eq!(stranger.send(revoke(text(&tokens, "refresh_token").into())).await.status, 200);
        refresh(&app, text(&tokens, "refresh_token")).await.problem(400, "invalid_grant");
    }

    async fn too_many_failures_of_a_name_are_throttled_until_the_window_ends(app) {
        let app = TestApp::frozen(app.backend).await;
        make_user(&app.admin().await, "anna", "agent").await;
        for name in ["anna", "nobody"] {
            for _ in 0..10 {
                log_in(&app, name, "wrong").await.problem(400, "invalid_grant");
            }
            app.app.clock.advance(Duration::from_secs(1));
            let refused = log_in(&app, name, PASSWORD).await;
            refused.problem(429, "login_throttled");
            let wait: u64 = refused.header("retry-after").parse().unwrap();
            assert!((897..=899).contains(&wait), "{wait}");
        }
        app.app.clock.advance(Duration::from_secs(899));
        log_in(&app, "anna", PASSWORD).await.ok();
    }

    async fn a_success_forgets_the_failures_before_it(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        for _ in 0..2 {
            for _ in 0..9 {
                log_in(&app, "anna", "wrong").await.problem(400, "invalid_grant");
            }
            log_in(&app, "anna", PASSWORD).await.ok();
        }
    }

    async fn failures_side_by_side_count_each(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        let (stranger, form) = (app.anonymous(), [("grant_type", "password"), ("username", "anna"), ("password", "wrong")]);
        let answers = futures::future::join_all((0..25).map(|_| token_over(&stranger, &form))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 400).count(), 10);
        assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 15);
    }

    async fn too_many_failures_of_an_address_are_throttled_whatever_the_names(app) {
        let clock = Clock::frozen("2026-03-02T09:00:00Z".parse().unwrap());
        let app = TestApp::with(app.backend, clock, "[auth]\nmax_failed_logins = 1").await;
        make_user(&app.admin().await, "anna", "agent").await;
        for number in 0..10 {
            log_in(&app, &format!("name{number}"), "wrong").await.problem(400, "invalid_grant");
        }
        log_in(&app, "anna", PASSWORD).await.problem(429, "login_throttled");
        app.app.clock.advance(Duration::from_secs(900));
        log_in(&app, "anna", PASSWORD).await.ok();
    }

    async fn behind_a_trusted_proxy_the_clients_address_is_throttled_and_not_the_proxys(app) {
        let settings = "[auth]\nmax_failed_logins = 1\n[http]\ntrusted_proxies = [\"127.0.0.0/8\"]";
        let app = TestApp::with(app.backend, Clock::system(), settings).await;
        make_user(&app.admin().await, "anna", "agent").await;
        let stranger = app.anonymous();
        let from = |address: &str, name: &str, password: &str| {
            let form = [("grant_type", "password"), ("username", name), ("password", password)];
            let request = stranger.request(Method::POST, "/v1/auth/token").header("X-Forwarded-For", address);
            stranger.send(request.form(&form))
        };
        for number in 0..10 {
            from("192.0.2.1", &format!("name{number}"), "wrong").await.problem(400, "invalid_grant");
        }
        from("192.0.2.1", "anna", PASSWORD).await.problem(429, "login_throttled");
        from("192.0.2.2", "anna", PASSWORD).await.ok();
    }

    async fn a_token_request_that_does_not_fit_is_refused_in_oauth_words(app) {
        let form = |pairs: &'static [(&'static str, &'static str)]| token(&app, pairs);
        form(&[]).await.problem(400, "invalid_request");
        form(&[("grant_type", "implicit")]).await.problem(400, "unsupported_grant_type");
        form(&[("grant_type", "password"), ("username", "anna")]).await.problem(400, "invalid_request");
        form(&[("grant_type", "password"), ("grant_type", "password")]).await.problem(400, "invalid_request");
        form(&[("grant_type", "client_credentials")]).await.problem(401, "invalid_client");
        form(&[("grant_type", "password"), ("username", "a\0"), ("password", "b")]).await.problem(400, "invalid_request");
        let long = "x".repeat(201);
        let refused = token(&app, &[("grant_type", "password"), ("username", "anna"), ("password", &long)]).await;
        refused.problem(400, "invalid_request");
        assert_eq!(refused.pointers(), ["/password"]);
        assert_eq!(refused.body["error"], "invalid_request");
        let stranger = app.anonymous();
        let json = stranger.request(Method::POST, "/v1/auth/token").json(&json!({ "grant_type": "password" }));
        stranger.send(json).await.problem(415, "unsupported_media_type");
        let huge = stranger.request(Method::POST, "/v1/auth/token").form(&[("scope", "x".repeat(3_000_000))]);
        stranger.send(huge).await.problem(413, "payload_too_large");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_logins_ends_the_one_that_is_being_renewed_at_that_moment() {
    let app = TestApp::start(Backend::Postgres).await;
    let admin = app.admin().await;
    let path = make_user(&admin, "anna", "agent").await;
    for log_out in [true, false] {
        let first = log_in(&app, "anna", PASSWORD).await.ok();
        let given = text(&first, "refresh_token");
        let found = tokens::find(&app.app, given).await.unwrap().unwrap();
        let (now, tx) = (app.app.clock.now(), app.app.db.begin().await.unwrap());
        assert!(matches!(tokens::spend(&tx, &found, now).await.unwrap(), Use::Spent(_)));
        let next = tokens::issue(&app.app, &tx, found.user_id, found.family_id, now).await.unwrap();
        let renewed = async {
            app.wait_until_blocked().await;
            tx.commit().await.unwrap();
        };
        let ended = async {
            if log_out {
                let form = app.anonymous();
                form.send(form.request(Method::POST, "/v1/auth/revoke").form(&[("token", given)])).await
            } else {
                admin.post(&format!("{path}/reset-password"), json!({})).await
            }
        };
        let (ended, ()) = tokio::join!(ended, renewed);
        assert_eq!(ended.status, 200, "{}", ended.body);
        refresh(&app, &next).await.problem(400, "invalid_grant");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_while_it_is_verified_logs_nobody_in() {
    let app = TestApp::start(Backend::Postgres).await;
    make_user(&app.admin().await, "anna", "agent").await;
    let tx = app.app.db.begin().await.unwrap();
    let change = user::ActiveModel { password_hash: Set("another".into()), ..Default::default() };
    user::Entity::update_many().set(change).exec(&*tx).await.unwrap();
    let changed = async {
        app.wait_until_blocked().await;
        tx.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(log_in(&app, "anna", PASSWORD), changed);
    answer.problem(400, "invalid_grant");
    assert_eq!(refresh_token::Entity::find().count(app.app.db.read()).await.unwrap(), 0);
}
