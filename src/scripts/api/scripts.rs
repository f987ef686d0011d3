//! Operations on scripts as a whole.

use std::collections::HashMap;

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ModelTrait, Order, QueryFilter,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{check_storable, versions};
use crate::{
    app::App,
    clock::Timestamp,
    db::among,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start,
    },
    id::{ScriptId, ScriptVersionId},
    scripts::{
        definition::Definition,
        entity::{
            ScriptVersionState,
            script::{ActiveModel, Column, Entity, Model},
            version,
        },
        library,
    },
    work::state::is_any_run,
};

/// Adds the operations.
pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_scripts)
        .service(create_script)
        .service(get_script)
        .service(update_script)
        .service(delete_script);
}

/// A routing script.
#[derive(Debug, Serialize, ToSchema)]
pub struct Script {
    /// The script's id.
    pub id: ScriptId,
    /// Its unique name.
    #[schema(examples("Front desk"))]
    pub name: String,
    /// What it is for.
    #[schema(examples("Sorts what comes to info@"))]
    pub description: String,
    /// Whether it serves accounts that name no script; one does.
    pub is_default: bool,
    /// The id of the version in force; none until one is activated.
    pub active_version_id: Option<ScriptVersionId>,
    /// Its number.
    #[schema(examples(2))]
    pub active_version: Option<i32>,
    /// The number of the newest draft.
    #[schema(examples(3))]
    pub draft_version: Option<i32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A script to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Front desk", "description": "Sorts what comes to info@" }))]
pub struct ScriptCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Front desk"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Sorts what comes to info@"))]
    pub description: String,
    /// What its first draft holds, at most 512 KiB; no draft is made when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Definition>)]
    pub definition: Option<Json>,
}

/// A JSON merge patch (RFC 7396) of a script: only what changes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "description": "Sorts what comes to info@" }))]
#[expect(dead_code, reason = "the document's schema of the patch; it is applied as JSON")]
pub struct ScriptPatch {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, nullable = false, examples("Front desk"))]
    name: Option<String>,
    /// What it is for.
    #[schema(max_length = 2000, examples("Sorts what comes to info@"))]
    description: Option<String>,
}

/// One page of scripts.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptList {
    /// The scripts.
    pub items: Vec<Script>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How scripts may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum ScriptSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which scripts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScriptFilter {
    /// Only the script of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// Only the default script, or only the others.
    is_default: Option<bool>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<ScriptSort>,
}

/// The versions that a script's own representation names.
#[derive(Debug, Default)]
struct Current {
    active: Option<i32>,
    draft: Option<i32>,
}

impl Script {
    fn new(row: Model, current: &Current) -> Self {
        let Model { id, name, description, active_version_id, is_default, created_at, updated_at, .. } = row;
        let (active_version, draft_version) = (current.active, current.draft);
        Self {
            id,
            name,
            description,
            is_default,
            active_version_id,
            active_version,
            draft_version,
            created_at,
            updated_at,
        }
    }

    /// The script as it stands.
    async fn show(db: &impl ConnectionTrait, row: Model) -> Result<Self, DbErr> {
        let current = current(db, vec![row.id]).await?;
        Ok(Self::new(row.clone(), current.get(&row.id).unwrap_or(&Current::default())))
    }
}

async fn current(db: &impl ConnectionTrait, ids: Vec<ScriptId>) -> Result<HashMap<ScriptId, Current>, DbErr> {
    let rows: Vec<(ScriptId, i32, ScriptVersionState)> = version::Entity::find()
        .select_only()
        .columns([version::Column::ScriptId, version::Column::Number, version::Column::State])
        .filter(among(version::Column::ScriptId, ids))
        .filter(version::Column::State.ne(ScriptVersionState::Retired))
        .into_tuple()
        .all(db)
        .await?;
    let mut found: HashMap<ScriptId, Current> = HashMap::new();
    for (script, number, state) in rows {
        let current = found.entry(script).or_default();
        match state {
            ScriptVersionState::Active => current.active = Some(number),
            _ => current.draft = current.draft.max(Some(number)),
        }
    }
    Ok(found)
}

/// What an event tells of a script.
fn told(row: &Model) -> Json {
    json!({ "name": row.name, "active_version_id": row.active_version_id })
}

