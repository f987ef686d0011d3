//! How fast a broadcast goes.

use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, sea_query::Expr};

use super::entity::broadcast::{Column, Entity, Model};
use crate::clock::Timestamp;

/// How many of `wanted` messages the rate allows now.
pub fn free(row: &Model, now: Timestamp, wanted: u32) -> u32 {
    let Some(interval) = interval_ms(row) else { return wanted };
    let ahead = now.as_millis() - earliest(row, interval, now);
    let free = if ahead < 0 { 0 } else { ahead / interval + 1 };
    wanted.min(u32::try_from(free).unwrap_or(u32::MAX))
}

/// Uses up `count` places under the rate.
///
/// # Errors
/// Whatever the database says; that nobody else used some at the same moment is what the row's lock is for.
pub async fn take(tx: &DatabaseTransaction, row: &Model, now: Timestamp, count: usize) -> Result<(), DbErr> {
    let Some(interval) = interval_ms(row) else { return Ok(()) };
    let used = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(interval);
    let next = Timestamp::from_millis(earliest(row, interval, now).saturating_add(used));
    let taken = Entity::update_many()
        .col_expr(Column::NextSlotAt, Expr::value(next))
        .filter(Column::Id.eq(row.id))
        .filter(Column::NextSlotAt.eq(row.next_slot_at))
        .exec(tx)
        .await?;
    if taken.rows_affected == 1 { Ok(()) } else { Err(DbErr::RecordNotUpdated) }
}

/// The milliseconds between two messages under the rate.
fn interval_ms(row: &Model) -> Option<i64> {
    row.rate_per_minute.map(|rate| (60_000 / i64::from(rate.max(1))).max(1))
}

/// A second's worth of unused places is kept, so that a late wake-up does not lower the rate.
fn earliest(row: &Model, interval: i64, now: Timestamp) -> i64 {
    let kept = (1000 / interval - 1).max(0) * interval;
    row.next_slot_at.as_millis().max(now.as_millis() - kept)
}
