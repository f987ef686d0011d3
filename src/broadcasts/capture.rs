//! Keeps a mail of a broadcast instead of sending it: what a capturing outgoing server does.

use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::json;

use super::{
    entity::recipient,
    print::{Printed, Printer},
    thread::{self, Filing},
};
use crate::{app::App, delivery::entity::captured, id::new_uuid};

/// Files the mail as a message, and notes that it was captured.
///
/// # Errors
/// Whatever the database or the object store says.
pub async fn keep(
    app: &App,
    printer: &Printer,
    row: &recipient::Model,
    printed: &Printed,
) -> anyhow::Result<()> {
    let filed = printer.filed(app, row, printed).await?;
    let now = app.clock.now();
    let (tx, object) = (app.db.begin().await?, filed.object());
    // On the heap, because every connection's future would carry it otherwise.
    if Box::pin(thread::file(&tx, now, printer, row, filed)).await? == Filing::Erased {
        tx.rollback().await?;
        app.raw.drop_objects(object).await;
        return Ok(());
    }
    let kept = captured::ActiveModel {
        id: Set(new_uuid(now)),
        message_id: Set(row.id),
        envelope_from: Set(printed.envelope.from().to_owned()),
        recipients: Set(json!(printed.envelope.to())),
        captured_at: Set(now),
    };
    captured::Entity::insert(kept).exec_without_returning(&*tx).await?;
    tx.commit().await?;
    Ok(())
}
