//! Broadcasts when something goes wrong or is changed in the middle of a run.

use std::time::Duration;

use postroom::{
    broadcasts::watch::tend,
    clock::Timestamp,
    customers::entity::{CustomerStatus, customer},
    db::Gate,
    events::entity::{Column, Entity},
    id::{BroadcastId, ListId},
    lease::Leased,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::{
    broadcasts::{act, draft, finish, ledger, show, tend_all},
    on_both,
    support::{
        Backend, Client, TestApp,
        customers::{list, person, store},
        outbound::{send, use_server, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
    template_parts::with_files,
};

/// A list of so many, and a broadcast to it that runs.
async fn running(app: &TestApp, admin: &Client, count: usize, members: Value) -> (ListId, String) {
    let list = list(&app.app, "Autumn", None).await;
    store(&app.app, (0..count).map(|number| person(&app.app, list, number)).collect()).await;
    let id = draft(app, admin, list, members).await;
    act(admin, &id, "start").await;
    tend_all(app).await;
    (list, id)
}

/// The step ends; the limit is only so that a test that fails does not hang.
async fn sent(app: &TestApp) {
    tokio::time::timeout(Duration::from_secs(60), send(app)).await.expect("the step ends");
}

on_both! {
    async fn a_server_that_takes_no_mail_for_now_fails_no_recipient(app) {
        let full = Rule::at(Stage::Mail, Act::Reply("452 4.3.1 disk full")).times(3);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(full)).await);
        use_sink(&admin, &sink).await;
        let (_, id) = running(&app, &admin, 3, json!({})).await;
        send(&app).await;
        let told = ledger(&admin, &id).await;
        assert!(told.iter().all(|row| row["state"] == "deferred"), "{told:?}");
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["sent"]), (&json!("completed"), &json!(3)), "{shown}");
    }

    async fn a_server_that_is_changed_in_the_middle_takes_the_rest(app) {
        let late = Rule::at(Stage::Dot, Act::Late).on_message(3);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(late)).await);
        let settings = json!({ "port": sink.addr.port(), "max_connections": 2 });
        use_server(&admin, settings.clone()).await;
        let (_, id) = running(&app, &admin, 200, json!({})).await;
        tokio::join!(sent(&app), async {
            sink.wait_until_late().await;
            let mut changed = settings;
            changed["max_messages_per_connection"] = json!(7);
            use_server(&admin, changed).await;
            sink.release();
        });
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["sent"]), (&json!("completed"), &json!(200)), "{shown}");
        assert_eq!(sink.received().len(), 200);
    }

    async fn a_broadcast_whose_files_are_gone_is_paused_with_the_reason_and_holds_up_no_other(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        let files = with_files(&admin).await;
        let (first, broken) = running(&app, &admin, 3, json!({ "template_id": files })).await;
        let templates = admin.get("/v1/templates").await.ok();
        let template = templates["items"].as_array().unwrap().iter().find(|one| one["name"] == "Offer transactional").unwrap()["id"].clone();
        let account = show(&admin, &broken).await["account_id"].clone();
        let other = json!({ "name": "Other", "target": { "list_id": first }, "template_id": template, "account_id": account });
        let other = admin.post("/v1/broadcasts", other).await.ok()["id"].as_str().unwrap().to_owned();
        act(&admin, &other, "start").await;
        tend_all(&app).await;
        std::fs::remove_dir_all(app.dir.path().join("objects")).unwrap();
        use_sink(&admin, &sink).await;
        assert_eq!(finish(&app, &admin, &other).await["counts"]["sent"], 3);
        let shown = show(&admin, &broken).await;
        assert_eq!((&shown["state"], &shown["counts"]["queued"]), (&json!("paused"), &json!(3)), "{shown}");
        let reason = shown["state_reason"].as_str().unwrap();
        assert!(reason.starts_with("its mails cannot be written: "), "{reason}");
        assert_eq!(sink.received().len(), 3);
    }

    async fn a_broadcast_whose_files_cannot_be_read_for_now_goes_on_by_itself(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        let files = with_files(&admin).await;
        let (_, id) = running(&app, &admin, 3, json!({ "template_id": files })).await;
        let (objects, away) = (app.dir.path().join("objects"), app.dir.path().join("away"));
        std::fs::rename(&objects, &away).unwrap();
        // No directory: that is not the answer of a store in which the object is missing.
        std::fs::write(&objects, "").unwrap();
        use_sink(&admin, &sink).await;
        sent(&app).await;
        let shown = show(&admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["queued"]), (&json!("running"), &json!(3)), "{shown}");
        std::fs::remove_file(&objects).unwrap();
        std::fs::rename(&away, &objects).unwrap();
        sent(&app).await;
        assert!(sink.received().is_empty(), "it is not looked for again at once");
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["sent"]), (&json!("completed"), &json!(3)), "{shown}");
    }

    async fn a_list_that_moves_takes_its_broadcasts_to_the_suppressions_of_its_new_campaign(app) {
        let late = Rule::at(Stage::Dot, Act::Late).on_message(1);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(late)).await);
        use_sink(&admin, &sink).await;
        let mut campaigns = Vec::new();
        for (name, barred) in [("Spring", "c9"), ("Summer", "c1"), ("Autumn", "c3")] {
            let made = admin.post("/v1/campaigns", json!({ "name": name })).await.ok()["id"].clone();
            let bar = json!({ "address": format!("{barred}@example.org"), "campaign_id": made });
            admin.post("/v1/suppressions", bar).await.ok();
            campaigns.push(made);
        }
        let list = list(&app.app, "Autumn", Some(campaigns[0].as_str().unwrap().parse().unwrap())).await;
        store(&app.app, (0..4).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        assert_eq!(act(&admin, &id, "preflight").await["recipients"], 4);
        let path = format!("/v1/lists/{list}");
        admin.patch(&path, json!({ "campaign_id": campaigns[1] })).await.ok();
        let preflight = act(&admin, &id, "preflight").await;
        assert_eq!((&preflight["recipients"], &preflight["excluded"]), (&json!(3), &json!({ "suppressed": 1 })));
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        assert_eq!(show(&admin, &id).await["counts"]["queued"], 3);
        tokio::join!(sent(&app), async {
            sink.wait_until_late().await;
            admin.patch(&path, json!({ "campaign_id": campaigns[2] })).await.ok();
            sink.release();
        });
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["counts"]["sent"], &shown["counts"]["suppressed"]), (&json!(2), &json!(1)), "{shown}");
        let of = admin.get(&format!("/v1/broadcasts?campaign_id={}", campaigns[2].as_str().unwrap())).await.ok();
        assert_eq!(of["items"][0]["id"], json!(id));
        // What is over tells what it was sent for.
        admin.patch(&path, json!({ "campaign_id": campaigns[0] })).await.ok();
        let of = admin.get(&format!("/v1/broadcasts?campaign_id={}", campaigns[2].as_str().unwrap())).await.ok();
        assert_eq!(of["items"].as_array().unwrap().len(), 1);
    }

    async fn who_is_called_off_while_their_mail_waits_gets_nothing(app) {
        let late = Rule::at(Stage::Dot, Act::Late).on_message(1);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(late)).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        let people: Vec<customer::Model> = (0..6).map(|number| person(&app.app, list, number)).collect();
        store(&app.app, people.clone()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        tokio::join!(sent(&app), async {
            sink.wait_until_late().await;
            let changed = |at: usize| customer::ActiveModel { id: Set(people[at].id), ..Default::default() };
            let tx = app.app.db.begin().await.unwrap();
            customer::ActiveModel { status: Set(CustomerStatus::Terminated), ..changed(2) }.update(&*tx).await.unwrap();
            customer::ActiveModel { status: Set(CustomerStatus::Callback), ..changed(3) }.update(&*tx).await.unwrap();
            customer::ActiveModel { email_key: Set(Some("0".repeat(32))), ..changed(4) }.update(&*tx).await.unwrap();
            customer::Entity::delete_by_id(people[5].id).exec(&*tx).await.unwrap();
            tx.commit().await.unwrap();
            sink.release();
        });
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["counts"]["sent"], &shown["counts"]["skipped"]), (&json!(3), &json!(3)), "{shown}");
        let mut got: Vec<String> = sink.received().into_iter().flat_map(|mail| mail.to).collect();
        got.sort_unstable();
        assert_eq!(got, ["c0@example.org", "c1@example.org", "c3@example.org"]);
        let ledger = ledger(&admin, &id).await;
        let why = |address: &str| ledger.iter().find(|row| row["address"] == address).unwrap()["reason"].clone();
        assert_eq!(why("c2@example.org"), "the customer has another status now");
        assert_eq!(why("c4@example.org"), "the customer has another address now");
        assert_eq!(why("c5@example.org"), "the customer is gone");
    }

    async fn what_is_written_already_waits_when_the_send_window_closes(app) {
        // The window closes at the end of a minute that is not over soon.
        let now = app.app.clock.now();
        let minute = |at: i64| Timestamp::from_millis((now.as_millis() / 60_000 + at) * 60_000).to_chrono().format("%H:%M").to_string();
        let late = Rule::at(Stage::Dot, Act::Late).on_message(2);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(late)).await);
        let hours = json!({ "name": "Hours", "timezone": "UTC", "entries": [{ "name": "Open", "kind": "open", "rule": {
            "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": minute(0), "to": minute(5) } }] });
        let calendar = admin.post("/v1/calendars", hours).await.ok()["id"].clone();
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 1 })).await;
        let (_, id) = running(&app, &admin, 12, json!({ "window_calendar_id": calendar })).await;
        tokio::join!(sent(&app), async {
            sink.wait_until_late().await;
            app.app.clock.advance(Duration::from_secs(6 * 60));
            sink.release();
        });
        assert_eq!(sink.received().len(), 2);
        let counts = show(&app.admin().await, &id).await["counts"].clone();
        assert_eq!((&counts["sent"], &counts["queued"], &counts["sending"]), (&json!(2), &json!(10), &json!(0)), "{counts}");
        app.app.clock.advance(Duration::from_secs(24 * 3600 - 6 * 60));
        let admin = app.admin().await;
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["counts"]["sent"], sink.received().len()), (&json!(12), 12), "{shown}");
    }

    async fn progress_is_told_when_there_is_any(app) {
        let admin = app.admin().await;
        let (_, id) = running(&app, &admin, 3, json!({})).await;
        for _ in 0..3 {
            app.app.clock.advance(Duration::from_secs(2));
            tend_all(&app).await;
        }
        let told = async || {
            let of = Entity::find().filter(Column::SubjectId.eq(id.parse::<BroadcastId>().unwrap().uuid()));
            of.filter(Column::Kind.eq("broadcast.progress")).all(app.app.db.read()).await.unwrap().len()
        };
        assert_eq!(told().await, 1);
        admin.post(&format!("/v1/broadcasts/{id}/cancel"), json!({})).await.ok();
        tend_all(&app).await;
        assert_eq!(told().await, 2);
    }

    async fn who_failed_is_not_tried_again_while_the_account_is_out_of_use(app) {
        let refused = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 nobody")).times(2);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(refused)).await);
        use_sink(&admin, &sink).await;
        let (_, id) = running(&app, &admin, 3, json!({})).await;
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["failed"]), (&json!("completed_with_failures"), &json!(2)), "{shown}");
        let account = format!("/v1/accounts/{}", shown["account_id"].as_str().unwrap());
        admin.post(&format!("{account}/disable"), json!({})).await.ok();
        let path = format!("/v1/broadcasts/{id}/retry-failed");
        admin.post(&path, json!({})).await.problem(422, "validation_failed");
        assert_eq!(show(&admin, &id).await["counts"]["failed"], 2);
    }

    async fn the_words_of_a_server_do_not_come_back_after_an_erasure(app) {
        let refused = Rule::at(Stage::Dot, Act::Reply("550 5.1.1 c0@example.org is nobody"));
        let rules = vec![Rule::at(Stage::Dot, Act::Late).times(1), refused];
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour { rules, ..Behaviour::default() }).await);
        use_sink(&admin, &sink).await;
        let (list, id) = running(&app, &admin, 2, json!({})).await;
        let all = admin.get(&format!("/v1/customers?list_id={list}")).await.ok();
        tokio::join!(sent(&app), async {
            sink.wait_until_late().await;
            for customer in all["items"].as_array().unwrap() {
                admin.post(&format!("/v1/customers/{}/erase", customer["id"].as_str().unwrap()), json!({})).await.ok();
            }
            sink.release();
        });
        finish(&app, &admin, &id).await;
        let ledger = ledger(&admin, &id).await;
        assert_eq!(ledger.len(), 2);
        let told = serde_json::to_string(&ledger).unwrap();
        assert!(!told.contains("example.org") && !told.contains("queued as"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_trips_as_somebody_pauses_waits_for_them_before_it_takes_the_broadcast_postgres() {
    let app = TestApp::start(Backend::Postgres).await;
    let admin = app.admin().await;
    let (_, id) = running(&app, &admin, 30, json!({ "guard": { "max_fail_percent": 10 } })).await;
    let tx = app.app.db.begin().await.unwrap();
    let failed = "UPDATE broadcast_recipients SET state = 'failed', due_at = NULL \
                  WHERE id IN (SELECT id FROM broadcast_recipients LIMIT 25)";
    tx.execute_unprepared(failed).await.unwrap();
    tx.commit().await.unwrap();
    app.app.clock.advance(Duration::from_secs(2));
    let tx = app.app.db.begin().await.unwrap();
    Gate::Sends.shut(&tx).await.unwrap();
    let pausing = async {
        app.wait_until_blocked().await;
        tx.execute_unprepared("UPDATE broadcasts SET updated_at = updated_at").await.unwrap();
        tx.commit().await.unwrap();
    };
    let (watched, ()) = tokio::join!(tend(app.app.clone()), pausing);
    watched.unwrap();
    assert_eq!(show(&admin, &id).await["state"], "paused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_that_look_at_once_share_the_rate_of_a_broadcast_postgres() {
    let app = TestApp::start(Backend::Postgres).await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    use_sink(&admin, &sink).await;
    let (_, id) = running(&app, &admin, 3, json!({ "rate_per_minute": 60 })).await;
    let other = app.app.db.begin().await.unwrap();
    let minute_later = app.app.clock.now().plus_s(60).as_millis() * 1000;
    other.execute_unprepared(&format!("UPDATE broadcasts SET next_slot_us = {minute_later}")).await.unwrap();
    let looking = async {
        app.wait_until_blocked().await;
        other.commit().await.unwrap();
    };
    tokio::join!(sent(&app), looking);
    assert_eq!(sink.received().len(), 0, "the other one has all places of this minute");
    app.app.clock.advance(Duration::from_secs(61));
    sent(&app).await;
    assert_eq!(
        (sink.received().len(), &show(&app.admin().await, &id).await["counts"]["queued"]),
        (1, &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_renew_leases_waits_for_no_row_that_is_in_other_hands_postgres() {
    let app = TestApp::start(Backend::Postgres).await;
    let admin = app.admin().await;
    let (_, id) = running(&app, &admin, 3, json!({})).await;
    let now = app.app.clock.now();
    let only = "phase <> 'done'";
    let leased = Leased { table: "broadcast_recipients", key: "id", only, order_by: "id" };
    let tx = app.app.db.begin().await.unwrap();
    let held = leased.claim(&tx, now, 20, 3).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(held.len(), 3);
    let other = app.app.db.begin().await.unwrap();
    let lock = format!("SELECT id FROM broadcast_recipients WHERE id = '{}' FOR UPDATE", held[0].key);
    other.execute_unprepared(&lock).await.unwrap();
    let tx = app.app.db.begin().await.unwrap();
    tx.execute_unprepared("SET LOCAL lock_timeout = 1000").await.unwrap();
    let taken_over = (held[2].key, held[2].attempts - 1);
    let wanted = held[..2].iter().map(|row| (row.key, row.attempts)).chain([taken_over]);
    leased.renew(&tx, now.plus_s(500), wanted).await.unwrap();
    tx.commit().await.unwrap();
    other.commit().await.unwrap();
    let later = leased.claim(&app.app.db.begin().await.unwrap(), now.plus_s(100), 20, 3).await.unwrap();
    let later: Vec<_> = later.into_iter().map(|row| row.key).collect();
    assert!(
        later.contains(&held[0].key) && !later.contains(&held[1].key) && later.contains(&held[2].key),
        "{id}"
    );
}
