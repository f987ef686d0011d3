//! Broadcasts: who gets one, what the ledger tells, and how one is stopped.

use std::{collections::BTreeMap, time::Duration};

use postroom::{
    broadcasts::{change, counts, entity::broadcast, prepare, watch::tend},
    customers::entity::{CustomerStatus, customer},
    id::{BroadcastId, ListId},
    mail::parse::{Limits, parse},
    workers::Step,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::{Value, json};

use crate::{
    inbound::{account, push, push_mail},
    on_both,
    support::{
        Client, TestApp,
        customers::{list, person, store},
        dkim::{BOTH, sign_for, signed_by},
        outbound::{answer, send, state, use_server, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

/// A published template that greets by name; gives its id.
async fn template(admin: &Client, category: &str) -> String {
    let body = json!({
        "name": format!("Offer {category}"), "purpose": "general", "category": category,
        "subject": "An offer for {{ customer.name }}", "text": "Dear {{ customer.name }}, your number is {{ customer.data.number }}."
    });
    let made = admin.post("/v1/templates", body).await.ok();
    let id = made["id"].as_str().unwrap();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id.to_owned()
}

/// A draft to this list, changed by `members`.
pub async fn draft(app: &TestApp, admin: &Client, list: ListId, members: Value) -> String {
    let account = account(app, "offers@example.com").await;
    let template = template(admin, "transactional").await;
    let mut body = json!({
        "name": "Autumn", "target": { "list_id": list }, "template_id": template, "account_id": account.id
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    admin.post("/v1/broadcasts", body).await.ok()["id"].as_str().unwrap().to_owned()
}

pub async fn act(admin: &Client, id: &str, action: &str) -> Value {
    admin.post(&format!("/v1/broadcasts/{id}/{action}"), json!({})).await.ok()
}

pub async fn show(admin: &Client, id: &str) -> Value {
    admin.get(&format!("/v1/broadcasts/{id}")).await.ok()
}

/// Sees to broadcasts until there is nothing to do at the moment.
pub async fn tend_all(app: &TestApp) {
    while let Step::Worked(_) = tend(app.app.clone()).await.unwrap() {}
}

/// Sends until a broadcast is over; the clock goes on by itself.
pub async fn finish(app: &TestApp, admin: &Client, id: &str) -> Value {
    for _ in 0..100 {
        tend_all(app).await;
        send(app).await;
        let shown = show(admin, id).await;
        if !shown["ended_at"].is_null() {
            return shown;
        }
        app.app.clock.advance(Duration::from_secs(2));
    }
    panic!("it does not end: {}", show(admin, id).await);
}

pub async fn ledger(admin: &Client, id: &str) -> Vec<Value> {
    let page = admin.get(&format!("/v1/broadcasts/{id}/recipients?limit=200")).await.ok();
    page["items"].as_array().unwrap().clone()
}

on_both! {
    async fn a_broadcast_reaches_exactly_the_unused_and_call_back_customers_and_its_ledger_says_so(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 3 })).await;
        let list = list(&app.app, "Autumn", None).await;
        let mut people: Vec<customer::Model> = (0..60).map(|number| person(&app.app, list, number)).collect();
        people[1].status = CustomerStatus::Callback;
        people[2].status = CustomerStatus::Terminated;
        people[3].status = CustomerStatus::InProgress;
        (people[4].email, people[4].email_key) = (None, None);
        (people[5].email, people[5].email_key) = (people[0].email.clone(), people[0].email_key.clone());
        store(&app.app, people).await;
        admin.post("/v1/suppressions", json!({ "address": "C6@example.org" })).await.ok();
        let id = draft(&app, &admin, list, json!({})).await;
        let preflight = act(&admin, &id, "preflight").await;
        let excluded = json!({ "duplicate": 1, "no_address": 1, "status": 2, "suppressed": 1 });
        assert_eq!((&preflight["found"], &preflight["recipients"], &preflight["excluded"]), (&json!(60), &json!(55), &excluded));
        assert_eq!(act(&admin, &id, "start").await["state"], "preparing");
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["excluded"], &shown["found_count"]), (&json!("completed"), &excluded, &json!(60)));
        assert_eq!((&shown["counts"]["sent"], &shown["counts"]["total"]), (&json!(55), &json!(55)));

        let mut got: BTreeMap<String, usize> = BTreeMap::new();
        for mail in sink.received() {
            *got.entry(mail.to[0].clone()).or_default() += 1;
            let read = parse(&mail.raw, &Limits::default()).unwrap();
            let number = mail.to[0].trim_start_matches('c').trim_end_matches("@example.org").to_owned();
            assert_eq!(read.text.as_deref().map(str::trim), Some(&*format!("Dear Customer {number}, your number is {number}.")));
            assert_eq!((&*read.headers["auto-submitted"][0], &*read.headers["precedence"][0]), ("auto-generated", "bulk"));
        }
        let expected: BTreeMap<String, usize> =
            (0..60).filter(|n| ![2, 3, 4, 5, 6].contains(n)).map(|n| (format!("c{n}@example.org"), 1)).collect();
        assert_eq!(got, expected);
        let ledger = ledger(&admin, &id).await;
        assert!(ledger.iter().all(|row| row["state"] == "sent" && row["code"] == 250 && row["tries"] == 1), "{ledger:?}");
        assert!(ledger[0]["server_text"].as_str().unwrap().contains("queued as SINK"), "{}", ledger[0]);
        let one = admin.get(&format!("/v1/broadcasts/{id}/recipients?address=C7@example.org")).await.ok();
        assert_eq!(one["items"].as_array().unwrap().len(), 1);
        assert!(sink.connections() <= 3, "connections are kept");
    }

    async fn a_recipient_that_is_barred_or_changed_during_the_run_gets_nothing(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        let list = list(&app.app, "Autumn", None).await;
        let people: Vec<customer::Model> = (0..4).map(|number| person(&app.app, list, number)).collect();
        store(&app.app, people.clone()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        assert_eq!(show(&admin, &id).await["counts"]["queued"], 4);
        admin.post("/v1/suppressions", json!({ "address": "c1@example.org" })).await.ok();
        let tx = app.app.db.begin().await.unwrap();
        customer::ActiveModel { id: Set(people[2].id), status: Set(CustomerStatus::Terminated), ..Default::default() }
            .update(&*tx).await.unwrap();
        customer::Entity::delete_by_id(people[3].id).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        use_sink(&admin, &sink).await;
        let shown = finish(&app, &admin, &id).await;
        let counts = &shown["counts"];
        assert_eq!((&counts["sent"], &counts["suppressed"], &counts["skipped"]), (&json!(1), &json!(1), &json!(2)), "{shown}");
        assert_eq!(sink.received().len(), 1);
        assert_eq!(shown["state"], "completed");
    }

    async fn each_fault_of_the_server_ends_as_it_should(app) {
        let rules = vec![
            Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 no such user")).for_recipient("c1@example.org"),
            Rule::at(Stage::Rcpt, Act::Reply("451 4.7.1 later")).for_recipient("c2@example.org").times(1),
            Rule::at(Stage::Dot, Act::TakeAndClose).on_message(4),
            Rule::at(Stage::Dot, Act::Reply("554 5.6.0 spam")).on_message(5),
            Rule::at(Stage::Mail, Act::Close).on_message(7).times(1),
        ];
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour { rules, ..Behaviour::default() }).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..10).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        let mut shown = Value::Null;
        for _ in 0..20 {
            tend_all(&app).await;
            send(&app).await;
            shown = show(&app.admin().await, &id).await;
            if !shown["ended_at"].is_null() {
                break;
            }
            app.app.clock.advance(Duration::from_secs(600));
        }
        let admin = app.admin().await;
        assert_eq!(shown["state"], "completed_with_failures", "{shown}");
        let counts = &shown["counts"];
        assert_eq!((&counts["sent"], &counts["failed"], &counts["uncertain"]), (&json!(7), &json!(2), &json!(1)), "{shown}");
        let ledger = ledger(&admin, &id).await;
        let of = |address: &str| ledger.iter().find(|row| row["address"] == address).unwrap().clone();
        assert_eq!((&of("c1@example.org")["state"], &of("c1@example.org")["code"]), (&json!("failed"), &json!(550)));
        assert!(of("c1@example.org")["server_text"].as_str().unwrap().contains("no such user"));
        assert_eq!((&of("c2@example.org")["state"], &of("c2@example.org")["tries"]), (&json!("sent"), &json!(2)));
        assert_eq!((&of("c3@example.org")["state"], &of("c3@example.org")["due_at"]), (&json!("uncertain"), &Value::Null));
        let mut got: Vec<String> = sink.received().into_iter().flat_map(|mail| mail.to).collect();
        got.sort_unstable();
        let expected: Vec<String> = (0..10).filter(|n| ![1, 4].contains(n)).map(|n| format!("c{n}@example.org")).collect();
        assert_eq!(got, expected, "nobody twice, and whoever is uncertain once");

        // What certainly did not reach them is tried again; who is uncertain is left alone.
        sink.behave(|behaviour| behaviour.rules.clear());
        assert_eq!(act(&admin, &id, "retry-failed").await["state"], "running");
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["counts"]["sent"], &shown["counts"]["uncertain"]), (&json!(9), &json!(1)), "{shown}");
    }

    async fn what_is_paused_or_cancelled_sends_nothing_more(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..20).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        let paused = act(&admin, &id, "pause").await;
        assert_eq!((&paused["state"], &paused["state_reason"]), (&json!("paused"), &json!("somebody paused it")));
        assert_eq!(paused["allowed_actions"], json!(["update", "resume", "cancel"]));
        send(&app).await;
        assert!(sink.received().is_empty());
        admin.post(&format!("/v1/broadcasts/{id}/pause"), json!({})).await.problem(409, "invalid_state");
        act(&admin, &id, "resume").await;
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Dot, Act::Late).on_message(3)));
        let (_, cancelled) = tokio::join!(send(&app), async {
            sink.wait_until_late().await;
            let cancelled = act(&admin, &id, "cancel").await;
            sink.release();
            cancelled
        });
        assert_eq!(cancelled["state"], "cancelled");
        tend_all(&app).await;
        let counts = show(&admin, &id).await["counts"].clone();
        assert_eq!((&counts["sent"], &counts["cancelled"], &counts["queued"]), (&json!(3), &json!(17), &json!(0)), "{counts}");
        assert_eq!(sink.received().len(), 3);
        send(&app).await;
        assert_eq!(sink.received().len(), 3);
    }

    async fn a_paused_server_takes_nothing_more_of_a_broadcast(app) {
        let late = Rule::at(Stage::Dot, Act::Late).on_message(3);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(late)).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..20).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        tokio::join!(send(&app), async {
            sink.wait_until_late().await;
            admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
            sink.release();
        });
        assert_eq!(sink.received().len(), 3);
        assert_eq!(show(&admin, &id).await["counts"]["queued"], 17);
        admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
        assert_eq!(finish(&app, &admin, &id).await["counts"]["sent"], 20);
        assert_eq!(sink.received().len(), 20);
    }

    async fn a_soft_stop_ends_a_broadcast_after_the_messages_under_way(app) {
        let late = Rule::at(Stage::Dot, Act::Late).on_message(3);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(late)).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..20).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        app.start_workers();
        sink.wait_until_late().await;
        let stopped = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::join!(app.app.stop(), async { sink.release() });
        });
        stopped.await.expect("it stops");
        assert_eq!(sink.received().len(), 3);
        let counts = counts::count(app.app.db.read(), id.parse().unwrap()).await.unwrap();
        assert_eq!((counts.sent, counts.queued, counts.sending), (3, 17, 0));
    }

    async fn a_broadcast_that_was_called_off_while_it_was_looked_at_stays_so(app) {
        let admin = app.admin().await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, vec![person(&app.app, list, 0)]).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        // What a worker would hold that is between its last page and the end.
        let tx = app.app.db.begin().await.unwrap();
        let held = change::LEASED.claim(&tx, app.app.clock.now(), change::LEASE_S, 1).await.unwrap().pop().unwrap();
        tx.commit().await.unwrap();
        let row = broadcast::Entity::find_by_id(id.parse::<BroadcastId>().unwrap()).one(app.app.db.read()).await.unwrap().unwrap();
        act(&admin, &id, "cancel").await;
        prepare::finish(&app.app, held, &row).await.unwrap();
        assert_eq!(show(&admin, &id).await["state"], "cancelled");
    }

    async fn a_template_that_becomes_marketing_before_it_is_published_is_sent_as_such(app) {
        let admin = app.admin().await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..2).map(|number| person(&app.app, list, number)).collect()).await;
        let body = json!({ "address": "c0@example.org", "reason": "unsubscribed" });
        admin.post("/v1/suppressions", body).await.ok();
        let body = json!({ "name": "Later", "purpose": "general", "subject": "x", "text": "x {{ unsubscribe_url }}" });
        let template = admin.post("/v1/templates", body).await.ok()["id"].as_str().unwrap().to_owned();
        let id = draft(&app, &admin, list, json!({ "template_id": template })).await;
        admin.patch(&format!("/v1/templates/{template}"), json!({ "category": "marketing" })).await.ok();
        admin.post(&format!("/v1/templates/{template}/publish"), json!({})).await.ok();
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        let shown = show(&admin, &id).await;
        assert_eq!((&shown["excluded"], &shown["counts"]["total"]), (&json!({ "suppressed": 1 }), &json!(1)), "{shown}");
    }

    async fn a_reply_goes_before_the_rest_of_a_broadcast(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..40).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Dot, Act::Late).on_message(2)));
        let (_, reply) = tokio::join!(send(&app), async {
            sink.wait_until_late().await;
            let reply = answer(&app).await;
            app.app.wakes.deliver.notify_one();
            while state(&admin, reply).await != "sending" {}
            sink.release();
            reply
        });
        assert_eq!(state(&admin, reply).await, "sent");
        let order: Vec<String> = sink.received().into_iter().map(|mail| mail.to[0].clone()).collect();
        let at = order.iter().position(|to| to == "anna@example.com").unwrap();
        assert!(at <= 3, "it was number {at} of {order:?}");
        assert_eq!(order.len(), 41);
    }

    async fn a_busy_server_is_left_alone_and_nobody_is_lost(app) {
        let busy = Rule::at(Stage::Rcpt, Act::Reply("421 4.7.0 too much")).on_message(4).times(1);
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::with(busy)).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..9).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        send(&app).await;
        assert_eq!(sink.received().len(), 3);
        assert_eq!(admin.get("/v1/outgoing-server").await.ok()["state"], "failing");
        app.app.clock.advance(Duration::from_secs(60));
        let admin = app.admin().await;
        let shown = finish(&app, &admin, &id).await;
        assert_eq!((&shown["state"], &shown["counts"]["sent"]), (&json!("completed"), &json!(9)));
        assert_eq!(sink.received().len(), 9);
    }

    async fn too_many_failures_pause_a_broadcast(app) {
        let rules = vec![
            Rule::at(Stage::Mail, Act::Late).on_message(40),
            Rule::at(Stage::Rcpt, Act::Reply("550 5.7.1 we do not know you")),
        ];
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour { rules, ..Behaviour::default() }).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..90).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({ "guard": { "max_fail_percent": 10 } })).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        tokio::join!(send(&app), async {
            sink.wait_until_late().await;
            app.app.clock.advance(Duration::from_secs(2));
            tend_all(&app).await;
            sink.release();
        });
        let shown = show(&admin, &id).await;
        assert_eq!(shown["state"], "paused", "{shown}");
        assert!(shown["state_reason"].as_str().unwrap().contains("more than 10 %"), "{shown}");
        assert!(shown["counts"]["queued"].as_i64().unwrap() > 0, "{shown}");
        // Whoever lets it go on has seen what was: the guard judges what comes.
        let path = format!("/v1/broadcasts/{id}");
        admin.patch(&path, json!({ "name": "Winter" })).await.problem(409, "invalid_state");
        admin.patch(&path, json!({ "guard": { "max_fail_percent": 101 } })).await.problem(422, "validation_failed");
        let changed = admin.patch(&path, json!({ "guard": { "max_fail_percent": 5 } })).await.ok();
        assert_eq!(changed["counts"], shown["counts"]);
        assert_eq!((&changed["guard"], &changed["name"]), (&json!({ "max_fail_percent": 5, "max_bounce_percent": null }), &json!("Autumn")));
        sink.behave(|behaviour| behaviour.rules.clear());
        act(&admin, &id, "resume").await;
        tend_all(&app).await;
        assert_eq!(show(&admin, &id).await["state"], "running");
        let shown = finish(&app, &admin, &id).await;
        assert_eq!(shown["state"], "completed_with_failures", "{shown}");
        admin.patch(&path, json!({ "guard": { "max_fail_percent": 6 } })).await.problem(409, "invalid_state");
    }

    async fn a_scheduled_broadcast_begins_at_its_time_and_an_overdue_one_asks_first(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, vec![person(&app.app, list, 0)]).await;
        let later = app.app.clock.now().plus_s(3600);
        let id = draft(&app, &admin, list, json!({ "scheduled_at": later })).await;
        assert_eq!(act(&admin, &id, "start").await["state"], "scheduled");
        tend_all(&app).await;
        assert_eq!(show(&admin, &id).await["state"], "scheduled");
        app.app.clock.advance(Duration::from_secs(3600 + 1200));
        let admin = app.admin().await;
        tend_all(&app).await;
        let shown = show(&admin, &id).await;
        assert_eq!(shown["state"], "paused", "{shown}");
        assert!(shown["state_reason"].as_str().unwrap().contains("passed by"), "{shown}");
        act(&admin, &id, "resume").await;
        assert_eq!(finish(&app, &admin, &id).await["counts"]["sent"], 1);
    }

    async fn a_broadcast_to_nobody_fails_and_what_cannot_be_begun_says_why(app) {
        let admin = app.admin().await;
        let list = list(&app.app, "Autumn", None).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        tend_all(&app).await;
        let shown = show(&admin, &id).await;
        assert_eq!(shown["state"], "failed");
        assert!(shown["state_reason"].as_str().unwrap().starts_with("no_recipients"), "{shown}");
        assert_eq!(shown["allowed_actions"], json!([]));

        let unpublished = json!({ "name": "Draft", "purpose": "general", "subject": "x", "text": "x" });
        let unpublished = admin.post("/v1/templates", unpublished).await.ok()["id"].clone();
        let body = json!({
            "name": "x", "target": { "list_id": list }, "template_id": unpublished, "account_id": shown["account_id"]
        });
        let second = admin.post("/v1/broadcasts", body.clone()).await.ok()["id"].as_str().unwrap().to_owned();
        let refused = admin.post(&format!("/v1/broadcasts/{second}/start"), json!({})).await;
        assert_eq!(refused.pointers(), ["/template_id"]);
        refused.problem(422, "validation_failed");
        let with = |members: Value| {
            let mut body = body.clone();
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            body
        };
        for (members, pointer) in [
            (json!({ "target": {} }), "/target"),
            (json!({ "target": { "list_id": "019aa1b2-0000-7000-8000-000000000001" } }), "/target/list_id"),
            (json!({ "filter": { "expression": "tier ==" } }), "/filter/expression"),
            (json!({ "filter": { "expression": "tier == 1" } }), "/filter/expression"),
            (json!({ "account_id": null }), "/account_id"),
            (json!({ "rate_per_minute": 0 }), "/rate_per_minute"),
            (json!({ "guard": { "max_fail_percent": 101 } }), "/guard/max_fail_percent"),
        ] {
            let refused = admin.post("/v1/broadcasts", with(members.clone())).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{members}");
        }
        let etag = admin.get(&format!("/v1/broadcasts/{second}")).await.header("etag").to_owned();
        let changed = admin.patch(&format!("/v1/broadcasts/{second}"), json!({ "filter": { "expression": "customer.data.number > 3" } })).await.ok();
        assert_eq!(changed["filter"]["expression"], "customer.data.number > 3");
        let stale = admin.request(reqwest::Method::DELETE, &format!("/v1/broadcasts/{second}")).header("If-Match", etag);
        admin.send(stale).await.problem(412, "precondition_failed");
        let gone = admin.delete(&format!("/v1/broadcasts/{second}")).await;
        assert_eq!(gone.status, 204);
        admin.get(&format!("/v1/broadcasts/{second}")).await.problem(404, "not_found");
        admin.delete(&format!("/v1/broadcasts/{id}")).await.problem(409, "invalid_state");
    }

    async fn a_captured_broadcast_can_be_read_as_messages(app) {
        let admin = app.admin().await;
        admin.put("/v1/outgoing-server", json!({ "transport": "capture" })).await.ok();
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..3).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        assert_eq!(finish(&app, &admin, &id).await["counts"]["sent"], 3);
        let captured = admin.get("/v1/outgoing-server/captured").await.ok();
        assert_eq!(captured["items"].as_array().unwrap().len(), 3, "{captured}");
        let message = admin.get(&format!("/v1/messages/{}", captured["items"][0]["message_id"].as_str().unwrap())).await.ok();
        assert_eq!((&message["kind"], &message["state"]), (&json!("broadcast"), &json!("sent")));
    }

    async fn an_answer_to_a_broadcast_is_work_in_a_conversation_that_begins_with_it(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..3).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        let shown = finish(&app, &admin, &id).await;
        assert_eq!(admin.get("/v1/conversations").await.ok()["items"], json!([]), "nobody answered yet");
        let account = shown["account_id"].as_str().unwrap().parse().unwrap();
        let mail = sink.received().into_iter().find(|mail| mail.to == ["c1@example.org"]).unwrap();
        let sent = parse(&mail.raw, &Limits::default()).unwrap().message_id.unwrap();
        // An answer that cannot be looked into right now is not taken in without what it answers.
        let rename = async |from: &str, to: &str| {
            let tx = app.app.db.begin().await.unwrap();
            tx.execute_unprepared(&format!("ALTER TABLE {from} RENAME TO {to}")).await.unwrap();
            tx.commit().await.unwrap();
        };
        rename("templates", "templates_away").await;
        let early = format!("From: c1@example.org\r\nIn-Reply-To: <{sent}>\r\n\r\nEarly\r\n");
        assert_eq!(push(&admin, account, early).await.status, 500);
        rename("templates_away", "templates").await;
        let conversation = push_mail(&admin, account, &format!("In-Reply-To: <{sent}>")).await;
        let again = push_mail(&admin, account, &format!("References: <{sent}>\r\nX-Second: yes")).await;
        assert_eq!(conversation, again);
        let read = admin.get(&format!("/v1/conversations/{conversation}")).await.ok();
        assert_eq!((&read["customer_address"], &read["message_count"]), (&json!("c1@example.org"), &json!(3)));
        let messages = admin.get(&format!("/v1/conversations/{conversation}/messages")).await.ok();
        let first = &messages["items"][0];
        let first = &admin.get(&format!("/v1/messages/{}", first["id"].as_str().unwrap())).await.ok();
        assert_eq!((&first["kind"], &first["state"], &first["message_id_header"]), (&json!("broadcast"), &json!("sent"), &json!(sent)));
        assert!(first["text"].as_str().unwrap().starts_with("Dear Customer 1, your number is 1."), "{first}");
        let steps = crate::support::outbound::timeline(&admin, first["id"].as_str().unwrap().parse().unwrap()).await;
        assert_eq!(steps, ["sent"]);
        let work = admin.get(&format!("/v1/work-items?conversation_id={conversation}")).await.ok();
        assert_eq!(work["items"].as_array().unwrap().len(), 1);
    }

    async fn marketing_offers_one_click_and_from_its_answer_on_nothing_goes_out(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let zone = sign_for(&admin, "example.com").await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..3).map(|number| person(&app.app, list, number)).collect()).await;
        let body = json!({
            "name": "Advert", "purpose": "general", "category": "marketing", "subject": "An offer",
            "text": "Buy. No more: {{ unsubscribe_url }}"
        });
        let template = admin.post("/v1/templates", body).await.ok()["id"].clone();
        admin.post(&format!("/v1/templates/{}/publish", template.as_str().unwrap()), json!({})).await.ok();
        let id = draft(&app, &admin, list, json!({ "template_id": template })).await;
        act(&admin, &id, "start").await;
        finish(&app, &admin, &id).await;
        let mail = sink.received().into_iter().find(|mail| mail.to == ["c1@example.org"]).unwrap();
        for mail in sink.received() {
            assert_eq!(signed_by(&mail.raw, &zone, "example.com"), BOTH);
        }
        let read = parse(&mail.raw, &Limits::default()).unwrap();
        let raw = String::from_utf8(mail.raw).unwrap();
        let (_, offered) = raw.split_once("\r\nList-Unsubscribe: <").unwrap();
        let link = offered.split_once('>').unwrap().0.to_owned();
        assert!(raw.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"));
        assert!(read.text.unwrap().contains(&link));
        let path = &link[link.find("/u/").unwrap()..];
        let anonymous = app.anonymous();
        let page = anonymous.get(path).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert_eq!(admin.get("/v1/suppressions").await.ok()["items"], json!([]), "reading changes nothing");
        let click = || anonymous.request(reqwest::Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded").body("List-Unsubscribe=One-Click");
        for _ in 0..2 {
            assert_eq!(anonymous.send(click()).await.status, 200);
        }
        let barred = admin.get("/v1/suppressions").await.ok();
        assert_eq!((&barred["items"][0]["address"], &barred["items"][0]["reason"]), (&json!("c1@example.org"), &json!("unsubscribed")));
        assert_eq!(barred["items"].as_array().unwrap().len(), 1);
        anonymous.get(&format!("/u/{}", "a".repeat(52))).await.problem(404, "not_found");

        let body = json!({ "name": "Second", "target": { "list_id": list }, "template_id": template, "account_id": show(&admin, &id).await["account_id"] });
        let second = admin.post("/v1/broadcasts", body).await.ok()["id"].as_str().unwrap().to_owned();
        act(&admin, &second, "start").await;
        let shown = finish(&app, &admin, &second).await;
        assert_eq!((&shown["counts"]["sent"], &shown["excluded"]), (&json!(2), &json!({ "suppressed": 1 })));
        assert_eq!(sink.received().iter().filter(|mail| mail.to == ["c1@example.org"]).count(), 1);
    }

    async fn a_hard_bounce_and_a_complaint_are_noted_bar_the_address_and_are_nobodys_work(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, (0..4).map(|number| person(&app.app, list, number)).collect()).await;
        let id = draft(&app, &admin, list, json!({})).await;
        act(&admin, &id, "start").await;
        let shown = finish(&app, &admin, &id).await;
        let account = shown["account_id"].as_str().unwrap().parse().unwrap();
        let sent = |address: &str| {
            let mail = sink.received().into_iter().find(|mail| mail.to == [address]).unwrap();
            parse(&mail.raw, &Limits::default()).unwrap().message_id.unwrap()
        };
        for (address, status) in [("c0@example.org", "5.1.1"), ("c1@example.org", "5.2.2")] {
            push(&admin, account, bounce(address, status, &sent(address))).await.ok();
        }
        push(&admin, account, complaint("c2@example.org", &sent("c2@example.org"))).await.ok();
        // Anybody can write a report; ours carries our token.
        push(&admin, account, bounce("c3@example.org", "5.1.1", "made-up@example.org")).await.ok();
        let ledger = ledger(&admin, &id).await;
        let of = |address: &str| ledger.iter().find(|row| row["address"] == address).unwrap()["state"].clone();
        assert_eq!([of("c0@example.org"), of("c1@example.org"), of("c2@example.org"), of("c3@example.org")], ["bounced", "bounced", "complained", "sent"]);
        assert!(ledger.iter().any(|row| row["reason"].as_str().unwrap().contains("no such user")), "{ledger:?}");
        let barred = admin.get("/v1/suppressions").await.ok();
        let barred: Vec<_> = barred["items"].as_array().unwrap().iter().map(|row| (row["address"].clone(), row["reason"].clone())).collect();
        assert_eq!(barred, [(json!("c0@example.org"), json!("bounced")), (json!("c2@example.org"), json!("complained"))]);
        let work = admin.get("/v1/work-items").await.ok();
        assert_eq!(work["items"].as_array().unwrap().len(), 1, "only the report that is not about our mail");
    }
}

pub fn bounce(address: &str, status: &str, message_id: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example.org\r\nTo: offers@example.com\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nI am sorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n\
         Final-Recipient: rfc822; {address}\r\nAction: failed\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; 550 {status} no such user\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{message_id}>\r\nTo: {address}\r\n\r\n--b--\r\n"
    )
}

fn complaint(address: &str, message_id: &str) -> String {
    format!(
        "From: abuse@isp.example\r\nTo: offers@example.com\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nThis is a complaint.\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: test/1\r\nVersion: 1\r\n\
         Original-Rcpt-To: {address}\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <{message_id}>\r\nSubject: x\r\n\r\nx\r\n--b--\r\n"
    )
}
