//! Operations on templates.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    bodies::{Template, TemplateCreate, TemplateList},
    entity::{ActiveModel, Column, Entity, Model, TemplateChannel, TemplatePurpose, TemplateState},
    files,
    partials::{self, freeze, uses},
    preview::preview_template,
    publish::{archive_template, publish_template},
    revise::{self, revise_template},
};
use crate::{
    app::App,
    campaigns::references,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start,
    },
    id::TemplateId,
    scripts::{known, steps::ReferenceKind},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_templates)
        .service(create_template)
        .service(get_template)
        .service(update_template)
        .service(delete_template)
        .service(publish_template)
        .service(revise_template)
        .service(archive_template)
        .service(preview_template)
        .configure(partials::api::mount)
        .configure(files::api::mount);
}

/// How templates may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum TemplateSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which templates to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TemplateFilter {
    /// Only the template of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<TemplateState>,
    /// Only those for this channel.
    #[param(inline)]
    channel: Option<TemplateChannel>,
    /// Only those for this purpose.
    #[param(inline)]
    purpose: Option<TemplatePurpose>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<TemplateSort>,
}

/// Reads a template.
pub(super) async fn find(db: &impl ConnectionTrait, id: TemplateId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("template"))
}

/// Writes a change of a template that is still as `row` says, and its event.
pub(super) async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: ActiveModel,
    kind: &'static str,
) -> Result<Model, DbErr> {
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::State.eq(row.state))
        .filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let event = NewEvent::new(kind, row.id.uuid(), &told(&row)).for_supervisors();
    events::append(tx, now, vec![event]).await?;
    Ok(row)
}

/// What an event tells of a template: not its texts.
pub(super) fn told(row: &Model) -> Json {
    json!({ "name": row.name, "state": row.state })
}

/// List templates.
#[utoipa::path(tag = "templates", params(PageQuery, TemplateFilter),
    responses((status = 200, description = "One page.", body = TemplateList)))]
#[get("/templates")]
pub async fn list_templates(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<TemplateFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    if let Some(state) = filter.0.state {
        select = select.filter(Column::State.eq(state));
    }
    if let Some(channel) = filter.0.channel {
        select = select.filter(Column::Channel.eq(channel));
    }
    if let Some(purpose) = filter.0.purpose {
        select = select.filter(Column::Purpose.eq(purpose));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        TemplateSort::Name => (Column::Name, Order::Asc),
        TemplateSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = found.map(|row| Template::new(row, &caller));
    Ok(HttpResponse::Ok().json(TemplateList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a template, as a draft.
#[utoipa::path(tag = "templates", request_body = TemplateCreate,
    responses((status = 201, description = "The new template.", body = Template, headers(("ETag" = String), ("Location" = String)))))]
#[post("/templates")]
pub async fn create_template(
    app: web::Data<App>,
    caller: Caller,
    body: Body<TemplateCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    body.0.check()?;
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = ActiveModel {
        id: Set(TemplateId::new(now)),
        partials: Set(json!({})),
        attachments: Set(json!([])),
        revision: Set(0),
        revises: Set(None),
        state: Set(TemplateState::Draft),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..body.0.into_row()
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    uses::note_template(&work.tx, row.id, freeze::named_by(&row)).await?;
    let event = NewEvent::new("template.created", row.id.uuid(), &told(&row)).for_supervisors();
    events::append(&work.tx, now, vec![event]).await?;
    let template = Template::new(row, &caller);
    work.commit(Answer::created(format!("/v1/templates/{}", template.id), &template)?.versioned(1)).await
}

/// Read one template.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 200, description = "The template.", body = Template, headers(("ETag" = String)))))]
#[get("/templates/{id}")]
pub async fn get_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&Template::new(row, &caller))?.versioned(version).into_response())
}

/// Change a draft. A template that was published is frozen: revise it.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    request_body(content = ref("#/components/schemas/TemplatePatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed template.", body = Template, headers(("ETag" = String)))))]
#[patch("/templates/{id}")]
pub async fn update_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
    if_match: IfMatch,
    patch: Patch<TemplateCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if row.state != TemplateState::Draft {
        return Err(Problem::new(Code::VersionLocked, "a template that was published is frozen"));
    }
    let wanted = patch.apply(&TemplateCreate::from(row.clone()))?;
    wanted.check()?;
    revise::check_change(&row, &wanted)?;
    let row = change(&tx, now, &row, wanted.into_row(), "template.updated").await?;
    uses::note_template(&tx, row.id, freeze::named_by(&row)).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Template::new(row, &caller))?.versioned(version).into_response())
}

/// Delete a draft or an archived template that no account, no message rule and no active version of a script uses.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/templates/{id}")]
pub async fn delete_template(
    app: web::Data<App>,
    id: Path<TemplateId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    known::refuse_deletion(&tx, now, ReferenceKind::Template, id.uuid()).await?;
    references::refuse(&tx, id.uuid()).await?;
    let row = find(&*tx, *id).await?;
    let draft = revise::draft_of(&*tx, row.id).await?;
    if let Some(draft) = &draft {
        references::refuse(&tx, draft.id.uuid()).await?;
    }
    if_match.check(row.version)?;
    if row.state == TemplateState::Published {
        return Err(Problem::new(
            Code::InvalidState,
            "a published template is archived before it is deleted",
        ));
    }
    // Guarded: it may be published at this very moment.
    let row = change(&tx, now, &row, ActiveModel::default(), "template.deleted").await?;
    let mut objects = files::objects(&*tx, row.id).await?;
    // What revises it goes with it.
    if let Some(draft) = draft {
        let draft = change(&tx, now, &draft, ActiveModel::default(), "template.deleted").await?;
        objects.extend(files::objects(&*tx, draft.id).await?);
        draft.delete(&*tx).await?;
    }
    row.delete(&*tx).await?;
    tx.commit().await?;
    app.raw.drop_objects(objects).await;
    Ok(HttpResponse::NoContent().finish())
}
