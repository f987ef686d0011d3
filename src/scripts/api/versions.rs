//! Operations on the versions of a script: writing drafts.

use actix_web::{HttpResponse, delete, get, patch, post, put, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{check_storable, scripts};
use crate::{
    access::matrix::Access,
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start,
    },
    id::{ScriptId, ScriptVersionId},
    scripts::{
        definition::Definition,
        entity::{
            ScriptVersionState, script,
            version::{ActiveModel, Column, Entity, Model},
        },
    },
};

/// Adds the operations.
pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_script_versions)
        .service(create_script_version)
        .service(get_script_version)
        .service(replace_script_version)
        .service(update_script_version)
        .service(delete_script_version);
}

/// What can be done with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScriptVersionAction {
    /// Change its description or definition.
    Update,
    /// Delete it.
    Delete,
    /// Bring it into force.
    Activate,
    /// Keep it from being changed.
    Lock,
    /// Let it be changed again.
    Unlock,
    /// Have it judged.
    Validate,
    /// Try it out.
    Simulate,
}

/// A version of a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptVersion {
    /// The version's id.
    pub id: ScriptVersionId,
    /// Its script.
    pub script_id: ScriptId,
    /// Its number in the script, from 1.
    #[schema(examples(3))]
    pub number: i32,
    /// What is new in it.
    #[schema(examples("Complaints first"))]
    pub description: String,
    /// Where it stands.
    pub state: ScriptVersionState,
    /// Whether somebody keeps the draft from being changed.
    pub locked: bool,
    /// The name of the one who made it.
    #[schema(examples("admin"))]
    pub author: String,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<ScriptVersionAction>,
    /// When it last came into force.
    pub activated_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What it does.
    #[schema(value_type = Definition)]
    pub definition: Json,
}

/// A version of a script without its definition.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptVersionSummary {
    /// The version's id.
    pub id: ScriptVersionId,
    /// Its script.
    pub script_id: ScriptId,
    /// Its number in the script, from 1.
    #[schema(examples(3))]
    pub number: i32,
    /// What is new in it.
    #[schema(examples("Complaints first"))]
    pub description: String,
    /// Where it stands.
    pub state: ScriptVersionState,
    /// Whether somebody keeps the draft from being changed.
    pub locked: bool,
    /// The name of the one who made it.
    #[schema(examples("admin"))]
    pub author: String,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<ScriptVersionAction>,
    /// When it last came into force.
    pub activated_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A draft to be made, from a definition or as a copy of another version: one of the two.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "description": "Complaints first", "copy_of": 2 }))]
pub struct ScriptVersionCreate {
    /// What is new in it.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Complaints first"))]
    pub description: String,
    /// What it does, at most 512 KiB. It may be half drawn: it is judged as a whole when it is activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Definition>)]
    pub definition: Option<Json>,
    /// The number of the version to copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2147483647)]
    pub copy_of: Option<i32>,
}

/// What a draft holds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "description": "Straight to the queue", "definition": {
    "start": "queue",
    "steps": {
        "queue": { "type": "enqueue", "next": { "assigned": "done" } },
        "done": { "type": "end", "result": "done" }
    }
} }))]
pub struct ScriptVersionContent {
    /// What is new in it.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Complaints first"))]
    pub description: String,
    /// What it does, at most 512 KiB.
    #[schema(value_type = Definition)]
    pub definition: Json,
}

/// A JSON merge patch (RFC 7396) of a draft: only what changes; a step that is null is removed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "definition": { "steps": { "after_hours": null }, "on_error": "queue" } }))]
#[expect(dead_code, reason = "the document's schema of the patch; it is applied as JSON")]
pub struct ScriptVersionPatch {
    /// What is new in it.
    #[schema(max_length = 2000, examples("Complaints first"))]
    description: Option<String>,
    /// The parts of the definition that change.
    #[schema(value_type = Object, required = false)]
    definition: Option<Json>,
}

/// One page of versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptVersionList {
    /// The versions, without their definitions.
    pub items: Vec<ScriptVersionSummary>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How versions may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum ScriptVersionSort {
    /// By number.
    #[serde(rename = "number")]
    Number,
    /// By number, last first.
    #[serde(rename = "-number")]
    NumberDescending,
}

/// Which versions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScriptVersionFilter {
    /// Only those in this state.
    #[param(inline)]
    state: Option<ScriptVersionState>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<ScriptVersionSort>,
}

impl ScriptVersionSummary {
    fn new(row: Model, caller: &Caller) -> Self {
        let allowed_actions = allowed_actions(&row, caller);
        let Model { id, script_id, number, description, state, locked, author, .. } = row;
        let Model { activated_at, created_at, updated_at, .. } = row;
        Self {
            id,
            script_id,
            number,
            description,
            state,
            locked,
            author,
            allowed_actions,
            activated_at,
            created_at,
            updated_at,
        }
    }
}

