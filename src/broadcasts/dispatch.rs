//! Which recipients of the running broadcasts have their turn now.

use std::sync::Arc;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};

use super::{
    entity::{broadcast, recipient},
    ledger, pace, window,
};
use crate::{app::App, clock::Timestamp, db::literally, id::BroadcastId};

/// How many bytes of files may lie in the mails of one lot.
const WRITTEN_AHEAD_BYTES: u32 = 16 * 1024 * 1024;

/// Recipients of one broadcast that this process holds.
#[derive(Clone, Debug)]
pub struct Lot {
    /// The broadcast, as it is now.
    pub broadcast: Arc<broadcast::Model>,
    /// The recipients.
    pub rows: Vec<recipient::Model>,
    /// Until when they may be begun, as far as is known.
    pub until: Option<Timestamp>,
}

/// Who has their turn, and when somebody will.
#[derive(Debug, Default)]
pub struct Turns {
    /// These are to be sent now.
    pub lots: Vec<Lot>,
    /// When there is more, as far as is known.
    pub next: Option<Timestamp>,
}

/// Takes up to `room` recipients; each running broadcast gets its share.
///
/// # Errors
/// Whatever the database says.
pub async fn claim(app: &App, tx: &DatabaseTransaction, now: Timestamp, room: u32) -> Result<Turns, DbErr> {
    let mut turns = Turns::default();
    let running = running(tx).await?;
    let mut left = room;
    let count = running.len();
    for (at, row) in running.into_iter().enumerate() {
        if let Some(at) = window::closed_until(app, tx, &row, now).await? {
            turns.wait(at);
            continue;
        }
        if row.rate().opens_at() > now {
            turns.wait(row.rate().opens_at());
            continue;
        }
        let Some(row) = pace::hold(tx, row).await? else { continue };
        let share = left.div_ceil(u32::try_from(count - at).unwrap_or(1));
        let free = row.rate().free(now, share).min(most_at_once(&row));
        if free == 0 {
            turns.wait(row.rate().opens_at());
            continue;
        }
        let rows = ledger::claim(tx, now, row.id, free).await?;
        if rows.is_empty() {
            turns.next = turns.next.into_iter().chain(next_due(tx, now, row.id).await?).min();
            continue;
        }
        pace::take(tx, &row, now, rows.len()).await?;
        left = left.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let until = window::known_until(&row, now);
        turns.lots.push(Lot { broadcast: Arc::new(row), rows, until });
    }
    Ok(turns)
}

/// Lets nobody of a broadcast have their turn before then.
///
/// # Errors
/// Whatever the database says.
pub async fn put_off(app: &App, id: BroadcastId, until: Timestamp) -> Result<(), DbErr> {
    use broadcast::Column;
    let tx = app.db.begin().await?;
    broadcast::Entity::update_many()
        .col_expr(Column::NextSlotUs, Expr::value(until.as_millis() * 1000))
        .filter(Column::Id.eq(id))
        .filter(Column::NextSlotUs.lt(until.as_millis() * 1000))
        .exec(&*tx)
        .await?;
    tx.commit_untold().await
}

/// How many mails with files may be written ahead of the connections, so that memory does not grow with the files.
fn most_at_once(row: &broadcast::Model) -> u32 {
    match u32::try_from(row.attachments_bytes).unwrap_or(u32::MAX) {
        0 => u32::MAX,
        bytes => (WRITTEN_AHEAD_BYTES / bytes).max(1),
    }
}

impl Turns {
    fn wait(&mut self, until: Timestamp) {
        self.next = self.next.into_iter().chain([until]).min();
    }
}

/// The broadcasts that run, the one begun first coming first.
///
/// # Errors
/// Whatever the database says.
pub async fn running(db: &impl ConnectionTrait) -> Result<Vec<broadcast::Model>, DbErr> {
    // In an order that is always the same: some are locked one after the other.
    let select = broadcast::Entity::find().filter(is_running());
    select.order_by_asc(broadcast::Column::StartedAt).order_by_asc(broadcast::Column::Id).all(db).await
}

/// The condition of the index on broadcasts that run.
pub(super) fn is_running() -> Expr {
    literally(broadcast::Column::State, "running")
}

async fn next_due(
    tx: &DatabaseTransaction,
    now: Timestamp,
    broadcast: BroadcastId,
) -> Result<Option<Timestamp>, DbErr> {
    use recipient::Column;
    let first: Option<Option<Timestamp>> = recipient::Entity::find()
        .select_only()
        .column(Column::DueAt)
        .filter(Column::BroadcastId.eq(broadcast))
        .filter(Column::DueAt.is_not_null())
        .filter(Column::LeaseUntil.lte(now))
        .order_by_asc(Column::DueAt)
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    Ok(first.flatten())
}
