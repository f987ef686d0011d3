//! Reading a mailbox: login, listing, fetching, changing, waiting.

use std::time::Duration;

use postroom::mail::imap::{
    Access, Batches, Credentials, FetchLimits, IdleEvent, ImapError, Session, Timeouts, check,
};
use tokio_util::sync::CancellationToken;

use super::net::{anna, names, plain};
use crate::support::imap_server::{ImapBehaviour, ImapServer};

const LONG: Duration = Duration::from_secs(30);

async fn session(server: &ImapServer) -> Session {
    let mut session = Session::connect(&plain(server.addr), &anna(), Timeouts::default()).await.unwrap();
    session.select("INBOX", Access::ReadWrite).await.unwrap();
    session
}

async fn with_mail(behaviour: ImapBehaviour, count: u32) -> (ImapServer, Session) {
    let server = ImapServer::start(behaviour).await;
    for number in 1..=count {
        server.append("INBOX", format!("Subject: {number}\r\n\r\nmail {number}\r\n").as_bytes());
    }
    let session = session(&server).await;
    (server, session)
}

#[tokio::test]
async fn every_kind_of_credentials_logs_in() {
    let login = |user: &str, pass: &str| Credentials::Login { user: user.to_owned(), pass: pass.to_owned() };
    let token = Credentials::XOauth2 { user: "anna".to_owned(), token: "pass".to_owned() };
    let cases = [
        (ImapBehaviour::default(), anna(), "LOGIN"),
        (
            ImapBehaviour { user: "a\"b\\c d", secret: "p w", ..ImapBehaviour::default() },
            login("a\"b\\c d", "p w"),
            "LOGIN",
        ),
        (
            ImapBehaviour { secret: "pässword", ..ImapBehaviour::default() },
            login("anna", "pässword"),
            "AUTHENTICATE",
        ),
        (
            ImapBehaviour { secret: "pässword", ..ImapBehaviour::default() }.without("SASL-IR"),
            login("anna", "pässword"),
            "AUTHENTICATE",
        ),
        (ImapBehaviour::default(), token.clone(), "AUTHENTICATE"),
        (ImapBehaviour::default().without("SASL-IR"), token, "AUTHENTICATE"),
    ];
    for (behaviour, credentials, command) in cases {
        let server = ImapServer::start(behaviour).await;
        let session = Session::connect(&plain(server.addr), &credentials, Timeouts::default()).await.unwrap();
        assert!(session.offers("MOVE") && session.supports_idle());
        assert_eq!((server.commands(command), server.logins()), (1, 1));
        session.logout().await.unwrap();
    }
}

#[tokio::test]
async fn refused_credentials_are_told_from_a_server_that_is_busy() {
    let wrong = [
        Credentials::Login { user: "anna".to_owned(), pass: "hunter2".to_owned() },
        Credentials::XOauth2 { user: "anna".to_owned(), token: "hunter2".to_owned() },
    ];
    let server = ImapServer::start(ImapBehaviour::default()).await;
    for credentials in wrong {
        let error =
            Session::connect(&plain(server.addr), &credentials, Timeouts::default()).await.err().unwrap();
        assert!(error.code() == "auth_rejected" && error.needs_administrator(), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let busy = "[UNAVAILABLE] the directory is down";
    server.behave(|behaviour| behaviour.refuse_login = Some(busy));
    let error = Session::connect(&plain(server.addr), &anna(), Timeouts::default()).await.err().unwrap();
    assert_eq!(error, ImapError::AuthUnavailable { reason: busy.to_owned() });
    assert!(!error.needs_administrator());
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_not_tried() {
    let server = ImapServer::start(ImapBehaviour::default().without("AUTH=XOAUTH2")).await;
    let token = Credentials::XOauth2 { user: "anna".to_owned(), token: "pass".to_owned() };
    let error = Session::connect(&plain(server.addr), &token, Timeouts::default()).await.err().unwrap();
    assert!(error.to_string().contains("XOAUTH2"), "{error}");
    assert_eq!(server.logins(), 0);
}

#[tokio::test]
async fn a_check_reports_each_step_and_stops_at_the_first_that_fails() {
    let (server, _session) = with_mail(ImapBehaviour::default(), 3).await;
    let steps = check(&plain(server.addr), &anna(), "INBOX", Timeouts::default()).await;
    let expected = ["resolve", "connect", "login", "select", "count"].map(|name| (name, true));
    assert_eq!(names(&steps), expected.to_vec());
    assert!(steps[4].detail.starts_with("3 messages"), "{}", steps[4].detail);

    let steps = check(&plain(server.addr), &anna(), "Nowhere", Timeouts::default()).await;
    assert_eq!(names(&steps).last(), Some(&("select", false)));
    assert!(steps[3].detail.contains("no such folder"), "{}", steps[3].detail);

    server.behave(|behaviour| behaviour.refuse_login = Some("not today"));
    let steps = check(&plain(server.addr), &anna(), "INBOX", Timeouts::default()).await;
    assert_eq!(names(&steps).last(), Some(&("login", false)));
    assert!(steps[2].detail.contains("not today"), "{}", steps[2].detail);
}

#[tokio::test]
async fn an_open_folder_is_described_and_a_missing_one_named() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 2).await;
    let opened = session.select("INBOX", Access::ReadOnly).await.unwrap();
    assert_eq!(opened.uid_validity, 1000);
    assert_eq!((server.commands("EXAMINE"), server.commands("SELECT")), (1, 1));

    let error = session.select("Nowhere", Access::ReadOnly).await.unwrap_err();
    assert!(matches!(error, ImapError::FolderMissing { ref folder, .. } if folder == "Nowhere"), "{error}");
    assert!(!session.is_broken());

    server.behave(|behaviour| behaviour.refuse = Some(("EXAMINE", "[UNAVAILABLE] the disk is away")));
    let error = session.select("INBOX", Access::ReadOnly).await.unwrap_err();
    assert!(error.code() == "refused" && !error.needs_administrator(), "{error}");
    server.behave(|behaviour| behaviour.refuse = None);

    server.renumber("INBOX");
    assert_eq!(session.select("INBOX", Access::ReadOnly).await.unwrap().uid_validity, 1001);
}

#[tokio::test]
async fn a_list_after_the_last_uid_is_empty_although_the_server_repeats_the_last_message() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 3).await;
    let uids = |listed: Vec<postroom::mail::imap::Listed>| listed.iter().map(|m| m.uid).collect::<Vec<_>>();
    assert_eq!(uids(session.list_after(1).await.unwrap()), vec![2, 3]);
    assert_eq!(uids(session.list_after(3).await.unwrap()), Vec::<u32>::new());
    assert_eq!(uids(session.list_after(u32::MAX).await.unwrap()), Vec::<u32>::new());
    server.expunge("INBOX", 2);
    assert_eq!(uids(session.list_all().await.unwrap()), vec![1, 3]);
}