impl ScriptVersion {
    /// The version as `caller` sees it.
    pub(super) fn new(mut row: Model, caller: &Caller) -> Self {
        let definition = std::mem::take(&mut row.definition);
        let summary = ScriptVersionSummary::new(row, caller);
        Self {
            id: summary.id,
            script_id: summary.script_id,
            number: summary.number,
            description: summary.description,
            state: summary.state,
            locked: summary.locked,
            author: summary.author,
            allowed_actions: summary.allowed_actions,
            activated_at: summary.activated_at,
            created_at: summary.created_at,
            updated_at: summary.updated_at,
            definition,
        }
    }
}

fn allowed_actions(row: &Model, caller: &Caller) -> Vec<ScriptVersionAction> {
    use ScriptVersionAction::{Activate, Delete, Lock, Simulate, Unlock, Update, Validate};
    let draft = row.state == ScriptVersionState::Draft;
    let actions = [
        (Update, draft && !row.locked, "update_script_version"),
        (Delete, draft && !row.locked, "delete_script_version"),
        (Activate, row.state != ScriptVersionState::Active, "activate_script_version"),
        (Lock, draft && !row.locked, "lock_script_version"),
        (Unlock, draft && row.locked, "unlock_script_version"),
        (Validate, true, "validate_script_version"),
        (Simulate, true, "simulate_script_version"),
    ];
    let may = |operation: &str| Access::of(operation).is_some_and(|access| access.allows(caller));
    let allowed = actions.into_iter().filter(|(_, fits, operation)| *fits && may(operation));
    allowed.map(|(action, ..)| action).collect()
}

/// The version of this number.
pub(super) async fn find(db: &impl ConnectionTrait, script: ScriptId, number: i32) -> Result<Model, Problem> {
    let select = Entity::find().filter(Column::ScriptId.eq(script)).filter(Column::Number.eq(number));
    select.one(db).await?.ok_or_else(|| Problem::not_found("script version"))
}

/// What an event tells of a version.
pub(super) fn told(row: &Model) -> Json {
    json!({ "script_id": row.script_id, "number": row.number, "state": row.state, "locked": row.locked })
}

/// Adds a draft with the next number, and its event.
pub(super) async fn insert_draft(
    tx: &DatabaseTransaction,
    now: Timestamp,
    script: ScriptId,
    caller: &Caller,
    description: String,
    definition: Json,
) -> Result<Model, Problem> {
    // The script's row is locked, so that two drafts never get the same number.
    let locked = script::Entity::find_by_id(script).lock_exclusive().one(tx).await?;
    locked.ok_or_else(|| Problem::not_found("script"))?;
    let numbers = Entity::find().select_only().column(Column::Number).filter(Column::ScriptId.eq(script));
    let newest: Option<i32> = numbers.order_by_desc(Column::Number).limit(1).into_tuple().one(tx).await?;
    let row = ActiveModel {
        id: Set(ScriptVersionId::new(now)),
        script_id: Set(script),
        number: Set(newest.map_or(1, |newest| newest.saturating_add(1))),
        description: Set(description),
        state: Set(ScriptVersionState::Draft),
        locked: Set(false),
        author: Set(caller.name.clone()),
        definition: Set(definition),
        activated_at: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(tx).await?;
    let event = NewEvent::new("script_version.created", row.id.uuid(), &told(&row)).for_supervisors();
    events::append(tx, now, vec![event]).await?;
    Ok(row)
}

/// List the versions of a script.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), PageQuery, ScriptVersionFilter),
    responses((status = 200, description = "One page.", body = ScriptVersionList)))]
#[get("/scripts/{id}/versions")]
pub async fn list_script_versions(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ScriptId>,
    page: Query<PageQuery>,
    filter: Query<ScriptVersionFilter>,
) -> Result<HttpResponse, Problem> {
    scripts::find(app.db.read(), *id).await?;
    let mut select = Entity::find().filter(Column::ScriptId.eq(*id));
    if let Some(state) = filter.0.state {
        select = select.filter(Column::State.eq(state));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        ScriptVersionSort::Number => (Column::Number, Order::Asc),
        ScriptVersionSort::NumberDescending => (Column::Number, Order::Desc),
    });
    let rows = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = rows.map(|row| ScriptVersionSummary::new(row, &caller));
    Ok(HttpResponse::Ok().json(ScriptVersionList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a draft, from a definition or as a copy of another version.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path)), request_body = ScriptVersionCreate,
    responses((status = 201, description = "The new draft.", body = ScriptVersion, headers(("ETag" = String), ("Location" = String)))))]
