//! Relays that refuse, slow down, break off and keep silent: what is known about the message afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postroom::mail::smtp::{Auth, Connection, Envelope, Interruption, Outcome, SendReport, Timeouts, Verb};

use super::net::plain;
use super::smtp::{MAIL, connect, envelope, send};
use crate::support::smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage};

async fn send_with(rule: Rule) -> (SendReport, SmtpSink, Connection) {
    let sink = SmtpSink::start(Behaviour::with(rule)).await;
    let mut connection = connect(&sink).await;
    let report = send(&mut connection, &["a@example.org"]).await;
    (report, sink, connection)
}

const STAGES: [(Stage, Verb); 4] = [
    (Stage::Mail, Verb::Mail),
    (Stage::Rcpt, Verb::Rcpt),
    (Stage::Data, Verb::Data),
    (Stage::Dot, Verb::Dot),
];

#[tokio::test]
async fn a_4xx_defers_and_a_5xx_fails_wherever_it_comes() {
    for (stage, verb) in STAGES {
        let (report, sink, connection) = send_with(Rule::at(stage, Act::Reply("451 4.3.0 later"))).await;
        assert!(
            matches!(&report.outcome, Outcome::Deferred { at, reply }
            if *at == verb && reply.enhanced.as_deref() == Some("4.3.0")),
            "{report:?}"
        );
        assert!(connection.is_usable() && sink.received().is_empty());

        let (report, sink, connection) = send_with(Rule::at(stage, Act::Reply("554 5.7.1 no"))).await;
        assert!(
            matches!(&report.outcome, Outcome::Failed { at, reply }
            if *at == verb && reply.text == "no"),
            "{report:?}"
        );
        assert!(connection.is_usable() && sink.received().is_empty());
    }
}

#[tokio::test]
async fn a_421_says_that_the_relay_closes_wherever_it_comes() {
    for (stage, verb) in STAGES {
        let (report, sink, connection) = send_with(Rule::at(stage, Act::Reply("421 4.3.2 closing"))).await;
        assert!(matches!(&report.outcome, Outcome::ServiceClosing { at, .. } if *at == verb), "{report:?}");
        assert!(!connection.is_usable() && sink.received().is_empty());
        assert_eq!(report.steps.last().map(|step| (step.verb, step.code)), Some((verb, Some(421))));
    }
}

#[tokio::test]
async fn one_recipient_that_may_be_taken_later_defers_the_message() {
    let sink = SmtpSink::start(Behaviour {
        rules: vec![
            Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).for_recipient("a@example.org"),
            Rule::at(Stage::Rcpt, Act::Reply("450 4.2.1 full")).for_recipient("b@example.org"),
        ],
        ..Behaviour::default()
    })
    .await;
    let mut connection = connect(&sink).await;
    let report = send(&mut connection, &["a@example.org", "b@example.org"]).await;
    assert!(matches!(&report.outcome, Outcome::Deferred { reply, .. } if reply.code == 450), "{report:?}");
    assert_eq!(report.recipients.len(), 2);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_dot_took_nothing() {
    for (stage, verb) in [(Stage::Mail, Verb::Mail), (Stage::Rcpt, Verb::Rcpt), (Stage::Data, Verb::Data)] {
        let (report, sink, connection) = send_with(Rule::at(stage, Act::Close)).await;
        let Outcome::Interrupted { at, how: Interruption::Closed(_) } = report.outcome else {
            panic!("{report:?}")
        };
        assert_eq!(at, verb);
        assert!(!connection.is_usable() && sink.received().is_empty());
    }
}

#[tokio::test]
async fn a_relay_that_hangs_up_in_the_middle_of_a_large_message_took_nothing() {
    let sink =
        SmtpSink::start(Behaviour { size: None, ..Behaviour::with(Rule::at(Stage::Body, Act::Close)) }).await;
    let mut connection = connect(&sink).await;
    let large = b"0123456789\r\n".repeat(2_000_000);
    let go = std::future::ready(Ok::<(), String>(()));
    let report = connection.send(&envelope(&["a@example.org"]), &large, go).await;
    assert!(matches!(report.outcome, Outcome::Interrupted { at: Verb::Data, .. }), "{:?}", report.outcome);
    assert!(sink.received().is_empty());
}

