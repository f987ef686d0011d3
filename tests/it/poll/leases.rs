//! Who polls an account, and how it is let go.

use std::time::Duration;

use postroom::{
    accounts::entity::account,
    clock::{Clock, Timestamp},
    inbound::poll::LEASE_S,
};
use sea_orm::EntityTrait;
use serde_json::json;

use super::{SETTINGS, mail, polled};
use crate::support::{
    Backend, TestApp,
    imap_server::{ImapBehaviour, ImapServer},
    mailbox::{Events, act, draft, raws},
};

polled! {
    async fn a_soft_stop_ends_the_idle_logs_out_and_lets_the_account_go(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        server.wait_until_idling().await;
        tokio::time::timeout(Duration::from_secs(10), app.app.stop()).await.unwrap();
        assert_eq!(server.commands("LOGOUT"), 1);
        let row = account::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!(row.lease_until, Timestamp::ZERO);
        assert!(row.due_at.is_some());
        assert!(!app.app.shutdown.has_failed());
    }

    async fn a_paused_account_is_left_at_once(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        act(&admin, id, "pause").await;
        server.append("INBOX", &mail(1));
        act(&admin, id, "resume").await;
        events.wait("account.connected").await;
        assert_eq!(raws(&app, id).await, [mail(1)]);
        assert_eq!((server.logins(), server.commands("LOGOUT")), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_from_a_dead_one_when_its_lease_is_over() {
    let first = TestApp::with(Backend::Postgres, Clock::system(), SETTINGS).await;
    let second = first.replica().await;
    let (admin, server) = (first.admin().await, ImapServer::start(ImapBehaviour::default()).await);
    first.start_workers();
    let mut events = Events::of(&first);
    let id = draft(&admin, server.addr.port(), json!({})).await;
    act(&admin, id, "activate").await;
    events.wait("account.connected").await;
    let mut events = Events::of(&second);
    second.start_workers();
    // What the first one did, the second one hears of too.
    events.wait("account.connected").await;
    // The dead one says nothing to anybody.
    first.app.shutdown.abort();
    first.app.tasks.ended().await;
    server.append("INBOX", &mail(1));
    assert_eq!(server.logins(), 1);
    second.app.clock.advance(Duration::from_secs(LEASE_S.unsigned_abs() + 1));
    events.wait("account.connected").await;
    assert_eq!(raws(&second, id).await, [mail(1)]);
}
