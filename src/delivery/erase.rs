//! Emptying deliveries when what is known of a customer is erased.

use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};
use serde_json::json;

use super::{
    call_off::call_off,
    entity::{captured, delivery, step},
};
use crate::{clock::Timestamp, db::among, id::MessageId};

/// Calls off what is unsent of these messages, and gives those that are being sent right now.
///
/// # Errors
/// Whatever the database says.
pub async fn withdraw(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: &[MessageId],
    reason: &str,
) -> Result<Vec<MessageId>, DbErr> {
    let stopped = call_off(tx, now, ids.to_vec(), reason).await?;
    let mut sent: Vec<MessageId> = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::MessageId)
        .filter(among(delivery::Column::MessageId, ids.iter().copied()))
        .into_tuple()
        .all(tx)
        .await?;
    // Not by the phase: what was being sent a moment ago may be settled by now, and due again.
    sent.retain(|id| !stopped.contains(id));
    Ok(sent)
}

/// Forgets to whom messages went and what servers said of it, and drops what was captured. How often and when they were
/// tried, and with which codes, stays.
///
/// # Errors
/// Whatever the database says.
pub async fn forget(tx: &DatabaseTransaction, ids: &[MessageId]) -> Result<(), DbErr> {
    let these = || ids.iter().copied();
    let way =
        delivery::ActiveModel { recipients: Set(json!([])), last_text: Set(None), ..Default::default() };
    delivery::Entity::update_many()
        .set(way)
        .filter(among(delivery::Column::MessageId, these()))
        .exec(tx)
        .await?;
    let silent = step::ActiveModel { text: Set(String::new()), ..Default::default() };
    step::Entity::update_many().set(silent).filter(among(step::Column::MessageId, these())).exec(tx).await?;
    captured::Entity::delete_many().filter(among(captured::Column::MessageId, these())).exec(tx).await?;
    Ok(())
}
