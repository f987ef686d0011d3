//! Operations on templates.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    check,
    entity::{
        ActiveModel, Column, Entity, Model, TemplateCategory, TemplateChannel, TemplatePurpose, TemplateState,
    },
    render,
};
use crate::{
    access::matrix::Access,
    app::App,
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
        .service(archive_template)
        .service(preview_template);
}

/// What can be done with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateAction {
    /// Change it.
    Update,
    /// Delete it.
    Delete,
    /// Freeze it and let it be sent.
    Publish,
    /// Have it sent no longer.
    Archive,
    /// See what it makes of given values.
    Preview,
}

/// A template of an automatic answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Template {
    /// The template's id.
    pub id: TemplateId,
    /// Its unique name.
    #[schema(examples("Receipt"))]
    pub name: String,
    /// What it is for, in words.
    #[schema(examples("Says that we have the message"))]
    pub description: String,
    /// What it is sent over.
    pub channel: TemplateChannel,
    /// What it is for.
    pub purpose: TemplatePurpose,
    /// Whether people asked for what is sent.
    pub category: TemplateCategory,
    /// The subject.
    #[schema(examples("We have your message: {{ message.subject }}"))]
    pub subject: String,
    /// The text.
    #[schema(examples("Thank you for writing to {{ account.display_name }}."))]
    pub text: String,
    /// The HTML.
    #[schema(examples("<p>Thank you for writing to {{ account.display_name }}.</p>"))]
    pub html: Option<String>,
    /// Where it stands.
    pub state: TemplateState,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<TemplateAction>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A template to be made; its parts are MiniJinja.
///
/// A receipt reads `message.subject`, `message.from.name`, `message.from.address`, `message.received_at`,
/// `account.address`, `account.display_name` and `conversation.id`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Receipt", "purpose": "receipt", "subject": "We have your message: {{ message.subject }}",
    "text": "Dear {{ message.from.name | default('customer') }},\n\nthank you for writing to {{ account.display_name }}."
}))]
pub struct TemplateCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Receipt"))]
    pub name: String,
    /// What it is for, in words.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Says that we have the message"))]
    pub description: String,
    /// What it is sent over.
    #[serde(default = "email")]
    #[schema(default = "email")]
    pub channel: TemplateChannel,
    /// What it is for.
    #[serde(default = "general")]
    #[schema(default = "general")]
    pub purpose: TemplatePurpose,
    /// Whether people asked for what is sent.
    #[serde(default = "transactional")]
    #[schema(default = "transactional")]
    pub category: TemplateCategory,
    /// The subject, on one line.
    #[schema(
        min_length = 1,
        max_length = 998,
        pattern = "^[^\\r\\n]*$",
        examples("We have your message: {{ message.subject }}")
    )]
    pub subject: String,
    /// The text.
    #[schema(
        min_length = 1,
        max_length = 65536,
        examples("Thank you for writing to {{ account.display_name }}.")
    )]
    pub text: String,
    /// The HTML; values are escaped in it.
    #[serde(default)]
    #[schema(max_length = 262144, examples("<p>Thank you for writing to {{ account.display_name }}.</p>"))]
    pub html: Option<String>,
}

/// One page of templates.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateList {
    /// The templates.
    pub items: Vec<Template>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// The values to see a template with.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "variables": { "message": { "subject": "Where is my order?" } } }))]
pub struct TemplatePreviewRequest {
    /// What the template reads, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub variables: Map<String, Json>,
}

/// What a template makes of given values.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplatePreview {
    /// The subject.
    #[schema(examples("We have your message: Where is my order?"))]
    pub subject: String,
    /// The text.
    pub text: String,
    /// The HTML, when the template has it.
    pub html: Option<String>,
    /// What the template reads and was not given; it is left out above.
    #[schema(examples("account.display_name"))]
    pub missing: Vec<String>,
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
    /// Only those for this purpose.
    #[param(inline)]
    purpose: Option<TemplatePurpose>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<TemplateSort>,
}

const fn email() -> TemplateChannel {
    TemplateChannel::Email
}

const fn general() -> TemplatePurpose {
    TemplatePurpose::General
}

const fn transactional() -> TemplateCategory {
    TemplateCategory::Transactional
}

impl TemplateCreate {
    fn check(&self) -> Result<(), Problem> {
        let found = check::syntax(&self.subject, &self.text, self.html.as_deref());
        if found.is_empty() { Ok(()) } else { Err(Problem::validation(found)) }
    }

