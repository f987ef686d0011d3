//! Calling off messages that are unsent, many at a time.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use super::{
    entity::{Phase, delivery},
    rules::Recipient,
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

/// Calls off those of the messages that are unsent: they are cancelled, or given up where some recipients have them already.
/// Gives all that are not being sent right now, and are not from now on.
///
/// # Errors
/// Whatever the database says.
pub async fn call_off(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: Vec<MessageId>,
    reason: &str,
) -> Result<Vec<MessageId>, DbErr> {
    let stopped = stop(tx, now, ids).await?;
    let tried = delivery::Entity::find()
        .filter(among(delivery::Column::MessageId, stopped.iter().copied()))
        .filter(delivery::Column::Tries.gt(0))
        .all(tx)
        .await?;
    let begun: Vec<MessageId> =
        tried.iter().filter(|row| how_many_have_it(row) > 0).map(|row| row.message_id).collect();
    let unbegun = stopped.iter().copied().filter(|id| !begun.contains(id)).collect();
    let mut ended = shelve(tx, now, unbegun, (MessageState::Cancelled, "cancelled"), reason).await?;
    ended.extend(shelve(tx, now, begun, (MessageState::Expired, "expired"), reason).await?);
    let told = ended.iter().map(|row| {
        let kind = if row.state == MessageState::Expired { "message.expired" } else { "message.cancelled" };
        let data = json!({
            "conversation_id": row.conversation_id, "work_item_id": row.work_item_id, "state": row.state,
        });
        NewEvent::new(kind, row.id.uuid(), &data).for_agent_or_supervisors(row.author_id)
    });
    events::append(tx, now, told.collect()).await?;
    Ok(stopped)
}

/// How many recipients a server took the message for.
pub(super) fn how_many_have_it(row: &delivery::Model) -> usize {
    let recipients: Vec<Recipient> = serde_json::from_value(row.recipients.clone()).unwrap_or_default();
    recipients.iter().filter(|one| one.has_it()).count()
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
