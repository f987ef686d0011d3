//! Who may answer: the agent at whose desk the item is.

use sea_orm::DatabaseTransaction;

use crate::{
    http::{Caller, Code, Problem},
    id::{UserId, WorkItemId},
    work::{
        entity::{WorkState, work_item},
        state::require_assigned,
    },
};

/// The item, locked with its conversation until the transaction ends, and the agent who has it: the caller.
///
/// # Errors
/// `not_found`, `forbidden` for API keys, `not_yours`, `not_assigned`, `invalid_state`.
pub(super) async fn at_desk_of(
    tx: &DatabaseTransaction,
    id: WorkItemId,
    caller: &Caller,
) -> Result<(work_item::Model, UserId), Problem> {
    let agent = caller.agent_id()?;
    let item = require_assigned(tx, id, caller).await?;
    if item.state != WorkState::Assigned {
        return Err(Problem::new(Code::InvalidState, "the work item is not in work"));
    }
    if item.assigned_agent_id != Some(agent) {
        return Err(Problem::new(Code::NotAssigned, "transfer the work item to yourself first"));
    }
    Ok((item, agent))
}
