//! Soft bounces: a full mailbox or a server that cannot be reached may pass, but not for ever.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait, QueryFilter,
    sea_query::OnConflict,
};

use super::{
    AddressKeys,
    bar::bar_until,
    entity::{SuppressionReason, soft_bounce},
};
use crate::{app::App, clock::Timestamp, id::MessageId};

/// Counts that a message came back from an address, once; when there were too many of late, the address is barred for a
/// while (`[bounces]` in the settings).
///
/// # Errors
/// Whatever the database says.
pub async fn bounced_softly(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    message_id: MessageId,
    address: &str,
    words: &str,
) -> Result<(), DbErr> {
    use soft_bounce::{ActiveModel, Column, Entity};
    let settings = &app.config.bounces;
    if settings.soft_max == 0 {
        return Ok(());
    }
    let key = AddressKeys::of(app).key(address);
    let row = ActiveModel { message_id: Set(message_id), address_key: Set(key.clone()), at: Set(now) };
    let once = OnConflict::columns([Column::MessageId, Column::AddressKey]).do_nothing().to_owned();
    if Entity::insert(row).on_conflict(once).exec_without_returning(tx).await? == 0 {
        return Ok(());
    }
    let since = now.plus_s(-settings.soft_window_s);
    let lately = Entity::find().filter(Column::AddressKey.eq(&key)).filter(Column::At.gt(since));
    let count = lately.count(tx).await?;
    if count < settings.soft_max {
        return Ok(());
    }
    // The rows stay until they are old, so that a report that comes twice counts once; a further bounce only bars anew.
    let until = Some(now.plus_s(settings.soft_suppressed_s));
    let note = format!("{count} soft bounces, the last: {words}");
    bar_until(app, tx, now, address, (SuppressionReason::SoftBounced, until), &note).await
}
