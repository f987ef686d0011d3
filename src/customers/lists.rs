//! Operations on lists of customers.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ModelTrait, Order, QueryFilter,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::entity::{
    CustomerStatus, ListState, customer,
    customer_list::{ActiveModel, Column, Entity, Model},
};
use crate::{
    app::App,
    broadcasts::change::follow_list,
    campaigns::entity::campaign,
    clock::Timestamp,
    db::Gate,
    events::{self, NewEvent},
    http::{
        Answer, Body, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start,
    },
    id::{CampaignId, ListId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_lists)
        .service(create_list)
        .service(get_list)
        .service(get_list_stats)
        .service(update_list)
        .service(delete_list);
}

/// A list of customers.
#[derive(Debug, Serialize, ToSchema)]
pub struct List {
    /// The list's id.
    pub id: ListId,
    /// Its unique name.
    #[schema(examples("March renewals"))]
    pub name: String,
    /// What it is for.
    #[schema(examples("Contracts that end in March"))]
    pub description: String,
    /// The campaign that it belongs to.
    pub campaign_id: Option<CampaignId>,
    /// Where it stands.
    pub state: ListState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A list to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "March renewals", "description": "Contracts that end in March" }))]
pub struct ListCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("March renewals"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Contracts that end in March"))]
    pub description: String,
    /// The campaign that it belongs to; none when it is left out.
    #[serde(default)]
    pub campaign_id: Option<CampaignId>,
    /// Where it stands.
    #[serde(default = "active")]
    #[schema(default = "active")]
    pub state: ListState,
}

fn active() -> ListState {
    ListState::Active
}

/// One page of lists.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListList {
    /// The lists.
    pub items: Vec<List>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How many customers of a list stand where.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ListStats {
    /// Not tried yet.
    #[schema(examples(812))]
    pub unused: i64,
    /// Tried, and to be tried again.
    #[schema(examples(150))]
    pub in_progress: i64,
    /// To be tried again at a time that was agreed.
    #[schema(examples(7))]
    pub callback: i64,
    /// Not tried any more.
    #[schema(examples(31))]
    pub terminated: i64,
    /// All of them.
    #[schema(examples(1000))]
    pub total: i64,
}

/// How lists may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum ListSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which lists to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListFilter {
    /// Only the list of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// Only those of this campaign.
    campaign_id: Option<CampaignId>,
    /// Only those that stand there.
    #[param(inline)]
    state: Option<ListState>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<ListSort>,
}

impl From<Model> for List {
    fn from(row: Model) -> Self {
        let Model { id, name, description, campaign_id, state, created_at, updated_at, .. } = row;
        Self { id, name, description, campaign_id, state, created_at, updated_at }
    }
}

fn told(kind: &'static str, row: &Model) -> NewEvent {
    let data = json!({ "id": row.id, "state": row.state, "campaign_id": row.campaign_id });
    NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()
}

/// The list of this id.
///
/// # Errors
/// `not_found`.
pub(super) async fn find(db: &impl ConnectionTrait, id: ListId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("list"))
}

async fn check_campaign(db: &impl ConnectionTrait, id: Option<CampaignId>) -> Result<(), Problem> {
    if let Some(id) = id
        && campaign::Entity::find_by_id(id).one(db).await?.is_none()
    {
        return Err(Problem::unknown_reference("/campaign_id", "campaign"));
    }
    Ok(())
}

/// List lists.
#[utoipa::path(tag = "lists", params(PageQuery, ListFilter),
    responses((status = 200, description = "One page.", body = ListList)))]
