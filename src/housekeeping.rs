//! Removes rows whose time is over: what nobody can use any more, in every table that gathers such rows.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};

use crate::{app::App, clock::Timestamp, http::idempotency, workers::Step};

/// How long the worker rests when there is nothing left to remove.
pub const PAUSE: Duration = Duration::from_secs(600);
/// How long an upload waits for the answer that it is attached to, in seconds.
const UPLOAD_KEPT_S: i64 = 24 * 3600;
/// Rows that one statement removes: SQLite has one writer, and others wait for it.
const BATCH: u32 = 500;

/// Rows of `table` whose `column` is at or before `until` are over.
struct Old {
    table: &'static str,
    key: &'static str,
    column: &'static str,
    until: Timestamp,
}

/// Removes up to one batch from each table.
///
/// # Errors
/// Whatever the database says.
pub async fn remove_old_rows(app: App) -> anyhow::Result<Step> {
    let mut removed = 0;
    for old in old_rows(&app) {
        removed += old.remove(&app).await?;
    }
    Ok(if removed > 0 { Step::Worked(removed) } else { Step::Idle })
}

fn old_rows(app: &App) -> [Old; 7] {
    let now = app.clock.now();
    let old = |table, key, column, kept_s: i64| Old { table, key, column, until: now.plus_s(-kept_s) };
    [
        // Used ones are kept until they expire, because using one again gives a thief away.
        old("refresh_tokens", "token_hash", "expires_at", 0),
        old("event_tickets", "ticket_hash", "expires_at", 0),
        old("signing_keys", "kid", "published_until", 0),
        old("login_failures", "subject", "window_start", app.config.auth.failed_login_window_s),
        old("idempotency_keys", "caller, key", "created_at", idempotency::KEPT_S),
        old("soft_bounces", "message_id", "at", app.config.bounces.soft_window_s),
        old("uploads", "id", "created_at", UPLOAD_KEPT_S),
    ]
}

impl Old {
    async fn remove(&self, app: &App) -> anyhow::Result<usize> {
        let Self { table, key, column, until } = self;
        let backend = app.db.backend();
        let any = format!("SELECT 1 FROM {table} WHERE {column} <= $1 LIMIT 1");
        let any = Statement::from_sql_and_values(backend, any, [until.as_millis().into()]);
        if app.db.read().query_one_raw(any).await?.is_none() {
            return Ok(0);
        }
        let sql = format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {column} <= $1 LIMIT {BATCH})"
        );
        let tx = app.db.begin().await?;
        let done =
            tx.execute_raw(Statement::from_sql_and_values(backend, sql, [until.as_millis().into()])).await?;
        tx.commit().await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}
