//! Reaching a server: names, plain text, certificates; shared set-up for the protocol tests.

use std::net::SocketAddr;
use std::time::Duration;

use postroom::mail::check::CheckStep;
use postroom::mail::imap::{self, Credentials, ImapError, Session};
use postroom::mail::smtp::{self, Auth, Connection};
use postroom::mail::tls::{Deadlines, Endpoint, NetError, Security, Trust};

use crate::support::imap_server::{ImapBehaviour, ImapServer};
use crate::support::smtp_sink::{Behaviour, SmtpSink};
use crate::support::tls_fixture::{fixture_trust, plain_trust};

/// An endpoint on this machine without TLS.
pub fn plain(addr: SocketAddr) -> Endpoint {
    endpoint("127.0.0.1", addr, Security::None, plain_trust())
}

pub fn endpoint(host: &str, addr: SocketAddr, security: Security, trust: Trust) -> Endpoint {
    Endpoint { host: host.to_owned(), port: addr.port(), security, allow_plaintext: false, trust }
}

pub fn names(steps: &[CheckStep]) -> Vec<(&'static str, bool)> {
    steps.iter().map(|step| (step.name.as_str(), step.ok)).collect()
}

pub fn anna() -> Credentials {
    Credentials::Login { user: "anna".to_owned(), pass: "pass".to_owned() }
}

#[tokio::test]
async fn plain_text_to_another_machine_is_refused_unless_allowed() {
    let far = Endpoint {
        host: "192.0.2.1".to_owned(),
        port: 9,
        security: Security::None,
        allow_plaintext: false,
        trust: plain_trust(),
    };
    let error = Session::connect(&far, &anna(), imap::Timeouts::default()).await.err().unwrap();
    assert_eq!(error, ImapError::Net(NetError::PlaintextRefused { host: "192.0.2.1".to_owned() }));
    let failed = Connection::connect(&far, &Auth::None, "me", smtp::Timeouts::default()).await.err().unwrap();
    assert_eq!(failed.error.code(), "plaintext_refused");

    let allowed = Endpoint { allow_plaintext: true, ..far };
    let hasty = Deadlines { connect: Duration::from_millis(1), ..Deadlines::default() };
    let timeouts = imap::Timeouts { net: hasty, ..imap::Timeouts::default() };
    let error = Session::connect(&allowed, &anna(), timeouts).await.err().unwrap();
    assert_eq!(error.code(), "connect");
}

#[tokio::test]
async fn a_name_that_does_not_exist_fails_at_resolve() {
    let nowhere = Endpoint { host: "nowhere.invalid".to_owned(), ..plain(([127, 0, 0, 1], 9).into()) };
    let steps = imap::check(&nowhere, &anna(), "INBOX", imap::Timeouts::default()).await;
    assert_eq!(names(&steps), vec![("resolve", false)]);
    assert!(steps[0].detail.contains("nowhere.invalid"), "{}", steps[0].detail);
}

#[tokio::test]
async fn a_closed_port_fails_at_connect() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let steps = smtp::check(&plain(addr), &Auth::None, "me", smtp::Timeouts::default()).await;
    assert_eq!(names(&steps), vec![("resolve", true), ("connect", false)]);
}

#[tokio::test]
async fn imap_is_encrypted_from_the_start_or_by_starttls() {
    for (security, behaviour) in [
        (Security::Tls, ImapBehaviour { implicit_tls: true, ..ImapBehaviour::default() }),
        (Security::Starttls, ImapBehaviour { starttls: true, ..ImapBehaviour::default() }),
    ] {
        let server = ImapServer::start(behaviour).await;
        let good = endpoint("localhost", server.addr, security, fixture_trust());
        let steps = imap::check(&good, &anna(), "INBOX", imap::Timeouts::default()).await;
        let expected = ["resolve", "connect", "tls", "login", "select", "count"].map(|name| (name, true));
        assert_eq!(names(&steps), expected.to_vec(), "{steps:?}");
        assert!(steps[2].detail.contains("TLSv1_3"), "{}", steps[2].detail);
    }
}

#[tokio::test]
async fn smtp_is_encrypted_from_the_start_or_by_starttls() {
    for (security, behaviour) in [
        (Security::Tls, Behaviour { implicit_tls: true, ..Behaviour::default() }),
        (Security::Starttls, Behaviour { starttls: true, ..Behaviour::default() }),
    ] {
        let sink = SmtpSink::start(behaviour).await;
        let good = endpoint("localhost", sink.addr, security, fixture_trust());
        let steps = smtp::check(&good, &Auth::None, "me", smtp::Timeouts::default()).await;
        let expected = ["resolve", "connect", "tls", "ehlo"].map(|name| (name, true));
        assert_eq!(names(&steps), expected.to_vec(), "{steps:?}");
        assert_eq!(sink.commands("QUIT"), 1);
    }
}

#[tokio::test]
async fn a_bad_certificate_is_refused_before_any_password_is_sent() {
    let imap_server = ImapServer::start(ImapBehaviour { starttls: true, ..ImapBehaviour::default() }).await;
    let login = Some(("anna", "pass"));
    let sink = SmtpSink::start(Behaviour { starttls: true, login, ..Behaviour::default() }).await;
    let auth = Auth::Password { user: "anna".to_owned(), pass: "pass".to_owned() };
    for (host, trust, words) in [
        ("localhost", plain_trust(), "not signed by an authority"),
        ("127.0.0.1", fixture_trust(), "another host name"),
    ] {
        let at = endpoint(host, imap_server.addr, Security::Starttls, trust.clone());
        let error = Session::connect(&at, &anna(), imap::Timeouts::default()).await.err().unwrap();
        assert!(error.code() == "tls" && error.needs_administrator(), "{error}");
        assert!(error.to_string().contains(words), "{error}");

        let at = endpoint(host, sink.addr, Security::Starttls, trust);
        let failed = Connection::connect(&at, &auth, "me", smtp::Timeouts::default()).await.err().unwrap();
        assert!(failed.error.code() == "tls" && failed.error.needs_administrator(), "{failed}");
        assert!(failed.to_string().contains(words), "{failed}");
        assert_eq!(failed.steps.last().unwrap().verb.as_str(), "tls");
    }
    assert_eq!(imap_server.logins() + sink.commands("AUTH"), 0);
}

#[tokio::test]
async fn a_server_without_starttls_is_refused_when_it_is_asked_for() {
    let imap_server = ImapServer::start(ImapBehaviour::default()).await;
    let at = endpoint("localhost", imap_server.addr, Security::Starttls, fixture_trust());
    let error = Session::connect(&at, &anna(), imap::Timeouts::default()).await.err().unwrap();
    assert_eq!(error, ImapError::StarttlsNotOffered);

    let sink = SmtpSink::start(Behaviour::default()).await;
    let at = endpoint("localhost", sink.addr, Security::Starttls, fixture_trust());
    let steps = smtp::check(&at, &Auth::None, "me", smtp::Timeouts::default()).await;
    assert_eq!(names(&steps), vec![("resolve", true), ("connect", true), ("tls", false)]);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_on_a_tls_port_is_told_from_a_bad_certificate() {
    let sink = SmtpSink::start(Behaviour::default()).await;
    let at = endpoint("localhost", sink.addr, Security::Tls, fixture_trust());
    let failed = Connection::connect(&at, &Auth::None, "me", smtp::Timeouts::default()).await.err().unwrap();
    assert!(failed.to_string().contains("does not speak TLS"), "{failed}");
}

#[test]
fn a_bundle_without_a_certificate_is_no_authority() {
    for bad in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Trust::new(Some(bad)).is_err(), "{bad:?}");
    }
}
