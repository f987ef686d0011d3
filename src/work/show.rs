//! How work items and offers look in the API.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    allowed::{Action, allowed},
    entity::{OfferState, Timer, WorkState, offer, work_item},
    lane::SkillNeed,
};
use crate::{
    accounts::entity::Channel,
    clock::Timestamp,
    http::Caller,
    id::{
        AccountId, ClassId, ConversationId, GroupId, MessageId, OfferId, QueueId, ScriptVersionId, UserId,
        WorkItemId,
    },
};

/// One piece of work for an agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkItem {
    /// The item's id.
    pub id: WorkItemId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// The account that received it.
    pub account_id: AccountId,
    /// E-mail or text.
    pub channel: Channel,
    /// Where it stands.
    pub state: WorkState,
    /// The first message's subject.
    #[schema(examples("Where is my order?"))]
    pub subject: String,
    /// The customer's name.
    pub customer_name: Option<String>,
    /// The customer's address.
    pub customer_address: Option<String>,
    /// The message that made it.
    pub first_message_id: MessageId,
    /// The newest inbound message on it: what an answer must have seen (`expected_last_message_id`).
    pub last_message_id: MessageId,
    /// How many inbound messages it covers.
    pub message_count: i64,
    /// What kind of contact it is.
    pub class_id: Option<ClassId>,
    /// 1 (first) to 10.
    pub priority: i32,
    /// The queue it waits in, or was taken from.
    pub queue_id: Option<QueueId>,
    /// Only for this group.
    pub group_id: Option<GroupId>,
    /// Only for this agent.
    pub target_agent_id: Option<UserId>,
    /// Skills an agent needs.
    pub required_skills: Vec<SkillNeed>,
    /// Since when it has its place in the queue.
    pub queued_at: Option<Timestamp>,
    /// Who has it, or had it last.
    pub assigned_agent_id: Option<UserId>,
    /// The agent who had the conversation before.
    pub last_agent_id: Option<UserId>,
    /// The script version it is routed by.
    pub script_version_id: Option<ScriptVersionId>,
    /// What went wrong in routing, as `{code, detail, step…}`.
    #[schema(value_type = Option<Object>)]
    pub error: Option<Value>,
    /// How it ended: `completed` by an agent, or `discard` by its script.
    #[schema(examples("completed"))]
    pub result: Option<String>,
    /// The outcome that the agent set.
    pub outcome_code: Option<String>,
    /// What `due_at` is for.
    pub timer: Option<Timer>,
    /// When its timer goes off.
    pub due_at: Option<Timestamp>,
    /// When it was first queued.
    pub first_queued_at: Option<Timestamp>,
    /// When it was last assigned.
    pub assigned_at: Option<Timestamp>,
    /// When it was first answered.
    pub first_answered_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<Action>,
}

impl WorkItem {
    /// The item as this caller sees it.
    pub fn of(row: work_item::Model, caller: &Caller) -> Self {
        let allowed_actions = allowed(&row, caller);
        Self {
            id: row.id,
            conversation_id: row.conversation_id,
            account_id: row.account_id,
            channel: row.channel,
            state: row.state,
            subject: row.subject,
            customer_name: row.customer_name,
            customer_address: row.customer_address,
            first_message_id: row.first_message_id,
            last_message_id: row.last_message_id,
            message_count: row.message_count,
            class_id: row.class_id,
            priority: row.priority,
            queue_id: row.queue_id,
            group_id: row.group_id,
            target_agent_id: row.target_agent_id,
            required_skills: serde_json::from_value(row.required_skills).unwrap_or_default(),
            queued_at: row.queued_at,
            assigned_agent_id: row.assigned_agent_id,
            last_agent_id: row.last_agent_id,
            script_version_id: row.script_version_id,
            error: row.error,
            result: row.result,
            outcome_code: row.outcome_code,
            timer: row.timer,
            due_at: row.due_at,
            first_queued_at: row.first_queued_at,
            assigned_at: row.assigned_at,
            first_answered_at: row.first_answered_at,
            completed_at: row.completed_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            allowed_actions,
        }
    }
}

/// One page of work items.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkItemList {
    /// The items.
    pub items: Vec<WorkItem>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// Something that can be done with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferAction {
    /// Take the item.
    Accept,
    /// Refuse it.
    Reject,
}

/// A work item held out to one agent for a limited time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Offer {
    /// The offer's id.
    pub id: OfferId,
    /// The item.
    pub work_item_id: WorkItemId,
    /// The agent.
    pub agent_id: UserId,
    /// The queue it came from.
    pub queue_id: Option<QueueId>,
    /// Where it stands.
    pub state: OfferState,
    /// Why it ended so.
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be accepted.
    pub expires_at: Timestamp,
    /// When it ended.
    pub settled_at: Option<Timestamp>,
    /// The item, for the agent's desk.
    pub work_item: Option<WorkItem>,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<OfferAction>,
}

impl Offer {
    /// The offer as this caller sees it at `now`.
    pub fn of(row: offer::Model, item: Option<work_item::Model>, caller: &Caller, now: Timestamp) -> Self {
        let open = row.state == OfferState::Pending && row.expires_at > now;
        let mine = caller.user_id() == Some(row.agent_id);
        Self {
            id: row.id,
            work_item_id: row.work_item_id,
            agent_id: row.agent_id,
            queue_id: row.queue_id,
            state: row.state,
            reason: row.reason,
            created_at: row.created_at,
            expires_at: row.expires_at,
            settled_at: row.settled_at,
            work_item: item.map(|item| WorkItem::of(item, caller)),
            allowed_actions: if open && mine {
                vec![OfferAction::Accept, OfferAction::Reject]
            } else {
                Vec::new()
            },
        }
    }
}

/// One page of offers.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferList {
    /// The offers.
    pub items: Vec<Offer>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}
