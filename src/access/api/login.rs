//! The OAuth2 endpoints: tokens (RFC 6749), revocation (RFC 7009), public keys (RFC 7517).

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{AUTHORIZATION, CACHE_CONTROL},
    post, web,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    access::{
        api_keys,
        audit::{Actor, Entry, Outcome},
        entity::user,
        keys,
        matrix::Access,
        peer::client_address,
        refresh::{self, Use},
        throttle::Attempt,
        token,
    },
    app::App,
    clock::Timestamp,
    http::{
        Answer, Form, Idempotency, Problem,
        caller::Caller,
        idempotency::Start,
        problem::{Code, ProblemBody},
    },
    id::{UserId, new_uuid},
};

/// A request for tokens (RFC 6749 §4.3, §4.4, §6).
#[derive(Deserialize, ToSchema)]
pub struct TokenRequest {
    /// `password`, `refresh_token` or `client_credentials`.
    #[schema(min_length = 1, max_length = 100, examples("password"))]
    grant_type: String,
    /// The login name, for `password`.
    #[schema(max_length = 100, examples("anna"))]
    username: Option<String>,
    /// The password, for `password`.
    #[schema(max_length = 200, format = "password", examples("correct horse battery"))]
    password: Option<String>,
    /// The last refresh token, for `refresh_token`: it is replaced by the answer's.
    #[schema(max_length = 200)]
    refresh_token: Option<String>,
    /// An API key's id, for `client_credentials`; also as the user name of Basic authentication.
    #[schema(max_length = 100)]
    client_id: Option<String>,
    /// The API key's secret; also as the password of Basic authentication.
    #[schema(max_length = 200, format = "password")]
    client_secret: Option<String>,
    /// The scopes wanted, separated by blanks; all of the API key's when left out. Users always get those of their role.
    #[schema(max_length = 2000)]
    scope: Option<String>,
}

/// Tokens (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
pub struct TokenAnswer {
    /// To be sent as `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`.
    #[schema(examples("Bearer"))]
    token_type: String,
    /// How long the access token is good for, in seconds.
    #[schema(examples(900))]
    expires_in: i64,
    /// What the next access token is got with; none for API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    refresh_token: Option<String>,
    /// The scopes, separated by blanks.
    #[schema(examples("routing:read work:read work:write"))]
    scope: String,
}

/// A token to be revoked (RFC 7009 §2.1).
#[derive(Deserialize, ToSchema)]
pub struct RevocationRequest {
    /// The refresh token.
    #[schema(min_length = 1, max_length = 4000)]
    token: String,
    /// What kind of token it is; not needed.
    #[serde(rename = "token_type_hint")]
    #[schema(max_length = 100, examples("refresh_token"))]
    _token_type_hint: Option<String>,
}

/// Public keys (RFC 7517 §5).
#[derive(Serialize, ToSchema)]
pub struct KeySet {
    /// The keys, newest first.
    keys: Vec<PublicKey>,
}

/// One Ed25519 key (RFC 8037 §2).
#[derive(Serialize, ToSchema)]
pub struct PublicKey {
    /// `OKP`.
    #[schema(examples("OKP"))]
    kty: String,
    /// `Ed25519`.
    #[schema(examples("Ed25519"))]
    crv: String,
    /// The key in base64url.
    x: String,
    /// The id that tokens name.
    kid: String,
    /// `sig`.
    #[serde(rename = "use")]
    #[schema(examples("sig"))]
    usage: String,
    /// `EdDSA`.
    #[schema(examples("EdDSA"))]
    alg: String,
}

/// Log in.
///
/// The grants are `password` (a user), `refresh_token` (a user's next access token; the refresh token is replaced, and
/// using one twice revokes all that came of the same login) and `client_credentials` (an API key's id and secret).
#[utoipa::path(tag = "access",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The tokens.", body = TokenAnswer, headers(("Cache-Control" = String))),
        (status = 401, description = "The API key's id or secret is not right.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many failed logins: wait as long as `Retry-After` says.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/auth/token")]
pub async fn issue_token(
    app: web::Data<App>,
    request: HttpRequest,
    form: Form<TokenRequest>,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let form = form.0;
    let answer = match form.grant_type.as_str() {
        "password" => log_in(&app, &request, form, actor).await?,
        "refresh_token" => refresh(&app, form, actor).await?,
        "client_credentials" => admit_key(&app, &request, form, actor).await?,
        _ => {
            let detail = "grant_type is password, refresh_token or client_credentials";
            return Err(Problem::new(Code::UnsupportedGrantType, detail));
        }
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(answer))
}

