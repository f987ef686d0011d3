//! Batches: each message once, whatever happens in between.

use std::{future::Future, pin::pin, task::Poll};

use postroom::{
    accounts::entity::folder,
    clock::Timestamp,
    conversations::entity::MessageState,
    inbound::{
        accept::accept,
        batch::{Batch, Content, Cursor, Incoming, Rekey, Source},
        source::{Fingerprint, already_has},
    },
};
use sea_orm::{ConnectionTrait, EntityTrait};
use sha2::{Digest, Sha256};

use super::{account, batch, incoming, messages, push::objects, refuse_subject};
use crate::{
    on_both,
    support::{Backend, TestApp},
};

fn mail(number: usize, size: usize) -> Vec<u8> {
    let mut raw =
        format!("From: a{number}@example.org\r\nMessage-ID: <{number}@x>\r\nSubject: {number}\r\n\r\n")
            .into_bytes();
    // Every byte value, so that nothing on the way may touch them.
    raw.extend((raw.len()..size).map(|at| u8::try_from((at * 31 + number) % 256).unwrap()));
    raw
}

async fn cursor(app: &TestApp) -> Option<(i64, i64)> {
    let row = folder::Entity::find().one(app.app.db.read()).await.unwrap();
    row.map(|row| (row.uid_validity, row.last_uid))
}