#[post("/scripts/{id}/versions")]
pub async fn create_script_version(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ScriptId>,
    body: Body<ScriptVersionCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let ScriptVersionCreate { description, definition, copy_of } = body.0;
    definition.as_ref().map_or(Ok(()), check_storable)?;
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    scripts::find(&*work.tx, *id).await?;
    let definition = match (definition, copy_of) {
        (Some(definition), None) => definition,
        (None, Some(number)) => copied(&work.tx, *id, number).await?,
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("/copy_of", "not_allowed", "a definition is given as well"));
        }
        (None, None) => {
            return Err(Problem::invalid("/definition", "required", "give a definition or copy_of"));
        }
    };
    let row = insert_draft(&work.tx, now, *id, &caller, description, definition).await?;
    let path = format!("/v1/scripts/{}/versions/{}", row.script_id, row.number);
    work.commit(Answer::created(path, &ScriptVersion::new(row, &caller))?.versioned(1)).await
}

async fn copied(tx: &DatabaseTransaction, script: ScriptId, number: i32) -> Result<Json, Problem> {
    match find(tx, script, number).await {
        Ok(row) => Ok(row.definition),
        Err(problem) if problem.code == Code::NotFound => {
            Err(Problem::unknown_reference("/copy_of", "version of this script"))
        }
        Err(problem) => Err(problem),
    }
}

/// Read one version.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    responses((status = 200, description = "The version.", body = ScriptVersion, headers(("ETag" = String)))))]
#[get("/scripts/{id}/versions/{number}")]
pub async fn get_script_version(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(ScriptId, i32)>,
) -> Result<HttpResponse, Problem> {
    let (script, number) = path.into_inner();
    let row = find(app.db.read(), script, number).await?;
    let version = row.version;
    Ok(Answer::ok(&ScriptVersion::new(row, &caller))?.versioned(version).into_response())
}

/// Replace what a draft holds.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    request_body = ScriptVersionContent,
    responses((status = 200, description = "The changed draft.", body = ScriptVersion, headers(("ETag" = String)))))]
#[put("/scripts/{id}/versions/{number}")]
pub async fn replace_script_version(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(ScriptId, i32)>,
    if_match: IfMatch,
    body: Body<ScriptVersionContent>,
) -> Result<HttpResponse, Problem> {
    check_storable(&body.0.definition)?;
    write(&app, &caller, path.into_inner(), &if_match, |_| Ok(body.0)).await
}

/// Change a draft.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    request_body(content = ScriptVersionPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed draft.", body = ScriptVersion, headers(("ETag" = String)))))]
#[patch("/scripts/{id}/versions/{number}")]
pub async fn update_script_version(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(ScriptId, i32)>,
    if_match: IfMatch,
    patch: Patch<ScriptVersionCreate>,
) -> Result<HttpResponse, Problem> {
    let patched = |row: &Model| {
        let (description, definition) = (row.description.clone(), Some(row.definition.clone()));
        let wanted = patch.apply(&ScriptVersionCreate { description, definition, copy_of: None })?;
        let definition = wanted.definition.unwrap_or_default();
        check_storable(&definition)?;
        Ok(ScriptVersionContent { description: wanted.description, definition })
    };
    write(&app, &caller, path.into_inner(), &if_match, patched).await
}

/// Writes what `wanted` makes of a draft.
async fn write(
    app: &App,
    caller: &Caller,
    (script, number): (ScriptId, i32),
    if_match: &IfMatch,
    wanted: impl FnOnce(&Model) -> Result<ScriptVersionContent, Problem>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, script, number).await?;
    if_match.check(row.version)?;
    check_changeable(&row)?;
    let ScriptVersionContent { description, definition } = wanted(&row)?;
    let change =
        ActiveModel { description: Set(description), definition: Set(definition), ..Default::default() };
    let row = change_draft(&tx, now, &row, change).await?;
    let event = NewEvent::new("script_version.updated", row.id.uuid(), &told(&row)).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&ScriptVersion::new(row, caller))?.versioned(version).into_response())
}

/// Writes a change of a draft that is still as `row` says.
pub(super) async fn change_draft(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: ActiveModel,
) -> Result<Model, DbErr> {
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::State.eq(ScriptVersionState::Draft))
        .filter(Column::Version.eq(row.version));
    guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)
}

fn check_changeable(row: &Model) -> Result<(), Problem> {
    match row.state {
        ScriptVersionState::Draft if !row.locked => Ok(()),
        ScriptVersionState::Draft => {
            Err(Problem::new(Code::VersionLocked, "the draft is locked; unlock it first"))
        }
        _ => {
            Err(Problem::new(Code::VersionLocked, "only drafts can be changed; make a copy of this version"))
        }
    }
}

/// Delete a draft.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/scripts/{id}/versions/{number}")]
pub async fn delete_script_version(
    app: web::Data<App>,
    path: Path<(ScriptId, i32)>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (script, number) = path.into_inner();
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, script, number).await?;
    if_match.check(row.version)?;
    check_changeable(&row)?;
    // Guarded: it may be activated at this very moment.
    let row = change_draft(&tx, now, &row, ActiveModel::default()).await?;
    let event = NewEvent::new("script_version.deleted", row.id.uuid(), &told(&row)).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    row.delete(&*tx).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
