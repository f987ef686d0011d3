//! The hours in which a broadcast is sent.

use sea_orm::{ConnectionTrait, DbErr};

use super::entity::broadcast;
use crate::{app::App, clock::Timestamp};

const MINUTE_MS: i64 = 60_000;

/// When to ask again, while the broadcast's calendar is closed; none when it may be sent now. Calendars open and close at
/// full minutes; one that is gone is closed.
///
/// # Errors
/// Whatever the database says.
pub async fn closed_until(
    app: &App,
    db: &impl ConnectionTrait,
    row: &broadcast::Model,
    now: Timestamp,
) -> Result<Option<Timestamp>, DbErr> {
    let Some(id) = row.window_calendar_id else { return Ok(None) };
    let calendar = app.scripts.snapshot(db).await?.calendar(id.uuid());
    let is_open = calendar.is_some_and(|calendar| calendar.is_open(now.to_chrono()));
    Ok((!is_open).then(|| next_minute(now)))
}

/// Until when a broadcast that may be sent now certainly may; none when it may at all hours.
pub fn known_until(row: &broadcast::Model, now: Timestamp) -> Option<Timestamp> {
    row.window_calendar_id.map(|_| next_minute(now))
}

fn next_minute(now: Timestamp) -> Timestamp {
    Timestamp::from_millis((now.as_millis() / MINUTE_MS + 1) * MINUTE_MS)
}
