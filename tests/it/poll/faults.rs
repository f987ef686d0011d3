//! Servers that break off, fall silent, lie or refuse.

use std::time::Duration;

use postroom::{accounts::entity::account, conversations::entity::MessageState, id::AccountId};
use sea_orm::EntityTrait;
use serde_json::json;

use super::{mail, polled};
use crate::support::{
    TestApp,
    imap_server::{FetchFault, ImapBehaviour, ImapServer},
    mailbox::{Events, act, draft, messages, raws, read},
};

/// Waits until reading the mailbox has failed so often in a row, and ends the pause that follows.
async fn fail(app: &TestApp, id: AccountId, times: i32) {
    let failures =
        async || account::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap().failures;
    while failures().await < times {
        tokio::task::yield_now().await;
    }
    app.app.clock.advance(Duration::from_secs(301));
}

/// An account with one mail, whose server breaks off whenever a mail is fetched; it is polled already.
async fn at_a_server_in_trouble(app: &TestApp) -> (ImapServer, Events, AccountId) {
    let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
    server.append("INBOX", &mail(1));
    server.behave(|b| b.fetch_fault = Some(FetchFault::CloseInLiteral));
    let events = Events::of(app);
    let id = draft(&admin, server.addr.port(), json!({})).await;
    act(&admin, id, "activate").await;
    (server, events, id)
}

