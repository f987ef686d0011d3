//! Who sees which conversation: agents those that they have or had work in, everybody else all of them.
//!
//! What an agent may not see is answered as if it did not exist.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait,
    sea_query::SelectStatement,
};

use super::entity::{conversation, message};
use crate::{
    http::{Caller, Problem},
    id::{ConversationId, MessageId, UserId},
    work::entity::{OfferState, offer, work_item},
};

/// The condition on a column of conversation ids that leaves what `caller` may see.
pub fn visible_to(caller: &Caller, conversation_id: impl ColumnTrait) -> Condition {
    match caller.user_id() {
        Some(agent) if !caller.oversees() => with_agent(agent, conversation_id),
        _ => Condition::all(),
    }
}

/// The conversations that an agent has or had a work item of, or is held out one.
pub fn with_agent(agent: UserId, conversation_id: impl ColumnTrait) -> Condition {
    Condition::any()
        .add(conversation_id.in_subquery(assigned_to(agent)))
        .add(conversation_id.in_subquery(offered_to(agent)))
        .add(conversation_id.in_subquery(last_with(agent)))
}

fn assigned_to(agent: UserId) -> SelectStatement {
    work_item::Entity::find()
        .select_only()
        .column(work_item::Column::ConversationId)
        .filter(work_item::Column::AssignedAgentId.eq(agent))
        .into_query()
}

/// Accepted offers tell of items that went on to another agent.
fn offered_to(agent: UserId) -> SelectStatement {
    let items = offer::Entity::find()
        .select_only()
        .column(offer::Column::WorkItemId)
        .filter(offer::Column::AgentId.eq(agent))
        .filter(offer::Column::State.is_in([OfferState::Pending, OfferState::Accepted]))
        .into_query();
    work_item::Entity::find()
        .select_only()
        .column(work_item::Column::ConversationId)
        .filter(work_item::Column::Id.in_subquery(items))
        .into_query()
}

fn last_with(agent: UserId) -> SelectStatement {
    conversation::Entity::find()
        .select_only()
        .column(conversation::Column::Id)
        .filter(conversation::Column::LastAgentId.eq(agent))
        .into_query()
}

/// A conversation that `caller` may see.
///
/// # Errors
/// `not_found`.
pub async fn find_conversation(
    db: &impl ConnectionTrait,
    caller: &Caller,
    id: ConversationId,
) -> Result<conversation::Model, Problem> {
    let visible = visible_to(caller, conversation::Column::Id);
    let found = conversation::Entity::find_by_id(id).filter(visible).one(db).await?;
    found.ok_or_else(|| Problem::not_found("conversation"))
}

/// A message that `caller` may see.
///
/// # Errors
/// `not_found`.
pub async fn find_message(
    db: &impl ConnectionTrait,
    caller: &Caller,
    id: MessageId,
) -> Result<message::Model, Problem> {
    let visible = visible_to(caller, message::Column::ConversationId);
    let found = message::Entity::find_by_id(id).filter(visible).one(db).await?;
    found.ok_or_else(|| Problem::not_found("message"))
}
