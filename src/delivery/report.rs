//! What a report says of a message goes into its timeline and the event log.

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};

use super::{
    entity::{Phase, delivery},
    rules::Recipient,
    settle::message_event,
    timeline::{self, Line},
};
use crate::{clock::Timestamp, conversations::entity::MessageState, db::among, events, id::MessageId};

/// Locks the deliveries of messages, which come before the messages themselves everywhere; gives those of which a report
/// tells what becomes of the try in hand. Of a message to several recipients it does not: it says nothing of the others.
///
/// # Errors
/// Whatever the database says.
pub async fn lock(tx: &DatabaseTransaction, ids: Vec<MessageId>) -> Result<Vec<MessageId>, DbErr> {
    let locked = delivery::Entity::find()
        .filter(among(delivery::Column::MessageId, ids))
        .order_by_asc(delivery::Column::MessageId)
        .lock_exclusive()
        .all(tx)
        .await?;
    Ok(locked.iter().filter(|row| was_handed_over(row)).map(|row| row.message_id).collect())
}

/// Whether the one recipient's message may have been handed over already, by this try or by one whose answer was lost.
fn was_handed_over(row: &delivery::Model) -> bool {
    let recipients: Vec<Recipient> = serde_json::from_value(row.recipients.clone()).unwrap_or_default();
    matches!(&recipients[..], [one] if row.phase == Phase::Dot || one.is_uncertain())
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
    // A second copy whose dot is not out stays here. A try whose dot is out adds the server's words when it ends.
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Phase, Expr::value(Phase::Idle))
        .col_expr(delivery::Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        .col_expr(delivery::Column::Attempts, Expr::col(delivery::Column::Attempts).add(1))
        .filter(delivery::Column::MessageId.eq(id))
        .filter(delivery::Column::Phase.eq(Phase::Begun))
        .exec(tx)
        .await?;
    let told = message_event(tx, id, state).await?;
    events::append(tx, now, told.into_iter().collect()).await
}
