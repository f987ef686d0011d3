//! The changes of the outgoing server's state. Replicas share it through the row, so each change is a guarded update.

use std::time::Duration;

use rand::Rng;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect, QueryTrait, sea_query::Expr,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    ID,
    entity::{
        OutgoingState,
        outgoing_server::{ActiveModel, Column, Entity, Model},
    },
};
use crate::{
    clock::Timestamp,
    events::{self, NewEvent},
};

/// The reason of a pause that a person asked for.
pub const PAUSED_BY_HAND: &str = "an administrator paused it";

const FIRST_PAUSE_S: u64 = 5;
const LONGEST_PAUSE_S: u64 = 300;

/// Stops sending until somebody resumes it or changes the settings. False when it was paused already, or when the
/// settings are no longer those of `seen`.
///
/// # Errors
/// Whatever the database says.
pub async fn pause(
    tx: &DatabaseTransaction,
    now: Timestamp,
    seen: &Model,
    reason: &str,
) -> Result<bool, DbErr> {
    let change = ActiveModel {
        state: Set(OutgoingState::Paused),
        state_reason: Set(Some(reason.to_owned())),
        retry_at: Set(None),
        ..Default::default()
    };
    let guard =
        Condition::all().add(Column::Version.eq(seen.version)).add(Column::State.ne(OutgoingState::Paused));
    move_on(tx, now, change, guard).await
}

/// Sends again at once.
///
/// # Errors
/// Whatever the database says.
pub async fn resume(tx: &DatabaseTransaction, now: Timestamp) -> Result<bool, DbErr> {
    move_on(tx, now, running(), Condition::all().add(Column::State.ne(OutgoingState::Running))).await
}

/// The server can be reached again.
///
/// # Errors
/// Whatever the database says.
pub async fn recover(tx: &DatabaseTransaction, now: Timestamp) -> Result<bool, DbErr> {
    move_on(tx, now, running(), Condition::all().add(Column::State.eq(OutgoingState::Failing))).await
}

/// The server is busy or cannot be reached: nobody asks it before the pause is over, which doubles each time.
/// False when another connection said so already, or when the settings are no longer those of `seen`.
///
/// # Errors
/// Whatever the database says.
pub async fn fail(
    tx: &DatabaseTransaction,
    now: Timestamp,
    seen: &Model,
    reason: &str,
) -> Result<bool, DbErr> {
    let pause = pause_after(u32::try_from(seen.failures).unwrap_or(0));
    let millis = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    let change = ActiveModel {
        state: Set(OutgoingState::Failing),
        state_reason: Set(Some(reason.to_owned())),
        retry_at: Set(Some(now.plus_ms(millis))),
        failures: Set(seen.failures.saturating_add(1)),
        ..Default::default()
    };
    let guard = Condition::all()
        .add(Column::Version.eq(seen.version))
        .add(Column::Failures.eq(seen.failures))
        .add(Column::State.ne(OutgoingState::Paused));
    move_on(tx, now, change, guard).await
}

/// A condition for any statement: the outgoing server has the settings of `seen`, and is not paused.
pub fn is_served(seen: &Model) -> Expr {
    let served = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Version.eq(seen.version))
        .filter(Column::CreatedAt.eq(seen.created_at))
        .filter(Column::State.ne(OutgoingState::Paused));
    Expr::exists(served.into_query())
}

/// Uses up `count` places under the rate; false when another replica used some at the same moment.
///
/// # Errors
/// Whatever the database says.
pub async fn take_slots(
    tx: &DatabaseTransaction,
    now: Timestamp,
    seen: &Model,
    count: usize,
) -> Result<bool, DbErr> {
    if seen.rate_per_minute.is_none() {
        return Ok(true);
    }
    let taken = Entity::update_many()
        .col_expr(Column::NextSlotUs, Expr::value(seen.rate().after(now, count)))
        .filter(Column::Id.eq(ID))
        .filter(Column::NextSlotUs.eq(seen.next_slot_us))
        .exec(tx)
        .await?;
    Ok(taken.rows_affected == 1)
}

fn running() -> ActiveModel {
    ActiveModel {
        state: Set(OutgoingState::Running),
        state_reason: Set(None),
        retry_at: Set(None),
        failures: Set(0),
        ..Default::default()
    }
}

async fn move_on(
    tx: &DatabaseTransaction,
    now: Timestamp,
    change: ActiveModel,
    guard: Condition,
) -> Result<bool, DbErr> {
    let update = Entity::update_many().set(change).filter(Column::Id.eq(ID)).filter(guard);
    let Some(row) = update.exec_with_returning(tx).await?.pop() else { return Ok(false) };
    append_state(tx, now, &row).await?;
    Ok(true)
}

async fn append_state(tx: &DatabaseTransaction, now: Timestamp, row: &Model) -> Result<(), DbErr> {
    let data = json!({ "state": row.state, "state_reason": row.state_reason, "retry_at": row.retry_at });
    let event = NewEvent::new("outgoing_server.state_changed", Uuid::nil(), &data).for_supervisors();
    events::append(tx, now, vec![event]).await
}

/// 5 s, 10 s, 20 s … 5 minutes, each a tenth longer or shorter so that replicas do not ask at once.
fn pause_after(failures: u32) -> Duration {
    let base = FIRST_PAUSE_S.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE_S) * 1000;
    Duration::from_millis(rand::rng().random_range(base - base / 10..=base + base / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_of_a_failing_server_doubles_up_to_five_minutes() {
        let about = |failures, seconds: u64| {
            let pause = pause_after(failures).as_millis();
            assert!((u128::from(seconds * 900)..=u128::from(seconds * 1100)).contains(&pause), "{pause}");
        };
        about(0, 5);
        about(1, 10);
        about(30, 300);
    }
}
