//! Sends the automatic answers that scripts asked for, in the transaction that routed their messages.

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::json;

use super::journal::Journal;
use crate::{
    app::App,
    clock::Timestamp,
    receipts::{self, Receipt},
};

/// Writes and enqueues the receipts; what cannot be written is told in the trace of its item.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn send_receipts(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    wanted: Vec<Receipt>,
) -> Result<(), DbErr> {
    let items: Vec<_> = wanted.iter().map(|receipt| receipt.work_item_id).collect();
    let sent = receipts::send(app, tx, now, wanted).await?;
    let mut journal = Journal::new(now);
    for (item, sent) in items.into_iter().zip(sent) {
        let entry = match sent {
            Ok(message_id) => json!({ "event": "receipt.queued", "message_id": message_id }),
            Err(error) => json!({ "event": "receipt.not_sent", "reason": error.to_string() }),
        };
        journal.trace(item, "note", entry);
    }
    journal.write(tx).await
}
