//! Processes that die in the middle, replicas side by side, and a cancel at the moment of sending.

use std::{collections::HashSet, time::Duration};

use postroom::{
    conversations::entity::{MessageState, message},
    db::Gate,
    delivery::{entity::delivery as row, send::deliver},
    outgoing::{self, state as server},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::json;

use crate::{
    on_both,
    support::{
        Backend, TestApp,
        outbound::{Draft, answer, delivery, message_id_header, send, state, timeline, use_server, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

/// Sends until a conversation waits for the test, and then dies as by `kill -9`: nothing more is written.
async fn die_when_late(app: &TestApp, sink: &SmtpSink) {
    let sending = tokio::spawn(deliver(app.app.clone()));
    sink.wait_until_late().await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
}

on_both! {
    async fn a_process_that_dies_before_the_dot_leaves_a_message_that_is_sent_once(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Data, Act::Late).times(1))).await;
        use_sink(&admin, &sink).await;
        let (id, _) = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await;
        die_when_late(&app, &sink).await;
        send(&app).await;
        assert_eq!(state(&admin, id).await, "sending");
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        assert_eq!((state(&admin, id).await, sink.received().len()), ("sent".into(), 1));
        assert_eq!(timeline(&admin, id).await[..4], ["created", "queued", "queued", "connect 220"]);
    }

    async fn a_process_that_dies_after_the_dot_leaves_an_uncertain_message_that_is_repeated(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).times(1))).await;
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        die_when_late(&app, &sink).await;
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        assert_eq!((state(&admin, id).await, sink.received().len()), ("sent".into(), 1));
        assert_eq!(sink.received()[0].message_id, Some(message_id_header(id)));
        assert_eq!(timeline(&admin, id).await[..4], ["created", "queued", "uncertain", "connect 220"]);
        assert_eq!(delivery(&admin, id).await["tries"], 2);
    }

    async fn what_was_perhaps_sent_stays_uncertain_whatever_becomes_of_later_tries(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::TakeAndClose).times(1))).await;
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        send(&app).await;
        assert_eq!(state(&admin, id).await, "uncertain");
        // The next try dies before the dot.
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Data, Act::Late).times(1)));
        app.app.clock.advance(Duration::from_secs(70));
        die_when_late(&app, &sink).await;
        admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        assert_eq!(state(&admin, id).await, "uncertain");
        admin.post(&format!("/v1/messages/{id}/cancel"), json!({})).await.problem(409, "invalid_state");
        admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
        // The one after it is deferred, and the last one is refused for good.
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Mail, Act::Reply("451 4.3.0 later")).times(1)));
        send(&app).await;
        let told = delivery(&admin, id).await;
        assert_eq!((&told["state"], told["next_try_at"].is_string()), (&json!("uncertain"), true), "{told}");
        sink.behave(|behaviour| behaviour.rules.push(Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).times(1)));
        app.app.clock.advance(Duration::from_secs(140));
        send(&app).await;
        let told = delivery(&admin, id).await;
        assert_eq!((&told["state"], &told["next_try_at"], sink.received().len()), (&json!("uncertain"), &json!(null), 1));
        assert_eq!(told["recipients"][0]["text"], "550 5.1.1 unknown");
        assert_eq!(told["allowed_actions"], json!(["retry"]));
    }

    async fn a_process_that_dies_after_the_dot_leaves_bulk_uncertain_for_good(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).times(1))).await;
        use_sink(&admin, &sink).await;
        let (id, _) = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await;
        die_when_late(&app, &sink).await;
        // Even while nothing may be sent, the message does not stay "sending".
        admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        assert_eq!(state(&admin, id).await, "uncertain");
        admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
        app.app.clock.advance(Duration::from_secs(86_400));
        send(&app).await;
        let admin = app.admin().await;
        assert_eq!((state(&admin, id).await, sink.received().len()), ("uncertain".into(), 0));
    }

    async fn a_result_that_comes_too_late_changes_nothing(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late).times(1))).await;
        use_sink(&admin, &sink).await;
        let (id, _) = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await;
        let sending = tokio::spawn(deliver(app.app.clone()));
        sink.wait_until_late().await;
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        let before = delivery(&admin, id).await;
        assert_eq!(before["state"], "uncertain");
        sink.release();
        sending.await.unwrap().unwrap();
        assert_eq!(sink.received().len(), 1);
        assert_eq!(delivery(&admin, id).await, before);
    }

    async fn a_process_that_lost_its_lease_does_not_send_the_dot(app) {
        let admin = app.admin().await;
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Data, Act::Late).times(1))).await;
        use_sink(&admin, &sink).await;
        let id = answer(&app).await;
        let sending = tokio::spawn(deliver(app.app.clone()));
        sink.wait_until_late().await;
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        assert_eq!(state(&admin, id).await, "sent");
        sink.release();
        sending.await.unwrap().unwrap();
        assert_eq!((state(&admin, id).await, sink.received().len()), ("sent".into(), 1));
    }

    async fn a_cancel_at_the_moment_of_sending_has_one_outcome(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 4 })).await;
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(answer(&app).await);
        }
        let cancels = async {
            let mut answers = Vec::new();
            // From the end, so that the two meet in the middle.
            for id in ids.iter().rev() {
                answers.push((*id, admin.post(&format!("/v1/messages/{id}/cancel"), json!({})).await.status));
            }
            answers
        };
        let (_, answers) = tokio::join!(send(&app), cancels);
        send(&app).await;
        let received: Vec<String> = sink.received().into_iter().filter_map(|mail| mail.message_id).collect();
        for (id, status) in answers {
            let copies = received.iter().filter(|header| **header == message_id_header(id)).count();
            let expected = if status == 200 { (0, "cancelled") } else { (1, "sent") };
            assert_eq!((copies, state(&admin, id).await.as_str()), expected, "answered {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_send_200_messages_and_none_of_them_twice() {
    let app = TestApp::start(Backend::Postgres).await;
    let replica = app.replica().await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": 4 })).await;
    for _ in 0..200 {
        answer(&app).await;
    }
    let (here, there) =
        tokio::join!(tokio::spawn(deliver(app.app.clone())), tokio::spawn(deliver(replica.app.clone())));
    let settled = [here.unwrap().unwrap(), there.unwrap().unwrap()];
    let ids: Vec<_> = sink.received().into_iter().filter_map(|mail| mail.message_id).collect();
    assert_eq!(ids.len(), 200, "{settled:?}");
    assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_for_messages_while_the_server_is_being_paused_finds_it_paused() {
    let app = TestApp::start(Backend::Postgres).await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    use_sink(&admin, &sink).await;
    let id = answer(&app).await;
    let tx = app.app.db.begin().await.unwrap();
    Gate::Sends.shut(&tx).await.unwrap();
    let seen = outgoing::find(&*tx).await.unwrap().unwrap();
    server::pause(&tx, app.app.clock.now(), &seen, "by a test").await.unwrap();
    let pausing = async {
        app.wait_until_blocked().await;
        tx.commit().await.unwrap();
    };
    tokio::join!(send(&app), pausing);
    assert_eq!((state(&admin, id).await.as_str(), sink.connections()), ("queued", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_message_that_another_replica_sent_meanwhile_is_not_queued_again() {
    let app = TestApp::start(Backend::Postgres).await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    let (id, held) = Draft::to(&["anna@example.com"]).once().enqueue(&app.app).await;
    assert_eq!(held, MessageState::Held);
    use_sink(&admin, &sink).await;
    let other = app.app.db.begin().await.unwrap();
    row::Entity::find_by_id(id).lock_exclusive().one(&*other).await.unwrap();
    let sent_by_the_other = async {
        app.wait_until_blocked().await;
        let uncertain = message::ActiveModel { state: Set(MessageState::Uncertain), ..Default::default() };
        let update = message::Entity::update_many().set(uncertain).filter(message::Column::Id.eq(id));
        update.exec(&*other).await.unwrap();
        other.commit().await.unwrap();
    };
    tokio::join!(send(&app), sent_by_the_other);
    assert_eq!((state(&admin, id).await.as_str(), sink.received().len()), ("uncertain", 0));
}
