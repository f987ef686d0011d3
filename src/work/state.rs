//! Locks and guarded writes of items, in one order everywhere, so that no two transactions wait for each other:
//! conversation, agent, offer, item.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, IntoActiveModel,
    Iterable, QueryFilter, QueryOrder, QuerySelect, UpdateMany,
    sea_query::{CaseStatement, Expr, Func},
};

use super::{
    entity::{Timer, WorkState, work_item},
    rank::rank,
};
use crate::{
    agents::entity::{AgentState, agent},
    clock::Timestamp,
    conversations::entity::{ConversationState, conversation},
    db::{among, in_list},
    events::NewEvent,
    http::{Caller, Code, Problem},
    id::{ConversationId, QueueId, ScriptVersionId, UserId, WorkItemId},
    queues::entity::queue,
};

use super::journal::Journal;
pub use crate::conversations::lock::{lock_conversation, lock_conversations};

/// Reads an item without locking it.
///
/// # Errors
/// `not_found`.
pub async fn find(tx: &DatabaseTransaction, id: WorkItemId) -> Result<work_item::Model, Problem> {
    work_item::Entity::find_by_id(id).one(tx).await?.ok_or_else(|| Problem::not_found("work item"))
}

/// Reads an item and keeps others from changing it until the transaction ends.
///
/// # Errors
/// `not_found`.
pub async fn lock(tx: &DatabaseTransaction, id: WorkItemId) -> Result<work_item::Model, Problem> {
    let found = work_item::Entity::find_by_id(id).lock_exclusive().one(tx).await?;
    found.ok_or_else(|| Problem::not_found("work item"))
}

