//! Access tokens: JWTs signed with Ed25519 (RFC 7519, RFC 8037), keys rotated by `kid`.

use std::{collections::HashMap, sync::RwLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entity::{signing_key, user};
use crate::{
    app::App,
    clock::Timestamp,
    http::{
        caller::{Caller, Role},
        problem::{Code, Problem},
    },
    secret::random_bytes,
};

/// The token's `aud`.
pub const AUDIENCE: &str = "postroom";
const ALGORITHM: Algorithm = Algorithm::EdDSA;
/// How much a replica's clock may differ, in seconds.
const LEEWAY_S: i64 = 5;

/// The claims of an access token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    exp: i64,
    iat: i64,
    jti: String,
    typ: String,
    name: String,
    role: Role,
}

/// Public keys that were read already, by `kid`.
#[derive(Default)]
pub struct KnownKeys(RwLock<HashMap<String, (DecodingKey, Timestamp)>>);

impl std::fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownKeys")
    }
}

/// Signs an access token for a user; gives it with its lifetime in seconds.
///
/// # Errors
/// `internal_error` when no key can be read or made.
pub async fn issue(app: &App, user: &user::Model) -> Result<(String, i64), Problem> {
    let now = app.clock.now();
    let lifetime = app.config.auth.access_token_s;
    let claims = Claims {
        iss: app.config.public_url(),
        aud: AUDIENCE.into(),
        sub: user.id.uuid(),
        exp: now.plus_s(lifetime).as_millis() / 1000,
        iat: now.as_millis() / 1000,
        jti: hex::encode(random_bytes::<12>()),
        typ: "access".into(),
        name: user.username.clone(),
        role: user.role,
    };
    let key = signing_key_at(app, now).await?;
    let private = app.sealer.open(&purpose(&key.kid), &key.private_key_sealed).map_err(Problem::internal)?;
    let header = Header { kid: Some(key.kid), typ: Some("at+jwt".into()), ..Header::new(ALGORITHM) };
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&private))
        .map_err(Problem::internal)?;
    Ok((token, lifetime))
}

/// Checks an access token and tells who calls.
///
/// # Errors
/// `token_expired`, or `unauthenticated` for everything else that is wrong with it.
pub async fn verify(app: &App, token: &str) -> Result<Caller, Problem> {
    let refused = |_| Problem::new(Code::Unauthenticated, "the access token is not valid");
    let header = jsonwebtoken::decode_header(token).map_err(refused)?;
    let kid =
        header.kid.ok_or_else(|| Problem::new(Code::Unauthenticated, "the access token names no key"))?;
    let key = public_key(app, &kid).await?;
    let mut validation = Validation::new(ALGORITHM);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[app.config.public_url()]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // Expiry is compared with our own clock below.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(refused)?.claims;
    if claims.typ != "access" {
        return Err(Problem::new(Code::Unauthenticated, "this is not an access token"));
    }
    if Timestamp::from_millis(claims.exp.saturating_mul(1000)).plus_s(LEEWAY_S) <= app.clock.now() {
        return Err(Problem::new(Code::TokenExpired, "get a new access token"));
    }
    Ok(Caller { id: claims.sub, name: claims.name, role: claims.role, scopes: Vec::new() })
}

fn purpose(kid: &str) -> String {
    format!("signing_key:{kid}")
}

async fn public_key(app: &App, kid: &str) -> Result<DecodingKey, Problem> {
    let unknown =
        || Problem::new(Code::Unauthenticated, "the access token was signed with a key that is not in use");
    let now = app.clock.now();
    let known = app.known_keys.0.read().ok().and_then(|known| known.get(kid).cloned());
    let (key, published_until) = match known {
        Some(known) => known,
        None => {
            let row = signing_key::Entity::find_by_id(kid).one(app.db.read()).await?.ok_or_else(unknown)?;
            let key = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(&row.public_key))
                .map_err(Problem::internal)?;
            if let Ok(mut known) = app.known_keys.0.write() {
                known.insert(kid.to_owned(), (key.clone(), row.published_until));
            }
            (key, row.published_until)
        }
    };
    if published_until > now { Ok(key) } else { Err(unknown()) }
}

/// The key that signs now; a new one is made when the last one's time is over.
async fn signing_key_at(app: &App, now: Timestamp) -> Result<signing_key::Model, Problem> {
    let newest = signing_key::Entity::find()
        .filter(signing_key::Column::SignsUntil.gt(now))
        .order_by_desc(signing_key::Column::SignsUntil)
        .one(app.db.read())
        .await?;
    match newest {
        Some(key) => Ok(key),
        None => make_signing_key(app, now).await,
    }
}

async fn make_signing_key(app: &App, now: Timestamp) -> Result<signing_key::Model, Problem> {
    let pair = SigningKey::from_bytes(&random_bytes());
    let kid = hex::encode(random_bytes::<8>());
    let private = pair.to_pkcs8_der().map_err(Problem::internal)?;
    let signs_until = now.plus_s(app.config.auth.signing_key_s);
    let row = signing_key::ActiveModel {
        private_key_sealed: Set(app
            .sealer
            .seal(&purpose(&kid), private.as_bytes())
            .map_err(Problem::internal)?),
        kid: Set(kid),
        public_key: Set(pair.verifying_key().to_bytes().to_vec()),
        created_at: Set(now),
        signs_until: Set(signs_until),
        published_until: Set(signs_until.plus_s(2 * app.config.auth.access_token_s)),
    };
    let tx = app.db.begin().await?;
    let key = signing_key::Entity::insert(row).exec_with_returning(&*tx).await?;
    tx.commit().await?;
    Ok(key)
}