#[tokio::test]
async fn a_lost_answer_to_the_dot_is_uncertain_whether_or_not_the_message_was_taken() {
    for (act, taken) in [(Act::TakeAndClose, 1), (Act::Close, 0)] {
        let (report, sink, connection) = send_with(Rule::at(Stage::Dot, act)).await;
        assert!(
            matches!(report.outcome, Outcome::Uncertain { how: Interruption::Closed(_) }),
            "{:?}",
            report.outcome
        );
        assert_eq!(sink.received().len(), taken);
        assert!(!connection.is_usable());
        let last = report.steps.last().unwrap();
        assert_eq!((last.verb, last.code), (Verb::Dot, None));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_next_offer_may_have_carried_the_dot() {
    let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::TakeAndClose))).await;
    let mut connection = connect(&sink).await;
    let first = envelope(&["a@example.org"]);
    assert!(connection.offer((&first, MAIL)).await.outcome.is_none());
    // More than all buffers between the two hold: the write fails long after the dot.
    let domain = format!("{}.example.org", "a".repeat(50));
    let many = (0..200_000).map(|number| format!("a{number}@{domain}")).collect();
    let next = Envelope::new(None, many).unwrap();
    let (outcome, offer) = connection.text(MAIL, Some((&next, MAIL))).await;
    assert_eq!(sink.received().len(), 1);
    assert!(matches!(outcome, Outcome::Uncertain { .. }), "{outcome:?}");
    assert!(matches!(offer.unwrap().outcome, Some(Outcome::Stale)));
}

#[tokio::test]
async fn a_dot_that_is_never_answered_is_uncertain_when_its_time_is_over() {
    let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Never))).await;
    let timeouts = Timeouts { dot: Duration::from_millis(50), ..Timeouts::default() };
    let mut connection = Connection::connect(&plain(sink.addr), &Auth::None, "me", timeouts).await.unwrap();
    let report = send(&mut connection, &["a@example.org"]).await;
    assert_eq!(report.outcome, Outcome::Uncertain { how: Interruption::Timeout });
}

#[tokio::test]
async fn a_command_that_is_never_answered_took_nothing() {
    let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Rcpt, Act::Never))).await;
    let timeouts = Timeouts { rcpt: Duration::from_millis(50), ..Timeouts::default() };
    let mut connection = Connection::connect(&plain(sink.addr), &Auth::None, "me", timeouts).await.unwrap();
    let report = send(&mut connection, &["a@example.org"]).await;
    assert_eq!(report.outcome, Outcome::Interrupted { at: Verb::Rcpt, how: Interruption::Timeout });
}

#[tokio::test]
async fn a_send_given_up_half_way_makes_the_connection_useless() {
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot] {
        let sink = SmtpSink::start(Behaviour::with(Rule::at(stage, Act::Late).times(1))).await;
        let mut connection = connect(&sink).await;
        tokio::select! {
            report = send(&mut connection, &["a@example.org"]) => panic!("{report:?}"),
            () = sink.wait_until_late() => {}
        }
        assert!(!connection.is_usable(), "{stage:?}");
        // The answer comes after all, and must not be taken for the next message's.
        sink.release();
        let report = send(&mut connection, &["b@example.org"]).await;
        assert!(!matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    }
}

#[tokio::test]
async fn an_answer_to_the_dot_that_makes_no_sense_is_uncertain() {
    for nonsense in ["354 go on", "what?"] {
        let (report, _sink, connection) = send_with(Rule::at(Stage::Dot, Act::Reply(nonsense))).await;
        assert_eq!(report.outcome, Outcome::Uncertain { how: Interruption::Garbled });
        assert!(!connection.is_usable());
    }
}

