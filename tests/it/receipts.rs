//! Automatic answers: to people, once, and never to machines.

use std::sync::Arc;

use postroom::{
    accounts::entity::account,
    clock::Timestamp,
    conversations::entity::{auto_answer, message},
    id::{AccountId, MessageId, TemplateId, WorkItemId},
    mail::parse::{Limits as ParseLimits, parse},
    receipts::{Answered, Limits, Reason, Receipt, send},
};
use sea_orm::{ActiveValue::Set, EntityTrait};

use crate::{
    inbound::{account, push},
    on_both,
    support::{Backend, TestApp},
};

const LIMITS: Limits = Limits { account_minute: 3, account_hour: 4, address_day: 2 };

async fn mail(app: &TestApp, account: AccountId, header: &str) -> message::Model {
    let raw = format!(
        "{header}\r\nTo: support@example.com\r\nMessage-ID: <c1@example.org>\r\nSubject: Order\r\n\r\nHello\r\n"
    );
    let pushed = push(&app.admin().await, account, raw).await.ok();
    let id: MessageId = pushed["message"]["id"].as_str().unwrap().parse().unwrap();
    message::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap()
}

async fn thanks(app: &TestApp) -> TemplateId {
    let now = app.app.clock.now();
    let body = serde_json::json!({ "name": format!("Thanks {}", now.as_millis()), "purpose": "receipt", "subject": "{{ message.subject }}", "text": "Thank you, {{ message.from.name }}." });
    let admin = app.admin().await;
    let made = admin.post("/v1/templates", body).await;
    admin.post(&format!("{}/publish", made.header("location")), serde_json::json!({})).await.ok();
    made.ok()["id"].as_str().unwrap().parse().unwrap()
}

/// What a script's step does: asks, and sends when it may.
async fn answer(
    app: &TestApp,
    account: &Arc<account::Model>,
    message: &message::Model,
    template_id: TemplateId,
) -> Result<MessageId, Reason> {
    let now = app.app.clock.now();
    let tx = app.app.db.begin().await.unwrap();
    let mut answered = Answered::load(&*tx, LIMITS, now, &[message]).await.unwrap();
    let to = answered.may_send(message, "receipt")?;
    answered.note(account.id, &to, "receipt");
    assert_eq!(answered.may_send(message, "receipt").unwrap_err(), Reason::AnsweredLately);
    let receipt = Receipt {
        account: Arc::clone(account),
        message: message.clone(),
        work_item_id: WorkItemId::new(now),
        to,
        rule: "receipt".into(),
        template_id,
    };
    let sent = send(&app.app, &tx, now, vec![receipt]).await.unwrap();
    tx.commit().await.unwrap();
    Ok(sent[0].clone().unwrap())
}

on_both! {
    async fn a_person_gets_an_answer_that_no_machine_answers(app) {
        let account = account(&app, "support@example.com").await;
        let template = thanks(&app).await;
        let message = mail(&app, account.id, "From: Anna <anna@example.org>").await;
        let id = answer(&app, &account, &message, template).await.unwrap();
        let raw = app.admin().await.get(&format!("/v1/messages/{id}/raw")).await.bytes;
        let sent = parse(&raw, &ParseLimits::default()).unwrap();
        assert_eq!(sent.text.as_deref().map(str::trim), Some("Thank you, Anna."));
        assert_eq!((sent.subject.as_deref(), sent.in_reply_to.as_slice()), (Some("Order"), &["c1@example.org".to_owned()][..]));
        assert_eq!(sent.headers["auto-submitted"], ["auto-replied"]);
        let delivery = postroom::delivery::entity::delivery::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!((delivery.envelope_from.as_str(), delivery.precedence), ("", 1));
        // The other account's machine, here or elsewhere, does not answer this answer.
        let back = String::from_utf8(raw).unwrap();
        let pushed = push(&app.admin().await, account.id, back.replace("X-Postroom-Loop", "X-Other-Loop").replace("support@example.com", "other@example.net")).await.ok();
        let id: MessageId = pushed["message"]["id"].as_str().unwrap().parse().unwrap();
        let returned = message::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap();
        assert!(matches!(answer(&app, &account, &returned, template).await, Err(Reason::Unanswerable(_))));
    }

    async fn machines_lists_and_our_own_accounts_get_none(app) {
        let ours = account(&app, "support@example.com").await;
        account(&app, "sales@example.com").await;
        let template = thanks(&app).await;
        for header in [
            "From: noreply@example.org",
            "From: anna@example.org\r\nList-Id: <news.example.org>",
            "From: anna@example.org\r\nAuto-Submitted: auto-replied",
            "From: anna@example.org\r\nPrecedence: bulk",
            "From: support@example.com",
            "From: sales+x@example.com",
            "From: anna@example.org\r\nReply-To: sales@example.com",
            "From: anna@example.org\r\nX-Postroom-Loop: another",
        ] {
            let message = mail(&app, ours.id, header).await;
            let refused = answer(&app, &ours, &message, template).await;
            assert!(matches!(refused, Err(Reason::Unanswerable(_))), "{header}: {refused:?}");
        }
    }

    async fn the_breaker_stops_what_people_do_not_do(app) {
        let account = account(&app, "support@example.com").await;
        let template = thanks(&app).await;
        for n in 0..3 {
            let message = mail(&app, account.id, &format!("From: c{n}@example.org")).await;
            answer(&app, &account, &message, template).await.unwrap();
        }
        let message = mail(&app, account.id, "From: c9@example.org").await;
        assert_eq!(answer(&app, &account, &message, template).await.unwrap_err(), Reason::AccountBreaker);
        let now = app.app.clock.now();
        let tx = app.app.db.begin().await.unwrap();
        let rows = ["a", "b"].map(|rule| auto_answer::ActiveModel {
            account_id: Set(account.id), address: Set("anna@example.org".into()), rule: Set(rule.into()), answered_at: Set(now),
        });
        auto_answer::Entity::insert_many(rows).exec_without_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let message = mail(&app, account.id, "From: Anna+tag@Example.org").await;
        let free = Limits { account_minute: 100, account_hour: 100, ..LIMITS };
        let answered = Answered::load(app.app.db.read(), free, now, &[&message]).await.unwrap();
        assert_eq!(answered.may_send(&message, "receipt").unwrap_err(), Reason::AddressBreaker);
    }
}

async fn once_in_seven_days(backend: Backend) {
    let app = TestApp::frozen(backend).await;
    let account = account(&app, "support@example.com").await;
    let template = thanks(&app).await;
    let message = mail(&app, account.id, "From: anna@example.org").await;
    answer(&app, &account, &message, template).await.unwrap();
    let start: Timestamp = app.app.clock.now();
    app.app.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600 - 1));
    assert_eq!(answer(&app, &account, &message, template).await.unwrap_err(), Reason::AnsweredLately);
    app.app.clock.advance(std::time::Duration::from_secs(1));
    answer(&app, &account, &message, template).await.unwrap();
    assert_eq!(app.app.clock.now(), start.plus_s(7 * 24 * 3600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_answered_again_after_seven_days_sqlite() {
    once_in_seven_days(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_answered_again_after_seven_days_postgres() {
    once_in_seven_days(Backend::Postgres).await;
}
