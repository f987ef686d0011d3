//! Mail that comes back: soft bounces that add up, and bounce addresses that tell the message (VERP).

use std::time::Duration;

use postroom::{
    accounts::entity::account as accounts,
    clock::{Clock, Timestamp},
    conversations::entity::message,
    db::Gate,
    delivery::{entity::delivery as row, rules::Recipient, send::deliver},
    events::entity::{Column, Entity},
    id::AccountId,
    mail::parse::{Limits, parse},
    workers::Step,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    broadcasts::{self, bounce, ledger, show, tend_all},
    inbound::{account, push},
    on_both,
    support::{
        Backend, Client, TestApp,
        customers::{list, person, store},
        mailbox::{act, draft},
        outbound::{delivery, send, timeline, use_sink},
        service::{Home, Service},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
        stack::{SMTP, Stack},
        stream::EventStream,
    },
};

async fn write(admin: &Client, to: &str) -> String {
    let body = json!({ "to": { "address": to }, "content": { "subject": "Hi", "text": "Hello" } });
    let made = admin.post("/v1/messages", body).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

async fn header(admin: &Client, id: &str) -> String {
    admin.get(&format!("/v1/messages/{id}")).await.ok()["message_id_header"].as_str().unwrap().to_owned()
}

async fn barred(admin: &Client) -> Vec<Value> {
    admin.get("/v1/suppressions").await.ok()["items"].as_array().unwrap().clone()
}

/// Sends a message to the address that comes back so.
async fn come_back(app: &TestApp, admin: &Client, account: AccountId, to: &str, status: &str) -> String {
    let id = write(admin, to).await;
    send(app).await;
    let report = bounce(to, status, &header(admin, &id).await);
    push(admin, account, report.clone()).await.ok();
    push(admin, account, report).await.ok();
    id
}

async fn soft_bounces_add_up(backend: Backend) {
    let at: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
    let settings = "[bounces]\nsoft_max = 3\nsoft_window_s = 604800\nsoft_suppressed_s = 86400\n";
    let app = TestApp::with(backend, Clock::frozen(at), settings).await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    use_sink(&admin, &sink).await;
    let account = account(&app, "support@example.com").await.id;
    for status in ["5.2.2", "4.4.7"] {
        come_back(&app, &admin, account, "full@example.org", status).await;
    }
    come_back(&app, &admin, account, "policy@example.org", "5.7.1").await;
    assert_eq!(barred(&admin).await, [] as [Value; 0], "a report that comes twice counts once");
    app.app.clock.advance(Duration::from_secs(8 * 86400));
    let admin = app.admin().await;
    come_back(&app, &admin, account, "full@example.org", "4.2.2").await;
    assert_eq!(barred(&admin).await, [] as [Value; 0], "the first two are long past");
    for status in ["5.3.1", "4.4.1"] {
        come_back(&app, &admin, account, "full@example.org", status).await;
    }
    let rows = barred(&admin).await;
    assert_eq!(
        (rows.len(), &rows[0]["address"], &rows[0]["reason"]),
        (1, &json!("full@example.org"), &json!("soft_bounced"))
    );
    let expires: Timestamp = rows[0]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires, app.app.clock.now().plus_s(86400));
    let held = json!({ "to": { "address": "full@example.org" }, "content": { "subject": "x", "text": "y" }, "dry_run": true });
    assert_eq!(admin.post("/v1/messages", held.clone()).await.ok()["suppressed_by"], "soft_bounced");
    app.app.clock.advance(Duration::from_secs(86401));
    let admin = app.admin().await;
    assert_eq!(
        admin.post("/v1/messages", held).await.ok()["suppressed_by"],
        Value::Null,
        "it ends by itself"
    );
    for _ in 0..3 {
        come_back(&app, &admin, account, "policy@example.org", "5.7.1").await;
    }
    assert_eq!(barred(&admin).await.len(), 1, "being refused for what we wrote says nothing of the address");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soft_bounces_bar_an_address_for_a_while_when_there_are_many_sqlite() {
    soft_bounces_add_up(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soft_bounces_bar_an_address_for_a_while_when_there_are_many_postgres() {
    soft_bounces_add_up(Backend::Postgres).await;
}

/// A report about several recipients: an action and a status for each.
fn report(parts: &[(&str, &str, &str)], message_id: &str) -> String {
    let parts: String = parts
        .iter()
        .map(|(address, action, status)| {
            format!("Final-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n")
        })
        .collect();
    format!(
        "From: MAILER-DAEMON@mx.example.org\r\nTo: support@example.com\r\nSubject: Delivery Status Notification\r\n\
         Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nA report.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n{parts}\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{message_id}>\r\n\r\n--b--\r\n"
    )
}

on_both! {
    async fn a_report_about_several_recipients_bars_those_that_failed(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let account = account(&app, "support@example.com").await.id;
        let cases = [
            (["delivered", "failed"], ["2.0.0", "5.1.1"], vec!["c1@example.org"]),
            (["failed", "delayed"], ["5.1.1", "4.4.1"], vec!["c2@example.org"]),
            (["failed", "failed"], ["5.1.1", "5.1.1"], vec!["c4@example.org", "C5@example.org"]),
        ];
        let mut expected: Vec<String> = Vec::new();
        for (number, (actions, status, barred_now)) in cases.into_iter().enumerate() {
            let (to, cc) = (format!("c{}@example.org", 2 * number), format!("C{}@example.org", 2 * number + 1));
            let id = write(&admin, &to).await;
            let copied = message::ActiveModel {
                id: Set(id.parse().unwrap()),
                cc_addresses: Set(json!([{ "name": null, "address": cc }])),
                ..Default::default()
            };
            let tx = app.app.db.begin().await.unwrap();
            copied.update(&*tx).await.unwrap();
            tx.commit().await.unwrap();
            send(&app).await;
            let parts = [(&*to, actions[0], status[0]), (&*cc, actions[1], status[1])];
            push(&admin, account, report(&parts, &header(&admin, &id).await)).await.ok();
            assert_eq!(admin.get(&format!("/v1/messages/{id}")).await.ok()["state"], "bounced");
            expected.extend(barred_now.into_iter().map(str::to_lowercase));
            let mut known: Vec<String> =
                barred(&admin).await.iter().map(|row| row["address"].as_str().unwrap().to_lowercase()).collect();
            known.sort();
            assert_eq!(known, expected);
        }
    }
}

/// A delivery report that returns nothing of the message.
fn bare_bounce(to: &str, address: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example.org\r\nTo: {to}\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nI am sorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n\
         Final-Recipient: rfc822; {address}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    )
}

on_both! {
    async fn a_bounce_that_returns_nothing_is_known_by_the_address_that_it_comes_to(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let account = account(&app, "support@example.com").await;
        let plain = write(&admin, "plain@example.org").await;
        send(&app).await;
        assert_eq!(sink.received()[0].from, "support@example.com", "it is off by default");
        let mut inbound = account.inbound.clone();
        inbound["tagged_bounces"] = json!(true);
        let tx = app.app.db.begin().await.unwrap();
        accounts::ActiveModel { id: Set(account.id), inbound: Set(inbound), ..Default::default() }.update(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let tagged = write(&admin, "nobody@example.org").await;
        send(&app).await;
        let mail = sink.received().pop().unwrap();
        let sender = mail.from.clone();
        assert!(sender.starts_with("support+prb.") && sender.ends_with("@example.com"), "{sender}");
        let read = parse(&mail.raw, &Limits::default()).unwrap();
        assert_eq!(read.from.unwrap().address, "support@example.com", "only the envelope has it");
        let state = async |id: &str| admin.get(&format!("/v1/messages/{id}")).await.ok()["state"].clone();
        let forged = sender.replace("prb.", "prb.a");
        push(&admin, account.id, bare_bounce(&forged, "nobody@example.org")).await.ok();
        push(&admin, account.id, bare_bounce("support@example.com", "plain@example.org")).await.ok();
        assert_eq!((state(&plain).await, state(&tagged).await), (json!("sent"), json!("sent")));
        push(&admin, account.id, bare_bounce(&sender, "nobody@example.org")).await.ok();
        assert_eq!((state(&plain).await, state(&tagged).await), (json!("sent"), json!("bounced")));
        assert_eq!(barred(&admin).await[0]["address"], "nobody@example.org");
        for (field, address) in [("X-Original-To", "second@example.org"), ("Envelope-To", "third@example.org")] {
            let id = write(&admin, address).await;
            send(&app).await;
            let sender = sink.received().pop().unwrap().from.clone();
            let bounce = bare_bounce("support@example.com", address);
            push(&admin, account.id, format!("{field}: {sender}\r\n{bounce}")).await.ok();
            assert_eq!(state(&id).await, "bounced", "{field}");
        }
    }
}

/// Sends until the answer to a dot is awaited.
async fn send_until_late(app: &TestApp, sink: &SmtpSink) -> JoinHandle<anyhow::Result<Step>> {
    let sending = tokio::spawn(deliver(app.app.clone()));
    sink.wait_until_late().await;
    sending
}

/// As by `kill -9`: nothing more is written.
async fn die(sending: JoinHandle<anyhow::Result<Step>>) {
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
}

async fn late_at(admin: &Client, stage: Stage) -> SmtpSink {
    let sink = SmtpSink::start(Behaviour::with(Rule::at(stage, Act::Late).times(1))).await;
    use_sink(admin, &sink).await;
    sink
}

on_both! {
    async fn a_report_settles_what_a_process_that_died_could_not(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await.id);
        for (action, status, state) in [("delivered", "2.0.0", "delivered"), ("failed", "5.2.2", "bounced")] {
            let sink = late_at(&admin, Stage::Dot).await;
            let id = write(&admin, "anna@example.org").await;
            die(send_until_late(&app, &sink).await).await;
            push(&admin, account, report(&[("anna@example.org", action, status)], &header(&admin, &id).await)).await.ok();
            let told = delivery(&admin, id.parse().unwrap()).await;
            assert_eq!((&told["state"], told["sent_at"].is_string()), (&json!(state), true), "{told}");
            app.app.clock.advance(Duration::from_secs(70));
            send(&app).await;
            app.app.clock.advance(Duration::from_secs(70));
            send(&app).await;
            let told = delivery(&admin, id.parse().unwrap()).await;
            assert_eq!((&told["state"], &told["next_try_at"]), (&json!(state), &json!(null)), "{told}");
            assert_eq!(sink.received().len(), 0, "it is not sent again");
        }
    }

    async fn the_result_of_a_try_that_a_report_overtook_adds_its_words_and_moves_nothing(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await.id);
        let sink = late_at(&admin, Stage::Dot).await;
        let id = write(&admin, "anna@example.org").await;
        let sending = send_until_late(&app, &sink).await;
        push(&admin, account, report(&[("anna@example.org", "failed", "5.2.2")], &header(&admin, &id).await)).await.ok();
        sink.release();
        sending.await.unwrap().unwrap();
        let told = delivery(&admin, id.parse().unwrap()).await;
        assert_eq!((&told["state"], &told["recipients"][0]["state"], &told["tries"]), (&json!("bounced"), &json!("sent"), &json!(1)));
        let steps = timeline(&admin, id.parse().unwrap()).await;
        assert!(steps.contains(&"bounced".to_owned()) && steps.last().is_some_and(|last| last == "dot 250"), "{steps:?}");
        let told = Entity::find().filter(Column::Kind.is_in(["message.sent", "message.bounced"])).all(app.app.db.read()).await.unwrap();
        assert_eq!(told.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["message.bounced"]);
    }

    async fn a_second_copy_stays_here_when_the_first_is_heard_of(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await.id);
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::TakeAndClose).times(1))).await;
        use_sink(&admin, &sink).await;
        let id = write(&admin, "anna@example.org").await;
        send(&app).await;
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Data, Act::Late).times(1)));
        app.app.clock.advance(Duration::from_secs(70));
        let sending = send_until_late(&app, &sink).await;
        push(&admin, account, report(&[("anna@example.org", "delivered", "2.0.0")], &header(&admin, &id).await)).await.ok();
        sink.release();
        sending.await.unwrap().unwrap();
        assert_eq!((delivery(&admin, id.parse().unwrap()).await["state"].clone(), sink.received().len()), (json!("delivered"), 1));
    }

    async fn a_report_about_one_who_has_a_message_that_others_wait_for_is_noted(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await.id);
        let full = Rule::at(Stage::Rcpt, Act::Reply("452 4.2.2 full")).for_recipient("carl@example.org").times(1);
        let sink = SmtpSink::start(Behaviour::with(full)).await;
        use_sink(&admin, &sink).await;
        let id = write(&admin, "anna@example.org").await;
        let recipients = json!(["anna@example.org", "carl@example.org"].map(|one| Recipient::new(one.to_owned())));
        let copied = row::ActiveModel { message_id: Set(id.parse().unwrap()), recipients: Set(recipients), ..Default::default() };
        let tx = app.app.db.begin().await.unwrap();
        copied.update(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        send(&app).await;
        push(&admin, account, report(&[("anna@example.org", "delivered", "2.0.0")], &header(&admin, &id).await)).await.ok();
        let id = id.parse().unwrap();
        assert_eq!(delivery(&admin, id).await["state"], "deferred");
        assert_eq!(timeline(&admin, id).await.last().map(String::as_str), Some("delivered"));
        app.app.clock.advance(Duration::from_secs(70));
        send(&app).await;
        assert_eq!((delivery(&admin, id).await["state"].clone(), sink.received().len()), (json!("sent"), 2));
    }

    async fn a_report_settles_a_recipient_of_a_broadcast_that_a_process_that_died_could_not(app) {
        let admin = app.admin().await;
        let sink = late_at(&admin, Stage::Dot).await;
        let list = list(&app.app, "Autumn", None).await;
        store(&app.app, vec![person(&app.app, list, 0)]).await;
        let id = broadcasts::draft(&app, &admin, list, json!({})).await;
        broadcasts::act(&admin, &id, "start").await;
        tend_all(&app).await;
        die(send_until_late(&app, &sink).await).await;
        sink.release();
        let mail = sink.wait_for(1).await.remove(0);
        let account = show(&admin, &id).await["account_id"].as_str().unwrap().parse().unwrap();
        let header = mail.message_id.unwrap();
        push(&admin, account, bounce(&mail.to[0], "5.1.1", header.trim_matches(['<', '>']))).await.ok();
        for _ in 0..2 {
            let row = ledger(&admin, &id).await.remove(0);
            assert_eq!((&row["state"], &row["tries"]), (&json!("bounced"), &json!(1)), "{row}");
            app.app.clock.advance(Duration::from_secs(30));
            send(&app).await;
        }
        assert_eq!(sink.received().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_may_bar_an_address_waits_for_who_passes_the_gate_before_it_takes_the_delivery() {
    let app = TestApp::start(Backend::Postgres).await;
    let (admin, account) = (app.admin().await, account(&app, "support@example.com").await.id);
    let id = write(&admin, "anna@example.org").await;
    let report = report(&[("anna@example.org", "failed", "5.1.1")], &header(&admin, &id).await);
    let tx = app.app.db.begin().await.unwrap();
    // Sooner than the database ends a deadlock.
    tx.execute_unprepared("SET LOCAL lock_timeout = 500").await.unwrap();
    Gate::Sends.pass(&tx).await.unwrap();
    let marking = async {
        app.wait_until_blocked().await;
        tx.execute_unprepared("UPDATE deliveries SET updated_at = updated_at").await.unwrap();
        tx.commit().await.unwrap();
    };
    let (pushed, ()) = tokio::join!(push(&admin, account, report), marking);
    assert_eq!(pushed.status, 201, "{}", pushed.body);
}

/// Through Postfix, which returns the mail to its envelope sender, and Dovecot, which files it by the part before the `+`.
async fn a_real_bounce(backend: Backend) {
    let Some(stack) = Stack::shared() else { return };
    let ca = stack.value("POSTROOM_TEST_CA");
    let home = Home::new(backend, &[("POSTROOM__MAIL__EXTRA_CA_FILE", &ca)]).await;
    let service: Service = home.serve();
    let admin = service.admin().await;
    let server =
        json!({ "transport": "smtp", "host": "localhost", "port": stack.port(SMTP), "security": "starttls" });
    admin.put("/v1/outgoing-server", server).await.ok();
    let queue = admin.post("/v1/queues", json!({ "name": "Desk" })).await.ok()["id"].clone();
    let name = uuid::Uuid::new_v4().simple().to_string();
    let address = format!("{}@centre.test", &name[..12]);
    let mut events = EventStream::follow(&admin, 0).await;
    let account = json!({
        "address": address, "username": address, "password": stack.value("POSTROOM_TEST_MAIL_PASSWORD"),
        "fallback_queue_id": queue,
        "inbound": { "host": "localhost", "security": "starttls", "tagged_bounces": true },
    });
    let id = draft(&admin, stack.port("POSTROOM_TEST_IMAP"), account).await;
    act(&admin, id, "activate").await;
    events.wait("account.connected").await;
    let message = write(&admin, "bouncing@customers.test").await;
    let heard = tokio::time::timeout(Duration::from_secs(60), events.wait("message.bounced")).await;
    assert_eq!(heard.expect("the bounce comes back")["subject_id"], message);
    let came = admin.get("/v1/messages?direction=inbound").await.ok();
    let to = came["items"][0]["to"][0]["address"].as_str().unwrap().to_owned();
    assert!(to.starts_with(&format!("{}+prb.", &name[..12])), "{to}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_comes_back_to_its_own_address_through_real_servers_sqlite() {
    a_real_bounce(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_comes_back_to_its_own_address_through_real_servers_postgres() {
    a_real_bounce(Backend::Postgres).await;
}
