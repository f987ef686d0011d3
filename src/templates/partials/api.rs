//! Operations on partials.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ModelTrait, Order, QueryFilter,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    bodies::{PartialUser, TemplatePartial, TemplatePartialCreate, TemplatePartialList},
    entity::partial::{ActiveModel, Column, Entity, Model},
    freeze::named,
    uses,
};
use crate::{
    app::App,
    events::{self, NewEvent},
    http::{
        Answer, Body, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start,
    },
    id::PartialId,
    templates::entity::TemplateState,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_template_partials)
        .service(create_template_partial)
        .service(get_template_partial)
        .service(update_template_partial)
        .service(delete_template_partial);
}

/// How partials may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum TemplatePartialSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which partials to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TemplatePartialFilter {
    /// Only the partial of this name.
    #[param(max_length = 64)]
    name: Option<String>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<TemplatePartialSort>,
}

async fn find(db: &impl ConnectionTrait, id: PartialId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("partial"))
}

async fn show(db: &impl ConnectionTrait, row: Model) -> Result<TemplatePartial, DbErr> {
    let used_by = users(db, &row).await?;
    Ok(TemplatePartial::new(row, used_by))
}

async fn users(db: &impl ConnectionTrait, row: &Model) -> Result<Vec<PartialUser>, DbErr> {
    Ok(uses::users(db, std::slice::from_ref(row)).await?.remove(&row.name).unwrap_or_default())
}

/// List what templates include, and which of them do.
#[utoipa::path(tag = "templates", params(PageQuery, TemplatePartialFilter),
    responses((status = 200, description = "One page.", body = TemplatePartialList)))]
#[get("/template-partials")]
pub async fn list_template_partials(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<TemplatePartialFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        TemplatePartialSort::Name => (Column::Name, Order::Asc),
        TemplatePartialSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let mut users = uses::users(app.db.read(), &found.items).await?;
    let found = found.map(|row| {
        let used_by = users.remove(&row.name).unwrap_or_default();
        TemplatePartial::new(row, used_by)
    });
    Ok(HttpResponse::Ok().json(TemplatePartialList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create what templates include.
///
/// A draft that includes it sees every change at once; a template that is published keeps it as it was then.
#[utoipa::path(tag = "templates", request_body = TemplatePartialCreate,
    responses((status = 201, description = "The new partial.", body = TemplatePartial, headers(("ETag" = String), ("Location" = String)))))]
#[post("/template-partials")]
pub async fn create_template_partial(
    app: web::Data<App>,
    body: Body<TemplatePartialCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    body.0.check()?;
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let names = named(body.0.sources());
    let TemplatePartialCreate { name, description, text, html } = body.0;
    let row = ActiveModel {
        id: Set(PartialId::new(now)),
        name: Set(name),
        description: Set(description),
        text: Set(text),
        html: Set(html),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    uses::note_partial(&work.tx, row.id, names).await?;
    let event = NewEvent::new("template_partial.created", row.id.uuid(), &json!({ "name": row.name }));
    events::append(&work.tx, now, vec![event.for_supervisors()]).await?;
    let partial = show(&*work.tx, row).await?;
    let location = format!("/v1/template-partials/{}", partial.id);
    work.commit(Answer::created(location, &partial)?.versioned(1)).await
}

/// Read one partial.
#[utoipa::path(tag = "templates", params(("id" = PartialId, Path)),
    responses((status = 200, description = "The partial.", body = TemplatePartial, headers(("ETag" = String)))))]
#[get("/template-partials/{id}")]
pub async fn get_template_partial(app: web::Data<App>, id: Path<PartialId>) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&show(app.db.read(), row).await?)?.versioned(version).into_response())
}

/// Change a partial.
///
/// Published templates go on with what they had: `used_by` says which are `outdated`, and publishing those again takes the
/// change over.
#[utoipa::path(tag = "templates", params(("id" = PartialId, Path)),
    request_body(content = ref("#/components/schemas/TemplatePartialPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed partial.", body = TemplatePartial, headers(("ETag" = String)))))]
#[patch("/template-partials/{id}")]
pub async fn update_template_partial(
    app: web::Data<App>,
    id: Path<PartialId>,
    if_match: IfMatch,
    patch: Patch<TemplatePartialCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    let wanted = patch.apply(&TemplatePartialCreate::from(row.clone()))?;
    wanted.check()?;
    if wanted.name != row.name {
        refuse(&users(&*tx, &row).await?, "goes by this name")?;
    }
    uses::note_partial(&tx, row.id, named(wanted.sources())).await?;
    let version = row.version + 1;
    let change = ActiveModel {
        name: Set(wanted.name),
        description: Set(wanted.description),
        text: Set(wanted.text),
        html: Set(wanted.html),
        version: Set(version),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded =
        Entity::update_many().set(change).filter(Column::Id.eq(*id)).filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let event = NewEvent::new("template_partial.updated", row.id.uuid(), &json!({ "name": row.name }));
    events::append(&tx, now, vec![event.for_supervisors()]).await?;
    let partial = show(&*tx, row).await?;
    tx.commit().await?;
    Ok(Answer::ok(&partial)?.versioned(version).into_response())
}

/// Delete a partial that no template and no other partial includes; archived templates do not count.
#[utoipa::path(tag = "templates", params(("id" = PartialId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/template-partials/{id}")]
pub async fn delete_template_partial(
    app: web::Data<App>,
    id: Path<PartialId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    refuse(&users(&*tx, &row).await?, "includes it")?;
    let event = NewEvent::new("template_partial.deleted", row.id.uuid(), &json!({ "name": row.name }));
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![event.for_supervisors()]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Refuses what would take a partial away from whoever includes it.
fn refuse(users: &[PartialUser], how: &str) -> Result<(), Problem> {
    let Some(user) = users.iter().find(|user| user.state != Some(TemplateState::Archived)) else {
        return Ok(());
    };
    let kind = if user.state.is_some() { "template" } else { "partial" };
    Err(Problem::new(Code::InUse, format!("the {kind} \"{}\" {how}", user.name)))
}