#[tokio::test]
async fn a_list_holds_size_date_and_flags() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 2).await;
    server.set_flag("INBOX", 2, "\\Deleted");
    let listed = session.list_all().await.unwrap();
    assert_eq!(listed.iter().map(|m| m.deleted).collect::<Vec<_>>(), vec![false, true]);
    assert_eq!(listed[0].size_bytes, "Subject: 1\r\n\r\nmail 1\r\n".len() as u64);
    assert_eq!(listed[0].internal_date_ms, Some(837_596_665_000));
}

#[tokio::test]
async fn messages_are_fetched_byte_for_byte_and_stay_unseen() {
    let server = ImapServer::start(ImapBehaviour::default()).await;
    let mails: Vec<Vec<u8>> = vec![
        b"Subject: a\r\n\r\n{99999999999}\r\n)\r\n* 1 FETCH (UID 9)\r\nP3 OK done\r\n".to_vec(),
        b"\0\xff\xfe bare \n and \r and no end".to_vec(),
        (0..300_000_u32).map(|n| (n % 251) as u8).collect(),
        b"x".to_vec(),
    ];
    for mail in &mails {
        server.append("INBOX", mail);
    }
    let mut session = session(&server).await;
    let limits = FetchLimits { batch_messages: 3, ..FetchLimits::default() };
    let plan = Batches::plan(session.list_all().await.unwrap(), &limits);
    assert_eq!(plan.batches.iter().map(Vec::len).collect::<Vec<_>>(), vec![3, 1]);
    let mut fetched = Vec::new();
    for batch in &plan.batches {
        fetched.extend(session.fetch_raw(batch, &limits).await.unwrap());
    }
    assert_eq!(fetched.iter().map(|m| m.uid).collect::<Vec<_>>(), vec![1, 2, 3, 4]);
    assert!(fetched.iter().map(|m| &m.raw).eq(&mails));
    assert_eq!(server.flags("INBOX", 1), Vec::<String>::new());
    // Two lists would be three commands: sizes once, then one fetch a batch.
    assert_eq!(server.commands("UID FETCH"), 3);
}

#[tokio::test]
async fn a_message_that_is_gone_is_left_out_of_the_answer() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 3).await;
    let listed = session.list_all().await.unwrap();
    server.expunge("INBOX", 2);
    let fetched = session.fetch_raw(&listed, &FetchLimits::default()).await.unwrap();
    assert_eq!(fetched.iter().map(|m| m.uid).collect::<Vec<_>>(), vec![1, 3]);
}

#[tokio::test]
async fn marking_and_deleting_can_be_repeated() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 3).await;
    for _ in 0..2 {
        session.mark_seen(&[1, 2]).await.unwrap();
        session.delete(&[3]).await.unwrap();
    }
    assert_eq!(server.uids("INBOX"), vec![1, 2]);
    assert_eq!(server.flags("INBOX", 2), vec!["\\Seen"]);
    session.mark_seen(&[]).await.unwrap();
}

