//! Bars an address because of what its owner or its server told us.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use serde_json::json;

use super::{
    AddressKeys,
    entity::{ActiveModel, Column, Entity, Model, SuppressionReason},
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

/// Bars an address for everything that the reason holds back; one that is barred already stays so, for the weightier
/// reason. When the transaction commits, no send to it begins any more.
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

/// As [`bar`], for a reason that holds until a time. One that is barred already stays so for the weightier reason and for
/// the longer time, so that nobody who wants no mail gets some because another reason has run out.
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
    Gate::Sends.shut(tx).await?;
    let address = customer_key(address);
    let key = AddressKeys::of(app).key(&address);
    let everywhere =
        || Entity::find().filter(Column::AddressKey.eq(&key)).filter(Column::CampaignId.is_null());
    let known = everywhere().one(tx).await?;
    let in_force = known.as_ref().filter(|row| row.expires_at.is_none_or(|at| at > now));
    let lasts = |row: &Model| row.expires_at.is_none_or(|at| until.is_some_and(|until| at >= until));
    if in_force.is_some_and(|row| row.reason <= reason && lasts(row)) {
        return Ok(());
    }
    let reason = in_force.map_or(reason, |row| row.reason.min(reason));
    let until = if in_force.is_some_and(lasts) { in_force.and_then(|row| row.expires_at) } else { until };
    let note = Some(note.chars().take(500).collect::<String>());
    let id = match known {
        Some(row) => {
            Entity::update_many()
                .col_expr(Column::Reason, Expr::value(reason))
                .col_expr(Column::Note, Expr::value(note))
                .col_expr(Column::ExpiresAt, Expr::value(until))
                .filter(Column::Id.eq(row.id))
                .exec(tx)
                .await?;
            row.id
        }
        None => {
            let id = SuppressionId::new(now);
            let row = ActiveModel {
                id: Set(id),
                address_key: Set(key),
                channel: Set(channel_of(&address)),
                address: Set(Some(address)),
                campaign_id: Set(None),
                reason: Set(reason),
                note: Set(note),
                expires_at: Set(until),
                created_at: Set(now),
            };
            // Another replica may have heard the same.
            let once = OnConflict::new().do_nothing().to_owned();
            Entity::insert(row).on_conflict(once).exec_without_returning(tx).await?;
            id
        }
    };
    let event = NewEvent::new("suppression.created", id.uuid(), &json!({ "reason": reason }));
    events::append(tx, now, vec![event.for_supervisors()]).await
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