async fn log_in(
    app: &App,
    request: &HttpRequest,
    form: TokenRequest,
    actor: Actor,
) -> Result<TokenAnswer, Problem> {
    let username = needed(form.username, "username")?.trim().to_lowercase();
    let password = needed(form.password, "password")?;
    let address = client_address(request, &app.config.http.trusted_proxies);
    let wrong = || Problem::new(Code::InvalidGrant, "the user name or the password is not right");
    let attempt = Attempt::begin(app, &username, address).await?;
    let user = user::Entity::find().filter(user::Column::Username.eq(username)).one(app.db.read()).await?;
    let stored = user.as_ref().map(|user| user.password_hash.as_str());
    let right = app.access.hashing.verify(&password, stored).await?;
    let user = match user {
        Some(user) if right && !user.disabled && user.deleted_at.is_none() => user,
        user => {
            // A name that nobody has may be a password typed into the wrong field: it is not kept.
            let subject = user.map(|user| ("users".to_owned(), user.id.to_string()));
            let details = json!({ "grant_type": "password" });
            actor.note(app, failed(subject, details)).await;
            return Err(wrong());
        }
    };
    let (access_token, expires_in) = token::issue(app, &user).await?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    attempt.succeed(&tx).await?;
    let seen = user::ActiveModel { last_login_at: Set(Some(now)), ..Default::default() };
    // The password may have been changed since it was read; what changes it waits here, or this for it.
    let still = user::Entity::update_many()
        .set(seen)
        .filter(user::Column::Id.eq(user.id))
        .filter(user::Column::PasswordHash.eq(&user.password_hash))
        .filter(user::Column::Disabled.eq(false))
        .exec(&*tx)
        .await?;
    if still.rows_affected == 0 {
        return Err(wrong());
    }
    let refresh_token = refresh::issue(app, &tx, user.id, new_uuid(now), now).await?;
    let details = json!({ "grant_type": "password" });
    let actor = actor.known_as(user.id.uuid(), &user.username);
    actor.record(&tx, now, "issue_token", ("users", user.id), details).await?;
    tx.commit().await?;
    Ok(answer_user(&user, access_token, expires_in, refresh_token))
}

async fn refresh(app: &App, form: TokenRequest, actor: Actor) -> Result<TokenAnswer, Problem> {
    let given = needed(form.refresh_token, "refresh_token")?;
    let refused = || Problem::new(Code::InvalidGrant, "the refresh token is not valid: log in again");
    let found = refresh::find(app, &given).await?.ok_or_else(refused)?;
    let user = usable_user(app, found.user_id).await?.ok_or_else(refused)?;
    // Signed before the old token is spent, so that a failure to sign costs nobody their login.
    let (access_token, expires_in) = token::issue(app, &user).await?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let used = refresh::spend(&tx, &found, now).await?;
    if let Use::Spent(old) = used {
        let next = refresh::issue(app, &tx, user.id, old.family_id, now).await?;
        tx.commit().await?;
        return Ok(answer_user(&user, access_token, expires_in, next));
    }
    tx.commit().await?;
    if let Use::Reused(old) = used {
        let details = json!({ "grant_type": "refresh_token", "reused": true, "family_id": old.family_id });
        actor.note(app, failed(Some(("users".into(), old.user_id.to_string())), details)).await;
    }
    Err(refused())
}

async fn usable_user(app: &App, id: UserId) -> Result<Option<user::Model>, Problem> {
    let user = user::Entity::find_by_id(id).one(app.db.read()).await?;
    Ok(user.filter(|user| !user.disabled && user.deleted_at.is_none()))
}

