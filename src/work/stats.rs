//! How a queue is doing.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    entity::{WorkState, work_item},
    rank::rank,
};
use crate::{
    agents::entity::AgentState,
    clock::Timestamp,
    id::{GroupId, QueueId, WorkItemId},
    queues::entity::{queue, queue_group},
};

/// The service level looks back for so long.
pub const WINDOW_S: i64 = 4 * 3600;

/// How a queue is doing right now.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QueueStats {
    /// How many items wait.
    #[schema(examples(12))]
    pub waiting: i64,
    /// How long the oldest of them has waited, in seconds; 0 when none waits.
    #[schema(examples(340))]
    pub oldest_wait_s: i64,
    /// How many are held out to agents.
    pub offered: i64,
    /// How many agents work on.
    pub assigned: i64,
    /// How many are in wrap-up.
    pub wrapping: i64,
    /// How many are snoozed.
    pub snoozed: i64,
    /// The service level of the last four hours; none when the queue has no target.
    pub service_level: Option<ServiceLevelReached>,
    /// The members of the groups that serve it.
    pub agents: AgentCounts,
}

/// How many items were taken in time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ServiceLevelReached {
    /// Items are to be taken within so many seconds.
    pub target_s: i64,
    /// How many of a hundred are to be.
    pub target_percent: i32,
    /// How many were taken in time.
    pub in_time: i64,
    /// How many were taken, or wait for longer than the target already.
    pub counted: i64,
    /// The share in per cent; none when nothing was counted.
    #[schema(examples(93.5))]
    pub percent: Option<f64>,
}

/// Agents by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentCounts {
    /// Not at the desk.
    pub logged_off: i64,
    /// Taking work.
    pub ready: i64,
    /// At the desk, taking no new work.
    pub not_ready: i64,
}

/// How a queue is doing; none when there is no such queue.
///
/// # Errors
/// Whatever the database says.
pub async fn queue(
    db: &impl ConnectionTrait,
    id: QueueId,
    now: Timestamp,
) -> Result<Option<QueueStats>, DbErr> {
    let Some(row) = queue::Entity::find_by_id(id).one(db).await? else { return Ok(None) };
    let counts: Vec<(WorkState, i64)> = work_item::Entity::find()
        .select_only()
        .column(work_item::Column::State)
        .column_as(work_item::Column::Id.count(), "count")
        .filter(work_item::Column::QueueId.eq(id))
        .filter(work_item::Column::State.is_in([
            WorkState::Queued,
            WorkState::Offered,
            WorkState::Assigned,
            WorkState::Wrapping,
            WorkState::Waiting,
        ]))
        .group_by(work_item::Column::State)
        .into_tuple()
        .all(db)
        .await?;
    let count = |state| counts.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
    let oldest: Option<Option<Timestamp>> = work_item::Entity::find()
        .select_only()
        .column_as(work_item::Column::QueuedAt.min(), "oldest")
        .filter(work_item::Column::QueueId.eq(id))
        .filter(work_item::is(WorkState::Queued))
        .into_tuple()
        .one(db)
        .await?;
    let oldest = oldest.flatten().map_or(0, |at| now.since(at).as_secs());
    Ok(Some(QueueStats {
        waiting: count(WorkState::Queued),
        oldest_wait_s: i64::try_from(oldest).unwrap_or(i64::MAX),
        offered: count(WorkState::Offered),
        assigned: count(WorkState::Assigned),
        wrapping: count(WorkState::Wrapping),
        snoozed: count(WorkState::Waiting),
        service_level: service_level(db, &row, now).await?,
        agents: agents(db, id).await?,
    }))
}

