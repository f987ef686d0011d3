//! What waits, found without reading what does not matter: the lanes of a queue, and the head of each.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement,
};

use super::{
    entity::{WorkState, work_item},
    lane::Lane,
};
use crate::id::{QueueId, UserId};

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

/// The first items of one lane, best first.
///
/// # Errors
/// Whatever the database says.
pub async fn head(
    db: &impl ConnectionTrait,
    queue: QueueId,
    lane: &str,
    limit: u64,
) -> Result<Vec<work_item::Model>, DbErr> {
    work_item::Entity::find()
        .filter(work_item::Column::QueueId.eq(queue))
        .filter(work_item::Column::Lane.eq(lane))
        .filter(work_item::Column::State.eq(WorkState::Queued))
        .filter(work_item::Column::TargetAgentId.is_null())
        .order_by_asc(work_item::Column::Rank)
        .order_by_asc(work_item::Column::Id)
        .limit(limit)
        .all(db)
        .await
}

/// Items that are held for one of these agents.
///
/// # Errors
/// Whatever the database says.
pub async fn held_for(
    db: &impl ConnectionTrait,
    agents: &[UserId],
    limit: u64,
) -> Result<Vec<work_item::Model>, DbErr> {
    let mut found = Vec::new();
    for ids in agents.chunks(500) {
        let items = work_item::Entity::find()
            .filter(work_item::Column::TargetAgentId.is_in(ids.iter().copied()))
            .filter(work_item::Column::State.eq(WorkState::Queued))
            .order_by_asc(work_item::Column::Rank)
            .limit(limit)
            .all(db)
            .await?;
        found.extend(items);
    }
    Ok(found)
}
