//! Users.

use std::time::Duration;

use postroom::{
    access::{bootstrap, entity::user},
    agents::entity::{AgentState, agent},
    http::caller::Role,
    id::UserId,
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, EntityTrait, PaginatorTrait};
use serde_json::{Value, json};

use super::{PASSWORD, client, log_in, make_user, refresh, text};
use crate::{
    on_both,
    support::{Backend, TestApp},
};

fn id_of(path: &str) -> UserId {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

async fn desk(app: &TestApp, path: &str) -> Option<agent::Model> {
    agent::Entity::find_by_id(id_of(path)).one(app.app.db.read()).await.unwrap()
}

on_both! {
    async fn a_user_is_created_read_changed_listed_and_deleted(app) {
        let admin = app.admin().await;
        let path = make_user(&admin, "anna", "agent").await;
        let read = admin.get(&path).await;
        assert_eq!(read.header("etag"), "\"1\"");
        let user = read.ok();
        assert_eq!((text(&user, "username"), &user["password"], &user["password_hash"]), ("anna", &Value::Null, &Value::Null));
        let changed = admin.patch(&path, json!({ "display_name": "Anna Nowak", "email": "anna@example.com" })).await.ok();
        assert_eq!((text(&changed, "display_name"), text(&changed, "email"), text(&changed, "role")), ("Anna Nowak", "anna@example.com", "agent"));
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "email": null }));
        admin.send(stale).await.problem(412, "precondition_failed");
        let found = admin.get("/v1/users?role=agent&username=anna&disabled=false&sort=-username").await.ok();
        assert_eq!(found["items"].as_array().unwrap().len(), 1);
        log_in(&app, "anna", PASSWORD).await.ok();
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&path).await.problem(404, "not_found");
        assert_eq!(admin.get("/v1/users?role=agent").await.ok()["items"], json!([]));
        log_in(&app, "anna", PASSWORD).await.problem(400, "invalid_grant");
        make_user(&admin, "anna", "agent").await;
    }

    async fn a_user_that_does_not_fit_is_refused(app) {
        let admin = app.admin().await;
        let pointers = |body: Value| async {
            let refused = admin.post("/v1/users", body).await;
            refused.problem(422, "validation_failed");
            refused.pointers().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let user = |member: &str, value: Value| {
            let mut body = json!({ "username": "anna", "display_name": "Anna", "role": "agent" });
            body[member] = value;
            body
        };
        assert_eq!(pointers(user("role", json!("integration"))).await, ["/role"]);
        assert_eq!(pointers(user("username", json!("Anna"))).await, ["/username"]);
        assert_eq!(pointers(user("username", json!("a".repeat(101)))).await, ["/username"]);
        assert_eq!(pointers(user("password", json!("too short"))).await, ["/password"]);
        assert_eq!(pointers(user("password", json!("x".repeat(201)))).await, ["/password"]);
        assert_eq!(pointers(user("email", json!("not an address"))).await, ["/email"]);
        assert_eq!(pointers(user("display_name", json!("a\0b"))).await, [""]);
        make_user(&admin, "anna", "agent").await;
        let taken = admin.post("/v1/users", user("role", json!("agent"))).await;
        taken.problem(409, "already_exists");
        assert_eq!(taken.pointers(), ["/username"]);
    }

    async fn a_disabled_demoted_or_deleted_user_is_out_at_once(app) {
        let admin = app.admin().await;
        let path = make_user(&admin, "anna", "supervisor").await;
        let tokens = log_in(&app, "anna", PASSWORD).await.ok();
        let anna = client(&app, &tokens);
        anna.get("/v1/users").await.ok();
        admin.patch(&path, json!({ "role": "agent" })).await.ok();
        anna.get("/v1/users").await.problem(403, "forbidden");
        anna.get("/v1/auth/me").await.ok();
        admin.patch(&path, json!({ "disabled": true })).await.ok();
        anna.get("/v1/auth/me").await.problem(401, "unauthenticated");
        log_in(&app, "anna", PASSWORD).await.problem(400, "invalid_grant");
        admin.patch(&path, json!({ "disabled": false })).await.ok();
        anna.get("/v1/auth/me").await.ok();
        refresh(&app, text(&tokens, "refresh_token")).await.problem(400, "invalid_grant");
        assert_eq!(admin.delete(&path).await.status, 204);
        anna.get("/v1/auth/me").await.problem(401, "unauthenticated");
    }

    async fn another_replica_turns_a_disabled_user_away_within_five_seconds(app) {
        if app.backend == Backend::Sqlite {
            return;
        }
        let app = TestApp::frozen(app.backend).await;
        let replica = app.replica().await;
        let admin = app.admin().await;
        let path = make_user(&admin, "anna", "agent").await;
        let anna = client(&replica, &log_in(&app, "anna", PASSWORD).await.ok());
        anna.get("/v1/auth/me").await.ok();
        admin.patch(&path, json!({ "disabled": true })).await.ok();
        app.app.clock.advance(Duration::from_secs(5));
        anna.get("/v1/auth/me").await.problem(401, "unauthenticated");
    }

    async fn the_last_active_administrator_stays(app) {
        let admin = app.admin().await;
        let me = format!("/v1/users/{}", text(&admin.get("/v1/auth/me").await.ok(), "id"));
        let boss = make_user(&admin, "boss", "admin").await;
        admin.patch(&boss, json!({ "disabled": true })).await.ok();
        admin.patch(&me, json!({ "role": "agent" })).await.problem(409, "last_admin");
        admin.patch(&me, json!({ "disabled": true })).await.problem(409, "last_admin");
        admin.delete(&me).await.problem(409, "last_admin");
        admin.patch(&boss, json!({ "disabled": false })).await.ok();
        assert_eq!(admin.delete(&me).await.status, 204);
        admin.get("/v1/users").await.problem(401, "unauthenticated");
    }

    async fn two_administrators_cannot_remove_each_other_at_the_same_moment(app) {
        let admin = app.admin().await;
        let me = format!("/v1/users/{}", text(&admin.get("/v1/auth/me").await.ok(), "id"));
        let path = make_user(&admin, "boss", "admin").await;
        let (boss, _) = app.user(Role::Admin, "boss").await;
        let (one, other) = futures::join!(admin.delete(&path), boss.delete(&me));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert!(matches!(statuses, [204, 401] | [204, 409]), "{statuses:?}");
        let rows = user::Entity::find().all(app.app.db.read()).await.unwrap();
        assert_eq!(rows.iter().filter(|row| row.role == Role::Admin && !row.disabled).count(), 1);
    }

    async fn a_one_time_password_must_be_changed_before_anything_else(app) {
        let admin = app.admin().await;
        let made = admin.post("/v1/users", json!({ "username": "anna", "display_name": "Anna", "role": "agent" })).await;
        let path = made.header("location").to_owned();
        let one_time = text(&made.body, "one_time_password").to_owned();
        let tokens = log_in(&app, "anna", &one_time).await.ok();
        let anna = client(&app, &tokens);
        anna.get("/v1/classes").await.problem(403, "password_change_required");
        assert_eq!(anna.get("/v1/auth/me").await.ok()["user"]["must_change_password"], true);
        let change = |current: &str, new: &str| anna.post("/v1/auth/password", json!({ "current_password": current, "new_password": new }));
        let wrong = change("not the password", PASSWORD).await;
        assert_eq!((wrong.status, wrong.pointers()), (422, vec!["/current_password"]));
        assert_eq!(change(&one_time, "short").await.pointers(), ["/new_password"]);
        assert_eq!(change(&one_time, &one_time).await.pointers(), ["/new_password"]);
        assert_eq!(change(&one_time, PASSWORD).await.status, 204);
        anna.get("/v1/classes").await.ok();
        refresh(&app, text(&tokens, "refresh_token")).await.problem(400, "invalid_grant");
        log_in(&app, "anna", &one_time).await.problem(400, "invalid_grant");
        log_in(&app, "anna", PASSWORD).await.ok();
        let reset = admin.post(&format!("{path}/reset-password"), json!({})).await.ok();
        anna.get("/v1/classes").await.problem(403, "password_change_required");
        log_in(&app, "anna", PASSWORD).await.problem(400, "invalid_grant");
        log_in(&app, "anna", text(&reset, "one_time_password")).await.ok();
    }

    async fn a_repeated_reset_gives_the_same_password_and_a_key_fits_one_path_only(app) {
        let admin = app.admin().await;
        let (anna, sue) = (make_user(&admin, "anna", "agent").await, make_user(&admin, "sue", "agent").await);
        let reset = |path: &str| admin.request(Method::POST, &format!("{path}/reset-password")).header("Idempotency-Key", "k");
        let first = admin.send(reset(&anna)).await.ok();
        assert_eq!(admin.send(reset(&anna)).await.ok(), first);
        admin.send(reset(&sue)).await.problem(422, "idempotency_key_reused");
        log_in(&app, "sue", PASSWORD).await.ok();
    }

    async fn wrong_present_passwords_are_throttled_like_logins(app) {
        make_user(&app.admin().await, "anna", "agent").await;
        let anna = client(&app, &log_in(&app, "anna", PASSWORD).await.ok());
        let guess = json!({ "current_password": "a guess", "new_password": "staple correct horse" });
        for _ in 0..10 {
            anna.post("/v1/auth/password", guess.clone()).await.problem(422, "validation_failed");
        }
        anna.post("/v1/auth/password", guess).await.problem(429, "login_throttled");
    }

    async fn agents_and_supervisors_get_a_desk_and_leave_it_when_they_are_disabled(app) {
        let admin = app.admin().await;
        let (anna, sue, boss) = (
            make_user(&admin, "anna", "agent").await,
            make_user(&admin, "sue", "supervisor").await,
            make_user(&admin, "boss", "admin").await,
        );
        assert_eq!(desk(&app, &anna).await.unwrap().state, AgentState::LoggedOff);
        assert!(desk(&app, &sue).await.is_some());
        assert!(desk(&app, &boss).await.is_none());
        let tx = app.app.db.begin().await.unwrap();
        let ready = agent::ActiveModel { id: Set(id_of(&anna)), state: Set(AgentState::Ready), ..Default::default() };
        agent::Entity::update(ready).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        admin.patch(&anna, json!({ "display_name": "Anna" })).await.ok();
        assert_eq!(desk(&app, &anna).await.unwrap().state, AgentState::Ready);
        admin.patch(&anna, json!({ "disabled": true })).await.ok();
        assert_eq!(desk(&app, &anna).await.unwrap().state, AgentState::LoggedOff);
    }

    async fn the_first_administrator_is_made_once_also_by_two_replicas(app) {
        let replica = if app.backend == Backend::Postgres { Some(app.replica().await) } else { None };
        let other = replica.as_ref().unwrap_or(&app);
        let (one, two) = futures::join!(bootstrap::make_first_admin(&app.app), bootstrap::make_first_admin(&other.app));
        let made: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
        assert_eq!((made.len(), made[0].username.as_str()), (1, "admin"));
        let admin = client(&app, &log_in(&app, "admin", &made[0].one_time_password).await.ok());
        admin.get("/v1/users").await.problem(403, "password_change_required");
        assert!(bootstrap::make_first_admin(&app.app).await.unwrap().is_none());
        assert_eq!(user::Entity::find().count(app.app.db.read()).await.unwrap(), 1);
    }

    async fn the_command_line_makes_an_administrator(app) {
        assert!(bootstrap::create_admin(&app.app, "No Name", None).await.is_err());
        assert!(bootstrap::create_admin(&app.app, "root", Some("short")).await.is_err());
        assert_eq!(bootstrap::create_admin(&app.app, "root", Some(PASSWORD)).await.unwrap(), None);
        assert!(bootstrap::create_admin(&app.app, "root", Some(PASSWORD)).await.is_err());
        client(&app, &log_in(&app, "root", PASSWORD).await.ok()).get("/v1/users").await.ok();
    }
}
