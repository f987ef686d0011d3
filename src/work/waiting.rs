//! What waits, found without reading what does not matter: the lanes of a queue, and the head of each.

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, Select, Statement};

use super::{
    entity::{WorkState, work_item},
    lane::Lane,
    roster::Roster,
};
use crate::{
    db::{Db, among, in_list},
    id::{QueueId, UserId},
};

/// The lanes of a queue in which something waits: one jump in the index for each.
///
/// # Errors
/// Whatever the database says.
pub async fn lanes(db: &impl ConnectionTrait, queue: QueueId) -> Result<Vec<(String, Lane)>, DbErr> {
    let sql = "WITH RECURSIVE lanes (lane) AS (\
         SELECT MIN(lane) FROM work_items WHERE queue_id = $1 AND state = 'queued' AND target_agent_id IS NULL \
         UNION ALL \
         SELECT (SELECT MIN(work_items.lane) FROM work_items WHERE queue_id = $1 AND state = 'queued' \
                 AND target_agent_id IS NULL AND work_items.lane > lanes.lane) \
         FROM lanes WHERE lanes.lane IS NOT NULL\
       ) SELECT lane FROM lanes WHERE lane IS NOT NULL";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [queue.uuid().into()]);
    let rows = db.query_all_raw(statement).await?;
    let keys = rows.iter().map(|row| row.try_get_by_index::<String>(0));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    Ok(keys.into_iter().filter_map(|key| Lane::parse(&key).map(|lane| (key, lane))).collect())
}

/// The items of one lane, best first.
pub fn head(queue: QueueId, lane: &str) -> Select<work_item::Entity> {
    work_item::Entity::find()
        .filter(work_item::Column::QueueId.eq(queue))
        .filter(work_item::Column::Lane.eq(lane))
        .filter(work_item::is(WorkState::Queued))
        .filter(work_item::Column::TargetAgentId.is_null())
        .order_by_asc(work_item::Column::Rank)
        .order_by_asc(work_item::Column::Id)
}

/// Items that are held for one of these agents, best first.
pub fn held_for(agents: impl IntoIterator<Item = UserId>) -> Select<work_item::Entity> {
    work_item::Entity::find()
        .filter(among(work_item::Column::TargetAgentId, agents))
        .filter(work_item::is(WorkState::Queued))
        .order_by_asc(work_item::Column::Rank)
}

/// Items that were transferred to one of the roster's groups and lie in queues that those groups do not serve, best first.
pub fn outside(roster: &Roster) -> Select<work_item::Entity> {
    work_item::Entity::find()
        .filter(among(work_item::Column::GroupId, roster.groups.keys().copied()))
        .filter(work_item::is(WorkState::Queued))
        .filter(work_item::Column::TargetAgentId.is_null())
        .filter(work_item::Column::QueueId.is_not_in(in_list(roster.queues.keys().copied())))
        .order_by_asc(work_item::Column::Rank)
}

/// Whether anything waits that may be offered: asked before everything else is read.
///
/// # Errors
/// Whatever the database says.
pub async fn anything_to_offer(db: &Db) -> Result<bool, DbErr> {
    let sql = "SELECT 1 WHERE EXISTS (\
         SELECT 1 FROM work_items WHERE state = 'queued' AND target_agent_id IS NOT NULL\
       ) OR EXISTS (SELECT 1 FROM work_items WHERE state = 'queued' AND group_id IS NOT NULL\
       ) OR EXISTS (\
         SELECT 1 FROM queues WHERE state <> 'closed' AND distribution <> 'manual' AND EXISTS (\
           SELECT 1 FROM work_items WHERE queue_id = queues.id AND state = 'queued' AND target_agent_id IS NULL))";
    let statement = Statement::from_string(db.backend(), sql);
    Ok(db.read().query_one_raw(statement).await?.is_some())
}
