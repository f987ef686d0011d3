//! Accounts that read a mailbox, the events that tell what became of them, and what was taken in.

use std::{sync::Arc, time::Duration};

use postroom::{
    accounts::entity::source, conversations::entity::message, events::entity::Model as Event, id::AccountId,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use super::{Client, TestApp};

/// The events of a service since this was made.
pub struct Events(Receiver<Arc<Event>>);

impl Events {
    pub fn of(app: &TestApp) -> Self {
        Self(app.app.tail.subscribe())
    }

    /// The next event of this kind.
    pub async fn wait(&mut self, kind: &str) -> Arc<Event> {
        self.wait_for(kind, |_| true).await
    }

    /// The next event of this kind that is wanted; the others are passed over.
    pub async fn wait_for(&mut self, kind: &str, wanted: impl Fn(&Event) -> bool) -> Arc<Event> {
        let found = async {
            loop {
                let event = self.0.recv().await.unwrap();
                if event.kind == kind && wanted(&event) {
                    return event;
                }
            }
        };
        // Only so that a test that fails does not hang.
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        found.unwrap_or_else(|_| panic!("no {kind} came"))
    }
}

/// A queue for what no script places.
pub async fn queue(admin: &Client) -> String {
    let name = uuid::Uuid::now_v7().to_string();
    admin.post("/v1/queues", json!({ "name": name })).await.ok()["id"].as_str().unwrap().to_owned()
}

/// A draft that reads INBOX of anna at 127.0.0.1, with `changes` merged into it.
pub async fn draft(admin: &Client, port: u16, changes: Value) -> AccountId {
    let mut wanted = json!({
        "address": format!("{}@example.com", uuid::Uuid::now_v7().simple()), "username": "anna", "password": "pass",
        "inbound": { "protocol": "imap", "host": "127.0.0.1", "port": port, "security": "none", "poll_interval_s": 1 },
        "fallback_queue_id": queue(admin).await,
    });
    json_patch::merge(&mut wanted, &changes);
    let made = admin.post("/v1/accounts", wanted).await.ok();
    made["id"].as_str().unwrap().parse().unwrap()
}

/// Calls an action of an account.
pub async fn act(admin: &Client, account: AccountId, action: &str) -> Value {
    admin.post(&format!("/v1/accounts/{account}/{action}"), json!({})).await.ok()
}

pub async fn read(admin: &Client, account: AccountId) -> Value {
    admin.get(&format!("/v1/accounts/{account}")).await.ok()
}

/// What was taken in, in the order of arrival.
pub async fn messages(app: &TestApp, account: AccountId) -> Vec<message::Model> {
    let select = message::Entity::find().filter(message::Column::AccountId.eq(account));
    select.order_by_asc(message::Column::Id).all(app.app.db.read()).await.unwrap()
}

/// The bytes of what was taken in, sorted.
pub async fn raws(app: &TestApp, account: AccountId) -> Vec<Vec<u8>> {
    let mut raws = Vec::new();
    for message in messages(app, account).await {
        let raw = app.app.raw.load(app.app.db.read(), message.id).await.unwrap().unwrap_or_default();
        raws.push(raw.to_vec());
    }
    raws.sort();
    raws
}

pub async fn sources(app: &TestApp, account: AccountId) -> Vec<source::Model> {
    let select = source::Entity::find().filter(source::Column::AccountId.eq(account));
    select.order_by_asc(source::Column::Uid).all(app.app.db.read()).await.unwrap()
}
