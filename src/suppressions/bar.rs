//! Bars an address because of what its owner or its server told us.

use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};
use serde_json::json;

use super::{
    AddressKeys,
    enter::{Entered, enter},
    entity::{Column, Entity, Model, SuppressionReason},
    entry::channel_of,
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::messages::customer_key,
    db::Gate,
    events::{self, NewEvent},
    id::SuppressionId,
};

/// Bars an address for everything that the reason holds back, beside whatever bars it already. When the transaction commits,
/// no send to it begins any more.
///
/// # Errors
/// Whatever the database says.
pub async fn bar(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    address: &str,
    reason: SuppressionReason,
    note: &str,
) -> Result<(), DbErr> {
    bar_until(app, tx, now, address, (reason, None), note).await
}

/// As [`bar`], for a reason that holds until a time; one that holds for longer already is left alone.
///
/// # Errors
/// Whatever the database says.
pub async fn bar_until(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    address: &str,
    (reason, until): (SuppressionReason, Option<Timestamp>),
    note: &str,
) -> Result<(), DbErr> {
    let address = customer_key(address);
    let key = AddressKeys::of(app).key(&address);
    Gate::Sends.shut(tx).await?;
    // Whose address was erased is known by the key alone, and servers quote addresses.
    let is_erased = Entity::find()
        .filter(Column::AddressKey.eq(&key))
        .filter(Column::Address.is_null())
        .one(tx)
        .await?
        .is_some();
    let row = Model {
        id: SuppressionId::new(now),
        address_key: key,
        channel: channel_of(&address),
        address: (!is_erased).then_some(address),
        campaign_id: None,
        reason,
        note: (!is_erased).then(|| note.chars().take(500).collect()),
        expires_at: until,
        created_at: now,
    };
    let Entered { created, extended } = enter(tx, now, vec![row]).await?;
    let told = created.iter().chain(&extended).map(|row| {
        NewEvent::new("suppression.created", row.id.uuid(), &json!({ "reason": reason })).for_supervisors()
    });
    events::append(tx, now, told.collect()).await
}

/// Lifts what a stop word set: texts may go to the number again, unless something else holds them back.
///
/// # Errors
/// Whatever the database says.
pub async fn lift_stop(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    number: &str,
) -> Result<(), DbErr> {
    let lifted = Entity::delete_many()
        .filter(Column::AddressKey.eq(AddressKeys::of(app).key(number)))
        .filter(Column::CampaignId.is_null())
        .filter(Column::Reason.eq(SuppressionReason::Stopped))
        .exec_with_returning(tx)
        .await?;
    let told = lifted.iter().map(|row| {
        NewEvent::new("suppression.deleted", row.id.uuid(), &json!({ "reason": row.reason }))
            .for_supervisors()
    });
    events::append(tx, now, told.collect()).await
}
