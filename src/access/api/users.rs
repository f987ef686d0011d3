//! Operations on users.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::{
        audit::Actor,
        authenticate::forget,
        entity::user::{ActiveModel, Column, Entity, Model},
        password, refresh,
        users::{self, NewUser},
    },
    app::App,
    clock::Timestamp,
    events,
    http::{
        Answer, Body, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, caller::Role,
        idempotency::Start,
    },
    id::UserId,
};

/// What a user may be; API keys are no users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// Everything.
    Admin,
    /// Queues, agents, work, broadcasts and reports.
    Supervisor,
    /// Own offers, own work items, own state.
    Agent,
}

/// Somebody who logs in.
#[derive(Serialize, ToSchema)]
pub struct User {
    /// The user's id; an agent has the same.
    pub id: UserId,
    /// The login name.
    #[schema(examples("anna"))]
    pub username: String,
    /// The name that others see.
    #[schema(examples("Anna Nowak"))]
    pub display_name: String,
    /// An address for notices.
    #[schema(examples("anna@example.com"))]
    pub email: Option<String>,
    /// What the user may do.
    pub role: UserRole,
    /// Whether logging in is refused.
    pub disabled: bool,
    /// Whether the password must be changed before anything else.
    pub must_change_password: bool,
    /// The last login.
    pub last_login_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A user to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "username": "anna", "role": "agent", "password": "correct horse battery", "display_name": "Anna Nowak" }))]
pub struct UserCreate {
    /// The unique login name.
    #[schema(max_length = 100, pattern = "^[a-z0-9][a-z0-9._@+-]*$", examples("anna"))]
    pub username: String,
    /// The name that others see.
    #[schema(min_length = 1, max_length = 200, examples("Anna Nowak"))]
    pub display_name: String,
    /// An address for notices.
    #[serde(default)]
    #[schema(max_length = 254, format = "email", examples("anna@example.com"))]
    pub email: Option<String>,
    /// What the user may do.
    pub role: UserRole,
    /// The password. Left out when a user is made: a one-time password is made and shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 12,
        max_length = 200,
        format = "password",
        write_only,
        examples("correct horse battery")
    )]
    pub password: Option<String>,
    /// Whether the user must change the password after logging in; always so with a one-time password.
    #[serde(default)]
    #[schema(default = false)]
    pub must_change_password: bool,
    /// Whether logging in is refused.
    #[serde(default)]
    #[schema(default = false)]
    pub disabled: bool,
}

/// The new user, with the one-time password when one was made.
#[derive(Serialize, ToSchema)]
pub struct UserCreated {
    /// The user.
    #[serde(flatten)]
    user: User,
    /// Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, examples("J3k_9sQ1x-Zp0aBcD4eF"))]
    one_time_password: Option<String>,
}

/// A password that must be changed at the next login.
#[derive(Serialize, ToSchema)]
pub struct OneTimePassword {
    /// Shown this once.
    #[schema(examples("J3k_9sQ1x-Zp0aBcD4eF"))]
    one_time_password: String,
}

/// One page of users.
#[derive(Serialize, ToSchema)]
pub struct UserList {
    /// The users.
    pub items: Vec<User>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How users may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum UserSort {
    /// By login name.
    #[serde(rename = "username")]
    Username,
    /// By login name, last first.
    #[serde(rename = "-username")]
    UsernameDescending,
}

/// Which users to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UserFilter {
    /// Only the user of this login name.
    #[param(max_length = 100)]
    username: Option<String>,
    /// Only users of this role.
    #[param(inline)]
    role: Option<UserRole>,
    /// Only users who may not log in, or only those who may.
    disabled: Option<bool>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<UserSort>,
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::Admin => Self::Admin,
            UserRole::Supervisor => Self::Supervisor,
            UserRole::Agent => Self::Agent,
        }
    }
}

impl From<Role> for UserRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Supervisor => Self::Supervisor,
            // No user's row holds `integration`; if one did, this is the least that it could mean.
            Role::Agent | Role::Integration => Self::Agent,
        }
    }
}

