//! Locks on conversations, which everybody takes in one order. Only PostgreSQL locks rows.

use sea_orm::{
    DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};

use super::entity::conversation;
use crate::{db::among, id::ConversationId};

/// Locks a conversation; taken before its item, as the code that takes mail in does.
///
/// # Errors
/// Whatever the database says.
pub async fn lock_conversation(tx: &DatabaseTransaction, id: ConversationId) -> Result<(), DbErr> {
    lock_conversations(tx, [id]).await
}

/// The same for several at once, in the order of their ids. Rows that refer to a conversation, such as notes, may still
/// be written by those who have its item.
///
/// # Errors
/// Whatever the database says.
pub async fn lock_conversations(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = ConversationId>,
) -> Result<(), DbErr> {
    conversation::Entity::find()
        .select_only()
        .column(conversation::Column::Id)
        .filter(among(conversation::Column::Id, ids))
        .order_by_asc(conversation::Column::Id)
        .lock(LockType::NoKeyUpdate)
        .into_tuple::<ConversationId>()
        .all(tx)
        .await?;
    Ok(())
}