async fn service_level(
    db: &impl ConnectionTrait,
    queue: &queue::Model,
    now: Timestamp,
) -> Result<Option<ServiceLevelReached>, DbErr> {
    let Some(target_s) = queue.service_level_target_s else { return Ok(None) };
    let target_ms = target_s.saturating_mul(1000);
    let sql = "SELECT COUNT(*), COUNT(CASE WHEN first_assigned_at - first_queued_at <= $3 THEN 1 END) \
               FROM work_items WHERE queue_id = $1 AND first_assigned_at >= $2 AND first_queued_at IS NOT NULL";
    let values = [queue.id.uuid().into(), now.plus_s(-WINDOW_S).as_millis().into(), target_ms.into()];
    let row =
        db.query_one_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await?;
    let (taken, in_time): (i64, i64) = match row {
        Some(row) => (row.try_get_by_index(0)?, row.try_get_by_index(1)?),
        None => (0, 0),
    };
    let late: Option<i64> = work_item::Entity::find()
        .select_only()
        .column_as(work_item::Column::Id.count(), "late")
        .filter(work_item::Column::QueueId.eq(queue.id))
        .filter(work_item::Column::State.is_in([WorkState::Queued, WorkState::Offered]))
        .filter(work_item::Column::FirstAssignedAt.is_null())
        .filter(work_item::Column::FirstQueuedAt.lt(now.plus_s(-target_s)))
        .into_tuple()
        .one(db)
        .await?;
    let counted = taken + late.unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let percent = (counted > 0).then(|| (in_time as f64 * 1000.0 / counted as f64).round() / 10.0);
    let target_percent = queue.service_level_percent.unwrap_or(100);
    Ok(Some(ServiceLevelReached { target_s, target_percent, in_time, counted, percent }))
}

async fn agents(db: &impl ConnectionTrait, queue: QueueId) -> Result<AgentCounts, DbErr> {
    let sql = "SELECT DISTINCT agents.id, agents.state FROM agents \
               JOIN group_members ON group_members.agent_id = agents.id \
               JOIN queue_groups ON queue_groups.group_id = group_members.group_id WHERE queue_groups.queue_id = $1";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [queue.uuid().into()]);
    let mut counts = AgentCounts::default();
    for row in db.query_all_raw(statement).await? {
        match row.try_get_by_index::<AgentState>(1)? {
            AgentState::LoggedOff => counts.logged_off += 1,
            AgentState::Ready => counts.ready += 1,
            AgentState::NotReady => counts.not_ready += 1,
        }
    }
    Ok(counts)
}

/// Gives the items of a queue their order anew, after its aging was changed; in the transaction of that change.
///
/// # Errors
/// Whatever the database says.
pub async fn reorder(tx: &DatabaseTransaction, queue: QueueId, aging_s: Option<i64>) -> Result<(), DbErr> {
    lock_waiting(tx, queue).await?;
    for priority in 1..=10_i32 {
        // The rank is a constant for the priority plus the time.
        let base = rank(priority, Timestamp::ZERO, aging_s);
        let sql = "UPDATE work_items SET rank = queued_at + $1 WHERE queue_id = $2 AND priority = $3 \
                   AND queued_at IS NOT NULL AND state IN ('queued', 'offered')";
        let values = [base.into(), queue.uuid().into(), priority.into()];
        tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    }
    Ok(())
}

/// In the order in which all others lock items.
async fn lock_waiting(tx: &DatabaseTransaction, queue: QueueId) -> Result<(), DbErr> {
    work_item::Entity::find()
        .select_only()
        .column(work_item::Column::Id)
        .filter(work_item::Column::QueueId.eq(queue))
        .filter(work_item::Column::State.is_in([WorkState::Queued, WorkState::Offered]))
        .order_by_asc(work_item::Column::Id)
        .lock_exclusive()
        .into_tuple::<WorkItemId>()
        .all(tx)
        .await?;
    Ok(())
}

/// Whether an item that is not done is held for a group: the group cannot be deleted then.
///
/// # Errors
/// Whatever the database says.
pub async fn is_held_for(db: &impl ConnectionTrait, group: GroupId) -> Result<bool, DbErr> {
    let open: Option<WorkItemId> = work_item::Entity::find()
        .select_only()
        .column(work_item::Column::Id)
        .filter(work_item::Column::GroupId.eq(group))
        .filter(work_item::Column::State.is_not_in(WorkState::DONE))
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    Ok(open.is_some())
}

/// The names of the first few queues that a group serves, in alphabetical order: the group cannot be deleted then.
///
/// # Errors
/// Whatever the database says.
pub async fn served_by(db: &impl ConnectionTrait, group: GroupId) -> Result<Vec<String>, DbErr> {
    let queues = queue_group::Entity::find()
        .select_only()
        .column(queue_group::Column::QueueId)
        .filter(queue_group::Column::GroupId.eq(group))
        .into_query();
    queue::Entity::find()
        .select_only()
        .column(queue::Column::Name)
        .filter(queue::Column::Id.in_subquery(queues))
        .order_by_asc(queue::Column::Name)
        .limit(5)
        .into_tuple()
        .all(db)
        .await
}
