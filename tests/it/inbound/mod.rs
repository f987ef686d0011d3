//! Taking mail in: nothing lost, nothing twice, everything in its conversation.

mod accept;
pub mod push;
mod threads;

use std::{path::PathBuf, sync::Arc};

use postroom::{
    accounts::entity::{AccountState, Channel, account},
    clock::Timestamp,
    id::AccountId,
    inbound::batch::{Batch, Content, Cursor, Incoming, Source},
    mail::token::Signer,
};
use reqwest::Method;
use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::support::{Backend, Client, Reply, TestApp};

/// An account in use, or in the given state.
pub async fn account_in(app: &TestApp, address: &str, state: AccountState) -> Arc<account::Model> {
    let now = app.app.clock.now();
    let row = account::Model {
        id: AccountId::new(now),
        channel: Channel::Email,
        address: address.into(),
        display_name: String::new(),
        description: String::new(),
        username: String::new(),
        password_sealed: None,
        oauth: None,
        oauth_sealed: None,
        inbound: json!({ "protocol": "push" }),
        signature_text: String::new(),
        signature_html: String::new(),
        script_id: None,
        fallback_queue_id: None,
        class_id: None,
        script_settings: json!({}),
        receipt_template_id: None,
        sms: None,
        state,
        state_reason: None,
        health: json!({}),
        due_at: None,
        lease_until: Timestamp::ZERO,
        attempts: 0,
        failures: 0,
        poll_requested: false,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let tx = app.app.db.begin().await.unwrap();
    account::Entity::insert(row.clone().into_active_model()).exec_without_returning(&*tx).await.unwrap();
    tx.commit().await.unwrap();
    Arc::new(row)
}

/// An account in use.
pub async fn account(app: &TestApp, address: &str) -> Arc<account::Model> {
    account_in(app, address, AccountState::Active).await
}

/// Pushes raw bytes.
pub async fn push(client: &Client, account: AccountId, raw: impl Into<Vec<u8>>) -> Reply {
    let request = client.request(Method::POST, &format!("/v1/accounts/{account}/messages"));
    client.send(request.header("content-type", "message/rfc822").body(raw.into())).await
}

/// Pushes a mail with these further header lines and gives its conversation's id.
pub async fn push_mail(client: &Client, account: AccountId, header: &str) -> String {
    let raw = format!("From: Anna <anna@example.org>\r\nSubject: Order\r\n{header}\r\n\r\nHello\r\n");
    push(client, account, raw).await.ok()["conversation_id"].as_str().unwrap().to_owned()
}

/// The signer of the service's own tokens.
pub fn signer(app: &TestApp) -> Signer {
    Signer::new(&app.app.sealer.derive("message-token"))
}

/// A message found in the inbox under this UID.
pub fn incoming(uid: i64, raw: impl Into<Vec<u8>>) -> Incoming {
    let internal_date = Timestamp::from_millis(1_700_000_000_000 + uid);
    let source = Source { folder: "INBOX".into(), uid_validity: 1, uid, internal_date };
    Incoming { source, content: Content::Raw(raw.into()) }
}

/// Messages with consecutive UIDs from `first` and the cursor behind them.
pub fn batch(first: i64, mails: impl IntoIterator<Item = Vec<u8>>) -> Batch {
    let incoming: Vec<_> = (first..).zip(mails).map(|(uid, raw)| incoming(uid, raw)).collect();
    let last_uid = incoming.last().map_or(first, |one| one.source.uid);
    let cursor = Some(Cursor { folder: "INBOX".into(), uid_validity: 1, last_uid });
    Batch { incoming, cursor, ..Batch::default() }
}

/// From now on the database refuses messages with this subject.
pub async fn refuse_subject(app: &TestApp, subject: &str) {
    let refuse = match app.backend {
        Backend::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.subject = '{subject}' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        Backend::Postgres => {
            format!("ALTER TABLE messages ADD CONSTRAINT refuse CHECK (subject <> '{subject}')")
        }
    };
    let tx = app.app.db.begin().await.unwrap();
    tx.execute_unprepared(&refuse).await.unwrap();
    tx.commit().await.unwrap();
}

/// From now on a transaction that stores a message fails when it is committed, and not before.
pub async fn break_commits(app: &TestApp) {
    let mut statements = vec![
        "CREATE TABLE nowhere (id BIGINT PRIMARY KEY)",
        "CREATE TABLE doomed (id BIGINT REFERENCES nowhere (id) DEFERRABLE INITIALLY DEFERRED)",
    ];
    match app.backend {
        Backend::Sqlite => statements
            .push("CREATE TRIGGER doom AFTER INSERT ON messages BEGIN INSERT INTO doomed VALUES (1); END"),
        Backend::Postgres => statements.extend([
            "CREATE FUNCTION doom() RETURNS trigger AS 'BEGIN INSERT INTO doomed VALUES (1); RETURN NULL; END' LANGUAGE plpgsql",
            "CREATE TRIGGER doom AFTER INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION doom()",
        ]),
    }
    let tx = app.app.db.begin().await.unwrap();
    for statement in statements {
        tx.execute_unprepared(statement).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// A fixture's bytes.
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

pub fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// All messages, oldest first.
pub async fn messages(client: &Client) -> Vec<Value> {
    let page = client.get("/v1/messages?limit=200").await.ok();
    page["items"].as_array().unwrap().clone()
}
