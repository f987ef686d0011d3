//! Mail that comes back: soft bounces that add up, and bounce addresses that tell the message (VERP).

use std::time::Duration;

use postroom::{
    accounts::entity::account as accounts,
    clock::{Clock, Timestamp},
    conversations::entity::message,
    id::AccountId,
    mail::parse::{Limits, parse},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set};
use serde_json::{Value, json};

use crate::{
    broadcasts::bounce,
    inbound::{account, push},
    on_both,
    support::{
        Backend, Client, TestApp,
        mailbox::{act, draft},
        outbound::{send, use_sink},
        service::{Home, Service},
        smtp_sink::{Behaviour, SmtpSink},
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
