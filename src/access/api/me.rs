//! What callers do about themselves.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::users::User;
use crate::{
    access::{
        audit::Actor, authenticate::forget, entity::user, matrix::Access, peer::client_address, refresh,
        throttle::Attempt, users,
    },
    app::App,
    events,
    http::{Body, Caller, Problem, caller::Role, problem::ProblemBody},
};

/// The caller.
#[derive(Serialize, ToSchema)]
pub struct Me {
    /// The user's or API key's id.
    id: Uuid,
    /// The login name, or the key's name.
    #[schema(examples("anna"))]
    name: String,
    /// The role.
    role: Role,
    /// The scopes of which the caller may call at least one operation.
    #[schema(examples("routing:read"))]
    scopes: Vec<String>,
    /// The user; none for API keys.
    user: Option<User>,
}

/// A change of the caller's own password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "current_password": "correct horse battery", "new_password": "staple correct horse" }))]
pub struct PasswordChange {
    /// The password so far.
    #[schema(max_length = 200, format = "password", examples("correct horse battery"))]
    current_password: String,
    /// The new one; it must differ.
    #[schema(min_length = 12, max_length = 200, format = "password", examples("staple correct horse"))]
    new_password: String,
}

/// Read who the caller is.
#[utoipa::path(tag = "access", responses((status = 200, description = "The caller.", body = Me)))]
#[get("/auth/me")]
pub async fn get_me(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let user = match caller.user_id() {
        Some(id) => user::Entity::find_by_id(id).one(app.db.read()).await?.map(User::from),
        None => None,
    };
    let scopes = Access::scopes_of(&caller).into_iter().map(str::to_owned).collect();
    Ok(HttpResponse::Ok().json(Me { id: caller.id, name: caller.name, role: caller.role, scopes, user }))
}

/// Change the caller's own password.
///
/// All refresh tokens of the user end: log in again with the new password. Access tokens that are out end by themselves
/// within 15 minutes.
#[utoipa::path(tag = "access", request_body = PasswordChange, responses(
    (status = 204, description = "It is changed."),
    (status = 429, description = "Too many wrong passwords: wait as long as `Retry-After` says.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/auth/password")]
pub async fn change_password(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
    actor: Actor,
    body: Body<PasswordChange>,
) -> Result<HttpResponse, Problem> {
    let PasswordChange { current_password, new_password } = body.0;
    let address = client_address(&request, &app.config.http.trusted_proxies);
    let attempt = Attempt::begin(&app, &caller.name, address).await?;
    let id = caller.agent_id()?;
    let known = user::Entity::find_by_id(id).one(app.db.read()).await?;
    let known = known.ok_or_else(|| Problem::not_found("user"))?;
    if !app.access.hashing.verify(&current_password, Some(&known.password_hash)).await? {
        let detail = "this is not the present password";
        return Err(Problem::invalid("/current_password", "wrong_password", detail));
    }
    if current_password == new_password {
        return Err(Problem::invalid("/new_password", "unchanged", "the new password must differ"));
    }
    let hash = app.access.hashing.hash(&new_password).await?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    attempt.succeed(&tx).await?;
    let change = user::ActiveModel {
        password_hash: Set(hash),
        must_change_password: Set(false),
        ..Default::default()
    };
    let user = users::update(&tx, now, &known, change).await?;
    refresh::revoke_user(&tx, id, now).await?;
    actor.record(&tx, now, "change_password", ("users", id), json!({})).await?;
    events::append(&tx, now, vec![users::event("user.updated", &user)]).await?;
    tx.commit().await?;
    forget(&app, id.uuid());
    Ok(HttpResponse::NoContent().finish())
}
