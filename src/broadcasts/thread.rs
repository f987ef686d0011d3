//! A recipient's row becomes a message in a conversation, once somebody has a use for it: an answer that belongs to it, or
//! a capturing server's list.

use sea_orm::{ActiveModelTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel};

use super::{entity::recipient, print::Printer};
use crate::{
    clock::Timestamp,
    conversations::{
        begin,
        entity::conversation,
        outbound::{self, Filed, Sent},
        recipient::Recipient,
    },
    events,
    id::ConversationId,
};

/// Files the recipient's message and begins its conversation, unless that was done before; false then.
///
/// # Errors
/// Whatever the database says.
pub async fn file(
    tx: &DatabaseTransaction,
    now: Timestamp,
    printer: &Printer,
    row: &recipient::Model,
    filed: Filed,
) -> Result<bool, DbErr> {
    let id = ConversationId(row.id.uuid());
    if conversation::Entity::find_by_id(id).one(tx).await?.is_some() {
        return Ok(false);
    }
    let to = Recipient { name: Some(row.name.clone()), address: row.address.clone() };
    let begun = begin::with(id, printer.account(), &to, &filed.message.subject, now);
    let event = begin::event(&begun);
    begun.into_active_model().reset_all().insert(tx).await?;
    events::append(tx, now, vec![event]).await?;
    let sent = Sent { at: row.sent_at.unwrap_or(now), code: row.last_code, text: row.last_text.clone() };
    outbound::file_sent(tx, now, filed, sent).await?;
    Ok(true)
}
