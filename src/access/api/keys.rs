//! Operations on API keys.

use actix_web::{HttpResponse, get, patch, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    access::{
        api_keys::{Secret, scopes_of},
        audit::Actor,
        authenticate::forget,
        entity::api_key::{ActiveModel, Column, Entity, Model},
    },
    app::App,
    clock::Timestamp,
    http::{
        Answer, Body, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start,
        problem::Code,
    },
    id::ApiKeyId,
};

/// Another system's key.
#[derive(Serialize, ToSchema)]
pub struct ApiKey {
    /// The key's id; also the `client_id` of `client_credentials`.
    pub id: ApiKeyId,
    /// Its unique name.
    #[schema(examples("CRM"))]
    pub name: String,
    /// The secret's first characters.
    #[schema(examples("prk_9fQ2"))]
    pub hint: String,
    /// What it may do.
    #[schema(examples("routing:read"))]
    pub scopes: Vec<String>,
    /// Until when it is accepted.
    pub expires_at: Option<Timestamp>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Who made it.
    pub created_by: Option<Uuid>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A key to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "scopes": ["work:read"], "name": "CRM" }))]
pub struct ApiKeyCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("CRM"))]
    pub name: String,
    /// What it may do: scopes as each operation's description names them.
    #[schema(schema_with = scope_list)]
    pub scopes: Vec<String>,
    /// Until when it is accepted; without an end when left out.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// The new key, with its secret.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyCreated {
    /// The key.
    #[serde(flatten)]
    key: ApiKey,
    /// To be sent as `Authorization: Bearer prk_…`, or as the `client_secret`. Shown this once.
    #[schema(examples("prk_9fQ2mJ0Zk1rT7vX3yB5cD8eF2gH4iK6lN9oP1qS3uWz"))]
    secret: String,
}

/// One page of keys.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyList {
    /// The keys.
    pub items: Vec<ApiKey>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How keys may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum ApiKeySort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which keys to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ApiKeyFilter {
    /// Only the key of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// Only revoked keys, or only those that are not.
    revoked: Option<bool>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<ApiKeySort>,
}

impl From<Model> for ApiKey {
    fn from(row: Model) -> Self {
        let scopes = scopes_of(&row);
        let Model {
            id,
            name,
            hint,
            expires_at,
            revoked_at,
            last_used_at,
            created_by,
            created_at,
            updated_at,
            ..
        } = row;
        Self {
            id,
            name,
            hint,
            scopes,
            expires_at,
            revoked_at,
            last_used_at,
            created_by,
            created_at,
            updated_at,
        }
    }
}

/// The scopes of the matrix, written out so that the document alone tells what can be given.
fn scope_list() -> utoipa::openapi::schema::Array {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
    let scopes = crate::access::matrix::Access::scopes();
    let scope = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(scopes)).build();
    ArrayBuilder::new()
        .items(scope)
        .min_items(Some(1))
        .max_items(Some(50))
        .unique_items(true)
        .description(Some("What it may do."))
        .build()
}

/// List API keys.
#[utoipa::path(tag = "access", params(PageQuery, ApiKeyFilter),
    responses((status = 200, description = "One page.", body = ApiKeyList)))]
