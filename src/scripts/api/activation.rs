//! Operations on the versions of a script: judging them, bringing them into force, locking drafts.

use actix_web::{HttpResponse, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    field_errors, scripts,
    versions::{self, ScriptVersion},
};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Caller, Code, Path, Problem, problem::FieldError},
    id::ScriptId,
    scripts::{
        definition::Definition,
        entity::{
            ScriptVersionState, script,
            version::{ActiveModel, Column, Entity, Model},
        },
        known, library,
        validate::{KnownReferences, validate},
    },
};

/// Adds the operations.
pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(validate_script_version)
        .service(activate_script_version)
        .service(lock_script_version)
        .service(unlock_script_version);
}

/// What the judgement of a version found.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptVersionReport {
    /// Whether the version may be activated.
    #[schema(examples(false))]
    pub valid: bool,
    /// Everything that is wrong, with pointers into the version.
    pub problems: Vec<FieldError>,
}

/// Judge a version as a whole, with everything it refers to. Changes nothing.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    responses((status = 200, description = "What was found.", body = ScriptVersionReport)))]
#[post("/scripts/{id}/versions/{number}/validate")]
pub async fn validate_script_version(
    app: web::Data<App>,
    path: Path<(ScriptId, i32)>,
) -> Result<HttpResponse, Problem> {
    let (script, number) = path.into_inner();
    let row = versions::find(app.db.read(), script, number).await?;
    let (problems, _) = judge(app.db.read(), &row).await?;
    Ok(HttpResponse::Ok().json(ScriptVersionReport { valid: problems.is_empty(), problems }))
}

/// Everything wrong with a version, and what it was judged with.
async fn judge(
    db: &impl ConnectionTrait,
    row: &Model,
) -> Result<(Vec<FieldError>, Option<KnownReferences>), Problem> {
    let definition = match Definition::parse(&row.definition) {
        Ok(definition) => definition,
        Err(findings) => return Ok((field_errors("/definition", findings), None)),
    };
    let known = known::references(db, &definition).await?;
    // A large definition takes a while: hundreds of expressions and patterns are compiled.
    let judging = web::block(move || (validate(&definition, &known), known));
    let (findings, known) = judging.await.map_err(Problem::internal)?;
    Ok((field_errors("/definition", findings), Some(known)))
}

/// Bring a version into force: a draft, or a retired one to go back to.
///
/// New work items begin with it from this answer on; the version in force before is retired, and work that began with
/// it stays on it. A version that is in force already stays so.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    responses((status = 200, description = "The version in force.", body = ScriptVersion, headers(("ETag" = String)))))]
#[post("/scripts/{id}/versions/{number}/activate")]
pub async fn activate_script_version(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(ScriptId, i32)>,
) -> Result<HttpResponse, Problem> {
    let (script, number) = path.into_inner();
    // Judged outside the transaction, which must be short; what it was judged with is compared inside.
    let judged = versions::find(app.db.read(), script, number).await?;
    let (problems, known) = judge(app.db.read(), &judged).await?;
    if !problems.is_empty() {
        let detail = format!("version {number} has {} problems", problems.len());
        return Err(Problem { errors: problems, ..Problem::new(Code::InvalidScript, detail) });
    }
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let row = versions::find(&*tx, script, number).await?;
    if row.definition != judged.definition || references_of(&tx, &row).await? != known {
        return Err(DbErr::RecordNotUpdated.into());
    }
    let row = if row.state == ScriptVersionState::Active { row } else { activate(&tx, now, row).await? };
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&ScriptVersion::new(row, &caller))?.versioned(version).into_response())
}

async fn references_of(tx: &DatabaseTransaction, row: &Model) -> Result<Option<KnownReferences>, DbErr> {
    match Definition::parse(&row.definition) {
        Ok(definition) => known::references(tx, &definition).await.map(Some),
        Err(_) => Ok(None),
    }
}

/// Retires the version in force, puts `row` in its place, and tells of it.
async fn activate(tx: &DatabaseTransaction, now: Timestamp, row: Model) -> Result<Model, Problem> {
    let owner = scripts::find(tx, row.script_id).await?;
    let active = Entity::find()
        .filter(Column::ScriptId.eq(row.script_id))
        .filter(Column::State.eq(ScriptVersionState::Active))
        .one(tx)
        .await?;
    let mut told = Vec::new();
    if let Some(former) = active {
        let change = ActiveModel { state: Set(ScriptVersionState::Retired), ..Default::default() };
        let former = change_state(tx, now, &former, change).await?;
        let retired = NewEvent::new("script_version.retired", former.id.uuid(), &versions::told(&former));
        told.push(retired.for_supervisors());
    }
    let change = ActiveModel {
        state: Set(ScriptVersionState::Active),
        activated_at: Set(Some(now)),
        ..Default::default()
    };
    let row = change_state(tx, now, &row, change).await?;
    let activated = NewEvent::new("script_version.activated", row.id.uuid(), &versions::told(&row));
    told.push(activated.for_supervisors());
    let change = script::ActiveModel {
        active_version_id: Set(Some(row.id)),
        version: Set(owner.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded = script::Entity::update_many()
        .set(change)
        .filter(script::Column::Id.eq(owner.id))
        .filter(script::Column::Version.eq(owner.version));
    if guarded.exec(tx).await?.rows_affected != 1 {
        return Err(DbErr::RecordNotUpdated.into());
    }
    let data = json!({ "active_version_id": row.id, "active_version": row.number });
    told.push(NewEvent::new("script.updated", owner.id.uuid(), &data).for_supervisors());
    events::append(tx, now, told).await?;
    Ok(row)
}

/// Writes a change of a version that is still as `row` says.
async fn change_state(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: ActiveModel,
) -> Result<Model, DbErr> {
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::State.eq(row.state))
        .filter(Column::Version.eq(row.version));
    guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)
}

/// Lock a draft, so that it is not changed while it is reviewed. It can still be activated.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    responses((status = 200, description = "The locked draft.", body = ScriptVersion, headers(("ETag" = String)))))]
#[post("/scripts/{id}/versions/{number}/lock")]
pub async fn lock_script_version(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(ScriptId, i32)>,
) -> Result<HttpResponse, Problem> {
    set_locked(&app, &caller, path.into_inner(), true).await
}

/// Unlock a draft, so that it can be changed again.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    responses((status = 200, description = "The unlocked draft.", body = ScriptVersion, headers(("ETag" = String)))))]
#[post("/scripts/{id}/versions/{number}/unlock")]
pub async fn unlock_script_version(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(ScriptId, i32)>,
) -> Result<HttpResponse, Problem> {
    set_locked(&app, &caller, path.into_inner(), false).await
}

/// Makes a draft locked or not; one that is so already stays so.
async fn set_locked(
    app: &App,
    caller: &Caller,
    (script, number): (ScriptId, i32),
    locked: bool,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let mut row = versions::find(&*tx, script, number).await?;
    if row.state != ScriptVersionState::Draft {
        return Err(Problem::new(Code::InvalidState, "only drafts are locked and unlocked"));
    }
    if row.locked != locked {
        let change = ActiveModel { locked: Set(locked), ..Default::default() };
        row = change_state(&tx, now, &row, change).await?;
        let kind = if locked { "script_version.locked" } else { "script_version.unlocked" };
        let event = NewEvent::new(kind, row.id.uuid(), &versions::told(&row)).for_supervisors();
        events::append(&tx, now, vec![event]).await?;
        tx.commit().await?;
    }
    let version = row.version;
    Ok(Answer::ok(&ScriptVersion::new(row, caller))?.versioned(version).into_response())
}
