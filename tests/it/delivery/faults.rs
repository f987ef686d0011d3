//! Servers that misbehave.

use std::time::Duration;

use postroom::{clock::Clock, conversations::entity::raw_message, id::MessageId};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{
        Client, TestApp,
        outbound::{Draft, answer, delivery, message_id_header, send, state, timeline, use_server, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

const PATH: &str = "/v1/outgoing-server";

/// Longer than the first pause and its spread, and than the pause of a failing server.
async fn wait(app: &TestApp) {
    app.app.clock.advance(Duration::from_secs(70));
}

async fn server(admin: &Client) -> (String, String) {
    let server = admin.get(PATH).await.ok();
    (server["state"].as_str().unwrap().into(), server["state_reason"].as_str().unwrap_or_default().into())
}

/// Puts an object into the local store.
fn object(app: &TestApp, name: &str, bytes: &[u8]) {
    let directory = app.dir.path().join("objects/raw");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), bytes).unwrap();
}

/// Says that the source of a message is in the object store.
async fn move_source(app: &TestApp, id: MessageId, key: &str) {
    let change =
        raw_message::ActiveModel { data: Set(None), object_key: Set(Some(key.into())), ..Default::default() };
    let tx = app.app.db.begin().await.unwrap();
    let update = raw_message::Entity::update_many().set(change);
    update.filter(raw_message::Column::MessageId.eq(id)).exec(&*tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// What one message meets at one stage, once: its state then, the tries it used up, the server's state, and the line of
/// the timeline that tells it. Afterwards it is sent.
struct Fault {
    stage: Stage,
    act: Act,
    state: &'static str,
    tries: i64,
    server: &'static str,
    line: &'static str,
    /// How many copies arrive in the end.
    copies: usize,
}

fn fault(
    stage: Stage,
    act: Act,
    expected: (&'static str, i64, &'static str),
    line: &'static str,
    copies: usize,
) -> Fault {
    let (state, tries, server) = expected;
    Fault { stage, act, state, tries, server, line, copies }
}

impl Fault {
    async fn meet(&self, app: &TestApp, admin: &Client) {
        let sink = SmtpSink::start(Behaviour::with(Rule::at(self.stage, self.act.clone()).times(1))).await;
        use_sink(admin, &sink).await;
        let id = answer(app).await;
        send(app).await;
        let (told, steps) = (delivery(admin, id).await, timeline(admin, id).await);
        let met = format!("{:?} {:?}: {told} {steps:?}", self.stage, self.act);
        assert_eq!(
            (told["state"].as_str(), told["tries"].as_i64()),
            (Some(self.state), Some(self.tries)),
            "{met}"
        );
        assert_eq!(server(admin).await.0, self.server, "{met}");
        assert!(steps.iter().any(|step| step == self.line), "{met}");
        assert_eq!(steps.last().map(String::as_str), Some(self.state), "{met}");
        send(app).await;
        assert_eq!(delivery(admin, id).await["state"], self.state, "it is not tried before its time: {met}");
        wait(app).await;
        send(app).await;
        let received = sink.received();
        assert_eq!((state(admin, id).await.as_str(), received.len()), ("sent", self.copies), "{met}");
        assert!(received.iter().all(|mail| mail.message_id == Some(message_id_header(id))), "{met}");
        assert_eq!(server(admin).await.0, "running", "{met}");
    }
}

on_both! {
    async fn a_4xx_defers_the_message_wherever_it_comes(app) {
        let admin = app.admin().await;
        for (stage, line) in [(Stage::Mail, "mail 451"), (Stage::Rcpt, "rcpt 451"), (Stage::Data, "data 451"), (Stage::Dot, "dot 451")] {
            fault(stage, Act::Reply("451 4.3.0 later"), ("deferred", 1, "running"), line, 1).meet(&app, &admin).await;
        }
    }

    async fn a_5xx_fails_the_message_wherever_it_comes(app) {
        let admin = app.admin().await;
        for (stage, line) in [(Stage::Mail, "mail 554"), (Stage::Rcpt, "rcpt 554"), (Stage::Data, "data 554"), (Stage::Dot, "dot 554")] {
            let sink = SmtpSink::start(Behaviour::with(Rule::at(stage, Act::Reply("554 5.7.1 no")).times(1))).await;
            use_sink(&admin, &sink).await;
            let id = answer(&app).await;
            send(&app).await;
            wait(&app).await;
            send(&app).await;
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["tries"], &told["next_try_at"]), (&json!("failed"), &json!(1), &json!(null)));
            assert_eq!(told["recipients"][0]["text"], "554 5.7.1 no");
            let steps = timeline(&admin, id).await;
            assert_eq!(&steps[steps.len() - 2..], [line, "failed"]);
            assert!(sink.received().is_empty());
        }
    }

    async fn a_421_slows_the_server_and_burns_no_try_wherever_it_comes(app) {
        let admin = app.admin().await;
        let stages = [(Stage::Greeting, "connect 421"), (Stage::Ehlo, "ehlo 421"), (Stage::Mail, "mail 421"),
            (Stage::Rcpt, "rcpt 421"), (Stage::Data, "data 421"), (Stage::Dot, "dot 421")];
        for (stage, line) in stages {
            fault(stage, Act::Reply("421 4.3.2 closing"), ("queued", 0, "failing"), line, 1).meet(&app, &admin).await;
        }
    }

    async fn a_connection_that_ends_before_the_dot_defers_the_message(app) {
        let admin = app.admin().await;
        for (stage, line) in [(Stage::Mail, "mail"), (Stage::Rcpt, "rcpt"), (Stage::Data, "data")] {
            fault(stage, Act::Close, ("deferred", 1, "running"), line, 1).meet(&app, &admin).await;
        }
        for (stage, line) in [(Stage::Greeting, "connect"), (Stage::Ehlo, "ehlo")] {
            fault(stage, Act::Close, ("queued", 0, "failing"), line, 1).meet(&app, &admin).await;
        }
    }

    async fn a_lost_answer_to_the_dot_is_uncertain_and_repeated_under_the_same_message_id(app) {
        let admin = app.admin().await;
        fault(Stage::Dot, Act::TakeAndClose, ("uncertain", 1, "running"), "dot", 2).meet(&app, &admin).await;
        fault(Stage::Dot, Act::Close, ("uncertain", 1, "running"), "dot", 1).meet(&app, &admin).await;
        fault(Stage::Dot, Act::Reply("what?"), ("uncertain", 1, "running"), "dot", 1).meet(&app, &admin).await;
    }

    async fn what_may_not_be_repeated_stays_uncertain_for_good(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::TakeAndClose).times(1))).await;
        use_sink(&admin, &sink).await;
        let (id, _) = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await;
        for _ in 0..3 {
            send(&app).await;
            wait(&app).await;
        }
        let told = delivery(&admin, id).await;
        assert_eq!((&told["state"], &told["next_try_at"], sink.received().len()), (&json!("uncertain"), &json!(null), 1));
        assert!(told["state_reason"].as_str().unwrap().contains("not sent again"), "{told}");
        assert_eq!(told["allowed_actions"], json!(["retry"]));
    }

    async fn an_answer_that_never_comes_is_deferred_before_the_dot_and_uncertain_after_it(app) {
        let settings = "[mail]\nsmtp_answer_timeout_s = 1\nsmtp_dot_timeout_s = 1";
        let app = TestApp::with(app.backend, Clock::system(), settings).await;
        let admin = app.admin().await;
        fault(Stage::Rcpt, Act::Never, ("deferred", 1, "running"), "rcpt", 1).meet(&app, &admin).await;
        fault(Stage::Dot, Act::Never, ("uncertain", 1, "running"), "dot", 1).meet(&app, &admin).await;
        fault(Stage::Greeting, Act::Never, ("queued", 0, "failing"), "connect", 1).meet(&app, &admin).await;
    }

    async fn each_recipient_has_its_own_answer_and_only_the_missing_ones_are_tried_again(app) {
        let admin = app.admin().await;
        let rules = vec![
            Rule::at(Stage::Rcpt, Act::Reply("450 4.2.1 full")).for_recipient("full@example.com").times(1),
            Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).for_recipient("gone@example.com"),
        ];
        let sink = SmtpSink::start(Behaviour { rules, ..Behaviour::default() }).await;
        use_sink(&admin, &sink).await;
        let (id, _) = Draft::to(&["anna@example.com", "full@example.com", "gone@example.com"]).enqueue(&app.app).await;
        send(&app).await;
        let states = |told: &Value| -> Vec<String> {
            told["recipients"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap().into()).collect()
        };
        let told = delivery(&admin, id).await;
        assert_eq!((told["state"].as_str(), states(&told)), (Some("deferred"), vec!["sent".into(), "deferred".into(), "failed".into()]));
        wait(&app).await;
        send(&app).await;
        let told = delivery(&admin, id).await;
        assert_eq!((told["state"].as_str(), states(&told)), (Some("failed"), vec!["sent".into(), "sent".into(), "failed".into()]));
        assert!(told["state_reason"].as_str().unwrap().contains("gone@example.com: 550 5.1.1 unknown"), "{told}");
        let received: Vec<Vec<String>> = sink.received().into_iter().map(|mail| mail.to).collect();
        assert_eq!(received, [["anna@example.com"], ["full@example.com"]]);
        assert_eq!(sink.received()[0].message_id, sink.received()[1].message_id);
    }

    async fn a_message_that_is_deferred_for_too_long_expires(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Mail, Act::Reply("451 4.3.0 later")))).await;
        let retry = json!({ "first_s": 60, "max_interval_s": 60, "give_up_after_s": 100 });
        use_server(&admin, json!({ "port": sink.addr.port(), "retry": retry })).await;
        let id = answer(&app).await;
        let mut states = Vec::new();
        for _ in 0..4 {
            send(&app).await;
            states.push(state(&admin, id).await);
            wait(&app).await;
        }
        assert_eq!(states, ["deferred", "deferred", "expired", "expired"]);
        assert_eq!(delivery(&admin, id).await["tries"], 3);
    }

    async fn a_message_whose_source_is_gone_or_changed_fails_for_good(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        object(&app, "changed", b"something else");
        for key in ["raw/gone", "raw/changed"] {
            let id = answer(&app).await;
            move_source(&app, id, key).await;
            send(&app).await;
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["next_try_at"]), (&json!("failed"), &json!(null)), "{told}");
            assert!(told["state_reason"].as_str().unwrap().contains("its source cannot be read"), "{told}");
        }
        assert!(sink.received().is_empty());
    }

    async fn a_message_whose_source_cannot_be_read_for_now_is_tried_again_until_it_expires(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        let retry = json!({ "first_s": 60, "max_interval_s": 60, "give_up_after_s": 100 });
        use_server(&admin, json!({ "port": sink.addr.port(), "retry": retry })).await;
        object(&app, "file", b"");
        let id = answer(&app).await;
        // Neither there nor gone: a file has no directory below it.
        move_source(&app, id, "raw/file/below").await;
        let mut states = Vec::new();
        for _ in 0..4 {
            send(&app).await;
            states.push(state(&admin, id).await);
            wait(&app).await;
        }
        assert_eq!(states, ["queued", "queued", "expired", "expired"]);
        assert!(sink.received().is_empty());
    }

    async fn a_refused_login_pauses_the_server_until_the_settings_change(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour { login: Some(("me", "right")), ..Behaviour::default() }).await;
        let login = |password: &str| json!({ "port": sink.addr.port(), "auth": "password", "username": "me", "password": password });
        use_server(&admin, login("wrong")).await;
        let ids = [answer(&app).await, answer(&app).await];
        for _ in 0..3 {
            send(&app).await;
            wait(&app).await;
        }
        let (state_of_server, reason) = server(&admin).await;
        assert_eq!(state_of_server, "paused");
        assert!(reason.contains("refuses the login") && !reason.contains("wrong\""), "{reason}");
        assert_eq!((sink.connections(), sink.commands("AUTH")), (1, 1));
        for id in ids {
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["tries"]), (&json!("queued"), &json!(0)));
        }
        use_server(&admin, login("right")).await;
        send(&app).await;
        assert_eq!([state(&admin, ids[0]).await, state(&admin, ids[1]).await], ["sent", "sent"]);
    }

    async fn a_server_that_wants_a_login_is_paused_and_fails_no_message(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour { login: Some(("me", "right")), ..Behaviour::default() }).await;
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        send(&app).await;
        assert_eq!((state(&admin, id).await, server(&admin).await.0), ("queued".into(), "paused".into()));
    }

    async fn a_connection_that_cannot_be_secured_pauses_the_server(app) {
        let admin = app.admin().await;
        for (behaviour, security, reason) in [
            (Behaviour { implicit_tls: true, ..Behaviour::default() }, "tls", "not signed by an authority"),
            (Behaviour { starttls: true, ..Behaviour::default() }, "starttls", "not signed by an authority"),
            (Behaviour::default(), "starttls", "does not offer STARTTLS"),
        ] {
            let sink = SmtpSink::start(behaviour).await;
            use_server(&admin, json!({ "host": "localhost", "port": sink.addr.port(), "security": security })).await;
            let id = answer(&app).await;
            send(&app).await;
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["tries"]), (&json!("queued"), &json!(0)));
            let (state, said) = server(&admin).await;
            assert!(state == "paused" && said.contains(reason), "{state} {said}");
            admin.post(&format!("/v1/messages/{id}/cancel"), json!({})).await.ok();
        }
    }

    async fn a_server_whose_authority_is_configured_is_trusted(app) {
        let settings = format!("[mail]\nextra_ca_file = \"{}/tests/fixtures/tls/ca.pem\"", env!("CARGO_MANIFEST_DIR"));
        let app = TestApp::with(app.backend, Clock::system(), &settings).await;
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour { starttls: true, ..Behaviour::default() }).await;
        use_server(&admin, json!({ "host": "localhost", "port": sink.addr.port(), "security": "starttls" })).await;
        let id = answer(&app).await;
        send(&app).await;
        assert_eq!(state(&admin, id).await, "sent");
        assert!(timeline(&admin, id).await.contains(&"tls 220".to_owned()));
    }

    async fn a_server_that_cannot_be_reached_is_asked_again_by_one_message_at_a_time(app) {
        let admin = app.admin().await;
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = gone.local_addr().unwrap().port();
        drop(gone);
        use_server(&admin, json!({ "port": port, "max_connections": 3 })).await;
        let ids = [answer(&app).await, answer(&app).await, answer(&app).await];
        send(&app).await;
        let (state_of_server, reason) = server(&admin).await;
        assert!(state_of_server == "failing" && reason.contains("no connection to 127.0.0.1"), "{reason}");
        let connects = async |id| timeline(&admin, id).await.iter().filter(|step| *step == "connect").count();
        let before = [connects(ids[0]).await, connects(ids[1]).await, connects(ids[2]).await];
        assert_eq!(before, [1, 1, 1]);
        send(&app).await;
        wait(&app).await;
        send(&app).await;
        let after = [connects(ids[0]).await, connects(ids[1]).await, connects(ids[2]).await];
        assert_eq!(after.iter().sum::<usize>(), 4);
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&admin, &sink).await;
        send(&app).await;
        for id in ids {
            let told = delivery(&admin, id).await;
            assert_eq!((&told["state"], &told["tries"]), (&json!("sent"), &json!(1)));
        }
    }

    async fn a_message_too_large_for_the_server_fails_with_its_limit(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour { size: Some(10), ..Behaviour::default() }).await;
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        send(&app).await;
        let told = delivery(&admin, id).await;
        assert_eq!(told["state"], "failed");
        assert!(told["state_reason"].as_str().unwrap().contains("10 bytes"), "{told}");
    }
}