#[tokio::test]
async fn the_phase_is_durable_before_the_dot_goes_out_and_a_late_answer_still_counts() {
    let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Dot, Act::Late))).await;
    let mut connection = connect(&sink).await;
    let durable = AtomicBool::new(false);
    let before_dot = async {
        assert!(sink.received().is_empty());
        durable.store(true, Ordering::SeqCst);
        Ok::<(), String>(())
    };
    let envelope = envelope(&["a@example.org"]);
    let (report, durable_at_dot) = tokio::join!(connection.send(&envelope, MAIL, before_dot), async {
        sink.wait_until_late().await;
        let durable_at_dot = durable.load(Ordering::SeqCst);
        sink.release();
        durable_at_dot
    });
    assert!(durable_at_dot);
    assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    assert!(connection.is_usable());
}

#[tokio::test]
async fn without_a_durable_phase_the_dot_is_not_sent() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let mut connection = connect(&sink).await;
    let failed = std::future::ready(Err("the database is gone"));
    let report = connection.send(&envelope(&["a@example.org"]), MAIL, failed).await;
    assert_eq!(report.outcome, Outcome::Withheld { reason: "the database is gone".to_owned() });
    assert!(!connection.is_usable());
    drop(connection);
    let mut next = connect(&sink).await;
    send(&mut next, &["b@example.org"]).await;
    let to: Vec<_> = sink.received().into_iter().flat_map(|mail| mail.to).collect();
    assert_eq!(to, vec!["b@example.org"]);
}

#[tokio::test]
async fn the_two_stages_can_be_driven_one_by_one() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let mut connection = connect(&sink).await;
    let transaction = connection.begin(&envelope(&["a@example.org"]), MAIL).await.unwrap();
    assert_eq!(transaction.recipients().len(), 1);
    let dot = transaction.transmit(MAIL).await.unwrap();
    assert!(sink.received().is_empty());
    assert!(matches!(dot.finish().await, Outcome::Accepted { .. }));

    // Given up before DATA, the connection stays good.
    connection.begin(&envelope(&["a@example.org"]), MAIL).await.unwrap();
    assert!(connection.is_usable());
    connection.reset().await.unwrap();
    // Dropped before the dot, it does not.
    let transaction = connection.begin(&envelope(&["a@example.org"]), MAIL).await.unwrap();
    transaction.transmit(MAIL).await.map(|_dropped| ()).unwrap();
    assert!(!connection.is_usable());
}

#[tokio::test]
async fn a_connection_that_ended_while_idle_says_nothing_about_the_message() {
    for act in [Act::Reply("421 4.4.2 idle for too long"), Act::Close] {
        let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Mail, act).on_message(2))).await;
        let mut connection = connect(&sink).await;
        send(&mut connection, &["a@example.org"]).await;
        assert!(!connection.is_idle_too_long(Duration::from_secs(60)));
        assert!(connection.is_idle_too_long(Duration::ZERO));
        let report = send(&mut connection, &["b@example.org"]).await;
        assert_eq!(report.outcome, Outcome::Stale);
        assert!(!connection.is_usable());
        let report = send(&mut connect(&sink).await, &["b@example.org"]).await;
        assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ended_before_it_could_be_reset_says_nothing_about_the_next_message() {
    for pipelining in [true, false] {
        for act in [Act::Reply("421 4.4.2 idle for too long"), Act::Reply("502 5.5.1 what?"), Act::Close] {
            let refuse = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")).on_message(1);
            let rules = vec![refuse, Rule::at(Stage::Rset, act).times(2)];
            let sink = SmtpSink::start(Behaviour { rules, pipelining, ..Behaviour::default() }).await;
            let mut connection = connect(&sink).await;
            send(&mut connection, &["a@example.org"]).await;
            let report = send(&mut connection, &["b@example.org"]).await;
            assert_eq!(report.outcome, Outcome::Stale);
            assert!(!connection.is_usable());
            let mut connection = connect(&sink).await;
            sink.behave(|behaviour| behaviour.rules[0].message = Some(2));
            let to = envelope(&["b@example.org"]);
            assert!(matches!(connection.offer((&to, MAIL)).await.outcome, Some(Outcome::Failed { .. })));
            assert_eq!(connection.offer((&to, MAIL)).await.outcome, Some(Outcome::Stale));
        }
    }
}