    fn into_row(self) -> ActiveModel {
        ActiveModel {
            name: Set(self.name),
            description: Set(self.description),
            channel: Set(self.channel),
            purpose: Set(self.purpose),
            category: Set(self.category),
            subject: Set(self.subject),
            text: Set(self.text),
            html: Set(self.html),
            ..Default::default()
        }
    }
}

impl From<Model> for TemplateCreate {
    fn from(row: Model) -> Self {
        let Model { name, description, channel, purpose, category, subject, text, html, .. } = row;
        Self { name, description, channel, purpose, category, subject, text, html }
    }
}

impl Template {
    fn new(row: Model, caller: &Caller) -> Self {
        let allowed_actions = allowed_actions(row.state, caller);
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            channel: row.channel,
            purpose: row.purpose,
            category: row.category,
            subject: row.subject,
            text: row.text,
            html: row.html,
            state: row.state,
            allowed_actions,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn allowed_actions(state: TemplateState, caller: &Caller) -> Vec<TemplateAction> {
    use TemplateAction::{Archive, Delete, Preview, Publish, Update};
    let actions = [
        (Update, state == TemplateState::Draft, "update_template"),
        (Delete, state != TemplateState::Published, "delete_template"),
        (Publish, state == TemplateState::Draft, "publish_template"),
        (Archive, state == TemplateState::Published, "archive_template"),
        (Preview, true, "preview_template"),
    ];
    let may = |operation: &str| Access::of(operation).is_some_and(|access| access.allows(caller));
    let allowed = actions.into_iter().filter(|(_, fits, operation)| *fits && may(operation));
    allowed.map(|(action, ..)| action).collect()
}

async fn find(db: &impl ConnectionTrait, id: TemplateId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("template"))
}

/// Writes a change of a template that is still as `row` says, and its event.
async fn change(
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
fn told(row: &Model) -> Json {
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
        state: Set(TemplateState::Draft),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..body.0.into_row()
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
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

/// Change a draft. A template that was published is frozen: make another one.
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
    let row = change(&tx, now, &row, wanted.into_row(), "template.updated").await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Template::new(row, &caller))?.versioned(version).into_response())
}

/// Delete a draft or an archived template that no account and no active version of a script uses.
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
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if row.state == TemplateState::Published {
        return Err(Problem::new(
            Code::InvalidState,
            "a published template is archived before it is deleted",
        ));
    }
    // Guarded: it may be published at this very moment.
    let row = change(&tx, now, &row, ActiveModel::default(), "template.deleted").await?;
    row.delete(&*tx).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Publish a draft: it is frozen, and scripts and accounts may send it.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 200, description = "The published template.", body = Template, headers(("ETag" = String)))))]
#[post("/templates/{id}/publish")]
pub async fn publish_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    if row.state != TemplateState::Draft {
        return Err(Problem::new(Code::InvalidState, "only drafts are published"));
    }
    let found = check::publishable(&row);
    if !found.is_empty() {
        return Err(Problem::validation(found));
    }
    let to = ActiveModel { state: Set(TemplateState::Published), ..Default::default() };
    settle(&app, &caller, &row, to, "template.published").await
}

/// Archive a published template: it is sent no longer.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 200, description = "The archived template.", body = Template, headers(("ETag" = String)))))]
#[post("/templates/{id}/archive")]
pub async fn archive_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    if row.state != TemplateState::Published {
        return Err(Problem::new(Code::InvalidState, "only published templates are archived"));
    }
    let to = ActiveModel { state: Set(TemplateState::Archived), ..Default::default() };
    settle(&app, &caller, &row, to, "template.archived").await
}

/// Brings a template from where `row` says it stands to another state.
async fn settle(
    app: &App,
    caller: &Caller,
    row: &Model,
    to: ActiveModel,
    kind: &'static str,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = change(&tx, now, row, to, kind).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Template::new(row, caller))?.versioned(version).into_response())
}

/// See what a template makes of given values, and which it misses. Changes nothing and sends nothing.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)), request_body = TemplatePreviewRequest,
    responses((status = 200, description = "The rendered parts.", body = TemplatePreview)))]
#[post("/templates/{id}/preview")]
pub async fn preview_template(
    app: web::Data<App>,
    id: Path<TemplateId>,
    body: Body<TemplatePreviewRequest>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let variables = Json::Object(body.0.variables);
    let has = |path: &str| path.split('.').try_fold(&variables, |value, name| value.get(name)).is_some();
    let missing = check::missing(&row, has);
    let rendered = render::preview(&row, &variables).map_err(|failed| {
        let detail = failed.to_string();
        Problem::invalid("/variables", failed.code, detail)
    })?;
    let render::Rendered { subject, text, html } = rendered;
    Ok(HttpResponse::Ok().json(TemplatePreview { subject, text, html, missing }))
}