on_both! {
    async fn a_thousand_messages_are_given_back_byte_for_byte(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let size = |number: usize| if number.is_multiple_of(50) { 70_000 } else { 200 + number };
        for first in (0..1000).step_by(200) {
            let mails = (first..first + 200).map(|number| mail(number, size(number)));
            let batch = batch(i64::try_from(first).unwrap() + 1, mails);
            let accepted = accept(&app.app, account.clone(), batch).await.unwrap();
            for (number, stored) in (first..).zip(&accepted.stored) {
                let source = admin.get(&format!("/v1/messages/{}/raw", stored.message_id)).await;
                assert!(source.bytes == mail(number, size(number)), "message {number} was changed");
            }
            assert_eq!(accepted.stored.len(), 200);
        }
        assert_eq!((objects(&app), cursor(&app).await), (20, Some((1, 1000))));
    }

    async fn the_same_uid_is_taken_in_once(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let first = batch(1, [mail(1, 100), mail(2, 100)]);
        assert_eq!(accept(&app.app, account.clone(), first).await.unwrap().stored.len(), 2);
        let mut second = batch(2, [mail(2, 100), mail(3, 100)]);
        second.incoming.push(incoming(3, mail(3, 100)));
        let accepted = accept(&app.app, account, second).await.unwrap();
        assert_eq!((accepted.stored.len(), accepted.known), (1, 2));
        assert_eq!(messages(&admin).await.len(), 3);
        assert_eq!(cursor(&app).await, Some((1, 3)));
    }

    async fn the_same_bytes_under_two_uids_are_two_messages(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        accept(&app.app, account, batch(1, [mail(1, 100), mail(1, 100)])).await.unwrap();
        assert_eq!(messages(&admin).await.len(), 2);
    }

    async fn a_cursor_never_goes_back_within_its_uidvalidity(app) {
        let account = account(&app, "support@example.com").await;
        let at = |uid_validity, last_uid| Batch {
            cursor: Some(Cursor { folder: "INBOX".into(), uid_validity, last_uid }),
            ..Batch::default()
        };
        for (batch, expected) in [(at(1, 9), (1, 9)), (at(1, 4), (1, 9)), (at(2, 3), (2, 3))] {
            accept(&app.app, account.clone(), batch).await.unwrap();
            assert_eq!(cursor(&app).await, Some(expected));
        }
    }

    async fn a_batch_that_breaks_off_anywhere_leaves_all_or_nothing(app) {
        let account = account(&app, "support@example.com").await;
        let mut broken = 0;
        for polls in 1.. {
            let first = i64::from(polls) * 10;
            let whole = batch(first, (0..3).map(|number| mail(number, 100)));
            let ended = poll_at_most(polls, accept(&app.app, account.clone(), whole.clone())).await;
            // What is stored by now is known to the next transaction, which waits for the broken one to end.
            let rest = Batch { cursor: None, ..whole.clone() };
            let rest = accept(&app.app, account.clone(), rest).await.unwrap();
            assert!(matches!((rest.stored.len(), rest.known), (3, 0) | (0, 3)), "{rest:?}");
            let last_uid = cursor(&app).await.map_or(0, |(_, uid)| uid);
            assert_eq!(rest.known == 3, last_uid == first + 2, "rows and cursor moved apart");
            match ended {
                Some(accepted) => {
                    assert_eq!((accepted.unwrap().stored.len(), rest.known), (3, 3));
                    break;
                }
                None => broken += 1,
            }
        }
        assert!(broken > 0, "it was never broken off");
    }

    async fn a_batch_whose_cursor_cannot_move_leaves_nothing(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let tx = app.app.db.begin().await.unwrap();
        tx.execute_unprepared("ALTER TABLE account_folders RENAME TO away").await.unwrap();
        tx.commit().await.unwrap();
        assert!(accept(&app.app, account.clone(), batch(1, [mail(1, 100)])).await.is_err());
        assert!(messages(&admin).await.is_empty());
        let tx = app.app.db.begin().await.unwrap();
        tx.execute_unprepared("ALTER TABLE away RENAME TO account_folders").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(accept(&app.app, account, batch(1, [mail(1, 100)])).await.unwrap().stored.len(), 1);
    }

    async fn one_message_that_the_database_refuses_does_not_stop_the_others(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        refuse_subject(&app, "2").await;
        let accepted = accept(&app.app, account, batch(1, (1..4).map(|number| mail(number, 100)))).await.unwrap();
        let states: Vec<_> = accepted.stored.iter().map(|one| one.state).collect();
        assert_eq!(states, [MessageState::Parsed, MessageState::Unparsed, MessageState::Parsed]);
        let raw = admin.get(&format!("/v1/messages/{}/raw", accepted.stored[1].message_id)).await;
        assert_eq!((raw.bytes, cursor(&app).await), (mail(2, 100), Some((1, 3))));
    }

    async fn a_message_too_large_to_fetch_becomes_a_stub(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let stub = |uid, header: Option<&str>| Incoming {
            content: Content::Oversize { size_bytes: 99_000_000, header: header.map(|text| text.as_bytes().to_vec()) },
            ..incoming(uid, "")
        };
        let header = "From: Anna <anna@example.org>\r\nSubject: Film\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
        let incoming = vec![stub(1, Some(header)), stub(2, None)];
        let accepted = accept(&app.app, account, Batch { incoming, ..Batch::default() }).await.unwrap();
        let [known, unknown] = [0, 1].map(|at: usize| format!("/v1/messages/{}", accepted.stored[at].message_id));
        let message = admin.get(&known).await.ok();
        assert_eq!((message["state"].as_str(), message["subject"].as_str()), (Some("oversize"), Some("Film")));
        assert_eq!((message["size_bytes"].as_i64(), &message["from"]["name"]), (Some(99_000_000), &"Anna".into()));
        assert_eq!(admin.get(&format!("{known}/raw")).await.bytes, header.as_bytes());
        assert_eq!(admin.get(&unknown).await.ok()["state"], "oversize");
        admin.get(&format!("{unknown}/raw")).await.problem(404, "not_found");
    }

    async fn after_a_changed_uidvalidity_only_what_is_new_is_taken_in(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        accept(&app.app, account.clone(), batch(1, [mail(1, 100), mail(7, 100), mail(7, 100)])).await.unwrap();
        // The folder is listed anew: the twins, a third copy of them, a new message, and the first one.
        let now = [mail(7, 100), mail(7, 100), mail(7, 100), mail(8, 100), mail(1, 100)];
        let prints = now.clone().map(|raw| Fingerprint::Sha256(Sha256::digest(&raw).into()));
        let ours = already_has(app.app.db.read(), account.id, "INBOX", 2, &prints).await.unwrap();
        assert_eq!(ours.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, true]);
        assert_ne!(ours[0], ours[1]);
        let mut batch = Batch { cursor: Some(Cursor { folder: "INBOX".into(), uid_validity: 2, last_uid: 5 }), ..Batch::default() };
        for ((uid, raw), ours) in (1..).zip(now.clone()).zip(&ours) {
            match *ours {
                Some(source_id) => batch.rekeyed.push(Rekey { source_id, uid_validity: 2, uid }),
                None => {
                    let new = incoming(uid, raw);
                    batch.incoming.push(Incoming { source: Source { uid_validity: 2, ..new.source }, ..new });
                }
            }
        }
        assert_eq!(accept(&app.app, account.clone(), batch.clone()).await.unwrap().stored.len(), 2);
        assert_eq!((messages(&admin).await.len(), cursor(&app).await), (5, Some((2, 5))));
        let left = already_has(app.app.db.read(), account.id, "INBOX", 2, &prints).await.unwrap();
        assert!(left.iter().all(Option::is_none), "all are known by their new UIDs");
        assert_eq!(accept(&app.app, account, batch).await.unwrap().stored.len(), 0);
    }

    async fn an_oversize_stub_is_known_again_by_its_size_and_date(app) {
        let account = account(&app, "support@example.com").await;
        let content = Content::Oversize { size_bytes: 99_000_000, header: None };
        let stub = Incoming { content, ..incoming(1, "") };
        let internal_date = stub.source.internal_date;
        accept(&app.app, account.clone(), Batch { incoming: vec![stub], ..Batch::default() }).await.unwrap();
        let print = |internal_date| [Fingerprint::Oversize { size_bytes: 99_000_000, internal_date }];
        let found = already_has(app.app.db.read(), account.id, "INBOX", 2, &print(internal_date)).await.unwrap();
        assert!(found[0].is_some());
        let other = already_has(app.app.db.read(), account.id, "INBOX", 2, &print(Timestamp::ZERO)).await.unwrap();
        assert!(other[0].is_none());
    }
}

/// Polls a future at most this often and then drops it; none when it had not ended.
async fn poll_at_most<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_that_take_in_the_same_mail_take_it_in_once() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.replica().await;
    let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
    for first in (1..200).step_by(20) {
        let batch =
            batch(first, (first..first + 20).map(|number| mail(usize::try_from(number).unwrap(), 100)));
        let (one, two) = tokio::join!(
            accept(&app.app, account.clone(), batch.clone()),
            accept(&other.app, account.clone(), batch)
        );
        assert_eq!(one.unwrap().stored.len() + two.unwrap().stored.len(), 20);
    }
    assert_eq!(messages(&admin).await.len(), 200);
}