#[tokio::test]
async fn a_refused_sender_says_nothing_of_the_recipients_that_are_named_in_the_same_write() {
    for takes_any_data in [false, true] {
        for (words, code) in [("452 4.3.1 disk full", 452), ("550 5.7.1 not you", 550)] {
            let rules = vec![Rule::at(Stage::Mail, Act::Reply(words)).times(1)];
            let sink = SmtpSink::start(Behaviour { rules, takes_any_data, ..Behaviour::default() }).await;
            let mut connection = connect(&sink).await;
            let to = envelope(&["a@example.org", "b@example.org"]);
            let offer = connection.offer((&to, MAIL)).await;
            let (Some(Outcome::Deferred { at, reply }) | Some(Outcome::Failed { at, reply })) =
                &offer.outcome
            else {
                panic!("{offer:?}")
            };
            assert_eq!((*at, reply.code, offer.recipients.len()), (Verb::Mail, code, 0), "{offer:?}");
            assert!(
                connection.offer((&to, MAIL)).await.outcome.is_none(),
                "the connection is as good as before"
            );
        }
    }
}

#[tokio::test]
async fn a_421_within_commands_that_are_sent_together_says_that_the_relay_closes() {
    for (stage, verb) in &STAGES[..3] {
        let sink = SmtpSink::start(Behaviour::with(Rule::at(*stage, Act::Reply("421 4.3.2 closing")))).await;
        let mut connection = connect(&sink).await;
        let offer = connection.offer((&envelope(&["a@example.org"]), MAIL)).await;
        assert!(
            matches!(&offer.outcome, Some(Outcome::ServiceClosing { at, .. }) if at == verb),
            "{offer:?}"
        );
        assert!(!connection.is_usable());
    }
}

#[tokio::test]
async fn a_relay_that_refuses_at_the_door_is_heard() {
    for (stage, act, code) in [
        (Stage::Greeting, Act::Reply("421 4.3.2 not now"), "service_closing"),
        (Stage::Greeting, Act::Reply("554 5.7.1 not you"), "refused"),
        (Stage::Greeting, Act::Close, "closed"),
        (Stage::Greeting, Act::Reply("hello"), "protocol"),
        (Stage::Ehlo, Act::Reply("421 4.3.2 not now"), "service_closing"),
        (Stage::Ehlo, Act::Reply("550 5.7.1 not you"), "refused"),
        (Stage::Ehlo, Act::Close, "closed"),
    ] {
        let sink = SmtpSink::start(Behaviour::with(Rule::at(stage, act))).await;
        let failed = Connection::connect(&plain(sink.addr), &Auth::None, "me", Timeouts::default())
            .await
            .err()
            .unwrap();
        assert_eq!(failed.error.code(), code, "{failed}");
        assert!(!failed.error.needs_administrator() && !failed.steps.is_empty());
    }
    let sink = SmtpSink::start(Behaviour::with(Rule::at(Stage::Greeting, Act::Never))).await;
    let timeouts = Timeouts { greeting: Duration::from_millis(50), ..Timeouts::default() };
    let failed = Connection::connect(&plain(sink.addr), &Auth::None, "me", timeouts).await.err().unwrap();
    assert_eq!(failed.error.code(), "timeout");
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_wait() {
    let sink = SmtpSink::start(Behaviour { connection_limit: 1, ..Behaviour::default() }).await;
    let mut first = connect(&sink).await;
    let failed =
        Connection::connect(&plain(sink.addr), &Auth::None, "me", Timeouts::default()).await.err().unwrap();
    assert_eq!(failed.error.code(), "service_closing");
    let report = send(&mut first, &["a@example.org"]).await;
    assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
}

#[tokio::test]
async fn a_rule_can_hold_for_some_tries_only() {
    let refuse_twice = Rule::at(Stage::Dot, Act::Reply("451 4.3.0 later")).on_connection(1).times(2);
    let sink = SmtpSink::start(Behaviour::with(refuse_twice)).await;
    let mut connection = connect(&sink).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        let report = send(&mut connection, &["a@example.org"]).await;
        codes.extend(report.steps.last().and_then(|step| step.code));
    }
    assert_eq!(codes, vec![451, 451, 250]);
}