impl From<Model> for User {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            username: row.username,
            display_name: row.display_name,
            email: row.email,
            role: row.role.into(),
            disabled: row.disabled,
            must_change_password: row.must_change_password,
            last_login_at: row.last_login_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// List users.
#[utoipa::path(tag = "access", params(PageQuery, UserFilter),
    responses((status = 200, description = "One page.", body = UserList)))]
#[get("/users")]
pub async fn list_users(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<UserFilter>,
) -> Result<HttpResponse, Problem> {
    let UserFilter { username, role, disabled, sort } = filter.0;
    let mut select = Entity::find().filter(Column::DeletedAt.is_null());
    if let Some(username) = username {
        select = select.filter(Column::Username.eq(username.to_lowercase()));
    }
    if let Some(role) = role {
        select = select.filter(Column::Role.eq(Role::from(role)));
    }
    if let Some(disabled) = disabled {
        select = select.filter(Column::Disabled.eq(disabled));
    }
    let sort = sort.map(|sort| match sort {
        UserSort::Username => (Column::Username, Order::Asc),
        UserSort::UsernameDescending => (Column::Username, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(User::from);
    Ok(HttpResponse::Ok().json(UserList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a user.
///
/// Agents and supervisors get an agent's desk (`/v1/agents/{id}`), logged off.
#[utoipa::path(tag = "access", request_body = UserCreate,
    responses((status = 201, description = "The new user.", body = UserCreated, headers(("ETag" = String), ("Location" = String)))))]
#[post("/users")]
pub async fn create_user(
    app: web::Data<App>,
    body: Body<UserCreate>,
    idempotency: Idempotency,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let (body, now) = (body.0, app.clock.now());
    let one_time = body.password.is_none().then(password::one_time);
    let chosen = body.password.as_deref().or(one_time.as_deref()).unwrap_or_default();
    let new = NewUser {
        username: body.username,
        display_name: body.display_name,
        email: body.email,
        role: body.role.into(),
        // Before the transaction: hashing takes longer than anything a transaction may wait for.
        password_hash: app.access.hashing.hash(chosen).await?,
        must_change_password: body.must_change_password || one_time.is_some(),
        disabled: body.disabled,
    };
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let made = users::insert(&work.tx, now, new).await?;
    let details = json!({ "username": made.username, "role": made.role, "disabled": made.disabled });
    actor.record(&work.tx, now, "create_user", ("users", made.id), details).await?;
    let location = format!("/v1/users/{}", made.id);
    let created = UserCreated { user: made.into(), one_time_password: one_time };
    work.commit(Answer::created(location, &created)?.versioned(1)).await
}

/// Read one user.
#[utoipa::path(tag = "access", params(("id" = UserId, Path)),
    responses((status = 200, description = "The user.", body = User, headers(("ETag" = String)))))]
#[get("/users/{id}")]
pub async fn get_user(app: web::Data<App>, id: Path<UserId>) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&User::from(row))?.versioned(version).into_response())
}

/// Change a user.
///
/// Disabling a user or changing the role counts at once, also for access tokens that are already out. A new password
/// ends all refresh tokens of the user: access tokens that are out end by themselves within 15 minutes.
#[utoipa::path(tag = "access", params(("id" = UserId, Path)),
    request_body(content = ref("#/components/schemas/UserPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed user.", body = User, headers(("ETag" = String)))))]
#[patch("/users/{id}")]
pub async fn update_user(
    app: web::Data<App>,
    id: Path<UserId>,
    if_match: IfMatch,
    patch: Patch<UserCreate>,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let known = find(app.db.read(), *id).await?;
    if_match.check(known.version)?;
    let wanted = patch.apply(&writable(&known))?;
    let hash = match &wanted.password {
        Some(password) => Some(app.access.hashing.hash(password).await?),
        None => None,
    };
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let role = Role::from(wanted.role);
    if known.role == Role::Admin && !known.disabled && (role != Role::Admin || wanted.disabled) {
        users::keep_an_admin(&tx, known.id).await?;
    }
    let ends_logins = hash.is_some() || wanted.disabled;
    let change = change_of(wanted, hash);
    let changed: Vec<&str> = changes(&known, &change);
    let row = users::update(&tx, now, &known, change).await?;
    if ends_logins {
        refresh::revoke_user(&tx, row.id, now).await?;
    }
    users::keep_desk(&tx, now, &row).await?;
    let details = json!({ "changed": changed, "role": row.role, "disabled": row.disabled });
    actor.record(&tx, now, "update_user", ("users", row.id), details).await?;
    events::append(&tx, now, vec![users::event("user.updated", &row)]).await?;
    tx.commit().await?;
    forget(&app, row.id.uuid());
    let version = row.version;
    Ok(Answer::ok(&User::from(row))?.versioned(version).into_response())
}

