//! Operations on outcomes: what can come of trying to reach a customer.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait, Order, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::entity::{
    OutcomeCategory, customer,
    outcome::{ActiveModel, Column, Entity, Model},
};
use crate::{
    app::App,
    campaigns::entity::attempt,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start,
    },
    id::OutcomeId,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_outcomes)
        .service(create_outcome)
        .service(get_outcome)
        .service(update_outcome)
        .service(delete_outcome);
}

/// What can come of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Outcome {
    /// The outcome's id.
    pub id: OutcomeId,
    /// Its unique code, as the dialler reports it.
    #[schema(examples("no_answer"))]
    pub code: String,
    /// What people call it.
    #[schema(examples("No answer"))]
    pub name: String,
    /// What it means.
    #[schema(examples("It rang, and nobody picked up"))]
    pub description: String,
    /// What it means for the customer.
    pub category: OutcomeCategory,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An outcome to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "voicemail", "category": "non_contact", "name": "Left a message" }))]
pub struct OutcomeCreate {
    /// Its unique code, as the dialler reports it. It stays as it is while customers or attempts carry it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$", examples("no_answer"))]
    pub code: String,
    /// What it means for the customer. What was reported before keeps the category that it had then.
    pub category: OutcomeCategory,
    /// What people call it.
    #[serde(default)]
    #[schema(max_length = 100, examples("No answer"))]
    pub name: String,
    /// What it means.
    #[serde(default)]
    #[schema(max_length = 2000, examples("It rang, and nobody picked up"))]
    pub description: String,
}

/// One page of outcomes.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeList {
    /// The outcomes.
    pub items: Vec<Outcome>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How outcomes may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum OutcomeSort {
    /// By code.
    #[serde(rename = "code")]
    Code,
    /// By code, last first.
    #[serde(rename = "-code")]
    CodeDescending,
}

/// Which outcomes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OutcomeFilter {
    /// Only the outcome of this code.
    #[param(max_length = 64)]
    code: Option<String>,
    /// Only those of this category.
    #[param(inline)]
    category: Option<OutcomeCategory>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<OutcomeSort>,
}

impl From<Model> for Outcome {
    fn from(row: Model) -> Self {
        let Model { id, code, name, description, category, created_at, updated_at, .. } = row;
        Self { id, code, name, description, category, created_at, updated_at }
    }
}

fn told(kind: &'static str, row: &Model) -> NewEvent {
    let data = json!({ "id": row.id, "code": row.code, "category": row.category });
    NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()
}

/// List outcomes.
#[utoipa::path(tag = "outcomes", params(PageQuery, OutcomeFilter),
    responses((status = 200, description = "One page.", body = OutcomeList)))]
#[get("/outcomes")]
pub async fn list_outcomes(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<OutcomeFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(code) = &filter.0.code {
        select = select.filter(Column::Code.eq(code));
    }
    if let Some(category) = filter.0.category {
        select = select.filter(Column::Category.eq(category));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        OutcomeSort::Code => (Column::Code, Order::Asc),
        OutcomeSort::CodeDescending => (Column::Code, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(Outcome::from);
    Ok(HttpResponse::Ok().json(OutcomeList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create an outcome.
#[utoipa::path(tag = "outcomes", request_body = OutcomeCreate,
    responses((status = 201, description = "The new outcome.", body = Outcome, headers(("ETag" = String), ("Location" = String)))))]
#[post("/outcomes")]
pub async fn create_outcome(
    app: web::Data<App>,
    body: Body<OutcomeCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let OutcomeCreate { code, category, name, description } = body.0;
    let row = ActiveModel {
        id: Set(OutcomeId::new(now)),
        code: Set(code),
        name: Set(name),
        description: Set(description),
        category: Set(category),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![told("outcome.created", &row)]).await?;
    let answer = Answer::created(format!("/v1/outcomes/{}", row.id), &Outcome::from(row))?;
    work.commit(answer.versioned(1)).await
}

/// Read one outcome.
#[utoipa::path(tag = "outcomes", params(("id" = OutcomeId, Path)),
    responses((status = 200, description = "The outcome.", body = Outcome, headers(("ETag" = String)))))]
#[get("/outcomes/{id}")]
pub async fn get_outcome(app: web::Data<App>, id: Path<OutcomeId>) -> Result<HttpResponse, Problem> {
    let row = Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("outcome"))?;
    let version = row.version;
    Ok(Answer::ok(&Outcome::from(row))?.versioned(version).into_response())
}

/// Change an outcome.
#[utoipa::path(tag = "outcomes", params(("id" = OutcomeId, Path)),
    request_body(content = ref("#/components/schemas/OutcomePatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed outcome.", body = Outcome, headers(("ETag" = String)))))]
#[patch("/outcomes/{id}")]
pub async fn update_outcome(
    app: web::Data<App>,
    id: Path<OutcomeId>,
    if_match: IfMatch,
    patch: Patch<OutcomeCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("outcome"))?;
    if_match.check(row.version)?;
    let before = OutcomeCreate {
        code: row.code.clone(),
        category: row.category,
        name: row.name.clone(),
        description: row.description.clone(),
    };
    let wanted = patch.apply(&before)?;
    if wanted.code != row.code {
        refuse_while_used(&tx, &row.code).await?;
    }
    let change = ActiveModel {
        code: Set(wanted.code),
        name: Set(wanted.name),
        description: Set(wanted.description),
        category: Set(wanted.category),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded =
        Entity::update_many().set(change).filter(Column::Id.eq(*id)).filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    events::append(&tx, now, vec![told("outcome.updated", &row)]).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Outcome::from(row))?.versioned(version).into_response())
}

/// Delete an outcome that no customer and no attempt carries.
#[utoipa::path(tag = "outcomes", params(("id" = OutcomeId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/outcomes/{id}")]
pub async fn delete_outcome(
    app: web::Data<App>,
    id: Path<OutcomeId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("outcome"))?;
    if_match.check(row.version)?;
    refuse_while_used(&tx, &row.code).await?;
    let event = told("outcome.deleted", &row);
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What was reported is read by its code for as long as it is kept.
async fn refuse_while_used(tx: &DatabaseTransaction, code: &str) -> Result<(), Problem> {
    let by_customer =
        customer::Entity::find().filter(customer::Column::TerminationCode.eq(code)).one(tx).await?;
    let used = match by_customer {
        Some(_) => true,
        None => {
            attempt::Entity::find().filter(attempt::Column::OutcomeCode.eq(code)).one(tx).await?.is_some()
        }
    };
    if used {
        return Err(Problem::new(Code::InUse, "customers or attempts carry the outcome"));
    }
    Ok(())
}
