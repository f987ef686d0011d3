//! Which conversation a mail joins, and what that does to it.

use postroom::{
    id::{ConversationId, MessageId},
    inbound::accept::accept,
    instance::instance_id,
};
use serde_json::json;
use uuid::Uuid;

use super::{account, batch, fixture, messages, push, push_mail, signer};
use crate::{
    on_both,
    support::{Backend, TestApp},
};

/// Our Message-ID for an answer in this conversation.
fn our_id(app: &TestApp, conversation: &str) -> String {
    let message = MessageId::new(app.app.clock.now());
    signer(app).message_id(message.uuid(), Uuid::parse_str(conversation).unwrap(), "example.com")
}

on_both! {
    async fn an_answer_joins_by_in_reply_to_and_then_by_references_from_the_right(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let first = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
        let second = push_mail(&admin, account.id, "Message-ID: <2@x>").await;
        assert_ne!(first, second);
        assert_eq!(push_mail(&admin, account.id, "In-Reply-To: <1@x>\r\nReferences: <2@x>").await, first);
        assert_eq!(push_mail(&admin, account.id, "References: <1@x> <2@x> <unknown@x>").await, second);
        assert_eq!(push_mail(&admin, account.id, "In-Reply-To: <unknown@x>\r\nReferences: <2@x> <1@x>").await, first);
    }

    async fn our_token_goes_before_everything_wherever_it_is_carried(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let first = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
        push_mail(&admin, account.id, "Message-ID: <2@x>").await;
        let id = our_id(&app, &first);
        let base = postroom::mail::address::Address::parse("support@example.com").unwrap();
        let plus = signer(&app).reply_address(&base, Uuid::parse_str(&first).unwrap()).unwrap();
        for header in [
            format!("References: <{id}> <2@x>"),
            format!("In-Reply-To: <2@x>\r\nReferences: <{id}>"),
            format!("In-Reply-To: <2@x>\r\nTo: Support <{plus}>"),
            format!("In-Reply-To: <2@x>\r\nDelivered-To: {plus}"),
        ] {
            assert_eq!(push_mail(&admin, account.id, &header).await, first, "{header}");
        }
    }

    async fn a_forged_token_counts_for_nothing(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let first = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
        let forger = postroom::mail::token::Signer::new(&[9; 32]);
        let forged = forger.message_id(Uuid::nil(), Uuid::parse_str(&first).unwrap(), "example.com");
        assert_ne!(push_mail(&admin, account.id, &format!("In-Reply-To: <{forged}>")).await, first);
        let mut turned = our_id(&app, &first);
        let last = turned.find('@').unwrap() - 3;
        turned.replace_range(last..=last, if turned.as_bytes()[last] == b'a' { "b" } else { "a" });
        assert_ne!(push_mail(&admin, account.id, &format!("In-Reply-To: <{turned}>")).await, first);
        let nowhere = our_id(&app, &ConversationId::new(app.app.clock.now()).to_string());
        let begun = push_mail(&admin, account.id, &format!("In-Reply-To: <{nowhere}>")).await;
        assert_ne!(begun, first);
    }

    async fn the_subject_and_the_sender_alone_join_nothing(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let first = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
        assert_ne!(push_mail(&admin, account.id, "Message-ID: <2@x>").await, first);
        let raw = "From: support@example.com\r\nSubject: Re: Order\r\n\r\nx";
        assert_ne!(push(&admin, account.id, raw).await.ok()["conversation_id"], first);
    }

    async fn an_id_joins_only_within_its_account_but_a_token_everywhere(app) {
        let admin = app.admin().await;
        let (sales, support) = (account(&app, "sales@example.com").await, account(&app, "support@example.com").await);
        let first = push_mail(&admin, sales.id, "Message-ID: <1@x>").await;
        assert_ne!(push_mail(&admin, support.id, "In-Reply-To: <1@x>").await, first);
        let id = our_id(&app, &first);
        assert_eq!(push_mail(&admin, support.id, &format!("In-Reply-To: <{id}>")).await, first);
        let conversation = admin.get(&format!("/v1/conversations/{first}")).await.ok();
        assert_eq!(conversation["account_id"], sales.id.to_string());
        assert_eq!(messages(&admin).await[2]["account_id"], support.id.to_string());
    }

    async fn an_answer_in_the_same_batch_joins_what_came_before_it(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let mails = [
            "Message-ID: <1@x>\r\nSubject: a\r\n\r\nx",
            "Message-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\n\r\nx",
            "Message-ID: <3@x>\r\nSubject: b\r\n\r\nx",
            "Message-ID: <4@x>\r\nReferences: <2@x>\r\n\r\nx",
        ];
        let batch = batch(1, mails.map(|raw| raw.as_bytes().to_vec()));
        let accepted = accept(&app.app, account, batch).await.unwrap();
        let ids: Vec<_> = accepted.stored.iter().map(|one| one.conversation_id).collect();
        assert_eq!((ids[0], ids[0]), (ids[1], ids[3]));
        assert_ne!(ids[0], ids[2]);
        let conversation = admin.get(&format!("/v1/conversations/{}", ids[0])).await.ok();
        assert_eq!(conversation["message_count"], 3);
        assert_eq!(conversation["last_message_id"], accepted.stored[3].message_id.to_string());
    }

    async fn the_customers_mail_opens_a_closed_conversation_and_a_machines_does_not(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let raw = "From: Anna <anna@example.org>\r\nMessage-ID: <1@x>\r\nSubject: a\r\n\r\nx";
        let pushed = push(&admin, account.id, raw).await.ok();
        let path = format!("/v1/conversations/{}", pushed["conversation_id"].as_str().unwrap());
        close(&app, &path).await;
        let raw = "From: anna@example.org\r\nIn-Reply-To: <1@x>\r\nAuto-Submitted: auto-replied\r\nSubject: away\r\n\r\nx";
        let away = push(&admin, account.id, raw).await.ok();
        assert_eq!(away["message"]["classification"], "auto_reply");
        let conversation = admin.get(&path).await.ok();
        assert_eq!((&conversation["state"], &conversation["message_count"]), (&json!("closed"), &json!(2)));
        let raw = "From: Anna Smith <Anna@Example.org>\r\nIn-Reply-To: <1@x>\r\nSubject: Re: a\r\n\r\nx";
        push(&admin, account.id, raw).await.ok();
        let conversation = admin.get(&path).await.ok();
        assert_eq!((&conversation["state"], &conversation["customer_name"]), (&json!("open"), &json!("Anna Smith")));
    }

    async fn our_own_mail_coming_back_is_kept_and_opens_nothing(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let instance = instance_id(&app.app).await.unwrap();
        let looped = format!("From: support@example.com\r\nX-Postroom-Loop: {instance}\r\nSubject: a\r\n\r\nx");
        let pushed = push(&admin, account.id, looped).await.ok();
        assert_eq!((&pushed["message"]["classification"], &pushed["work_item_id"]), (&json!("loop"), &json!(null)));
        let path = format!("/v1/conversations/{}", pushed["conversation_id"].as_str().unwrap());
        assert_eq!(admin.get(&path).await.ok()["state"], "closed");
        let foreign = "X-Postroom-Loop: another\r\nSubject: a\r\n\r\nx";
        assert_eq!(push(&admin, account.id, foreign).await.ok()["message"]["classification"], "normal");
    }

    async fn a_bounce_joins_by_the_message_that_it_returns(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let first = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
        let path = format!("/v1/conversations/{first}");
        close(&app, &path).await;
        let id = our_id(&app, &first);
        let bounce = String::from_utf8(fixture("bounce_dsn_failed.eml")).unwrap();
        let bounce = bounce.replace("prt.sent@example.com", &id);
        let pushed = push(&admin, account.id, bounce).await.ok();
        assert_eq!((&pushed["message"]["classification"], &pushed["conversation_id"]), (&json!("bounce"), &json!(first)));
        assert_eq!(admin.get(&path).await.ok()["state"], "open");
        let old = format!(
            "From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered mail\r\nReturn-Path: <>\r\n\r\nSorry.\r\n\r\n> Message-ID: <{id}>\r\n"
        );
        assert_eq!(push(&admin, account.id, old).await.ok()["conversation_id"], first);
    }
}

