//! Messages to be sent, without the features that write them; and a server to send them to.

use postroom::{
    accounts::entity::{AccountState, Channel, account},
    app::App,
    conversations::entity::{
        Classification, ConversationState, Direction, MessageKind, MessageState, conversation, message,
        raw_message,
    },
    delivery::{Outbound, enqueue, enqueue::Precedence, send::deliver},
    id::{AccountId, ConversationId, MessageId},
    workers::Step,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Client, TestApp, smtp_sink::SmtpSink};

pub const FROM: &str = "support@example.org";

/// A message to be made.
#[derive(Clone)]
pub struct Draft {
    pub to: Vec<String>,
    pub precedence: Precedence,
    pub repeatable: bool,
}

impl Draft {
    pub fn to(recipients: &[&str]) -> Self {
        let to = recipients.iter().map(ToString::to_string).collect();
        Self { to, precedence: Precedence::Answer, repeatable: true }
    }

    pub fn once(self) -> Self {
        Self { precedence: Precedence::Triggered, repeatable: false, ..self }
    }

    /// Stores and enqueues it; gives its id and the state it got.
    pub async fn enqueue(self, app: &App) -> (MessageId, MessageState) {
        let now = app.clock.now();
        let tx = app.db.begin().await.unwrap();
        let account = account_id(app, &tx).await;
        let id = store(app, &tx, account, &self.to).await;
        let Self { to, precedence, repeatable } = self;
        let outbound = Outbound {
            message_id: id,
            envelope_from: FROM.into(),
            recipients: to,
            precedence,
            repeatable,
            not_before: None,
            window: None,
            barred: None,
        };
        let state = enqueue(app, &tx, now, outbound).await.unwrap();
        tx.commit().await.unwrap();
        (id, state)
    }
}

/// Enqueues an answer to one recipient.
pub async fn answer(app: &TestApp) -> MessageId {
    Draft::to(&["anna@example.com"]).enqueue(&app.app).await.0
}

/// Sends whatever is due.
pub async fn send(app: &TestApp) -> Step {
    deliver(app.app.clone()).await.unwrap()
}

/// Points the outgoing server at the sink, over one connection at a time.
pub async fn use_sink(admin: &Client, sink: &SmtpSink) -> Value {
    use_server(admin, json!({ "port": sink.addr.port() })).await
}

/// Sets the outgoing server: plain SMTP to this machine, changed by `members`.
pub async fn use_server(admin: &Client, members: Value) -> Value {
    let mut body =
        json!({ "transport": "smtp", "host": "127.0.0.1", "security": "none", "max_connections": 1 });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    admin.put("/v1/outgoing-server", body).await.ok()
}

pub async fn delivery(admin: &Client, id: MessageId) -> Value {
    admin.get(&format!("/v1/messages/{id}/delivery")).await.ok()
}

/// The message's state in the API.
pub async fn state(admin: &Client, id: MessageId) -> String {
    delivery(admin, id).await["state"].as_str().unwrap().to_owned()
}

/// The steps of a message's timeline, as `step` or `step code`.
pub async fn timeline(admin: &Client, id: MessageId) -> Vec<String> {
    let page = admin.get(&format!("/v1/messages/{id}/timeline?limit=200")).await.ok();
    let line = |entry: &Value| match entry["code"].as_i64() {
        Some(code) => format!("{} {code}", entry["step"].as_str().unwrap()),
        None => entry["step"].as_str().unwrap().to_owned(),
    };
    page["items"].as_array().unwrap().iter().map(line).collect()
}

/// The Message-ID that `store` gives.
pub fn message_id_header(id: MessageId) -> String {
    format!("<{id}@example.org>")
}

async fn account_id(app: &App, tx: &DatabaseTransaction) -> AccountId {
    let known = account::Entity::find().filter(account::Column::Address.eq(FROM)).one(tx).await.unwrap();
    if let Some(known) = known {
        return known.id;
    }
    let now = app.clock.now();
    let row = account::ActiveModel {
        id: Set(AccountId::new(now)),
        channel: Set(Channel::Email),
        address: Set(FROM.into()),
        display_name: Set("Support".into()),
        description: Set(String::new()),
        username: Set(String::new()),
        inbound: Set(json!({})),
        signature_text: Set(String::new()),
        signature_html: Set(String::new()),
        script_settings: Set(json!({})),
        state: Set(AccountState::Active),
        health: Set(json!({})),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    account::Entity::insert(row).exec_with_returning(tx).await.unwrap().id
}

/// A message in a conversation of its own, with its raw source.
async fn store(app: &App, tx: &DatabaseTransaction, account_id: AccountId, to: &[String]) -> MessageId {
    let now = app.clock.now();
    let (id, conversation_id) = (MessageId::new(now), ConversationId::new(now));
    let row = conversation::ActiveModel {
        id: Set(conversation_id),
        account_id: Set(account_id),
        channel: Set(Channel::Email),
        state: Set(ConversationState::Open),
        subject: Set("Your question".into()),
        message_count: Set(1),
        last_message_at: Set(now),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    conversation::Entity::insert(row).exec_without_returning(tx).await.unwrap();
    let raw = format!(
        "Message-ID: {}\r\nFrom: {FROM}\r\nTo: {}\r\nSubject: Your question\r\n\r\nAn answer.\r\n.\r\n",
        message_id_header(id),
        to.join(", ")
    );
    let row = message::ActiveModel {
        id: Set(id),
        conversation_id: Set(conversation_id),
        account_id: Set(account_id),
        direction: Set(Direction::Outbound),
        channel: Set(Channel::Email),
        kind: Set(MessageKind::Reply),
        state: Set(MessageState::Queued),
        classification: Set(Classification::Normal),
        message_id_header: Set(Some(message_id_header(id).trim_matches(['<', '>']).to_owned())),
        in_reply_to: Set(json!([])),
        reference_ids: Set(json!([])),
        from_address: Set(Some(FROM.into())),
        reply_to: Set(json!([])),
        to_addresses: Set(json!([])),
        cc_addresses: Set(json!([])),
        bcc_addresses: Set(json!([])),
        subject: Set("Your question".into()),
        text: Set("An answer.".into()),
        new_text: Set("An answer.".into()),
        quoted_text: Set(String::new()),
        signature: Set(String::new()),
        attachments: Set(json!([])),
        headers: Set(json!({})),
        size_bytes: Set(i64::try_from(raw.len()).unwrap()),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    message::Entity::insert(row).exec_without_returning(tx).await.unwrap();
    store_raw(tx, id, raw).await;
    id
}

async fn store_raw(tx: &DatabaseTransaction, id: MessageId, raw: String) {
    let row = raw_message::ActiveModel {
        message_id: Set(id),
        size_bytes: Set(i64::try_from(raw.len()).unwrap()),
        sha256: Set(Sha256::digest(&raw).to_vec()),
        data: Set(Some(raw.into_bytes())),
        object_key: Set(None),
    };
    raw_message::Entity::insert(row).exec_without_returning(tx).await.unwrap();
}