#[tokio::test]
async fn without_uidplus_nothing_is_expunged_that_others_marked() {
    let (server, mut session) = with_mail(ImapBehaviour::default().without("UIDPLUS"), 2).await;
    server.set_flag("INBOX", 1, "\\Deleted");
    session.delete(&[2]).await.unwrap();
    assert_eq!(server.uids("INBOX"), vec![1, 2]);
    assert_eq!(server.flags("INBOX", 2), vec!["\\Deleted"]);
    assert!(server.lines().iter().all(|line| !line.contains("EXPUNGE")));
}

#[tokio::test]
async fn a_move_ends_in_one_copy_with_or_without_the_move_command() {
    for behaviour in [ImapBehaviour::default(), ImapBehaviour::default().without("MOVE")] {
        let (server, mut session) = with_mail(behaviour, 3).await;
        for _ in 0..2 {
            session.move_to(&[1, 3], "Archive").await.unwrap();
        }
        assert_eq!((server.uids("INBOX"), server.uids("Archive").len()), (vec![2], 2));
        let error = session.move_to(&[2], "Nowhere").await.unwrap_err();
        assert_eq!(error.code(), "folder_missing");
        assert_eq!(server.uids("INBOX"), vec![2]);
    }
}

#[tokio::test]
async fn a_move_that_broke_off_after_the_copy_does_not_copy_again() {
    let behaviour = ImapBehaviour::default().without("MOVE").without("UIDPLUS");
    let (server, mut session) = with_mail(behaviour, 2).await;
    for _ in 0..3 {
        session.move_to(&[1], "Archive").await.unwrap();
    }
    assert_eq!(server.uids("Archive").len(), 1);
}

#[tokio::test]
async fn idle_ends_when_mail_arrives_and_the_session_goes_on() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 1).await;
    let never = CancellationToken::new();
    let (event, ()) = tokio::join!(session.idle(LONG, &never), async {
        server.wait_until_idling().await;
        server.append("INBOX", b"new");
    });
    assert_eq!(event.unwrap(), IdleEvent::NewMail);
    assert_eq!(session.list_after(1).await.unwrap().len(), 1);
    let before = server.all_commands();
    assert_eq!(session.idle(Duration::from_millis(1), &never).await.unwrap(), IdleEvent::Timeout);
    assert_eq!(server.all_commands(), before + 1);
    assert!(!session.noop().await.unwrap());
}

#[tokio::test]
async fn mail_announced_before_idle_is_not_slept_through() {
    for behaviour in [ImapBehaviour::default(), ImapBehaviour::default().without("MOVE")] {
        let (server, mut session) = with_mail(behaviour, 2).await;
        server.append("INBOX", b"new");
        assert!(session.noop().await.unwrap());
        session.mark_seen(&[1]).await.unwrap();
        session.move_to(&[1], "Archive").await.unwrap();
        let event = session.idle(LONG, &CancellationToken::new()).await.unwrap();
        assert_eq!((event, server.commands("IDLE")), (IdleEvent::NewMail, 0));
        assert_eq!(session.list_after(2).await.unwrap().len(), 1);
        let event = session.idle(Duration::from_millis(1), &CancellationToken::new()).await.unwrap();
        assert_eq!(event, IdleEvent::Timeout);
    }
}

#[tokio::test]
async fn idle_ends_cleanly_when_it_is_cancelled() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 1).await;
    let cancel = CancellationToken::new();
    let (event, ()) = tokio::join!(session.idle(LONG, &cancel), async {
        server.wait_until_idling().await;
        cancel.cancel();
    });
    assert_eq!(event.unwrap(), IdleEvent::Cancelled);
    assert!(!session.is_broken());
    session.logout().await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_bye_while_idling_is_heard() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 1).await;
    let never = CancellationToken::new();
    let (event, ()) = tokio::join!(session.idle(LONG, &never), async {
        server.wait_until_idling().await;
        server.shut_down();
    });
    assert_eq!(event.unwrap(), IdleEvent::ServerBye { reason: "shutting down".to_owned() });
    assert!(session.is_broken());
}

#[tokio::test]
async fn a_server_without_idle_says_so() {
    let (server, mut session) = with_mail(ImapBehaviour::default().without("IDLE"), 1).await;
    assert!(!session.supports_idle());
    let error = session.idle(LONG, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code(), "refused");
    server.append("INBOX", b"new");
    assert!(session.noop().await.unwrap());
}

#[tokio::test]
async fn watching_an_idle_mailbox_costs_one_command_a_poll_and_no_login() {
    let (server, mut session) = with_mail(ImapBehaviour::default(), 5).await;
    let (commands, logins, bytes) = (server.all_commands(), server.logins(), server.bytes_sent());
    for _ in 0..10 {
        assert!(!session.noop().await.unwrap());
    }
    assert_eq!((server.all_commands(), server.logins()), (commands + 10, logins));
    assert_eq!(server.connections(), 1);
    assert!(
        server.bytes_sent() - bytes < 10 * 20,
        "a poll without news brought {}",
        server.bytes_sent() - bytes
    );
}
