//! Calling off messages that are certainly unsent, many at a time.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use super::{
    entity::{Phase, delivery},
    timeline::{self, Line},
};
use crate::{
    clock::Timestamp,
    conversations::entity::{MessageState, message},
    db::among,
    events::{self, NewEvent},
    id::MessageId,
};

/// Makes deliveries that are not begun due no more; gives their messages. Their rows come first, as the worker takes them,
/// and in one order, so that two who stop the same do not wait for each other.
///
/// # Errors
/// Whatever the database says.
pub async fn stop(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: Vec<MessageId>,
) -> Result<Vec<MessageId>, DbErr> {
    use delivery::{Column, Entity};
    let idle = Entity::find()
        .select_only()
        .column(Column::MessageId)
        .filter(among(Column::MessageId, ids))
        .filter(Column::Phase.eq(Phase::Idle))
        .order_by_asc(Column::MessageId)
        .lock_exclusive();
    let idle: Vec<MessageId> = idle.into_tuple().all(tx).await?;
    if !idle.is_empty() {
        Entity::update_many()
            .col_expr(Column::DueAt, Expr::value(None::<Timestamp>))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(among(Column::MessageId, idle.iter().copied()))
            .exec(tx)
            .await?;
    }
    Ok(idle)
}

/// Brings those of the messages that are still unsent into a state, and notes it as `verb` in their timelines; gives them.
/// Their deliveries were stopped before.
///
/// # Errors
/// Whatever the database says.
pub async fn shelve(
    tx: &DatabaseTransaction,
    now: Timestamp,
    stopped: Vec<MessageId>,
    (state, verb): (MessageState, &str),
    reason: &str,
) -> Result<Vec<message::Model>, DbErr> {
    if stopped.is_empty() {
        return Ok(Vec::new());
    }
    let to = message::ActiveModel {
        state: Set(state),
        state_reason: Set(Some(reason.to_owned())),
        updated_at: Set(now),
        ..Default::default()
    };
    let shelved = message::Entity::update_many()
        .set(to)
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .filter(among(message::Column::Id, stopped))
        .filter(message::Column::State.is_in(MessageState::UNSENT))
        .exec_with_returning(tx)
        .await?;
    remark(tx, now, shelved.iter().map(|row| row.id), verb, reason).await?;
    Ok(shelved)
}

/// Cancels those of the messages that are certainly unsent.
///
/// # Errors
/// Whatever the database says.
pub async fn call_off(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: Vec<MessageId>,
    reason: &str,
) -> Result<(), DbErr> {
    let stopped = stop(tx, now, ids).await?;
    let cancelled = shelve(tx, now, stopped, (MessageState::Cancelled, "cancelled"), reason).await?;
    let told = cancelled.iter().map(|row| {
        let data = json!({
            "conversation_id": row.conversation_id, "work_item_id": row.work_item_id, "state": row.state,
        });
        let event = NewEvent::new("message.cancelled", row.id.uuid(), &data);
        event.for_agent_or_supervisors(row.author_id)
    });
    events::append(tx, now, told.collect()).await
}

/// Notes something in the timelines of messages.
///
/// # Errors
/// Whatever the database says.
pub async fn remark(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: impl Iterator<Item = MessageId>,
    verb: &str,
    text: &str,
) -> Result<(), DbErr> {
    timeline::append(tx, now, ids.map(|id| Line::note(id, 0, now, verb, text)).collect()).await
}
