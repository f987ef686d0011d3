//! Answers being written: one per work item, gone when the item is answered or done.

use sea_orm::{DatabaseTransaction, DbErr, EntityTrait};

use super::entity::draft;
use crate::id::WorkItemId;

/// Throws away the draft of an item, if there is one.
///
/// # Errors
/// Whatever the database says.
pub async fn discard(tx: &DatabaseTransaction, item: WorkItemId) -> Result<(), DbErr> {
    draft::Entity::delete_by_id(item).exec(tx).await?;
    Ok(())
}
