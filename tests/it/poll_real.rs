//! The poller against real Dovecot and Postfix: byte for byte, across a restart, a changed UIDVALIDITY and another client.

use postroom::{clock::Clock, id::AccountId};
use serde_json::json;

use crate::support::{
    Backend, Client, TestApp,
    mailbox::{Events, act, draft, raws, read},
    stack::{LMTP, SMTP, Stack},
};

async fn service(stack: &Stack, backend: Backend) -> TestApp {
    let settings = format!("[mail]\nextra_ca_file = {:?}", stack.value("POSTROOM_TEST_CA"));
    let app = TestApp::with(backend, Clock::system(), &settings).await;
    app.start_workers();
    app
}

async fn account(stack: &Stack, admin: &Client, user: &str) -> AccountId {
    let changes = json!({
        "address": user, "username": user, "password": stack.value("POSTROOM_TEST_MAIL_PASSWORD"),
        "inbound": { "host": "localhost", "security": "tls" },
    });
    draft(admin, stack.port("POSTROOM_TEST_IMAPS"), changes).await
}

fn user() -> String {
    format!("{}@postroom.test", uuid::Uuid::now_v7().simple())
}

/// A mail of its own, with 8-bit text and lines that look like protocol.
fn mail(number: usize) -> Vec<u8> {
    let body =
        format!("Grüße {number}\r\n* {number} FETCH (BODY[] {{99}}\r\n).\r\n{}", "x\r\n".repeat(number * 50));
    // Complete, so that Postfix adds nothing below the lines that it puts before it.
    let header = format!(
        "Date: Mon, 02 Mar 2026 09:00:00 +0000\r\nMessage-Id: <{number}@example.org>\r\nTo: help@example.com"
    );
    format!("From: c{number}@example.org\r\nSubject: Order {number}\r\n{header}\r\n\r\n{body}").into_bytes()
}

/// Every mail once, byte for byte after the header lines that the servers put before it.
async fn assert_taken(app: &TestApp, id: AccountId, numbers: std::ops::Range<usize>) {
    let taken = raws(app, id).await;
    assert_eq!(taken.len(), numbers.len());
    for number in numbers {
        let times = taken.iter().filter(|raw| raw.ends_with(&mail(number))).count();
        assert_eq!(times, 1, "mail {number}");
    }
}

async fn everything_is_taken_in(backend: Backend) {
    let (stack, user) = (Stack::own(), user());
    let app = service(&stack, backend).await;
    let admin = app.admin().await;
    for number in 0..20 {
        stack.deliver(LMTP, &user, &mail(number)).await;
    }
    let id = account(&stack, &admin, &user).await;
    let report = act(&admin, id, "check").await;
    assert_eq!(report["ok"], true, "{report}");
    let mut events = Events::of(&app);
    act(&admin, id, "activate").await;
    events.wait("account.connected").await;
    assert_taken(&app, id, 0..20).await;
    assert_eq!(read(&admin, id).await["health"]["mode"], "idle");

    // In IDLE, by LMTP and through Postfix.
    stack.deliver(LMTP, &user, &mail(20)).await;
    events.wait("message.received").await;
    stack.deliver(SMTP, &user, &mail(21)).await;
    events.wait("message.received").await;
    assert_taken(&app, id, 0..22).await;

    stack.restart_dovecot();
    stack.deliver(LMTP, &user, &mail(22)).await;
    events.wait("account.connected").await;
    // The new connection may be older than the mail.
    if raws(&app, id).await.len() < 23 {
        events.wait("message.received").await;
    }
    assert_taken(&app, id, 0..23).await;

    // Another UIDVALIDITY, with new mail in the gap.
    act(&admin, id, "pause").await;
    stack.doveadm(&["mailbox", "update", "-u", &user, "--uid-validity", "4711", "INBOX"]);
    stack.deliver(LMTP, &user, &mail(23)).await;
    act(&admin, id, "resume").await;
    events.wait("account.connected").await;
    assert_taken(&app, id, 0..24).await;

    // Another client reads and moves what we have.
    stack.doveadm(&["flags", "add", "-u", &user, "\\Seen", "mailbox", "INBOX", "all"]);
    stack.doveadm(&["move", "-u", &user, "Archive", "mailbox", "INBOX", "1:5"]);
    stack.deliver(LMTP, &user, &mail(24)).await;
    events.wait("message.received").await;
    assert_taken(&app, id, 0..25).await;

    // We move the rest.
    let after = json!({ "inbound": { "after_fetch": { "action": "move", "folder": "Archive" } } });
    admin.patch(&format!("/v1/accounts/{id}"), after).await.ok();
    events.wait("account.connected").await;
    stack.deliver(LMTP, &user, &mail(25)).await;
    events.wait("message.received").await;
    assert_taken(&app, id, 0..26).await;
    app.app.stop().await;
    assert!(!app.app.shutdown.has_failed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_real_servers_deliver_is_taken_in_once_sqlite() {
    everything_is_taken_in(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_real_servers_deliver_is_taken_in_once_postgres() {
    everything_is_taken_in(Backend::Postgres).await;
}