polled! {
    async fn a_literal_of_two_gigabytes_becomes_a_stub_and_the_others_are_taken_in(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        (0..4).for_each(|number| _ = server.append("INBOX", &mail(number)));
        server.behave(|b| (b.fetch_fault, b.fault_uids) = (Some(FetchFault::HugeLiteral(2_147_483_648)), vec![2]));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        let taken = messages(&app, id).await;
        let stubs = taken.iter().filter(|message| message.state == MessageState::Oversize).count();
        assert_eq!((taken.len(), stubs), (4, 1));
        assert_eq!(read(&admin, id).await["state"], "active");
        server.append("INBOX", &mail(9));
        events.wait("message.received").await;
        assert_eq!(server.logins(), 3);
    }

    async fn a_header_that_cannot_be_fetched_stops_no_other_message(app) {
        let admin = app.admin().await;
        for fault in [FetchFault::HugeLiteral(2_147_483_648), FetchFault::Garbage] {
            let server = ImapServer::start(ImapBehaviour::default()).await;
            let mut large = mail(1);
            large.resize(70_000, b'x');
            [large, mail(2), mail(3)].iter().for_each(|raw| _ = server.append("INBOX", raw));
            server.behave(|b| b.header_fault = Some(fault));
            let mut events = Events::of(&app);
            let id = draft(&admin, server.addr.port(), json!({})).await;
            act(&admin, id, "activate").await;
            events.wait("account.connected").await;
            let states: Vec<_> = messages(&app, id).await.iter().map(|message| message.state).collect();
            assert_eq!(states, [MessageState::Parsed, MessageState::Parsed, MessageState::Oversize], "{fault:?}");
            assert_eq!((&read(&admin, id).await["state"], server.logins()), (&json!("active"), 2), "{fault:?}");
        }
    }

    async fn more_bad_messages_than_can_be_remembered_at_a_time_are_all_taken_in(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        (0..402).for_each(|number| _ = server.append("INBOX", &mail(number)));
        server.behave(|b| (b.fetch_fault, b.fault_uids) = (Some(FetchFault::HugeLiteral(2_147_483_648)), vec![1, 201, 401]));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        let taken = messages(&app, id).await;
        let stubs = taken.iter().filter(|message| message.state == MessageState::Oversize).count();
        assert_eq!((taken.len(), stubs), (402, 3));
        assert_eq!(read(&admin, id).await["health"]["suspects"], json!([]));
    }

    async fn a_connection_that_breaks_in_the_middle_of_mail_loses_and_doubles_nothing(app) {
        let admin = app.admin().await;
        for fault in [FetchFault::Bye, FetchFault::Stall, FetchFault::CloseInLiteral] {
            let server = ImapServer::start(ImapBehaviour::default()).await;
            (0..3).for_each(|number| _ = server.append("INBOX", &mail(number)));
            server.behave(|b| (b.fetch_fault, b.fault_once) = (Some(fault), true));
            let mut events = Events::of(&app);
            let id = draft(&admin, server.addr.port(), json!({})).await;
            act(&admin, id, "activate").await;
            events.wait("account.connected").await;
            assert_eq!(raws(&app, id).await, [mail(0), mail(1), mail(2)], "{fault:?}");
            assert_eq!(read(&admin, id).await["state"], "active");
        }
    }

    async fn a_server_in_trouble_makes_no_stub_of_a_good_message(app) {
        let (server, mut events, id) = at_a_server_in_trouble(&app).await;
        for times in 1..=6 {
            fail(&app, id, times).await;
        }
        server.behave(|b| b.fetch_fault = None);
        events.wait("account.connected").await;
        assert_eq!(raws(&app, id).await, [mail(1)]);
    }

    async fn a_message_that_breaks_the_connection_while_others_come_becomes_a_stub_with_its_header(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        (0..2).for_each(|number| _ = server.append("INBOX", &mail(number)));
        server.behave(|b| (b.fetch_fault, b.fault_uids) = (Some(FetchFault::CloseInLiteral), vec![2]));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        for times in 1..=5 {
            server.append("INBOX", &mail(9 + times as usize));
            fail(&app, id, times).await;
        }
        events.wait("account.connected").await;
        let taken = messages(&app, id).await;
        let stubs: Vec<_> = taken.iter().filter(|message| message.state == MessageState::Oversize).collect();
        assert_eq!((taken.len(), stubs.len(), stubs[0].subject.as_str()), (7, 1, "Order 1"));
        let reason = stubs[0].state_reason.as_deref().unwrap();
        assert!(reason.starts_with("not_fetched: the mailbox lists a message of"), "{reason}");
    }

    async fn trouble_with_one_message_that_lasts_an_hour_is_its_own(app) {
        let (_server, mut events, id) = at_a_server_in_trouble(&app).await;
        fail(&app, id, 1).await;
        app.app.clock.advance(Duration::from_secs(3_600));
        for times in 2..=5 {
            fail(&app, id, times).await;
        }
        events.wait("account.connected").await;
        assert_eq!(messages(&app, id).await[0].state, MessageState::Oversize);
    }

    async fn a_goodbye_while_idling_leads_to_a_new_connection(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        server.wait_until_idling().await;
        server.behave(|b| b.capabilities.retain(|offered| *offered != "IDLE"));
        server.shut_down();
        events.wait("account.connected").await;
        server.append("INBOX", &mail(1));
        events.wait("message.received").await;
        assert_eq!(read(&admin, id).await["health"]["last_error"]["code"], "closed");
    }

    async fn a_refused_login_fails_at_once_with_the_reason_and_is_not_hammered(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        server.behave(|b| b.refuse_login = Some("[AUTHENTICATIONFAILED] not today"));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        let failing = events.wait("account.failing").await;
        assert!(failing.data["reason"].as_str().unwrap().contains("not today"), "{}", failing.data);
        let account = read(&admin, id).await;
        assert_eq!((&account["state"], &account["health"]["last_error"]["code"]), (&json!("failing"), &json!("auth_rejected")));
        assert_eq!(server.logins(), 1);
        server.behave(|b| b.refuse_login = None);
        act(&admin, id, "poll").await;
        events.wait("account.recovered").await;
        let account = read(&admin, id).await;
        assert_eq!((&account["state"], &account["state_reason"]), (&json!("active"), &json!(null)));
        assert_eq!(server.logins(), 2);
    }

    async fn a_server_that_is_away_makes_the_account_failing_after_three_tries(app) {
        let admin = app.admin().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut events = Events::of(&app);
        let id = draft(&admin, port, json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.failing").await;
        let account = read(&admin, id).await;
        assert_eq!(account["health"]["last_error"]["code"], "connect");
    }

    async fn a_slow_server_delays_nobody_else(app) {
        let admin = app.admin().await;
        let slow = ImapServer::start(ImapBehaviour { silent_on: Some("LOGIN"), ..ImapBehaviour::default() }).await;
        let quick = ImapServer::start(ImapBehaviour::default()).await;
        quick.append("INBOX", &mail(1));
        let mut events = Events::of(&app);
        let first = draft(&admin, slow.addr.port(), json!({})).await;
        let second = draft(&admin, quick.addr.port(), json!({})).await;
        act(&admin, first, "activate").await;
        act(&admin, second, "activate").await;
        let connected = events.wait("account.connected").await;
        assert_eq!(connected.subject_id, second.uuid());
        assert_eq!(raws(&app, second).await, [mail(1)]);
    }
}
