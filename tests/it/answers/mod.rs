//! Answering: what goes out, to whom, and that it goes out once.

mod desk_things;
mod files;
mod mails;
mod races;

use std::sync::Arc;

use postroom::{
    accounts::entity::account,
    http::caller::Role,
    id::UserId,
    work::entity::{WorkState, work_item},
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::{
    inbound::{account, push},
    support::{Client, Reply, TestApp},
};

pub const MAIL: &str = "From: Anna <anna@example.org>\r\nTo: Support <support@example.com>\r\nMessage-ID: <c1@example.org>\r\n\
    Date: Mon, 2 Mar 2026 08:00:00 +0000\r\nSubject: Where is my order?\r\n\r\nIt was due on Monday.\r\n";

/// An agent with a customer's mail at the desk.
pub struct Desk {
    pub agent: Client,
    pub agent_id: UserId,
    pub admin: Client,
    pub account: Arc<account::Model>,
    pub conversation: String,
    pub message: String,
    pub item: String,
}

impl Desk {
    pub async fn new(app: &TestApp) -> Self {
        Self::with(app, MAIL).await
    }

    pub async fn with(app: &TestApp, mail: impl Into<Vec<u8>>) -> Self {
        let (admin, account) = (app.admin().await, account(app, "support@example.com").await);
        let (agent, agent_id) = app.user(Role::Agent, "paula").await;
        let pushed = push(&admin, account.id, mail).await.ok();
        let conversation = pushed["conversation_id"].as_str().unwrap().to_owned();
        let message = pushed["message"]["id"].as_str().unwrap().to_owned();
        let desk = Self { agent, agent_id, admin, account, conversation, message, item: String::new() };
        let item = desk.assign(app, desk.agent_id).await;
        Self { item, ..desk }
    }

    /// Puts the conversation's item on an agent's desk, whatever routing did with it.
    pub async fn assign(&self, app: &TestApp, agent: UserId) -> String {
        let conversation: postroom::id::ConversationId = self.conversation.parse().unwrap();
        let tx = app.app.db.begin().await.unwrap();
        let change = work_item::ActiveModel {
            state: Set(WorkState::Assigned),
            assigned_agent_id: Set(Some(agent)),
            timer: Set(None),
            due_at: Set(None),
            ..Default::default()
        };
        let update = work_item::Entity::update_many().set(change);
        let open = update
            .filter(work_item::Column::ConversationId.eq(conversation))
            .filter(work_item::Column::State.ne(WorkState::Completed));
        let rows = open.exec_with_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        rows.last().unwrap().id.to_string()
    }

    pub fn path(&self, action: &str) -> String {
        format!("/v1/work-items/{}/{action}", self.item)
    }

    pub async fn last_message(&self) -> String {
        let conversation = self.admin.get(&format!("/v1/conversations/{}", self.conversation)).await.ok();
        conversation["last_message_id"].as_str().unwrap().to_owned()
    }

    /// A reply to what is newest, with these members besides.
    pub async fn reply(&self, action: &str, more: Value) -> Reply {
        let mut body =
            json!({ "expected_last_message_id": self.last_message().await, "text": "It is on its way." });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.agent.post(&self.path(action), body).await
    }

    /// The bytes of a message that an answer made.
    pub async fn raw(&self, sent: &Value) -> Vec<u8> {
        let id = sent["message_id"].as_str().unwrap();
        let raw = self.admin.get(&format!("/v1/messages/{id}/raw")).await;
        assert_eq!(raw.status, 200);
        raw.bytes
    }

    /// The bytes of what a reply made, and the reply.
    pub async fn sent(&self, action: &str, more: Value) -> (Value, Vec<u8>) {
        let sent = self.reply(action, more).await.ok();
        let raw = self.raw(&sent).await;
        (sent, raw)
    }

    pub async fn upload(&self, client: &Client, name: &str, kind: &str, bytes: Vec<u8>) -> Reply {
        let request = client.request(Method::POST, &format!("/v1/uploads?filename={name}"));
        client.send(request.header("content-type", kind).body(bytes)).await
    }

    pub async fn messages(&self) -> Vec<Value> {
        let page = self.admin.get(&format!("/v1/conversations/{}/messages", self.conversation)).await.ok();
        page["items"].as_array().unwrap().clone()
    }
}

/// The addresses of a list of recipients.
pub fn addresses(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["address"].as_str().unwrap().to_owned()).collect()
}