/// List scripts.
#[utoipa::path(tag = "scripts", params(PageQuery, ScriptFilter),
    responses((status = 200, description = "One page.", body = ScriptList)))]
#[get("/scripts")]
pub async fn list_scripts(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<ScriptFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    if let Some(is_default) = filter.0.is_default {
        select = select.filter(Column::IsDefault.eq(is_default));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        ScriptSort::Name => (Column::Name, Order::Asc),
        ScriptSort::NameDescending => (Column::Name, Order::Desc),
    });
    let rows = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let current = current(app.db.read(), rows.items.iter().map(|row| row.id).collect()).await?;
    let none = Current::default();
    let found = rows.map(|row| {
        let current = current.get(&row.id).unwrap_or(&none);
        Script::new(row, current)
    });
    Ok(HttpResponse::Ok().json(ScriptList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a script, with a first draft when a definition is given.
#[utoipa::path(tag = "scripts", request_body = ScriptCreate,
    responses((status = 201, description = "The new script.", body = Script, headers(("ETag" = String), ("Location" = String)))))]
#[post("/scripts")]
pub async fn create_script(
    app: web::Data<App>,
    caller: Caller,
    body: Body<ScriptCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let ScriptCreate { name, description, definition } = body.0;
    definition.as_ref().map_or(Ok(()), check_storable)?;
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = ActiveModel {
        id: Set(ScriptId::new(now)),
        name: Set(name),
        description: Set(description),
        active_version_id: Set(None),
        is_default: Set(false),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    if let Some(definition) = definition {
        versions::insert_draft(&work.tx, now, row.id, &caller, String::new(), definition).await?;
    }
    let event = NewEvent::new("script.created", row.id.uuid(), &told(&row)).for_supervisors();
    events::append(&work.tx, now, vec![event]).await?;
    let script = Script::show(&*work.tx, row).await?;
    work.commit(Answer::created(format!("/v1/scripts/{}", script.id), &script)?.versioned(1)).await
}

/// Read one script.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path)),
    responses((status = 200, description = "The script.", body = Script, headers(("ETag" = String)))))]
#[get("/scripts/{id}")]
pub async fn get_script(app: web::Data<App>, id: Path<ScriptId>) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&Script::show(app.db.read(), row).await?)?.versioned(version).into_response())
}

/// Change a script's name or description; what it does is in its versions.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path)),
    request_body(content = ScriptPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed script.", body = Script, headers(("ETag" = String)))))]
#[patch("/scripts/{id}")]
pub async fn update_script(
    app: web::Data<App>,
    id: Path<ScriptId>,
    if_match: IfMatch,
    patch: Patch<ScriptCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    let (name, description) = (row.name.clone(), row.description.clone());
    let wanted = patch.apply(&ScriptCreate { name, description, definition: None })?;
    let version = row.version + 1;
    let change = ActiveModel {
        name: Set(wanted.name),
        description: Set(wanted.description),
        version: Set(version),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded =
        Entity::update_many().set(change).filter(Column::Id.eq(*id)).filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let event = NewEvent::new("script.updated", row.id.uuid(), &told(&row)).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    let script = Script::show(&*tx, row).await?;
    tx.commit().await?;
    Ok(Answer::ok(&script)?.versioned(version).into_response())
}

/// Delete a script that nothing uses, with its versions. The default script stays.
///
/// It is in use while an account names it, or a work item is under way with one of its versions.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/scripts/{id}")]
pub async fn delete_script(
    app: web::Data<App>,
    id: Path<ScriptId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if row.is_default {
        return Err(Problem::new(
            Code::InUse,
            "the default script serves every account that names no script",
        ));
    }
    let versions = version::Entity::find().filter(version::Column::ScriptId.eq(row.id)).all(&*tx).await?;
    let versions: Vec<_> = versions.into_iter().map(|version| version.id).collect();
    if is_any_run(&*tx, &versions).await? {
        return Err(Problem::new(
            Code::InUse,
            "work items are under way with it: they end with their version",
        ));
    }
    row.delete(&*tx).await?;
    let event = NewEvent::new("script.deleted", id.uuid(), &json!({})).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The script of this id.
pub(super) async fn find(db: &impl ConnectionTrait, id: ScriptId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("script"))
}
