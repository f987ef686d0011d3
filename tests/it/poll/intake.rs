//! Everything in the mailbox is taken in, once.

use postroom::conversations::entity::MessageState;
use serde_json::json;

use super::{mail, polled};
use crate::support::{
    imap_server::{FetchFault, ImapBehaviour, ImapServer},
    mailbox::{Events, act, draft, messages, raws, read, sources},
};

polled! {
    async fn what_is_there_and_what_comes_is_taken_in_once(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        let mut expected: Vec<_> = (0..4).map(mail).collect();
        expected.iter().take(3).for_each(|raw| _ = server.append("INBOX", raw));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        server.wait_until_idling().await;
        server.append("INBOX", &expected[3]);
        events.wait("message.received").await;
        expected.sort();
        assert_eq!(raws(&app, id).await, expected);
        assert!(server.flags("INBOX", 4).is_empty());
        assert_eq!((server.logins(), server.commands("SELECT"), server.commands("EXAMINE")), (1, 0, 1));
        let account = read(&admin, id).await;
        assert_eq!((&account["state"], &account["health"]["mode"]), (&json!("active"), &json!("idle")));
    }

    async fn a_server_without_idle_is_asked_with_one_command(app) {
        let behaviour = ImapBehaviour::default().without("IDLE");
        let (admin, server) = (app.admin().await, ImapServer::start(behaviour).await);
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        let before = server.lines().len();
        server.append("INBOX", &mail(1));
        events.wait("message.received").await;
        server.append("INBOX", &mail(2));
        events.wait("message.received").await;
        let since: Vec<_> = server.lines().split_off(before);
        assert!(since.iter().all(|line| line == "NOOP" || line.starts_with("UID FETCH")), "{since:?}");
        assert_eq!(server.logins(), 1);
        assert_eq!(raws(&app, id).await, [mail(1), mail(2)]);
    }

    async fn a_message_that_is_too_large_is_a_stub_with_its_header(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        let mut large = mail(1);
        large.resize(70_000, b'x');
        server.append("INBOX", &large);
        server.append("INBOX", &mail(2));
        let mut events = Events::of(&app);
        let remove = json!({ "inbound": { "after_fetch": { "action": "delete" } } });
        let id = draft(&admin, server.addr.port(), remove).await;
        act(&admin, id, "activate").await;
        server.wait_until(|server| server.uids("INBOX") == [1]).await;
        events.wait("account.connected").await;
        let taken = messages(&app, id).await;
        let stub = taken.iter().find(|message| message.state == MessageState::Oversize).unwrap();
        assert_eq!((taken.len(), stub.size_bytes, stub.subject.as_str()), (2, 70_000, "Order 1"));
    }

    async fn a_changed_uidvalidity_takes_only_what_is_new(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        for raw in [mail(1), mail(2), mail(2)] {
            server.append("INBOX", &raw);
        }
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        act(&admin, id, "pause").await;
        server.wait_until(|server| server.commands("LOGOUT") == 1).await;
        server.expunge("INBOX", 1);
        server.renumber("INBOX");
        // A copy, byte for byte, of what we have twice; and a new one.
        server.append("INBOX", &mail(2));
        server.append("INBOX", &mail(3));
        act(&admin, id, "resume").await;
        events.wait("account.connected").await;
        assert_eq!(raws(&app, id).await, [mail(1), mail(2), mail(2), mail(2), mail(3)]);
        let now: Vec<_> = sources(&app, id).await.into_iter().filter(|s| s.uid_validity == 1001).map(|s| s.uid).collect();
        assert_eq!(now, [1, 2, 3, 4]);
        server.wait_until_idling().await;
        server.append("INBOX", &mail(4));
        events.wait("message.received").await;
        assert_eq!(raws(&app, id).await.len(), 6);
    }

    async fn another_server_with_the_same_numbers_is_another_mailbox(app) {
        let admin = app.admin().await;
        let old = ImapServer::start(ImapBehaviour::default()).await;
        let new = ImapServer::start(ImapBehaviour::default()).await;
        [mail(1), mail(2)].iter().for_each(|raw| _ = old.append("INBOX", raw));
        [mail(3), mail(2)].iter().for_each(|raw| _ = new.append("INBOX", raw));
        let mut events = Events::of(&app);
        let id = draft(&admin, old.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        let moved = json!({ "inbound": { "port": new.addr.port() } });
        admin.patch(&format!("/v1/accounts/{id}"), moved).await.ok();
        events.wait("account.connected").await;
        assert_eq!(raws(&app, id).await, [mail(1), mail(2), mail(3)]);
        assert_eq!(old.commands("LOGOUT"), 1);
    }

    async fn what_an_old_server_sends_after_the_account_was_moved_hides_nothing_on_the_new_one(app) {
        let admin = app.admin().await;
        let old = ImapServer::start(ImapBehaviour::default()).await;
        let new = ImapServer::start(ImapBehaviour::default()).await;
        [mail(1), mail(2)].iter().for_each(|raw| _ = old.append("INBOX", raw));
        [mail(3), mail(4)].iter().for_each(|raw| _ = new.append("INBOX", raw));
        old.behave(|b| (b.fetch_fault, b.fault_once) = (Some(FetchFault::Late), true));
        let mut events = Events::of(&app);
        let remove = json!({ "inbound": { "after_fetch": { "action": "delete" } } });
        let id = draft(&admin, old.addr.port(), remove).await;
        act(&admin, id, "activate").await;
        old.wait_until_late().await;
        let moved = json!({ "inbound": { "port": new.addr.port() } });
        admin.patch(&format!("/v1/accounts/{id}"), moved).await.ok();
        old.release();
        new.wait_until(|server| server.uids("INBOX").is_empty()).await;
        events.wait("account.connected").await;
        assert_eq!(raws(&app, id).await, [mail(3), mail(4)]);
        assert_eq!(old.uids("INBOX"), [1, 2]);
        assert_eq!(read(&admin, id).await["state"], "active");
    }

    async fn what_another_client_moves_and_expunges_costs_and_doubles_nothing(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        (0..3).for_each(|number| _ = server.append("INBOX", &mail(number)));
        // Left out of the answer as if it were expunged, but it is still there.
        server.behave(|b| (b.fetch_fault, b.fault_uids, b.fault_once) = (Some(FetchFault::LeaveOut), vec![2], true));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        assert_eq!(raws(&app, id).await, [mail(0), mail(2)]);
        server.wait_until_idling().await;
        server.expunge("INBOX", 1);
        server.append("INBOX", &mail(3));
        events.wait("message.received").await;
        let asked = admin.post(&format!("/v1/accounts/{id}/backfill"), json!({ "limit": 10 })).await;
        assert_eq!(asked.status, 202);
        events.wait("message.received").await;
        assert_eq!(raws(&app, id).await, [mail(0), mail(1), mail(2), mail(3)]);
        assert_eq!(server.logins(), 1);
    }

    async fn mail_that_comes_during_a_bounded_backfill_is_taken_in_too(app) {
        let behaviour = ImapBehaviour { fetch_fault: Some(FetchFault::Late), fault_once: true, ..ImapBehaviour::default() };
        let (admin, server) = (app.admin().await, ImapServer::start(behaviour.without("IDLE")).await);
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        server.append("INBOX", &mail(1));
        server.wait_until_late().await;
        server.append("INBOX", &mail(2));
        server.append("INBOX", &mail(3));
        let asked = admin.post(&format!("/v1/accounts/{id}/backfill"), json!({ "limit": 1 })).await;
        assert_eq!(asked.status, 202);
        events.wait("account.backfill_requested").await;
        server.release();
        for _ in 0..3 {
            events.wait("message.received").await;
        }
        assert_eq!(raws(&app, id).await, [mail(1), mail(2), mail(3)]);
    }

    async fn messages_are_marked_moved_or_deleted_once_they_are_safe(app) {
        let admin = app.admin().await;
        let mut events = Events::of(&app);
        for (after, capability) in [
            (json!({ "action": "mark_seen" }), "NONE"),
            (json!({ "action": "move", "folder": "Archive" }), "NONE"),
            (json!({ "action": "move", "folder": "Archive" }), "MOVE"),
            (json!({ "action": "delete" }), "NONE"),
        ] {
            let server = ImapServer::start(ImapBehaviour::default().without(capability)).await;
            server.append("INBOX", &mail(1));
            let id = draft(&admin, server.addr.port(), json!({ "inbound": { "after_fetch": after } })).await;
            act(&admin, id, "activate").await;
            events.wait("account.connected").await;
            server.append("INBOX", &mail(2));
            match after["action"].as_str().unwrap() {
                "mark_seen" => {
                    server.wait_until(|s| [1, 2].iter().all(|uid| s.flags("INBOX", *uid) == ["\\Seen"])).await;
                }
                "move" => server.wait_until(|s| s.uids("INBOX").is_empty() && s.uids("Archive").len() == 2).await,
                _ => server.wait_until(|s| s.uids("INBOX").is_empty()).await,
            }
            assert_eq!(raws(&app, id).await, [mail(1), mail(2)]);
        }
    }

    async fn what_could_not_be_done_on_the_server_is_done_later_and_the_mail_is_taken_in_once(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        server.append("INBOX", &mail(1));
        server.behave(|b| b.refuse = Some(("UID MOVE", "[NONEXISTENT] no such folder")));
        let mut events = Events::of(&app);
        let after = json!({ "inbound": { "after_fetch": { "action": "move", "folder": "Archive" } } });
        let id = draft(&admin, server.addr.port(), after).await;
        act(&admin, id, "activate").await;
        events.wait("account.failing").await;
        assert!(sources(&app, id).await[0].after_fetch_due);
        server.behave(|b| b.refuse = None);
        act(&admin, id, "poll").await;
        events.wait("account.recovered").await;
        assert_eq!((server.uids("INBOX"), server.uids("Archive").len()), (vec![], 1));
        assert_eq!(raws(&app, id).await, [mail(1)]);
        assert!(!sources(&app, id).await[0].after_fetch_due);
    }
}