#[get("/api-keys")]
pub async fn list_api_keys(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<ApiKeyFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    select = match filter.0.revoked {
        Some(true) => select.filter(Column::RevokedAt.is_not_null()),
        Some(false) => select.filter(Column::RevokedAt.is_null()),
        None => select,
    };
    let sort = filter.0.sort.map(|sort| match sort {
        ApiKeySort::Name => (Column::Name, Order::Asc),
        ApiKeySort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(ApiKey::from);
    Ok(HttpResponse::Ok().json(ApiKeyList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create an API key.
#[utoipa::path(tag = "access", request_body = ApiKeyCreate,
    responses((status = 201, description = "The new key.", body = ApiKeyCreated, headers(("ETag" = String), ("Location" = String)))))]
#[post("/api-keys")]
pub async fn create_api_key(
    app: web::Data<App>,
    body: Body<ApiKeyCreate>,
    idempotency: Idempotency,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let (body, now, secret) = (body.0, app.clock.now(), Secret::random());
    check_end(body.expires_at, now)?;
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = ActiveModel {
        id: Set(ApiKeyId::new(now)),
        name: Set(body.name),
        secret_hash: Set(secret.hash),
        hint: Set(secret.hint),
        scopes: Set(json!(body.scopes)),
        expires_at: Set(body.expires_at),
        revoked_at: Set(None),
        last_used_at: Set(None),
        created_by: Set(actor.id()),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    let details = json!({ "name": row.name, "scopes": row.scopes, "expires_at": row.expires_at });
    actor.record(&work.tx, now, "create_api_key", ("api_keys", row.id), details).await?;
    let location = format!("/v1/api-keys/{}", row.id);
    let created = ApiKeyCreated { key: row.into(), secret: secret.text };
    work.commit(Answer::created(location, &created)?.versioned(1)).await
}

/// Read one API key.
#[utoipa::path(tag = "access", params(("id" = ApiKeyId, Path)),
    responses((status = 200, description = "The key.", body = ApiKey, headers(("ETag" = String)))))]
#[get("/api-keys/{id}")]
pub async fn get_api_key(app: web::Data<App>, id: Path<ApiKeyId>) -> Result<HttpResponse, Problem> {
    let row = Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("API key"))?;
    let version = row.version;
    Ok(Answer::ok(&ApiKey::from(row))?.versioned(version).into_response())
}

/// Change an API key.
#[utoipa::path(tag = "access", params(("id" = ApiKeyId, Path)),
    request_body(content = ref("#/components/schemas/ApiKeyPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed key.", body = ApiKey, headers(("ETag" = String)))))]
#[patch("/api-keys/{id}")]
pub async fn update_api_key(
    app: web::Data<App>,
    id: Path<ApiKeyId>,
    if_match: IfMatch,
    patch: Patch<ApiKeyCreate>,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("API key"))?;
    if_match.check(row.version)?;
    let known = ApiKeyCreate { name: row.name.clone(), scopes: scopes_of(&row), expires_at: row.expires_at };
    let wanted = patch.apply(&known)?;
    if wanted.expires_at != row.expires_at {
        check_end(wanted.expires_at, now)?;
    }
    let change = ActiveModel {
        name: Set(wanted.name),
        scopes: Set(json!(wanted.scopes)),
        expires_at: Set(wanted.expires_at),
        ..Default::default()
    };
    let row = update(&tx, now, &row, change).await?;
    let details = json!({ "name": row.name, "scopes": row.scopes, "expires_at": row.expires_at });
    actor.record(&tx, now, "update_api_key", ("api_keys", row.id), details).await?;
    tx.commit().await?;
    forget(&app, row.id.uuid());
    let version = row.version;
    Ok(Answer::ok(&ApiKey::from(row))?.versioned(version).into_response())
}

/// Revoke an API key.
///
/// It is refused from now on, and so are the access tokens that were got with it. This cannot be undone.
#[utoipa::path(tag = "access", params(("id" = ApiKeyId, Path)),
    responses((status = 200, description = "The revoked key.", body = ApiKey, headers(("ETag" = String)))))]
#[post("/api-keys/{id}/revoke")]
pub async fn revoke_api_key(
    app: web::Data<App>,
    id: Path<ApiKeyId>,
    actor: Actor,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("API key"))?;
    if row.revoked_at.is_some() {
        return Err(Problem::new(Code::InvalidState, "the key is revoked already"));
    }
    let row =
        update(&tx, now, &row, ActiveModel { revoked_at: Set(Some(now)), ..Default::default() }).await?;
    actor.record(&tx, now, "revoke_api_key", ("api_keys", row.id), json!({ "name": row.name })).await?;
    tx.commit().await?;
    forget(&app, row.id.uuid());
    let version = row.version;
    Ok(Answer::ok(&ApiKey::from(row))?.versioned(version).into_response())
}

async fn update(
    tx: &sea_orm::DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: ActiveModel,
) -> Result<Model, sea_orm::DbErr> {
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::Version.eq(row.version));
    guarded.exec_with_returning(tx).await?.pop().ok_or(sea_orm::DbErr::RecordNotUpdated)
}

fn check_end(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
    match expires_at {
        Some(at) if at <= now => {
            Err(Problem::invalid("/expires_at", "not_in_the_future", "the key would be expired already"))
        }
        _ => Ok(()),
    }
}