/// The same for several at once, in the order of their ids.
///
/// # Errors
/// Whatever the database says.
pub async fn lock_all(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = WorkItemId>,
) -> Result<Vec<work_item::Model>, DbErr> {
    work_item::Entity::find()
        .filter(among(work_item::Column::Id, ids))
        .order_by_asc(work_item::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await
}

/// Locks agents, in the order of their ids, and returns those that are there.
///
/// # Errors
/// Whatever the database says.
pub async fn lock_agents(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = UserId>,
) -> Result<HashMap<UserId, agent::Model>, DbErr> {
    let rows = agent::Entity::find()
        .filter(among(agent::Column::Id, ids))
        .order_by_asc(agent::Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Writes `after` over the row that was read as `before`, unless somebody changed it meanwhile.
///
/// # Errors
/// `RecordNotUpdated` (`concurrent_change`) when somebody did.
pub async fn save(
    tx: &DatabaseTransaction,
    before: &work_item::Model,
    mut after: work_item::Model,
    now: Timestamp,
) -> Result<work_item::Model, DbErr> {
    after.version = before.version + 1;
    after.updated_at = now;
    after.lease_until = Timestamp::ZERO;
    let change = work_item::ActiveModel {
        id: NotSet,
        conversation_id: NotSet,
        created_at: NotSet,
        attempts: NotSet,
        ..after.clone().into_active_model().reset_all()
    };
    let guarded = work_item::Entity::update_many()
        .set(change)
        .filter(work_item::Column::Id.eq(before.id))
        .filter(work_item::is(before.state))
        .filter(work_item::Column::Version.eq(before.version));
    if guarded.exec(tx).await?.rows_affected == 1 { Ok(after) } else { Err(DbErr::RecordNotUpdated) }
}

/// The write that gives items to agents; the caller has locked them, or adds in which state they must be.
pub fn assign(given: &[(WorkItemId, UserId)], now: Timestamp) -> UpdateMany<work_item::Entity> {
    let change = work_item::ActiveModel {
        state: Set(WorkState::Assigned),
        target_agent_id: Set(None),
        assigned_at: Set(Some(now)),
        lease_until: Set(Timestamp::ZERO),
        updated_at: Set(now),
        ..Default::default()
    };
    let given = in_list(given.iter().copied());
    let mut agent = CaseStatement::new();
    for (item, to) in &given {
        agent = agent.case(Expr::col(work_item::Column::Id).eq(*item), *to);
    }
    let (first, continues) =
        (Expr::col(work_item::Column::FirstAssignedAt), Expr::col(work_item::Column::RunContinues));
    let due = CaseStatement::new().case(continues, now.as_millis()).finally(Option::<i64>::None);
    // What the script has still to do is done by the timers' worker, off the agent's way.
    work_item::Entity::update_many()
        .set(change)
        .col_expr(work_item::Column::AssignedAgentId, agent.into())
        .col_expr(work_item::Column::Version, Expr::col(work_item::Column::Version).add(1))
        .col_expr(work_item::Column::FirstAssignedAt, Func::coalesce([first, now.as_millis().into()]).into())
        .col_expr(work_item::Column::Run, Expr::cust("CASE WHEN run_continues THEN run ELSE NULL END"))
        .col_expr(work_item::Column::Timer, Expr::cust("CASE WHEN run_continues THEN 'route' ELSE NULL END"))
        .col_expr(work_item::Column::DueAt, due.into())
        .filter(among(work_item::Column::Id, given.iter().map(|(item, _)| *item)))
}

/// Puts an item (back) into a queue, at the place it had. Its script's time in the queue, if any, is left to the caller.
pub fn enqueue(item: &mut work_item::Model, queue: &queue::Model, now: Timestamp) {
    let queued_at = item.queued_at.unwrap_or(now);
    item.state = WorkState::Queued;
    item.queue_id = Some(queue.id);
    item.queued_at = Some(queued_at);
    item.first_queued_at = item.first_queued_at.or(Some(now));
    item.rank = rank(item.priority, queued_at, queue.aging_s);
    item.timer = queue.max_wait_s.map(|_| Timer::MaxWait);
    item.due_at = queue.max_wait_s.map(|seconds| now.plus_s(seconds));
}

/// Takes the item away from its script: from now on people decide.
pub fn end_script(item: &mut work_item::Model) {
    item.run = None;
    item.run_continues = false;
}

/// Whether one of these script versions still has something to do for an item.
///
/// # Errors
/// Whatever the database says.
pub async fn is_any_run(db: &impl ConnectionTrait, versions: &[ScriptVersionId]) -> Result<bool, DbErr> {
    let ended = [WorkState::Completed, WorkState::Discarded, WorkState::Failed];
    let under_way = work_item::Entity::find()
        .filter(work_item::Column::State.is_in(WorkState::iter().filter(|state| !ended.contains(state))))
        .filter(work_item::Column::Run.is_not_null())
        .filter(among(work_item::Column::ScriptVersionId, versions.iter().copied()));
    Ok(under_way.limit(1).one(db).await?.is_some())
}

/// The queue an item goes back to: the one it came from, else its account's fallback queue.
///
/// # Errors
/// Whatever the database says.
pub async fn home_queue(
    tx: &DatabaseTransaction,
    item: &work_item::Model,
) -> Result<Option<queue::Model>, DbErr> {
    let id: Option<QueueId> = match item.queue_id {
        Some(id) => Some(id),
        None => crate::accounts::entity::account::Entity::find_by_id(item.account_id)
            .one(tx)
            .await?
            .and_then(|account| account.fallback_queue_id),
    };
    match id {
        Some(id) => queue::Entity::find_by_id(id).one(tx).await,
        None => Ok(None),
    }
}

/// Closes a conversation whose item is done, and remembers who had it.
///
/// # Errors
/// Whatever the database says.
pub async fn close_conversation(
    tx: &DatabaseTransaction,
    id: ConversationId,
    agent: Option<UserId>,
    journal: &mut Journal,
) -> Result<(), DbErr> {
    let mut change = conversation::ActiveModel {
        state: Set(ConversationState::Closed),
        updated_at: Set(journal.now),
        ..Default::default()
    };
    if agent.is_some() {
        change.last_agent_id = Set(agent);
    }
    let closed = conversation::Entity::update_many()
        .set(change)
        .col_expr(conversation::Column::Version, Expr::col(conversation::Column::Version).add(1))
        .filter(conversation::Column::Id.eq(id))
        .exec_with_returning(tx)
        .await?;
    for row in closed {
        let data = serde_json::json!({ "id": id, "state": row.state });
        let event = NewEvent::new("conversation.updated", id.uuid(), &data);
        journal.event(event.for_agent_or_supervisors(row.last_agent_id));
    }
    Ok(())
}

/// Notes that agents have less to do than before: the longest idle gets the next item.
///
/// # Errors
/// Whatever the database says.
pub async fn note_idle(
    tx: &DatabaseTransaction,
    agents: impl IntoIterator<Item = UserId>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let ids: Vec<UserId> = lock_agents(tx, agents).await?.into_keys().collect();
    if ids.is_empty() {
        return Ok(());
    }
    agent::Entity::update_many()
        .col_expr(agent::Column::IdleSince, Expr::value(now))
        .filter(among(agent::Column::Id, ids))
        .exec(tx)
        .await?;
    Ok(())
}

/// Makes an agent not ready who missed an offer.
///
/// # Errors
/// Whatever the database says.
pub async fn miss(tx: &DatabaseTransaction, agent_id: UserId, journal: &mut Journal) -> Result<(), DbErr> {
    let change = agent::ActiveModel {
        state: Set(AgentState::NotReady),
        reason: Set(Some("missed_offer".into())),
        state_changed_at: Set(journal.now),
        updated_at: Set(journal.now),
        ..Default::default()
    };
    let changed = agent::Entity::update_many()
        .set(change)
        .col_expr(agent::Column::Version, Expr::col(agent::Column::Version).add(1))
        .filter(agent::Column::Id.eq(agent_id))
        .filter(agent::Column::State.eq(AgentState::Ready))
        .exec(tx)
        .await?;
    if changed.rows_affected == 1 {
        let data = serde_json::json!({
            "agent_id": agent_id, "state": AgentState::NotReady, "reason": "missed_offer",
        });
        journal.event(NewEvent::new("agent.state_changed", agent_id.uuid(), &data).for_agent(agent_id));
    }
    Ok(())
}

/// Makes sure that the caller may answer on this item, and keeps it so until the transaction ends: it is assigned, to
/// the caller unless the caller oversees others' work. The conversation is locked too.
///
/// # Errors
/// `not_found`, `not_yours`, `not_assigned`.
pub async fn require_assigned(
    tx: &DatabaseTransaction,
    id: WorkItemId,
    caller: &Caller,
) -> Result<work_item::Model, Problem> {
    let seen = find(tx, id).await?;
    lock_conversation(tx, seen.conversation_id).await?;
    let item = lock(tx, id).await?;
    super::allowed::require(&item, caller, super::allowed::Action::Reply)?;
    Ok(item)
}

/// Notes that an item got an answer; the first one counts for reports.
///
/// # Errors
/// Whatever the database says.
pub async fn note_answered(
    tx: &DatabaseTransaction,
    item: &work_item::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    let mut after = item.clone();
    after.first_answered_at = after.first_answered_at.or(Some(now));
    let after = save(tx, item, after, now).await?;
    let mut journal = Journal::new(now);
    let data = serde_json::json!({ "event": "work_item.answered", "by": item.assigned_agent_id });
    journal.trace(item.id, "note", data);
    journal.tell(&after, "work_item.answered");
    journal.write(tx).await
}

/// 409: the item's state does not allow what was asked.
pub(super) fn wrong_state(item: &work_item::Model, what: &str) -> Problem {
    let state = serde_json::to_value(item.state).unwrap_or_default();
    let state = state.as_str().unwrap_or_default().to_owned();
    Problem::new(Code::InvalidState, format!("a work item that is {state} cannot be {what}"))
}
