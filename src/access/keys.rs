//! The key pairs that sign access tokens: Ed25519 (RFC 8037), replaced by age or on demand, published by `kid`.

use std::{collections::HashMap, sync::RwLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use jsonwebtoken::{DecodingKey, EncodingKey};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QueryOrder,
};

use super::{entity::signing_key, token::LEEWAY_S};
use crate::{
    app::App,
    clock::Timestamp,
    db::Lock,
    http::problem::{Code, Problem},
    secret::random_bytes,
};

/// How long a key that was read is believed without asking the database again, in seconds.
const BELIEVED_S: i64 = 60;

/// Public keys that were read already, by `kid`.
#[derive(Default)]
pub struct KnownKeys(RwLock<HashMap<String, Known>>);

#[derive(Clone)]
struct Known {
    key: DecodingKey,
    published_until: Timestamp,
    read_at: Timestamp,
}

impl std::fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownKeys")
    }
}

impl KnownKeys {
    fn find(&self, kid: &str, now: Timestamp) -> Option<Known> {
        let known = self.0.read().ok()?.get(kid)?.clone();
        (known.read_at.plus_s(BELIEVED_S) > now).then_some(known)
    }

    fn forget(&self) {
        if let Ok(mut known) = self.0.write() {
            known.clear();
        }
    }
}

/// The public key of this `kid`, as long as it is published.
///
/// # Errors
/// `unauthenticated` when there is none.
pub async fn public_key(app: &App, kid: &str) -> Result<DecodingKey, Problem> {
    let unknown =
        || Problem::new(Code::Unauthenticated, "the access token was signed with a key that is not in use");
    let now = app.clock.now();
    let known = match app.access.known_keys.find(kid, now) {
        Some(known) => known,
        None => {
            let row = signing_key::Entity::find_by_id(kid).one(app.db.read()).await?.ok_or_else(unknown)?;
            let key = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(&row.public_key))
                .map_err(Problem::internal)?;
            let known = Known { key, published_until: row.published_until, read_at: now };
            if let Ok(mut all) = app.access.known_keys.0.write() {
                all.insert(kid.to_owned(), known.clone());
            }
            known
        }
    };
    if known.published_until > now { Ok(known.key) } else { Err(unknown()) }
}

/// All published keys, newest first; one is made when there is none.
///
/// # Errors
/// `internal_error` when no key can be made.
pub async fn published(app: &App) -> Result<Vec<signing_key::Model>, Problem> {
    let now = app.clock.now();
    signing(app, now).await?;
    let keys = signing_key::Entity::find()
        .filter(signing_key::Column::PublishedUntil.gt(now))
        .order_by_desc(signing_key::Column::CreatedAt)
        .all(app.db.read())
        .await?;
    Ok(keys)
}

/// The `kid` and private key that sign now; a new pair is made when the last one's time is over.
///
/// # Errors
/// `internal_error` when no key can be read or made.
pub async fn private_key(app: &App, now: Timestamp) -> Result<(String, EncodingKey), Problem> {
    let key = signing(app, now).await?;
    let private = app.sealer.open(&purpose(&key.kid), &key.private_key_sealed).map_err(Problem::internal)?;
    Ok((key.kid, EncodingKey::from_ed_der(&private)))
}

async fn signing(app: &App, now: Timestamp) -> Result<signing_key::Model, Problem> {
    if let Some(key) = newest(app.db.read(), now).await? {
        return Ok(key);
    }
    let tx = app.db.begin().await?;
    // Another replica may be about to make one, too.
    Lock::SigningKeys.take(&tx).await?;
    // Another request or replica may have made one while we waited.
    if let Some(key) = newest(&*tx, now).await? {
        return Ok(key);
    }
    let key = make(app, &tx, now).await?;
    tx.commit().await?;
    Ok(key)
}

/// Makes a new key that signs from now on. The others stay published until their last tokens have expired.
///
/// # Errors
/// `internal_error` when no key can be made.
pub async fn rotate(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
) -> Result<signing_key::Model, Problem> {
    Lock::SigningKeys.take(tx).await?;
    let retired = signing_key::ActiveModel {
        signs_until: Set(now),
        published_until: Set(now.plus_s(app.config.auth.access_token_s + LEEWAY_S)),
        ..Default::default()
    };
    signing_key::Entity::update_many()
        .set(retired)
        .filter(signing_key::Column::SignsUntil.gt(now))
        .exec(tx)
        .await?;
    let key = make(app, tx, now).await?;
    app.access.known_keys.forget();
    Ok(key)
}

async fn newest(db: &impl ConnectionTrait, now: Timestamp) -> Result<Option<signing_key::Model>, DbErr> {
    signing_key::Entity::find()
        .filter(signing_key::Column::SignsUntil.gt(now))
        .order_by_desc(signing_key::Column::SignsUntil)
        .one(db)
        .await
}

async fn make(app: &App, tx: &DatabaseTransaction, now: Timestamp) -> Result<signing_key::Model, Problem> {
    let pair = SigningKey::from_bytes(&random_bytes());
    let kid = hex::encode(random_bytes::<8>());
    let private = pair.to_pkcs8_der().map_err(Problem::internal)?;
    let sealed = app.sealer.seal(&purpose(&kid), private.as_bytes()).map_err(Problem::internal)?;
    let signs_until = now.plus_s(app.config.auth.signing_key_s);
    let row = signing_key::ActiveModel {
        kid: Set(kid),
        private_key_sealed: Set(sealed),
        public_key: Set(pair.verifying_key().to_bytes().to_vec()),
        created_at: Set(now),
        signs_until: Set(signs_until),
        published_until: Set(signs_until.plus_s(app.config.auth.access_token_s + LEEWAY_S)),
    };
    Ok(signing_key::Entity::insert(row).exec_with_returning(tx).await?)
}

fn purpose(kid: &str) -> String {
    format!("signing_key:{kid}")
}
