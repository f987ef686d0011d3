//! What happened in one transaction: gathered while it runs, written with it.

use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait};
use serde_json::{Value, json};

use super::entity::{WorkState, offer, trace, work_item};
use crate::{
    clock::Timestamp,
    events::{self, NewEvent},
    id::{UserId, WorkItemId, new_uuid},
};

const ROWS_PER_INSERT: usize = 1000;

/// The trace entries and events of one transaction.
#[derive(Debug)]
pub struct Journal {
    /// The moment of the transaction.
    pub now: Timestamp,
    traces: Vec<trace::ActiveModel>,
    events: Vec<NewEvent>,
}

impl Journal {
    /// An empty one.
    pub fn new(now: Timestamp) -> Self {
        Self { now, traces: Vec::new(), events: Vec::new() }
    }

    /// Adds a trace entry.
    pub fn trace(&mut self, item: WorkItemId, kind: &str, data: Value) {
        self.traces.push(trace::ActiveModel {
            id: Set(new_uuid(self.now)),
            work_item_id: Set(item),
            at: Set(self.now),
            kind: Set(kind.to_owned()),
            data: Set(data),
        });
    }

    /// Adds an event.
    pub fn event(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Notes a change of an item's state: in the trace, and as the event `kind`.
    pub fn moved(
        &mut self,
        from: Option<WorkState>,
        item: &work_item::Model,
        kind: &'static str,
        why: Value,
    ) {
        let mut entry = json!({ "from": from, "to": item.state, "event": kind, "queue_id": item.queue_id });
        if let (Some(entry), Value::Object(why)) = (entry.as_object_mut(), why) {
            entry.extend(why);
        }
        self.trace(item.id, "state", entry);
        self.tell(item, kind);
        if matches!(from, Some(WorkState::Queued | WorkState::Offered)) && holder(item).is_some() {
            // What becomes of it now is its agent's, but everybody's list of what waits has to lose it.
            let data = json!({ "id": item.id, "queue_id": item.queue_id });
            self.event(NewEvent::new("work_item.left_queue", item.id.uuid(), &data));
        }
    }

    /// Tells of an item as it stands now, to the agent who has it or, while nobody has it, to everybody.
    pub fn tell(&mut self, item: &work_item::Model, kind: &'static str) {
        let data = json!({
            "id": item.id, "state": item.state, "queue_id": item.queue_id, "account_id": item.account_id,
            "conversation_id": item.conversation_id, "priority": item.priority,
            "assigned_agent_id": holder(item), "last_message_id": item.last_message_id,
        });
        let event = NewEvent::new(kind, item.id.uuid(), &data);
        self.event(match holder(item) {
            Some(agent) => event.for_agent(agent),
            None => event,
        });
    }

    /// Notes a change of an offer: in the item's trace, and as the event `kind` for its agent.
    pub fn offer(&mut self, offer: &offer::Model, kind: &'static str, card: Value) {
        let entry = json!({
            "offer_id": offer.id, "agent_id": offer.agent_id, "state": offer.state, "reason": offer.reason,
        });
        self.trace(offer.work_item_id, "offer", entry);
        let mut data = json!({
            "id": offer.id, "work_item_id": offer.work_item_id, "queue_id": offer.queue_id,
            "agent_id": offer.agent_id, "state": offer.state, "reason": offer.reason, "expires_at": offer.expires_at,
        });
        if let (Some(data), Value::Object(card)) = (data.as_object_mut(), card) {
            data.extend(card);
        }
        self.event(NewEvent::new(kind, offer.id.uuid(), &data).for_agent(offer.agent_id));
    }

    /// Writes everything.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn write(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        let mut traces = self.traces;
        while !traces.is_empty() {
            let rest = traces.split_off(traces.len().min(ROWS_PER_INSERT));
            trace::Entity::insert_many(traces).exec_without_returning(tx).await?;
            traces = rest;
        }
        events::append(tx, self.now, self.events).await
    }
}

/// Who has the item now: an agent who had it before does not.
pub fn holder(item: &work_item::Model) -> Option<UserId> {
    let held = matches!(item.state, WorkState::Assigned | WorkState::Wrapping | WorkState::Waiting);
    item.assigned_agent_id.filter(|_| held)
}