async fn admit_key(
    app: &App,
    request: &HttpRequest,
    form: TokenRequest,
    actor: Actor,
) -> Result<TokenAnswer, Problem> {
    let refused = || Problem::new(Code::InvalidClient, "the client id or secret is not right");
    let (id, secret) = match (form.client_id, form.client_secret) {
        (Some(id), Some(secret)) => (id, secret),
        _ => basic(request).ok_or_else(refused)?,
    };
    let Some(key) = api_keys::find_usable(app, &id, &secret).await? else {
        actor.note(app, failed(None, json!({ "grant_type": "client_credentials" }))).await;
        return Err(refused());
    };
    let given = api_keys::scopes_of(&key);
    let wanted: Vec<String> = match &form.scope {
        Some(scope) => scope.split_ascii_whitespace().map(str::to_owned).collect(),
        None => given.clone(),
    };
    if let Some(beyond) = wanted.iter().find(|scope| !given.contains(scope)) {
        return Err(Problem::new(Code::InvalidScope, format!("the key was not given the scope {beyond:?}")));
    }
    let (access_token, expires_in) = token::issue_to_key(app, &key, &wanted).await?;
    Ok(TokenAnswer {
        access_token,
        token_type: "Bearer".into(),
        expires_in,
        refresh_token: None,
        scope: wanted.join(" "),
    })
}

/// Client credentials in the header are form-encoded before they are put into base64 (RFC 6749 §2.3.1).
fn basic(request: &HttpRequest) -> Option<(String, String)> {
    let (scheme, encoded) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn needed(value: Option<String>, name: &str) -> Result<String, Problem> {
    value.ok_or_else(|| Problem::new(Code::InvalidRequest, format!("{name:?} is missing")))
}

fn failed(subject: Option<(String, String)>, details: serde_json::Value) -> Entry {
    Entry { action: "issue_token".into(), subject, outcome: Outcome::Failed, details }
}

fn answer_user(
    user: &user::Model,
    access_token: String,
    expires_in: i64,
    refresh_token: String,
) -> TokenAnswer {
    let caller =
        Caller { id: user.id.uuid(), name: user.username.clone(), role: user.role, scopes: Vec::new() };
    let scope = Access::scopes_of(&caller).into_iter().collect::<Vec<_>>().join(" ");
    let refresh_token = Some(refresh_token);
    TokenAnswer { access_token, token_type: "Bearer".into(), expires_in, refresh_token, scope }
}

/// Log out.
///
/// Revokes a refresh token and all that came of the same login. The answer is the same for tokens that are not known.
/// Access tokens cannot be revoked: they end by themselves within 15 minutes, and at once when the user is disabled.
#[utoipa::path(tag = "access",
    request_body(content = RevocationRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token is not valid any more.")))]
#[post("/auth/revoke")]
pub async fn revoke_token(
    app: web::Data<App>,
    form: Form<RevocationRequest>,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    if let Some(found) = refresh::find(&app, &form.0.token).await? {
        let (now, tx) = (app.clock.now(), app.db.begin().await?);
        refresh::revoke_family(&tx, &found, now).await?;
        let actor = actor.known_as(found.user_id.uuid(), "");
        actor.record(&tx, now, "revoke_token", ("users", found.user_id), json!({})).await?;
        tx.commit().await?;
    }
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).finish())
}

/// Read the public keys that access tokens are verified with.
#[utoipa::path(tag = "access",
    responses((status = 200, description = "The keys.", body = KeySet, headers(("Cache-Control" = String)))))]
#[get("/auth/jwks.json")]
pub async fn get_jwks(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let keys = keys::published(&app).await?.into_iter().map(public).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=60")).json(KeySet { keys }))
}

fn public(key: crate::access::entity::signing_key::Model) -> PublicKey {
    PublicKey {
        kty: "OKP".into(),
        crv: "Ed25519".into(),
        x: URL_SAFE_NO_PAD.encode(key.public_key),
        kid: key.kid,
        usage: "sig".into(),
        alg: "EdDSA".into(),
    }
}

/// The key that signs from now on.
#[derive(Serialize, ToSchema)]
pub struct SigningKey {
    /// Its id.
    #[schema(examples("5f0c2f6a9d3b7e11"))]
    kid: String,
    /// Until when it signs, unless it is replaced before.
    signs_until: Timestamp,
}

/// Replace the key that signs access tokens.
///
/// Tokens that were signed with the old key stay valid until they expire.
#[utoipa::path(tag = "access",
    responses((status = 200, description = "The new key.", body = SigningKey)))]
#[post("/auth/rotate-signing-key")]
pub async fn rotate_signing_key(
    app: web::Data<App>,
    actor: Actor,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let key = keys::rotate(&app, &work.tx, now).await?;
    actor.record(&work.tx, now, "rotate_signing_key", ("signing_keys", &key.kid), json!({})).await?;
    work.commit(Answer::ok(&SigningKey { kid: key.kid, signs_until: key.signs_until })?).await
}
