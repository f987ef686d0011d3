//! Refresh tokens: each is used once and replaced; using one twice revokes everything that came of the same login.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::LockType,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::entity::{
    refresh_token::{ActiveModel, Column, Entity, Model},
    user,
};
use crate::{app::App, clock::Timestamp, id::UserId, secret::random_bytes};

const PREFIX: &str = "prr_";

/// What came of using a token.
#[derive(Debug)]
pub enum Use {
    /// It was good and is used up now; the next one belongs to this family.
    Spent(Model),
    /// It had been used before: its family is revoked now.
    Reused(Model),
    /// It is unknown, expired or revoked.
    Refused,
}

/// Makes the first or next token of a family; gives the token itself, of which only the hash is stored.
///
/// # Errors
/// Whatever the database says.
pub async fn issue(
    app: &App,
    tx: &DatabaseTransaction,
    user: UserId,
    family: Uuid,
    now: Timestamp,
) -> Result<String, DbErr> {
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    let row = ActiveModel {
        token_hash: Set(hash(&token)),
        family_id: Set(family),
        user_id: Set(user),
        created_at: Set(now),
        expires_at: Set(now.plus_s(app.config.auth.refresh_token_s)),
        used_at: Set(None),
        revoked_at: Set(None),
    };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(token)
}

/// Finds a token without using it.
///
/// # Errors
/// Whatever the database says.
pub async fn find(app: &App, token: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(hash(token)).one(app.db.read()).await
}

/// Uses a token; of several at the same time exactly one succeeds. Commit the transaction in every case.
///
/// # Errors
/// Whatever the database says.
pub async fn spend(tx: &DatabaseTransaction, found: &Model, now: Timestamp) -> Result<Use, DbErr> {
    lock_logins(tx, found.user_id).await?;
    let used = Entity::update_many()
        .set(ActiveModel { used_at: Set(Some(now)), ..Default::default() })
        .filter(Column::TokenHash.eq(found.token_hash.clone()))
        .filter(Column::UsedAt.is_null())
        .filter(Column::RevokedAt.is_null())
        .filter(Column::ExpiresAt.gt(now))
        .exec_with_returning(tx)
        .await?;
    if let Some(row) = used.into_iter().next() {
        return Ok(Use::Spent(row));
    }
    match Entity::find_by_id(found.token_hash.clone()).one(tx).await? {
        Some(row) if row.used_at.is_some() && row.revoked_at.is_none() => {
            revoke_family(tx, &row, now).await?;
            Ok(Use::Reused(row))
        }
        _ => Ok(Use::Refused),
    }
}

/// Ends everything that came of the same login as this token.
///
/// # Errors
/// Whatever the database says.
pub async fn revoke_family(tx: &DatabaseTransaction, one: &Model, now: Timestamp) -> Result<(), DbErr> {
    lock_logins(tx, one.user_id).await?;
    revoke(tx, Column::FamilyId.eq(one.family_id), now).await
}

/// Ends all logins of a user.
///
/// # Errors
/// Whatever the database says.
pub async fn revoke_user(tx: &DatabaseTransaction, user: UserId, now: Timestamp) -> Result<(), DbErr> {
    lock_logins(tx, user).await?;
    revoke(tx, Column::UserId.eq(user), now).await
}

/// Keeps the tokens of a user as they are until the transaction ends, by a lock on the user's row: on PostgreSQL the
/// statement that revokes them would not see one that another transaction is about to commit.
async fn lock_logins(tx: &DatabaseTransaction, id: UserId) -> Result<(), DbErr> {
    user::Entity::find_by_id(id).lock(LockType::NoKeyUpdate).one(tx).await.map(|_| ())
}

async fn revoke(
    tx: &DatabaseTransaction,
    which: sea_orm::sea_query::SimpleExpr,
    now: Timestamp,
) -> Result<(), DbErr> {
    let change = ActiveModel { revoked_at: Set(Some(now)), ..Default::default() };
    Entity::update_many().set(change).filter(which).filter(Column::RevokedAt.is_null()).exec(tx).await?;
    Ok(())
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}
