//! Handing mail over when all goes well, and what must be settled before anything is sent.

use postroom::mail::smtp::{Auth, Connection, Envelope, Missing, Outcome, SendReport, Timeouts, Verb, check};

use super::net::{names, plain};
use crate::support::smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage};

pub const MAIL: &[u8] = b"Message-ID: <1@test>\r\nSubject: hello\r\n\r\n.dotted\r\n..twice\r\n.\r\nend\r\n";

pub fn envelope(to: &[&str]) -> Envelope {
    let to = to.iter().map(|address| (*address).to_owned()).collect();
    Envelope::new(Some("desk@example.org".to_owned()), to).unwrap()
}

pub async fn connect(sink: &SmtpSink) -> Connection {
    Connection::connect(&plain(sink.addr), &Auth::None, "postroom.test", Timeouts::default()).await.unwrap()
}

pub async fn send(connection: &mut Connection, to: &[&str]) -> SendReport {
    connection.send(&envelope(to), MAIL, std::future::ready(Ok::<(), String>(()))).await
}

fn verbs(report: &SendReport) -> Vec<(&'static str, Option<u16>)> {
    report.steps.iter().map(|step| (step.verb.as_str(), step.code)).collect()
}

#[tokio::test]
async fn a_message_arrives_as_it_is_with_its_timeline() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let mut connection = connect(&sink).await;
    let report = send(&mut connection, &["a@example.org", "b@example.org"]).await;
    let Outcome::Accepted { reply } = &report.outcome else { panic!("{report:?}") };
    assert_eq!((reply.code, reply.enhanced.as_deref()), (250, Some("2.0.0")));
    assert_eq!(reply.text, "Ok: queued as SINK1");
    assert_eq!(
        verbs(&report),
        vec![
            ("connect", Some(220)),
            ("ehlo", Some(250)),
            ("mail", Some(250)),
            ("rcpt", Some(250)),
            ("rcpt", Some(250)),
            ("data", Some(354)),
            ("dot", Some(250)),
        ]
    );
    let received = sink.wait_for(1).await;
    assert_eq!(received[0].raw, MAIL);
    assert_eq!(received[0].to, vec!["a@example.org", "b@example.org"]);
    assert_eq!(received[0].from, "desk@example.org");
    assert_eq!(received[0].message_id.as_deref(), Some("<1@test>"));
    assert_eq!(received[0].parameters, format!("SIZE={}", MAIL.len()));
}

#[tokio::test]
async fn one_connection_carries_many_messages() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let mut connection = connect(&sink).await;
    for _ in 0..20 {
        let report = send(&mut connection, &["a@example.org"]).await;
        assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    }
    assert_eq!((connection.messages(), sink.connections(), sink.received().len()), (20, 1, 20));
    assert!(sink.received().iter().all(|mail| mail.connection == 1));
    assert_eq!((sink.commands("RSET"), sink.commands("EHLO")), (0, 1));
    connection.quit().await;
    assert_eq!(sink.commands("QUIT"), 1);
}

#[tokio::test]
async fn a_refused_recipient_does_not_stop_the_others() {
    let refuse = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 no such user")).for_recipient("b@example.org");
    let sink = SmtpSink::start(Behaviour::with(refuse)).await;
    let mut connection = connect(&sink).await;
    let report = send(&mut connection, &["a@example.org", "b@example.org", "c@example.org"]).await;
    assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    let codes: Vec<_> = report.recipients.iter().map(|r| (r.address.as_str(), r.reply.code)).collect();
    assert_eq!(codes, vec![("a@example.org", 250), ("b@example.org", 550), ("c@example.org", 250)]);
    assert_eq!(sink.received()[0].to, vec!["a@example.org", "c@example.org"]);
}

#[tokio::test]
async fn a_message_that_was_refused_leaves_the_connection_good_for_the_next() {
    let refuse = Rule::at(Stage::Rcpt, Act::Reply("550 5.1.1 no such user")).for_recipient("b@example.org");
    let sink = SmtpSink::start(Behaviour::with(refuse)).await;
    let mut connection = connect(&sink).await;
    let report = send(&mut connection, &["b@example.org"]).await;
    assert!(matches!(report.outcome, Outcome::Failed { at: Verb::Rcpt, .. }), "{report:?}");
    assert_eq!((report.recipients.len(), sink.commands("DATA")), (1, 0));
    let report = send(&mut connection, &["a@example.org"]).await;
    assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    assert_eq!((sink.commands("RSET"), sink.connections()), (1, 1));
}

#[tokio::test]
async fn automatic_mail_goes_out_with_an_empty_sender() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let mut connection = connect(&sink).await;
    let envelope = Envelope::new(None, vec!["a@example.org".to_owned()]).unwrap();
    connection.send(&envelope, MAIL, std::future::ready(Ok::<(), String>(()))).await;
    assert_eq!(sink.received()[0].from, "");
    assert!(sink.lines().iter().any(|line| line.starts_with("MAIL FROM:<> ")));
}

