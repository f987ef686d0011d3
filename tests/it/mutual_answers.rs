//! Machines that answer each other: rule 5 of the design, with two installations and with two accounts of one.

use std::time::Duration;

use postroom::{id::AccountId, mail::parse::Parsed};
use serde_json::json;

use crate::{
    inbound::{account, push},
    support::{
        Backend, Client, TestApp,
        outbound::{send, use_sink},
        smtp_sink::{Behaviour, Received, SmtpSink},
    },
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// More rounds than any exchange that ends has.
const ROUNDS: usize = 12;

/// What lies between two mailboxes.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Mail arrives as it was sent.
    Faithful,
    /// Every mark of a machine and of the thread is lost, so that each mail looks like a person's first.
    Forgetful,
}

/// How an account answers by itself.
#[derive(Clone, Copy)]
enum Answers {
    ByReceipt,
    ByScript,
}

/// A mailbox that answers, and what it sent.
struct Side<'a> {
    app: &'a TestApp,
    address: &'static str,
    account: AccountId,
}

async fn template(admin: &Client) -> String {
    let name = format!("Thanks {}", uuid::Uuid::now_v7());
    let body =
        json!({ "name": name, "purpose": "receipt", "subject": "Thank you", "text": "We have your mail." });
    let id = admin.post("/v1/templates", body).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id
}

impl<'a> Side<'a> {
    async fn new(app: &'a TestApp, address: &'static str, answers: Answers) -> Self {
        let (admin, account) = (app.admin().await, account(app, address).await.id);
        let template = template(&admin).await;
        let queue =
            admin.post("/v1/queues", json!({ "name": format!("For {address}") })).await.ok()["id"].clone();
        let change = match answers {
            Answers::ByReceipt => json!({ "receipt_template_id": template, "fallback_queue_id": queue }),
            Answers::ByScript => {
                let definition = json!({ "start": "thanks", "steps": {
                    "thanks": { "type": "send_template", "template_id": template, "next": { "sent": "done", "not_sent": "done" } },
                    "done": { "type": "end", "result": "done" },
                } });
                let body = json!({ "name": format!("Thanks {address}"), "definition": definition });
                let script = admin.post("/v1/scripts", body).await.ok()["id"].as_str().unwrap().to_owned();
                admin.post(&format!("/v1/scripts/{script}/versions/1/activate"), json!({})).await.ok();
                json!({ "script_id": script, "fallback_queue_id": queue })
            }
        };
        admin.patch(&format!("/v1/accounts/{account}"), change).await.ok();
        Self { app, address, account }
    }

    /// A person at `from` writes to it, or a machine that looks like one.
    async fn gets_mail_from(&self, from: &str) {
        let id = uuid::Uuid::now_v7();
        let raw = format!(
            "From: {from}\r\nTo: {}\r\nMessage-ID: <{id}@relay.test>\r\nSubject: Hello\r\n\r\nHello\r\n",
            self.address
        );
        push(&self.app.admin().await, self.account, raw).await.ok();
    }

    async fn takes(&self, mail: &Received, from: &str, way: Way) {
        match way {
            Way::Forgetful => self.gets_mail_from(from).await,
            Way::Faithful => {
                let raw = [format!("Return-Path: <{}>\r\n", mail.from).as_bytes(), &mail.raw].concat();
                push(&self.app.admin().await, self.account, raw).await.ok();
            }
        }
    }
}

/// Carries mail between the two until none is left; gives how many each has sent since `sink` began.
async fn run(sides: [&Side<'_>; 2], sink: &SmtpSink, way: Way, carried: &mut usize) -> [usize; 2] {
    for _ in 0..ROUNDS {
        for side in sides {
            send(side.app).await;
        }
        let mails = sink.received();
        if mails.len() == *carried {
            let from = |side: &Side<'_>| mails.iter().filter(|mail| sender(mail) == side.address).count();
            return sides.map(from);
        }
        for mail in &mails[*carried..] {
            let to = sides.iter().find(|side| mail.to == [side.address]).unwrap();
            to.takes(mail, &sender(mail), way).await;
        }
        *carried = mails.len();
    }
    panic!("they go on for ever");
}

fn sender(mail: &Received) -> String {
    let parsed: Parsed = postroom::mail::parse::parse(&mail.raw, &Default::default()).unwrap();
    assert_eq!(mail.from, "", "no server answers to an automatic answer");
    assert_eq!(parsed.headers["auto-submitted"], ["auto-replied"]);
    parsed.from.unwrap().address
}

async fn two_installations(backend: Backend, way: Way) {
    let (here, there) = (TestApp::frozen(backend).await, TestApp::frozen(backend).await);
    let sink = SmtpSink::start(Behaviour::default()).await;
    let one = Side::new(&here, "desk@one.test", Answers::ByReceipt).await;
    let two = Side::new(&there, "desk@two.test", Answers::ByScript).await;
    for side in [&one, &two] {
        use_sink(&side.app.admin().await, &sink).await;
    }
    let mut carried = 0;
    // What each has sent in all after each week. Marked as an answer, a mail is not answered at all.
    let expected = match way {
        Way::Forgetful => [[1, 1], [2, 2]],
        Way::Faithful => [[1, 0], [2, 0]],
    };
    for [first, second] in expected {
        for _ in 0..3 {
            one.gets_mail_from(two.address).await;
            assert_eq!(run([&one, &two], &sink, way, &mut carried).await, [first, second]);
        }
        for app in [&here, &there] {
            app.app.clock.advance(WEEK - Duration::from_secs(1));
        }
        one.gets_mail_from(two.address).await;
        assert_eq!(run([&one, &two], &sink, way, &mut carried).await, [first, second], "a second too early");
        for app in [&here, &there] {
            app.app.clock.advance(Duration::from_secs(1));
        }
    }
}

/// Accounts of one installation know each other's addresses, and never answer them.
async fn two_accounts(backend: Backend, way: Way) {
    let app = TestApp::frozen(backend).await;
    let sink = SmtpSink::start(Behaviour::default()).await;
    let one = Side::new(&app, "desk@one.test", Answers::ByReceipt).await;
    let two = Side::new(&app, "desk@two.test", Answers::ByScript).await;
    use_sink(&app.admin().await, &sink).await;
    let mut carried = 0;
    for (to, from) in [(&one, two.address), (&two, one.address), (&one, "desk+tag@two.test")] {
        to.gets_mail_from(from).await;
        assert_eq!(run([&one, &two], &sink, way, &mut carried).await, [0, 0]);
        app.app.clock.advance(WEEK);
    }
    // They do answer others.
    two.gets_mail_from("anna@customers.test").await;
    send(&app).await;
    assert_eq!(sink.received().len(), 1);
}

macro_rules! exchanges {
    ($($name:ident: $run:ident($backend:ident, $way:ident);)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $run(Backend::$backend, Way::$way).await;
        }
    )+};
}

exchanges! {
    two_installations_answer_each_other_once_in_seven_days_sqlite: two_installations(Sqlite, Forgetful);
    two_installations_answer_each_other_once_in_seven_days_postgres: two_installations(Postgres, Forgetful);
    an_answer_that_is_marked_is_not_answered_sqlite: two_installations(Sqlite, Faithful);
    an_answer_that_is_marked_is_not_answered_postgres: two_installations(Postgres, Faithful);
    two_accounts_of_one_installation_do_not_answer_each_other_sqlite: two_accounts(Sqlite, Forgetful);
    two_accounts_of_one_installation_do_not_answer_each_other_postgres: two_accounts(Postgres, Forgetful);
}
