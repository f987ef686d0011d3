//! Operations on skills.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ModelTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::entity::skill::{ActiveModel, Column, Entity, Model};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Body, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start},
    id::SkillId,
    scripts::{known, steps::ReferenceKind},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_skills)
        .service(create_skill)
        .service(get_skill)
        .service(update_skill)
        .service(delete_skill);
}

/// Something agents can do.
#[derive(Debug, Serialize, ToSchema)]
pub struct Skill {
    /// The skill's id.
    pub id: SkillId,
    /// Its unique name.
    #[schema(examples("German"))]
    pub name: String,
    /// What it means.
    #[schema(examples("Writes German without mistakes"))]
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A skill to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "German", "description": "Writes German without mistakes" }))]
pub struct SkillCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("German"))]
    pub name: String,
    /// What it means.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Writes German without mistakes"))]
    pub description: String,
}

/// One page of skills.
#[derive(Debug, Serialize, ToSchema)]
pub struct SkillList {
    /// The skills.
    pub items: Vec<Skill>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How skills may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum SkillSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which skills to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SkillFilter {
    /// Only the skill of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<SkillSort>,
}

impl From<Model> for Skill {
    fn from(row: Model) -> Self {
        let Model { id, name, description, created_at, updated_at, .. } = row;
        Self { id, name, description, created_at, updated_at }
    }
}

/// List skills.
#[utoipa::path(tag = "skills", params(PageQuery, SkillFilter),
    responses((status = 200, description = "One page.", body = SkillList)))]
#[get("/skills")]
pub async fn list_skills(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<SkillFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        SkillSort::Name => (Column::Name, Order::Asc),
        SkillSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(Skill::from);
    Ok(HttpResponse::Ok().json(SkillList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a skill.
#[utoipa::path(tag = "skills", request_body = SkillCreate,
    responses((status = 201, description = "The new skill.", body = Skill, headers(("ETag" = String), ("Location" = String)))))]
#[post("/skills")]
pub async fn create_skill(
    app: web::Data<App>,
    body: Body<SkillCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = ActiveModel {
        id: Set(SkillId::new(now)),
        name: Set(body.0.name),
        description: Set(body.0.description),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    let skill = Skill::from(row);
    events::append(&work.tx, now, vec![NewEvent::new("skill.created", skill.id.uuid(), &skill)]).await?;
    work.commit(Answer::created(format!("/v1/skills/{}", skill.id), &skill)?.versioned(1)).await
}

/// Read one skill.
#[utoipa::path(tag = "skills", params(("id" = SkillId, Path)),
    responses((status = 200, description = "The skill.", body = Skill, headers(("ETag" = String)))))]
#[get("/skills/{id}")]
pub async fn get_skill(app: web::Data<App>, id: Path<SkillId>) -> Result<HttpResponse, Problem> {
    let row = Entity::find_by_id(*id).one(app.db.read()).await?.ok_or_else(|| Problem::not_found("skill"))?;
    let version = row.version;
    Ok(Answer::ok(&Skill::from(row))?.versioned(version).into_response())
}

/// Change a skill.
#[utoipa::path(tag = "skills", params(("id" = SkillId, Path)),
    request_body(content = ref("#/components/schemas/SkillPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed skill.", body = Skill, headers(("ETag" = String)))))]
#[patch("/skills/{id}")]
pub async fn update_skill(
    app: web::Data<App>,
    id: Path<SkillId>,
    if_match: IfMatch,
    patch: Patch<SkillCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("skill"))?;
    if_match.check(row.version)?;
    let wanted =
        patch.apply(&SkillCreate { name: row.name.clone(), description: row.description.clone() })?;
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
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(sea_orm::DbErr::RecordNotUpdated)?;
    let skill = Skill::from(row);
    events::append(&tx, now, vec![NewEvent::new("skill.updated", skill.id.uuid(), &skill)]).await?;
    tx.commit().await?;
    Ok(Answer::ok(&skill)?.versioned(version).into_response())
}

/// Delete a skill that nothing refers to.
#[utoipa::path(tag = "skills", params(("id" = SkillId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/skills/{id}")]
pub async fn delete_skill(
    app: web::Data<App>,
    id: Path<SkillId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    known::refuse_deletion(&tx, now, ReferenceKind::Skill, id.uuid()).await?;
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("skill"))?;
    if_match.check(row.version)?;
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![NewEvent::new("skill.deleted", id.uuid(), &serde_json::json!({}))]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
