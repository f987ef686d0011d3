//! What stays of a suppression when its address is erased: the key alone.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QueryTrait,
    sea_query::{OnConflict, Query},
};
use uuid::Uuid;

use super::entity::{ActiveModel, Column, Entity, SuppressionReason};
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
    // When this commits, no send to the addresses begins any more.
    Gate::Sends.shut(tx).await?;
    let these = among(Column::AddressKey, addresses.iter().map(|(key, _)| key.clone()));
    let bare = ActiveModel { address: Set(None), note: Set(None), ..Default::default() };
    Entity::update_many().set(bare).filter(these.clone()).exec(tx).await?;
    let weaker = Condition::any()
        .add(Column::Reason.eq(SuppressionReason::Unsubscribed))
        .add(Column::ExpiresAt.is_not_null());
    let for_good =
        ActiveModel { reason: Set(SuppressionReason::Manual), expires_at: Set(None), ..Default::default() };
    let global = Entity::update_many().set(for_good).filter(these).filter(Column::CampaignId.is_null());
    global.filter(weaker).exec(tx).await?;
    let rows = addresses.iter().map(|(key, channel)| ActiveModel {
        id: Set(SuppressionId::new(now)),
        address_key: Set(key.clone()),
        address: Set(None),
        channel: Set(*channel),
        campaign_id: Set(None),
        reason: Set(SuppressionReason::Manual),
        note: Set(None),
        expires_at: Set(None),
        created_at: Set(now),
    });
    let known = OnConflict::new().do_nothing().to_owned();
    let mut insert = Entity::insert_many(rows).on_conflict(known).into_query();
    insert.returning(Query::returning().column(Column::Id));
    let mut told = Vec::new();
    for made in tx.query_all(&insert).await? {
        let data = serde_json::json!({ "reason": SuppressionReason::Manual });
        told.push(
            NewEvent::new("suppression.created", made.try_get_by_index::<Uuid>(0)?, &data).for_supervisors(),
        );
    }
    events::append(tx, now, told).await
}