#[tokio::test]
async fn what_the_relay_cannot_take_is_not_offered_to_it() {
    let bare = Behaviour { size: Some(50), smtputf8: false, eight_bit_mime: false, ..Behaviour::default() };
    let sink = SmtpSink::start(bare).await;
    let mut connection = connect(&sink).await;
    let go = || std::future::ready(Ok::<(), String>(()));
    let too_large = connection.send(&envelope(&["a@example.org"]), MAIL, go()).await;
    assert_eq!(too_large.outcome, Outcome::TooLarge { limit_bytes: 50 });
    let utf8 = connection.send(&envelope(&["jürgen@example.org"]), b"x", go()).await;
    assert_eq!(utf8.outcome, Outcome::NotOffered(Missing::SmtpUtf8));
    let eight_bit = connection.send(&envelope(&["a@example.org"]), "ü".as_bytes(), go()).await;
    assert_eq!(eight_bit.outcome, Outcome::NotOffered(Missing::EightBitMime));
    assert_eq!(sink.commands("MAIL"), 0);
    let small = connection.send(&envelope(&["a@example.org"]), b"x", go()).await;
    assert!(matches!(small.outcome, Outcome::Accepted { .. }), "{small:?}");
}

#[tokio::test]
async fn what_a_message_needs_is_asked_for() {
    let sink = SmtpSink::start(Behaviour { size: None, ..Behaviour::default() }).await;
    let mut connection = connect(&sink).await;
    let go = std::future::ready(Ok::<(), String>(()));
    connection.send(&envelope(&["jürgen@example.org"]), "ü".as_bytes(), go).await;
    assert_eq!(sink.received()[0].parameters, "BODY=8BITMIME SMTPUTF8");
}

#[tokio::test]
async fn every_login_that_the_relay_offers_works_and_none_is_in_the_timeline() {
    let password = Auth::Password { user: "anna".to_owned(), pass: "s3cret".to_owned() };
    let offers: [&'static [&'static str]; 2] = [&["PLAIN", "LOGIN"], &["LOGIN"]];
    for mechanisms in offers {
        let login = Some(("anna", "s3cret"));
        let sink = SmtpSink::start(Behaviour { login, mechanisms, ..Behaviour::default() }).await;
        let mut connection =
            Connection::connect(&plain(sink.addr), &password, "me", Timeouts::default()).await.unwrap();
        let report = send(&mut connection, &["a@example.org"]).await;
        assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
        assert!(verbs(&report).contains(&("auth", Some(235))));
        assert!(!format!("{report:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn refused_credentials_are_told_from_a_relay_that_is_busy() {
    let login = Some(("anna", "s3cret"));
    let sink = SmtpSink::start(Behaviour { login, ..Behaviour::default() }).await;
    let attempt = async |auth: Auth| {
        Connection::connect(&plain(sink.addr), &auth, "me", Timeouts::default()).await.err().unwrap()
    };
    let wrong = Auth::Password { user: "anna".to_owned(), pass: "hunter2".to_owned() };
    let failed = attempt(wrong.clone()).await;
    assert!(failed.error.code() == "auth_rejected" && failed.error.needs_administrator(), "{failed}");
    assert!(!format!("{failed:?}").contains("hunter2"));
    assert_eq!(failed.steps.last().map(|step| (step.verb, step.code)), Some((Verb::Auth, Some(535))));

    let busy = Rule::at(Stage::Auth, Act::Reply("454 4.7.0 try later"));
    sink.behave(|behaviour| behaviour.rules.push(busy));
    let failed = attempt(wrong.clone()).await;
    assert!(failed.error.code() == "auth_unavailable" && !failed.error.needs_administrator(), "{failed}");
    sink.behave(|behaviour| behaviour.mechanisms = &["CRAM-MD5"]);
    let failed = attempt(wrong).await;
    assert!(failed.to_string().contains("CRAM-MD5"), "{failed}");
}

#[tokio::test]
async fn a_relay_that_knows_only_helo_is_served() {
    let sink = SmtpSink::start(Behaviour { helo_only: true, ..Behaviour::default() }).await;
    let mut connection = connect(&sink).await;
    let report = send(&mut connection, &["a@example.org"]).await;
    assert!(matches!(report.outcome, Outcome::Accepted { .. }), "{report:?}");
    assert_eq!(sink.received()[0].parameters, "");
}

#[tokio::test]
async fn a_check_goes_as_far_as_the_login_and_sends_nothing() {
    let sink = SmtpSink::start(Behaviour { login: Some(("anna", "pass")), ..Behaviour::default() }).await;
    let auth = Auth::Password { user: "anna".to_owned(), pass: "pass".to_owned() };
    let steps = check(&plain(sink.addr), &auth, "me", Timeouts::default()).await;
    let expected = ["resolve", "connect", "ehlo", "login"].map(|name| (name, true));
    assert_eq!(names(&steps), expected.to_vec());
    assert_eq!((sink.commands("MAIL"), sink.commands("QUIT")), (0, 1));
    let wrong = Auth::Password { user: "anna".to_owned(), pass: "hunter2".to_owned() };
    let steps = check(&plain(sink.addr), &wrong, "me", Timeouts::default()).await;
    assert_eq!(names(&steps).last(), Some(&("login", false)));
    assert!(steps[3].detail.contains("wrong credentials"), "{}", steps[3].detail);
}