/// Delete a user.
///
/// The user cannot log in any more, and the login name is free again. Work and audit entries keep their reference.
#[utoipa::path(tag = "access", params(("id" = UserId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/users/{id}")]
pub async fn delete_user(
    app: web::Data<App>,
    id: Path<UserId>,
    if_match: IfMatch,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    users::delete(&tx, now, &row).await?;
    actor.record(&tx, now, "delete_user", ("users", row.id), json!({ "username": row.username })).await?;
    tx.commit().await?;
    forget(&app, row.id.uuid());
    Ok(HttpResponse::NoContent().finish())
}

/// Give a user a one-time password.
///
/// All refresh tokens of the user end. Until the password is changed, the user can do nothing else, also with access
/// tokens that are already out.
#[utoipa::path(tag = "access", params(("id" = UserId, Path)),
    responses((status = 200, description = "The password.", body = OneTimePassword)))]
#[post("/users/{id}/reset-password")]
pub async fn reset_user_password(
    app: web::Data<App>,
    id: Path<UserId>,
    idempotency: Idempotency,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let (now, one_time_password) = (app.clock.now(), password::one_time());
    let hash = app.access.hashing.hash(&one_time_password).await?;
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let known = find(&*work.tx, *id).await?;
    let change =
        ActiveModel { password_hash: Set(hash), must_change_password: Set(true), ..Default::default() };
    let row = users::update(&work.tx, now, &known, change).await?;
    refresh::revoke_user(&work.tx, row.id, now).await?;
    actor.record(&work.tx, now, "reset_user_password", ("users", row.id), json!({})).await?;
    events::append(&work.tx, now, vec![users::event("user.updated", &row)]).await?;
    let answer = work.commit(Answer::ok(&OneTimePassword { one_time_password })?).await?;
    forget(&app, row.id.uuid());
    Ok(answer)
}

async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<Model, Problem> {
    let row = Entity::find_by_id(id).filter(Column::DeletedAt.is_null()).one(db).await?;
    row.ok_or_else(|| Problem::not_found("user"))
}

fn writable(row: &Model) -> UserCreate {
    UserCreate {
        username: row.username.clone(),
        display_name: row.display_name.clone(),
        email: row.email.clone(),
        role: row.role.into(),
        password: None,
        must_change_password: row.must_change_password,
        disabled: row.disabled,
    }
}

fn change_of(wanted: UserCreate, hash: Option<String>) -> ActiveModel {
    ActiveModel {
        username: Set(wanted.username),
        display_name: Set(wanted.display_name),
        email: Set(wanted.email),
        role: Set(wanted.role.into()),
        password_hash: hash.map_or(sea_orm::ActiveValue::NotSet, Set),
        must_change_password: Set(wanted.must_change_password),
        disabled: Set(wanted.disabled),
        ..Default::default()
    }
}

/// The names of the members that change, for the audit log.
fn changes(known: &Model, change: &ActiveModel) -> Vec<&'static str> {
    let differs = [
        ("username", change.username != Set(known.username.clone())),
        ("display_name", change.display_name != Set(known.display_name.clone())),
        ("email", change.email != Set(known.email.clone())),
        ("role", change.role != Set(known.role)),
        ("password", change.password_hash.is_set()),
        ("must_change_password", change.must_change_password != Set(known.must_change_password)),
        ("disabled", change.disabled != Set(known.disabled)),
    ];
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
