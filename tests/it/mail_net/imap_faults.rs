//! IMAP servers that break off, fall silent, lie or attack.

use std::time::Duration;

use postroom::mail::imap::{Access, FetchLimits, Fetched, ImapError, Session, Timeouts};

use super::net::{anna, plain};
use crate::support::imap_server::{FetchFault, ImapBehaviour, ImapServer};

async fn session(server: &ImapServer, timeouts: Timeouts) -> Session {
    let mut session = Session::connect(&plain(server.addr), &anna(), timeouts).await.unwrap();
    session.select("INBOX", Access::ReadWrite).await.unwrap();
    session
}

/// Deadlines that are over soon, for servers that never answer.
fn short() -> Timeouts {
    Timeouts { stall: Duration::from_millis(100), ..Timeouts::default() }
}

async fn fetch_with(fault: FetchFault) -> (Result<Vec<Fetched>, ImapError>, Session) {
    let server = ImapServer::start(ImapBehaviour::default()).await;
    for number in 0..3 {
        server.append("INBOX", format!("Subject: secret words {number}\r\n\r\ntext\r\n").as_bytes());
    }
    let mut session = session(&server, short()).await;
    let listed = session.list_all().await.unwrap();
    server.behave(|behaviour| behaviour.fetch_fault = Some(fault));
    (session.fetch_raw(&listed, &FetchLimits::default()).await, session)
}

#[tokio::test]
async fn a_literal_announced_at_two_gigabytes_is_refused_at_once() {
    // The second is below what the parser itself would still set memory aside for.
    for announced in [2_147_483_648, 400_000_000] {
        let (result, session) = fetch_with(FetchFault::HugeLiteral(announced)).await;
        let error = result.unwrap_err();
        assert_eq!(error.code(), "too_large");
        assert!(error.to_string().contains(&announced.to_string()), "{error}");
        assert!(session.is_broken());
    }
}

#[tokio::test]
async fn bye_in_the_middle_of_a_fetch_gives_the_servers_words() {
    let (result, session) = fetch_with(FetchFault::Bye).await;
    assert!(
        matches!(result, Err(ImapError::Closed { ref reason, .. }) if reason == "going down"),
        "{result:?}"
    );
    assert!(session.is_broken());
}

#[tokio::test]
async fn a_fetch_that_stalls_ends_with_a_timeout() {
    let (result, mut session) = fetch_with(FetchFault::Stall).await;
    assert_eq!(result.unwrap_err().code(), "timeout");
    let error = session.noop().await.unwrap_err();
    assert_eq!(error.code(), "closed");
}

#[tokio::test]
async fn a_connection_that_ends_in_a_literal_gives_no_half_message() {
    let (result, _session) = fetch_with(FetchFault::CloseInLiteral).await;
    assert_eq!(result.unwrap_err().code(), "closed");
}

#[tokio::test]
async fn a_message_the_server_leaves_out_does_not_stop_the_others() {
    let (result, session) = fetch_with(FetchFault::LeaveOut).await;
    assert_eq!(result.unwrap().iter().map(|m| m.uid).collect::<Vec<_>>(), vec![1, 3]);
    assert!(!session.is_broken());
}

#[tokio::test]
async fn a_message_larger_than_it_was_listed_is_refused() {
    let server = ImapServer::start(ImapBehaviour::default()).await;
    server.append("INBOX", &[b'x'; 2000]);
    let mut session = session(&server, Timeouts::default()).await;
    let listed = session.list_all().await.unwrap();
    let limits = FetchLimits { message_bytes: 1999, ..FetchLimits::default() };
    assert_eq!(session.fetch_raw(&listed, &limits).await.unwrap_err().code(), "too_large");
}

#[tokio::test]
async fn a_server_that_never_answers_a_command_is_given_up() {
    let server =
        ImapServer::start(ImapBehaviour { silent_on: Some("SELECT"), ..ImapBehaviour::default() }).await;
    let mut session = Session::connect(&plain(server.addr), &anna(), short()).await.unwrap();
    let error = session.select("INBOX", Access::ReadWrite).await.unwrap_err();
    assert_eq!(error, ImapError::Timeout { during: "SELECT" });
}

#[tokio::test]
async fn a_server_that_never_greets_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeouts = short();
    let error = Session::connect(&plain(listener.local_addr().unwrap()), &anna(), timeouts).await.err();
    assert_eq!(error, Some(ImapError::Timeout { during: "the greeting" }));
}

#[tokio::test]
async fn what_cannot_be_parsed_is_an_error_and_is_not_repeated() {
    // The second makes the parser panic: it cuts the text after the code in the middle of a character.
    let attacks: [&'static [u8]; 3] = [
        b"* 1 FETCH [secret words]\r\n",
        "* OK [ALERT]\u{e9}secret words\r\n".as_bytes(),
        b"secret words\r\n",
    ];
    for attack in attacks {
        let server =
            ImapServer::start(ImapBehaviour { inject: Some(("NOOP", attack)), ..ImapBehaviour::default() })
                .await;
        let mut session = session(&server, short()).await;
        let error = session.noop().await.unwrap_err();
        assert_eq!(error.code(), "protocol", "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(session.is_broken());
    }
}

#[tokio::test]
async fn an_endless_line_is_refused() {
    let line: &'static [u8] = Box::leak(vec![b'a'; 100_000].into_boxed_slice());
    let server =
        ImapServer::start(ImapBehaviour { inject: Some(("NOOP", line)), ..ImapBehaviour::default() }).await;
    let mut session = session(&server, short()).await;
    assert_eq!(session.noop().await.unwrap_err().code(), "protocol");
}

#[tokio::test]
async fn a_refused_command_leaves_the_session_in_order() {
    let server = ImapServer::start(ImapBehaviour::default()).await;
    let uid = server.append("INBOX", b"x");
    let mut session = session(&server, Timeouts::default()).await;
    server.behave(|behaviour| behaviour.refuse = Some(("UID STORE", "read-only folder")));
    let error = session.mark_seen(&[uid]).await.unwrap_err();
    assert_eq!(error, ImapError::Refused { during: "STORE", reason: "read-only folder".to_owned() });
    session.noop().await.unwrap();
}

#[tokio::test]
async fn a_command_given_up_half_way_makes_the_session_useless() {
    let server =
        ImapServer::start(ImapBehaviour { silent_on: Some("NOOP"), ..ImapBehaviour::default() }).await;
    let mut session = session(&server, Timeouts::default()).await;
    let given_up = tokio::time::timeout(Duration::from_millis(20), session.noop()).await;
    assert!(given_up.is_err() && session.is_broken());
    assert_eq!(session.list_all().await.unwrap_err().code(), "closed");
}

#[tokio::test]
async fn a_folder_name_cannot_carry_a_command() {
    let server = ImapServer::start(ImapBehaviour::default()).await;
    let mut session = session(&server, Timeouts::default()).await;
    let error = session.select("INBOX\"\r\nP9 UID EXPUNGE 1:*", Access::ReadOnly).await.unwrap_err();
    assert_eq!(error.code(), "bad_input");
    assert_eq!(server.commands("UID EXPUNGE"), 0);
}
