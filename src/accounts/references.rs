//! Whether what an account names exists.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};
use uuid::Uuid;

use super::{entity::account, settings::AccountCreate};
use crate::http::Problem;

const PUBLISHED: &str = "(SELECT id FROM templates WHERE state = 'published') AS published";

/// Checks every reference of the settings. A receipt's template must be published when it is chosen; `before` is the
/// account as it stands, which may go on naming one that was archived meanwhile.
///
/// # Errors
/// `unknown_reference` at the first that names nothing.
pub(super) async fn check(
    tx: &DatabaseTransaction,
    wanted: &AccountCreate,
    before: Option<&account::Model>,
) -> Result<(), Problem> {
    let stays = before.is_some_and(|row| row.receipt_template_id == wanted.receipt_template_id);
    let templates = if stays { "templates" } else { PUBLISHED };
    let named = [
        (wanted.script_id.map(|id| id.uuid()), "scripts", "/script_id", "script"),
        (wanted.fallback_queue_id.map(|id| id.uuid()), "queues", "/fallback_queue_id", "queue"),
        (wanted.class_id.map(|id| id.uuid()), "classes", "/class_id", "class"),
        (
            wanted.receipt_template_id.map(|id| id.uuid()),
            templates,
            "/receipt_template_id",
            "published template",
        ),
    ];
    for (id, table, pointer, what) in named {
        let Some(id) = id else { continue };
        if !exists(tx, table, id).await? {
            return Err(Problem::unknown_reference(pointer, what));
        }
    }
    Ok(())
}

async fn exists(tx: &DatabaseTransaction, table: &str, id: Uuid) -> Result<bool, DbErr> {
    let sql = format!("SELECT 1 FROM {table} WHERE id = $1");
    let found = Statement::from_sql_and_values(tx.get_database_backend(), sql, [id.into()]);
    Ok(tx.query_one_raw(found).await?.is_some())
}
