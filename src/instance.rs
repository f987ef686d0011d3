//! The id of this installation, which marks its own mail so that it is known when it comes back.

use sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::{app::App, secret::random_bytes};

/// The key in the table `settings`.
const KEY: &str = "instance_id";

/// The installation's id, the same for all replicas: the value of `X-Postroom-Loop`. Made when it is first asked for.
///
/// # Errors
/// Whatever the database says.
pub async fn instance_id(app: &App) -> Result<String, DbErr> {
    let known = app.instance_id.get_or_try_init(|| read_or_make(app)).await?;
    Ok(known.clone())
}

async fn read_or_make(app: &App) -> Result<String, DbErr> {
    if let Some(id) = read(app.db.read()).await? {
        return Ok(id);
    }
    let tx = app.db.begin().await?;
    let made = serde_json::Value::String(hex::encode(random_bytes::<16>()));
    let sql = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, [KEY.into(), made.into()]))
        .await?;
    // Another replica may have been first.
    let id = read(&*tx).await?;
    tx.commit().await?;
    id.ok_or_else(|| DbErr::RecordNotFound(KEY.into()))
}

async fn read(db: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    let sql = "SELECT value FROM settings WHERE key = $1";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [KEY.into()]);
    let Some(row) = db.query_one_raw(statement).await? else { return Ok(None) };
    let value: serde_json::Value = row.try_get_by_index(0)?;
    Ok(value.as_str().map(str::to_owned))
}
