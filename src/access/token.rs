//! Access tokens: JWTs signed with Ed25519 (RFC 7519, RFC 8037, RFC 9068), the one algorithm that is accepted.

use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    entity::{api_key, user},
    keys,
};
use crate::{
    app::App,
    clock::Timestamp,
    http::{
        caller::Role,
        problem::{Code, Problem},
    },
    secret::random_bytes,
};

/// The token's `aud`.
pub const AUDIENCE: &str = "postroom";
/// How much a replica's clock may differ, in seconds.
pub const LEEWAY_S: i64 = 5;
const ALGORITHM: Algorithm = Algorithm::EdDSA;
const HEADER_TYPE: &str = "at+jwt";
const CLAIM_TYPE: &str = "access";

/// The claims of an access token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    /// The user's or API key's id.
    pub sub: Uuid,
    exp: i64,
    iat: i64,
    jti: String,
    typ: String,
    name: String,
    /// The role at the time of issue: it tells users from API keys; what a user may do now is read from its row.
    pub role: Role,
    /// The scopes that an API key asked for, separated by blanks (RFC 9068 §2.2.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

impl Claims {
    /// When the token ends, leeway included.
    pub fn ends_at(&self) -> Timestamp {
        Timestamp::from_millis(self.exp.saturating_mul(1000)).plus_s(LEEWAY_S)
    }

    /// The scopes of an API key's token.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.as_deref().unwrap_or_default().split_ascii_whitespace()
    }
}

/// Signs an access token for a user; gives it with its lifetime in seconds.
///
/// Opens a transaction of its own when a signing key has to be made: call it outside any other.
///
/// # Errors
/// `internal_error` when no key can be read or made.
pub async fn issue(app: &App, user: &user::Model) -> Result<(String, i64), Problem> {
    sign(app, user.id.uuid(), &user.username, user.role, None).await
}

/// Signs an access token for an API key that is limited to `scopes`.
///
/// # Errors
/// `internal_error` when no key can be read or made.
pub async fn issue_to_key(
    app: &App,
    key: &api_key::Model,
    scopes: &[String],
) -> Result<(String, i64), Problem> {
    sign(app, key.id.uuid(), &key.name, Role::Integration, Some(scopes.join(" "))).await
}

async fn sign(
    app: &App,
    sub: Uuid,
    name: &str,
    role: Role,
    scope: Option<String>,
) -> Result<(String, i64), Problem> {
    let now = app.clock.now();
    let lifetime = app.config.auth.access_token_s;
    let claims = Claims {
        iss: app.config.public_url(),
        aud: AUDIENCE.into(),
        sub,
        exp: now.plus_s(lifetime).as_millis() / 1000,
        iat: now.as_millis() / 1000,
        jti: hex::encode(random_bytes::<12>()),
        typ: CLAIM_TYPE.into(),
        name: name.to_owned(),
        role,
        scope,
    };
    let (kid, key) = keys::private_key(app, now).await?;
    let header = Header { kid: Some(kid), typ: Some(HEADER_TYPE.into()), ..Header::new(ALGORITHM) };
    let token = jsonwebtoken::encode(&header, &claims, &key).map_err(Problem::internal)?;
    Ok((token, lifetime))
}

/// Checks an access token's signature, issuer, audience, type and age.
///
/// # Errors
/// `token_expired`, or `unauthenticated` for everything else that is wrong with it.
pub async fn verify(app: &App, token: &str) -> Result<Claims, Problem> {
    let refused = || Problem::new(Code::Unauthenticated, "the access token is not valid");
    let header = jsonwebtoken::decode_header(token).map_err(|_| refused())?;
    if header.alg != ALGORITHM || header.typ.as_deref() != Some(HEADER_TYPE) {
        return Err(refused());
    }
    let kid =
        header.kid.ok_or_else(|| Problem::new(Code::Unauthenticated, "the access token names no key"))?;
    let key = keys::public_key(app, &kid).await?;
    let mut validation = Validation::new(ALGORITHM);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[app.config.public_url()]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // Expiry is compared with our own clock below.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|_| refused())?.claims;
    if claims.typ != CLAIM_TYPE {
        return Err(Problem::new(Code::Unauthenticated, "this is not an access token"));
    }
    if claims.ends_at() <= app.clock.now() {
        return Err(Problem::new(Code::TokenExpired, "get a new access token"));
    }
    Ok(claims)
}
