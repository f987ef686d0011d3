//! One-time tickets for the event stream, for browsers whose `EventSource` cannot send headers.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::{ConnectionTrait, Statement};
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    clock::Timestamp,
    http::{Caller, Code, Problem},
    secret::random_bytes,
};

/// How long a ticket works, in seconds.
const LIFETIME_S: i64 = 30;

/// Makes a ticket for `caller`; gives it with its end.
///
/// # Errors
/// Whatever the database says.
pub async fn issue(app: &App, caller: &Caller) -> Result<(String, Timestamp), Problem> {
    let ticket = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
    let expires_at = app.clock.now().plus_s(LIFETIME_S);
    let caller = serde_json::to_value(caller).map_err(Problem::internal)?;
    let values = [hash(&ticket).into(), caller.into(), expires_at.as_millis().into()];
    let sql = "INSERT INTO event_tickets (ticket_hash, caller, expires_at) VALUES ($1, $2, $3)";
    let tx = app.db.begin().await?;
    tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    tx.commit().await?;
    Ok((ticket, expires_at))
}

/// Takes a ticket back and tells whose it is; it does not work again.
///
/// # Errors
/// `unauthenticated` when it is unknown, used or over.
pub async fn redeem(app: &App, ticket: &str) -> Result<Caller, Problem> {
    let sql = "DELETE FROM event_tickets WHERE ticket_hash = $1 RETURNING caller, expires_at";
    let tx = app.db.begin().await?;
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, [hash(ticket).into()]);
    let row = tx.query_one_raw(statement).await?;
    tx.commit().await?;
    let refused = || Problem::new(Code::Unauthenticated, "the ticket is unknown, used or over");
    let row = row.ok_or_else(refused)?;
    let expires_at: i64 = row.try_get_by_index(1)?;
    if Timestamp::from_millis(expires_at) <= app.clock.now() {
        return Err(refused());
    }
    let caller: serde_json::Value = row.try_get_by_index(0)?;
    serde_json::from_value(caller).map_err(Problem::internal)
}

fn hash(ticket: &str) -> Vec<u8> {
    Sha256::digest(ticket).to_vec()
}
