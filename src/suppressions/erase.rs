//! What stays of a suppression when its address is erased: the key alone.

use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};

use super::{
    enter::{Entered, enter},
    entity::{ActiveModel, Column, Entity, Model, SuppressionReason},
};
use crate::{
    accounts::entity::Channel,
    clock::Timestamp,
    db::{Gate, among},
    events::{self, NewEvent},
    id::SuppressionId,
};

/// Holds everything back from these addresses for good, and keeps nothing of them but their keys: their suppressions lose
/// the clear address and the note. Whoever only wanted no marketing, or only for some time, is not written to at all now.
///
/// # Errors
/// Whatever the database says.
pub async fn keep_only_keys(
    tx: &DatabaseTransaction,
    now: Timestamp,
    addresses: &[(String, Channel)],
) -> Result<(), DbErr> {
    if addresses.is_empty() {
        return Ok(());
    }
    // Before any row is locked, as everywhere.
    Gate::Sends.shut(tx).await?;
    let these = among(Column::AddressKey, addresses.iter().map(|(key, _)| key.clone()));
    let bare = ActiveModel { address: Set(None), note: Set(None), ..Default::default() };
    Entity::update_many().set(bare).filter(these).exec(tx).await?;
    let for_good = addresses.iter().map(|(key, channel)| Model {
        id: SuppressionId::new(now),
        address_key: key.clone(),
        address: None,
        channel: *channel,
        campaign_id: None,
        reason: SuppressionReason::Manual,
        note: None,
        expires_at: None,
        created_at: now,
    });
    let Entered { created, extended } = enter(tx, now, for_good.collect()).await?;
    let told = created.iter().chain(&extended).map(|row| {
        let data = serde_json::json!({ "reason": row.reason });
        NewEvent::new("suppression.created", row.id.uuid(), &data).for_supervisors()
    });
    events::append(tx, now, told.collect()).await
}
