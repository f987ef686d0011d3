//! API keys: 256 random bits that other systems send instead of logging in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::entity::api_key::{ActiveModel, Column, Entity, Model};
use crate::{app::App, clock::Timestamp, id::ApiKeyId, secret::random_bytes};

/// What every secret begins with, so that scanners and people recognise one.
pub const PREFIX: &str = "prk_";
const HINT_LENGTH: usize = 8;
/// `last_used_at` is kept to the minute: a write per request would cost more than the request.
const TOUCHED_EVERY_S: i64 = 60;

/// A new secret, shown once; of it, its hash and hint are stored.
#[derive(Debug)]
pub struct Secret {
    /// The secret itself.
    pub text: String,
    /// Its SHA-256.
    pub hash: Vec<u8>,
    /// Its first characters.
    pub hint: String,
}

impl Secret {
    /// Makes one.
    pub fn random() -> Self {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
        let hint = text.chars().take(HINT_LENGTH).collect();
        Self { hash: Sha256::digest(&text).to_vec(), hint, text }
    }
}

/// The key of this id and secret, when it may be used now.
///
/// # Errors
/// Whatever the database says.
pub async fn find_usable(app: &App, id: &str, secret: &str) -> Result<Option<Model>, DbErr> {
    let Ok(id) = id.parse::<ApiKeyId>() else { return Ok(None) };
    let now = app.clock.now();
    let row = Entity::find_by_id(id).one(app.db.read()).await?;
    let given = Sha256::digest(secret);
    Ok(row.filter(|row| {
        let right: bool = row.secret_hash.as_slice().ct_eq(given.as_slice()).into();
        right && row.revoked_at.is_none() && row.expires_at.is_none_or(|at| at > now)
    }))
}

/// The scopes that a key was given.
pub fn scopes_of(row: &Model) -> Vec<String> {
    serde_json::from_value(row.scopes.clone()).unwrap_or_default()
}

/// Notes that a key is used, at most once a minute. A failure is logged: it must not fail the request.
pub async fn touch(app: &App, row: &Model, now: Timestamp) {
    let stale = now.plus_s(-TOUCHED_EVERY_S);
    if row.last_used_at.is_some_and(|at| at > stale) {
        return;
    }
    if let Err(error) = write_use(app, row.id, now, stale).await {
        tracing::warn!(%error, "last_used_at of an API key was not written");
    }
}

async fn write_use(app: &App, id: ApiKeyId, now: Timestamp, stale: Timestamp) -> Result<(), DbErr> {
    let tx = app.db.begin().await?;
    Entity::update_many()
        .set(ActiveModel { last_used_at: Set(Some(now)), ..Default::default() })
        .filter(Column::Id.eq(id))
        .filter(Condition::any().add(Column::LastUsedAt.is_null()).add(Column::LastUsedAt.lte(stale)))
        .exec(&*tx)
        .await?;
    tx.commit().await
}
