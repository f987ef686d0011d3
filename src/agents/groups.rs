//! Operations on agent groups.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    api::in_service,
    entity::{MissedOfferAction, agent, group, group_member},
};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start,
    },
    id::{GroupId, UserId},
    work,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_agent_groups)
        .service(create_agent_group)
        .service(get_agent_group)
        .service(update_agent_group)
        .service(delete_agent_group);
}

/// How many items of each channel an agent may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// E-mails.
    #[schema(minimum = 0, maximum = 1000, examples(3))]
    pub email: i32,
    /// Texts.
    #[schema(minimum = 0, maximum = 1000, examples(5))]
    pub sms: i32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { email: 3, sms: 5 }
    }
}

/// Agents who serve queues together, and how work is offered to them.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentGroup {
    /// The group's id.
    pub id: GroupId,
    /// Its unique name.
    #[schema(examples("Sales"))]
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The agents in it, by their user ids.
    pub member_ids: Vec<UserId>,
    /// How long an offer is held out, in seconds.
    #[schema(examples(30))]
    pub offer_timeout_s: i64,
    /// How long an agent may finish an item after completing it, in seconds; 0: not at all.
    #[schema(examples(60))]
    pub wrap_up_s: i64,
    /// Whether an offer is taken as soon as it is made.
    pub auto_accept: bool,
    /// How much a member may have at a time, unless the agent has an own capacity.
    pub capacity: Capacity,
    /// What happens to a member who misses an offer.
    pub missed_offer_action: MissedOfferAction,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A group to be made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Sales", "description": "Everybody who sells" }))]
pub struct AgentGroupCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Sales"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub description: String,
    /// The agents in it, by their user ids.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub member_ids: Vec<UserId>,
    /// How long an offer is held out, in seconds.
    #[serde(default = "default_offer_timeout")]
    #[schema(minimum = 1, maximum = 3600, default = 30, examples(30))]
    pub offer_timeout_s: i64,
    /// How long an agent may finish an item after completing it, in seconds; 0: not at all.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 3600, default = 0, examples(60))]
    pub wrap_up_s: i64,
    /// Whether an offer is taken as soon as it is made.
    #[serde(default)]
    #[schema(default = false)]
    pub auto_accept: bool,
    /// How much a member may have at a time, unless the agent has an own capacity.
    #[serde(default)]
    pub capacity: Capacity,
    /// What happens to a member who misses an offer.
    #[serde(default = "default_missed_offer_action")]
    pub missed_offer_action: MissedOfferAction,
}

fn default_offer_timeout() -> i64 {
    30
}

fn default_missed_offer_action() -> MissedOfferAction {
    MissedOfferAction::None
}

/// One page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentGroupList {
    /// The groups.
    pub items: Vec<AgentGroup>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How groups may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum AgentGroupSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which groups to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AgentGroupFilter {
    /// Only the group of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<AgentGroupSort>,
}

impl AgentGroup {
    fn new(row: group::Model, member_ids: Vec<UserId>) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            member_ids,
            offer_timeout_s: row.offer_timeout_s,
            wrap_up_s: row.wrap_up_s,
            auto_accept: row.auto_accept,
            capacity: Capacity { email: row.capacity_email, sms: row.capacity_sms },
            missed_offer_action: row.missed_offer_action,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    fn settings(self) -> AgentGroupCreate {
        AgentGroupCreate {
            name: self.name,
            description: self.description,
            member_ids: self.member_ids,
            offer_timeout_s: self.offer_timeout_s,
            wrap_up_s: self.wrap_up_s,
            auto_accept: self.auto_accept,
            capacity: self.capacity,
            missed_offer_action: self.missed_offer_action,
        }
    }
}

fn columns(settings: &AgentGroupCreate) -> group::ActiveModel {
    group::ActiveModel {
        name: Set(settings.name.clone()),
        description: Set(settings.description.clone()),
        offer_timeout_s: Set(settings.offer_timeout_s),
        wrap_up_s: Set(settings.wrap_up_s),
        auto_accept: Set(settings.auto_accept),
        capacity_email: Set(settings.capacity.email),
        capacity_sms: Set(settings.capacity.sms),
        missed_offer_action: Set(settings.missed_offer_action),
        ..Default::default()
    }
}

async fn members(db: &impl ConnectionTrait, group: GroupId) -> Result<Vec<UserId>, DbErr> {
    let select = group_member::Entity::find().filter(group_member::Column::GroupId.eq(group));
    let rows = select.order_by_asc(group_member::Column::AgentId).all(db).await?;
    Ok(rows.into_iter().map(|row| row.agent_id).collect())
}