/// Closes a conversation as the end of its work does.
async fn close(app: &TestApp, path: &str) {
    use postroom::conversations::entity::{ConversationState, conversation};
    use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
    let id: ConversationId = path.rsplit('/').next().unwrap().parse().unwrap();
    let tx = app.app.db.begin().await.unwrap();
    let closed = conversation::ActiveModel { state: Set(ConversationState::Closed), ..Default::default() };
    let update = conversation::Entity::update_many().set(closed).filter(conversation::Column::Id.eq(id));
    assert_eq!(update.exec(&*tx).await.unwrap().rows_affected, 1);
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_messages_with_the_same_id_only_the_newest_is_looked_at() {
    let app = TestApp::start(Backend::Postgres).await;
    let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
    let oldest = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
    let newest = push_mail(&admin, account.id, "Message-ID: <1@x>").await;
    assert_ne!(oldest, newest);
    let tx = app.app.db.begin().await.unwrap();
    postroom::work::state::lock_conversation(&tx, oldest.parse().unwrap()).await.unwrap();
    let answer = push_mail(&admin, account.id, "In-Reply-To: <1@x>");
    // Only so that a test that fails does not hang.
    let joined = tokio::time::timeout(std::time::Duration::from_secs(60), answer).await;
    assert_eq!(joined.expect("it waits for no older conversation"), newest);
    tx.commit().await.unwrap();
}
