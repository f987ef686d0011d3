//! The event log: one ordered list of everything that happened, written in the transaction of the change itself.
//!
//! Readers see events in commit order (DESIGN rule 9). SQLite has one writer, so the order of writing is that order.
//! PostgreSQL commits out of order: there an event gets its `position` after its commit, from one process at a time.

pub mod api;
pub mod entity;
mod stream;
mod tail;
pub mod vocabulary;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, sea_query::Expr,
};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

pub use entity::Audience;
pub use tail::{Tail, start};

use crate::{
    clock::Timestamp,
    db::among,
    id::{EventId, UserId},
};

/// How many rows one insert carries: PostgreSQL takes 65,535 parameters in a statement, SQLite 32,766.
const ROWS_PER_INSERT: usize = 1000;

/// An event to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    kind: &'static str,
    subject_id: Uuid,
    audience: Audience,
    agent_id: Option<UserId>,
    data: serde_json::Value,
}

impl NewEvent {
    /// An event that everybody who may read events can see.
    ///
    /// `kind` is `resource.what_happened`; `subject_id` the resource; `data` what changed, without secrets.
    pub fn new(kind: &'static str, subject_id: impl Into<Uuid>, data: &impl Serialize) -> Self {
        let data = serde_json::to_value(data).unwrap_or_default();
        Self { kind, subject_id: subject_id.into(), audience: Audience::Everyone, agent_id: None, data }
    }

    /// Only for administrators and supervisors.
    #[must_use]
    pub fn for_supervisors(self) -> Self {
        Self { audience: Audience::Supervisors, ..self }
    }

    /// Only for administrators.
    #[must_use]
    pub fn for_admins(self) -> Self {
        Self { audience: Audience::Admins, ..self }
    }

    /// For this agent, and for administrators and supervisors.
    #[must_use]
    pub fn for_agent(self, agent: UserId) -> Self {
        Self { audience: Audience::Agent, agent_id: Some(agent), ..self }
    }

    /// For the agent whom it concerns, if there is one, and for administrators and supervisors.
    #[must_use]
    pub fn for_agent_or_supervisors(self, agent: Option<UserId>) -> Self {
        match agent {
            Some(agent) => self.for_agent(agent),
            None => self.for_supervisors(),
        }
    }
}

/// Empties what offers' events show of the customer.
///
/// # Errors
/// Whatever the database says.
pub async fn forget_customer(
    tx: &DatabaseTransaction,
    offers: impl IntoIterator<Item = Uuid>,
) -> Result<(), DbErr> {
    use entity::{Column, Entity};
    let rows = Entity::find()
        // As the index has it.
        .filter(Expr::cust("type IN ('offer.created', 'offer.accepted')"))
        .filter(among(Column::SubjectId, offers))
        .all(tx)
        .await?;
    for mut row in rows {
        let Some(card) = row.data.get_mut("work_item").and_then(Value::as_object_mut) else { continue };
        card.insert("subject".to_owned(), json!(""));
        card.insert("customer_name".to_owned(), Value::Null);
        card.insert("customer_address".to_owned(), Value::Null);
        let emptied = entity::ActiveModel { data: Set(row.data), ..Default::default() };
        Entity::update_many().set(emptied).filter(Column::Seq.eq(row.seq)).exec(tx).await?;
    }
    Ok(())
}

/// Writes events in the transaction of the change that they tell of.
///
/// # Errors
/// Whatever the database says.
pub async fn append(tx: &DatabaseTransaction, now: Timestamp, events: Vec<NewEvent>) -> Result<(), DbErr> {
    for rows in events.chunks(ROWS_PER_INSERT) {
        let rows = rows.iter().map(|event| entity::ActiveModel {
            id: Set(EventId::new(now)),
            kind: Set(event.kind.to_owned()),
            at: Set(now),
            subject_id: Set(event.subject_id),
            audience: Set(event.audience),
            agent_id: Set(event.agent_id),
            data: Set(event.data.clone()),
            ..Default::default()
        });
        entity::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}