async fn replace_members(tx: &DatabaseTransaction, group: GroupId, wanted: &[UserId]) -> Result<(), Problem> {
    group_member::Entity::delete_many().filter(group_member::Column::GroupId.eq(group)).exec(tx).await?;
    for (index, agent_id) in wanted.iter().enumerate() {
        let pointer = format!("/member_ids/{index}");
        if wanted[..index].contains(agent_id) {
            return Err(Problem::invalid(pointer, "not_unique", "the agent is named twice"));
        }
        if in_service().filter(agent::Column::Id.eq(*agent_id)).one(tx).await?.is_none() {
            return Err(Problem::unknown_reference(&pointer, "agent"));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = wanted
        .iter()
        .map(|agent_id| group_member::ActiveModel { group_id: Set(group), agent_id: Set(*agent_id) });
    group_member::Entity::insert_many(rows).exec_without_returning(tx).await?;
    Ok(())
}

/// List agent groups.
#[utoipa::path(tag = "agent groups", params(PageQuery, AgentGroupFilter),
    responses((status = 200, description = "One page.", body = AgentGroupList)))]
#[get("/agent-groups")]
pub async fn list_agent_groups(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<AgentGroupFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = group::Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(group::Column::Name.eq(name));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        AgentGroupSort::Name => (group::Column::Name, Order::Asc),
        AgentGroupSort::NameDescending => (group::Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, group::Column::Id, sort).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for row in found.items {
        let member_ids = members(app.db.read(), row.id).await?;
        items.push(AgentGroup::new(row, member_ids));
    }
    Ok(HttpResponse::Ok().json(AgentGroupList { items, next_cursor: found.next_cursor }))
}

/// Create an agent group.
#[utoipa::path(tag = "agent groups", request_body = AgentGroupCreate, responses(
    (status = 201, description = "The new group.", body = AgentGroup, headers(("ETag" = String), ("Location" = String)))))]
#[post("/agent-groups")]
pub async fn create_agent_group(
    app: web::Data<App>,
    body: Body<AgentGroupCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = group::ActiveModel {
        id: Set(GroupId::new(now)),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..columns(&body.0)
    };
    let row = group::Entity::insert(row).exec_with_returning(&*work.tx).await?;
    replace_members(&work.tx, row.id, &body.0.member_ids).await?;
    let group = AgentGroup::new(row, body.0.member_ids);
    events::append(&work.tx, now, vec![NewEvent::new("agent_group.created", group.id.uuid(), &group)])
        .await?;
    work.commit(Answer::created(format!("/v1/agent-groups/{}", group.id), &group)?.versioned(1)).await
}

/// Read one agent group.
#[utoipa::path(tag = "agent groups", params(("id" = GroupId, Path)),
    responses((status = 200, description = "The group.", body = AgentGroup, headers(("ETag" = String)))))]
#[get("/agent-groups/{id}")]
pub async fn get_agent_group(app: web::Data<App>, id: Path<GroupId>) -> Result<HttpResponse, Problem> {
    let row = group::Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("agent group"))?;
    let (version, member_ids) = (row.version, members(app.db.read(), row.id).await?);
    Ok(Answer::ok(&AgentGroup::new(row, member_ids))?.versioned(version).into_response())
}

/// Change an agent group.
///
/// `member_ids` replaces all members. Work that members already have stays with them.
#[utoipa::path(tag = "agent groups", params(("id" = GroupId, Path)),
    request_body(content = ref("#/components/schemas/AgentGroupPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed group.", body = AgentGroup, headers(("ETag" = String)))))]
#[patch("/agent-groups/{id}")]
pub async fn update_agent_group(
    app: web::Data<App>,
    id: Path<GroupId>,
    if_match: IfMatch,
    patch: Patch<AgentGroupCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row =
        group::Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("agent group"))?;
    if_match.check(row.version)?;
    let version = row.version;
    let member_ids = members(&*tx, *id).await?;
    let wanted = patch.apply(&AgentGroup::new(row, member_ids).settings())?;
    let change = group::ActiveModel { version: Set(version + 1), updated_at: Set(now), ..columns(&wanted) };
    let guarded = group::Entity::update_many().set(change).filter(group::Column::Id.eq(*id));
    let guarded = guarded.filter(group::Column::Version.eq(version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    replace_members(&tx, *id, &wanted.member_ids).await?;
    let group = AgentGroup::new(row, wanted.member_ids);
    events::append(&tx, now, vec![NewEvent::new("agent_group.updated", group.id.uuid(), &group)]).await?;
    tx.commit().await?;
    Ok(Answer::ok(&group)?.versioned(version + 1).into_response())
}

/// Delete an agent group that serves no queue and that no work is held for.
#[utoipa::path(tag = "agent groups", params(("id" = GroupId, Path)), responses((status = 204, description = "It is gone.")))]
#[delete("/agent-groups/{id}")]
pub async fn delete_agent_group(
    app: web::Data<App>,
    id: Path<GroupId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    // Locked before the look: a transfer to the group waits for this, or this for it.
    let row = group::Entity::find_by_id(*id).lock_exclusive().one(&*tx).await?;
    let row = row.ok_or_else(|| Problem::not_found("agent group"))?;
    if_match.check(row.version)?;
    if work::stats::is_held_for(&*tx, *id).await? {
        return Err(Problem::new(Code::InUse, "work items are held for this group: transfer them first"));
    }
    let queues = work::stats::served_by(&*tx, *id).await?;
    if !queues.is_empty() {
        return Err(Problem::new(Code::InUse, format!("the group serves queues: {}", queues.join(", "))));
    }
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![NewEvent::new("agent_group.deleted", id.uuid(), &serde_json::json!({}))])
        .await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
