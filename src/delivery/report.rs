//! What a report says of a message goes into its timeline and the event log.

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use super::{
    entity::delivery,
    settle::message_event,
    timeline::{self, Line},
};
use crate::{clock::Timestamp, conversations::entity::MessageState, db::among, events, id::MessageId};

/// Locks the deliveries of messages, which come before the messages themselves everywhere.
///
/// # Errors
/// Whatever the database says.
pub async fn lock(tx: &DatabaseTransaction, ids: Vec<MessageId>) -> Result<(), DbErr> {
    delivery::Entity::find()
        .filter(among(delivery::Column::MessageId, ids))
        .order_by_asc(delivery::Column::MessageId)
        .lock_exclusive()
        .all(tx)
        .await?;
    Ok(())
}

/// Notes what a report says of a message, and its new state when it has one; a message that is known to have arrived, or
/// not to have, is not tried again.
///
/// # Errors
/// Whatever the database says.
pub async fn note_report(
    tx: &DatabaseTransaction,
    now: Timestamp,
    id: MessageId,
    verb: &str,
    words: &str,
    state: Option<MessageState>,
) -> Result<(), DbErr> {
    timeline::append(tx, now, vec![Line::note(id, 0, now, verb, words)]).await?;
    let Some(state) = state else { return Ok(()) };
    delivery::Entity::update_many()
        .col_expr(delivery::Column::DueAt, Expr::value(None::<Timestamp>))
        .filter(delivery::Column::MessageId.eq(id))
        .exec(tx)
        .await?;
    let told = message_event(tx, id, state).await?;
    events::append(tx, now, told.into_iter().collect()).await
}
