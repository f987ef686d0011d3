//! Operations on classes.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ModelTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::entity::{ActiveModel, Column, Entity, Model};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Body, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start},
    id::ClassId,
    scripts::{known, steps::ReferenceKind},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_classes)
        .service(create_class)
        .service(get_class)
        .service(update_class)
        .service(delete_class);
}

/// What kind of contact this is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Class {
    /// The class's id.
    pub id: ClassId,
    /// Its unique name.
    #[schema(examples("Complaint"))]
    pub name: String,
    /// What it is for.
    #[schema(examples("Anything a customer is unhappy about"))]
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A class to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Complaint", "description": "Anything a customer is unhappy about" }))]
pub struct ClassCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Complaint"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Anything a customer is unhappy about"))]
    pub description: String,
}

/// One page of classes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClassList {
    /// The classes.
    pub items: Vec<Class>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How classes may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum ClassSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which classes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ClassFilter {
    /// Only the class of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<ClassSort>,
}

impl From<Model> for Class {
    fn from(row: Model) -> Self {
        let Model { id, name, description, created_at, updated_at, .. } = row;
        Self { id, name, description, created_at, updated_at }
    }
}

/// List classes.
#[utoipa::path(tag = "classes", params(PageQuery, ClassFilter),
    responses((status = 200, description = "One page.", body = ClassList)))]
#[get("/classes")]
pub async fn list_classes(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<ClassFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        ClassSort::Name => (Column::Name, Order::Asc),
        ClassSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(Class::from);
    Ok(HttpResponse::Ok().json(ClassList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a class.
#[utoipa::path(tag = "classes", request_body = ClassCreate,
    responses((status = 201, description = "The new class.", body = Class, headers(("ETag" = String), ("Location" = String)))))]
#[post("/classes")]
pub async fn create_class(
    app: web::Data<App>,
    body: Body<ClassCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = ActiveModel {
        id: Set(ClassId::new(now)),
        name: Set(body.0.name),
        description: Set(body.0.description),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    let class = Class::from(row);
    events::append(&work.tx, now, vec![NewEvent::new("class.created", class.id.uuid(), &class)]).await?;
    work.commit(Answer::created(format!("/v1/classes/{}", class.id), &class)?.versioned(1)).await
}

/// Read one class.
#[utoipa::path(tag = "classes", params(("id" = ClassId, Path)),
    responses((status = 200, description = "The class.", body = Class, headers(("ETag" = String)))))]
#[get("/classes/{id}")]
pub async fn get_class(app: web::Data<App>, id: Path<ClassId>) -> Result<HttpResponse, Problem> {
    let row = Entity::find_by_id(*id).one(app.db.read()).await?.ok_or_else(|| Problem::not_found("class"))?;
    let version = row.version;
    Ok(Answer::ok(&Class::from(row))?.versioned(version).into_response())
}

/// Change a class.
#[utoipa::path(tag = "classes", params(("id" = ClassId, Path)),
    request_body(content = ref("#/components/schemas/ClassPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed class.", body = Class, headers(("ETag" = String)))))]
#[patch("/classes/{id}")]
pub async fn update_class(
    app: web::Data<App>,
    id: Path<ClassId>,
    if_match: IfMatch,
    patch: Patch<ClassCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("class"))?;
    if_match.check(row.version)?;
    let wanted =
        patch.apply(&ClassCreate { name: row.name.clone(), description: row.description.clone() })?;
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
    let class = Class::from(row);
    events::append(&tx, now, vec![NewEvent::new("class.updated", class.id.uuid(), &class)]).await?;
    tx.commit().await?;
    Ok(Answer::ok(&class)?.versioned(version).into_response())
}

/// Delete a class that nothing refers to.
#[utoipa::path(tag = "classes", params(("id" = ClassId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/classes/{id}")]
pub async fn delete_class(
    app: web::Data<App>,
    id: Path<ClassId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    known::refuse_deletion(&tx, now, ReferenceKind::Class, id.uuid()).await?;
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("class"))?;
    if_match.check(row.version)?;
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![NewEvent::new("class.deleted", id.uuid(), &serde_json::json!({}))]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
