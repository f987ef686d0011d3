//! The addresses that are ours: mail from them is not a customer's, and mail to them would come back to us.

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QuerySelect};

use super::entity::account;

/// The addresses of all accounts, whatever their state.
///
/// # Errors
/// Whatever the database says.
pub async fn own_addresses(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    account::Entity::find().select_only().column(account::Column::Address).into_tuple().all(db).await
}