#[get("/lists")]
pub async fn list_lists(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<ListFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    if let Some(campaign) = filter.0.campaign_id {
        select = select.filter(Column::CampaignId.eq(campaign));
    }
    if let Some(state) = filter.0.state {
        select = select.filter(Column::State.eq(state));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        ListSort::Name => (Column::Name, Order::Asc),
        ListSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(List::from);
    Ok(HttpResponse::Ok().json(ListList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a list.
#[utoipa::path(tag = "lists", request_body = ListCreate,
    responses((status = 201, description = "The new list.", body = List, headers(("ETag" = String), ("Location" = String)))))]
#[post("/lists")]
pub async fn create_list(
    app: web::Data<App>,
    body: Body<ListCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let ListCreate { name, description, campaign_id, state } = body.0;
    check_campaign(&*work.tx, campaign_id).await?;
    let row = ActiveModel {
        id: Set(ListId::new(now)),
        name: Set(name),
        description: Set(description),
        campaign_id: Set(campaign_id),
        state: Set(state),
        message_rules: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![told("list.created", &row)]).await?;
    let answer = Answer::created(format!("/v1/lists/{}", row.id), &List::from(row))?;
    work.commit(answer.versioned(1)).await
}

/// Read one list.
#[utoipa::path(tag = "lists", params(("id" = ListId, Path)),
    responses((status = 200, description = "The list.", body = List, headers(("ETag" = String)))))]
#[get("/lists/{id}")]
pub async fn get_list(app: web::Data<App>, id: Path<ListId>) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&List::from(row))?.versioned(version).into_response())
}

/// Count a list's customers by status.
#[utoipa::path(tag = "lists", params(("id" = ListId, Path)),
    responses((status = 200, description = "The counts.", body = ListStats)))]
#[get("/lists/{id}/stats")]
pub async fn get_list_stats(app: web::Data<App>, id: Path<ListId>) -> Result<HttpResponse, Problem> {
    find(app.db.read(), *id).await?;
    let counts: Vec<(CustomerStatus, i64)> = customer::Entity::find()
        .select_only()
        .column(customer::Column::Status)
        .column_as(customer::Column::Id.count(), "count")
        .filter(customer::Column::ListId.eq(*id))
        .group_by(customer::Column::Status)
        .into_tuple()
        .all(app.db.read())
        .await?;
    let mut stats = ListStats::default();
    for (status, count) in counts {
        stats.total += count;
        match status {
            CustomerStatus::Unused => stats.unused = count,
            CustomerStatus::InProgress => stats.in_progress = count,
            CustomerStatus::Callback => stats.callback = count,
            CustomerStatus::Terminated => stats.terminated = count,
        }
    }
    Ok(HttpResponse::Ok().json(stats))
}

/// Change a list.
///
/// Broadcasts to a list that moves to another campaign go with it, also while they run: from this answer on they go to nobody
/// whom that campaign may not write to.
#[utoipa::path(tag = "lists", params(("id" = ListId, Path)),
    request_body(content = ref("#/components/schemas/ListPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed list.", body = List, headers(("ETag" = String)))))]
#[patch("/lists/{id}")]
pub async fn update_list(
    app: web::Data<App>,
    id: Path<ListId>,
    if_match: IfMatch,
    patch: Patch<ListCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    let before = ListCreate {
        name: row.name.clone(),
        description: row.description.clone(),
        campaign_id: row.campaign_id,
        state: row.state,
    };
    let wanted = patch.apply(&before)?;
    let moves = wanted.campaign_id != row.campaign_id;
    if moves {
        check_campaign(&*tx, wanted.campaign_id).await?;
        Gate::Sends.shut(&tx).await?;
    }
    let change = ActiveModel {
        name: Set(wanted.name),
        description: Set(wanted.description),
        campaign_id: Set(wanted.campaign_id),
        state: Set(wanted.state),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded =
        Entity::update_many().set(change).filter(Column::Id.eq(*id)).filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    events::append(&tx, now, vec![told("list.updated", &row)]).await?;
    if moves {
        follow_list(&tx, now, row.id, row.campaign_id).await?;
    }
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&List::from(row))?.versioned(version).into_response())
}

/// Delete a list that has no customers.
///
/// The reports of its imports go with it.
#[utoipa::path(tag = "lists", params(("id" = ListId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/lists/{id}")]
pub async fn delete_list(
    app: web::Data<App>,
    id: Path<ListId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    let holds = customer::Entity::find().filter(customer::Column::ListId.eq(*id)).one(&*tx).await?;
    if holds.is_some() {
        return Err(Problem::new(Code::InUse, "the list has customers"));
    }
    let event = told("list.deleted", &row);
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
