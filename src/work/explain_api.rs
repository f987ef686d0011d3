//! Why an item is where it is: what happened to it, and who could be given it now.

use std::collections::HashMap;

use actix_web::{HttpResponse, get, web};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::{
    api::visible,
    decline::declined_list,
    entity::{WorkState, trace, work_item},
    lane::Lane,
    roster::{Roster, served},
    rules::{Agent, Demand, PerChannel, Refusal, Served, refusals},
};
use crate::{
    agents::entity::AgentState,
    app::App,
    clock::Timestamp,
    http::{Caller, Code, PageQuery, Path, Problem, Query},
    id::{GroupId, UserId, WorkItemId},
    queues::entity::queue,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(get_work_item_trace).service(explain_work_item);
}

/// One thing that happened to an item.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkTraceEntry {
    /// The entry's id.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// `script_step`, `state`, `offer` or `note`.
    #[schema(examples("script_step"))]
    pub kind: String,
    /// The details: for a script's step the step, its type, the expressions with the values they saw, and the outcome.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// One page of what happened to an item, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkTraceEntryList {
    /// The entries.
    pub items: Vec<WorkTraceEntry>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// Whether one agent can be given the item now.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentExplanation {
    /// The agent.
    pub agent_id: UserId,
    /// The agent's state.
    pub state: AgentState,
    /// How much the agent may have at a time.
    pub capacity: PerChannel,
    /// How much the agent has.
    pub load: PerChannel,
    /// Whether the agent can be given the item now.
    pub can_be_given: bool,
    /// Every reason why not.
    pub reasons: Vec<Refusal>,
}

/// Who can be given the item now, and why the others cannot.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkItemExplanation {
    /// The item.
    pub work_item_id: WorkItemId,
    /// Where it stands.
    pub state: WorkState,
    /// What goes for everybody.
    pub reasons: Vec<Refusal>,
    /// The agents who were asked for.
    pub agents: Vec<AgentExplanation>,
}

/// What happened to a work item.
///
/// What its script did, step by step, with the values it saw; every change of state; every offer.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path), PageQuery),
    responses((status = 200, description = "One page, oldest first.", body = WorkTraceEntryList)))]
#[get("/work-items/{id}/trace")]
pub async fn get_work_item_trace(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    page: Query<PageQuery>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    visible(&app, *id, &caller).await?;
    let select = trace::Entity::find().filter(trace::Column::WorkItemId.eq(*id));
    let found = page.0.fetch(app.db.read(), select, trace::Column::Id, None).await?;
    let found = found.map(|row| WorkTraceEntry { id: row.id, at: row.at, kind: row.kind, data: row.data });
    Ok(HttpResponse::Ok().json(WorkTraceEntryList { items: found.items, next_cursor: found.next_cursor }))
}

/// Whom to explain.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExplanationFilter {
    /// Only this agent, whatever the agent's groups; agents may ask for themselves only.
    agent_id: Option<UserId>,
}

/// Who can be given a work item now, and why others cannot.
///
/// It tells of the members of the groups that serve the item's queue, of the agent it is held for, and of the calling
/// agent; of any other agent with `agent_id`.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path), ExplanationFilter),
    responses((status = 200, description = "The explanation.", body = WorkItemExplanation)))]
#[get("/work-items/{id}/explain")]
pub async fn explain_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    filter: Query<ExplanationFilter>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let item = visible(&app, *id, &caller).await?;
    let agent = filter.0.agent_id;
    if agent.is_some() && !caller.oversees() && agent != caller.user_id() {
        return Err(Problem::new(Code::NotYours, "agents ask for themselves only"));
    }
    let queue = queue_of(&app, &item).await?;
    let db = app.db.read();
    let agents = match agent {
        Some(agent) => Roster::of(db, &[agent]).await?.agents,
        None => concerned(db, &item, queue.as_ref(), &caller).await?,
    };
    if agent.is_some() && agents.is_empty() {
        return Err(Problem::not_found("agent"));
    }
    Ok(HttpResponse::Ok().json(explain(&app, &item, queue.as_ref(), agents).await?))
}

async fn queue_of(app: &App, item: &work_item::Model) -> Result<Option<Served>, DbErr> {
    match item.queue_id {
        Some(id) => Ok(served(app.db.read(), queue::Column::Id.eq(id)).await?.remove(&id)),
        None => Ok(None),
    }
}

/// The members of the groups that serve the item, the agent it is held for, and the caller.
async fn concerned(
    db: &impl ConnectionTrait,
    item: &work_item::Model,
    queue: Option<&Served>,
    caller: &Caller,
) -> Result<HashMap<UserId, Agent>, DbErr> {
    let mut groups: Vec<GroupId> = queue.iter().flat_map(|queue| queue.groups.clone()).collect();
    groups.extend(item.group_id);
    let mut agents = Roster::members(db, &groups).await?.agents;
    let others: Vec<UserId> = item.target_agent_id.into_iter().chain(caller.user_id()).collect();
    agents.extend(Roster::of(db, &others).await?.agents);
    Ok(agents)
}

async fn explain(
    app: &App,
    item: &work_item::Model,
    queue: Option<&Served>,
    agents: HashMap<UserId, Agent>,
) -> Result<WorkItemExplanation, DbErr> {
    let demand = Demand {
        channel: item.channel,
        lane: Lane::parse(&item.lane).unwrap_or_default(),
        target: item.target_agent_id,
        last_agent: item.last_agent_id,
        declined: declined_list(item),
        queue,
    };
    let mut reasons = Vec::new();
    if item.state != WorkState::Queued {
        reasons.push(Refusal::NotQueued);
    }
    let ahead = ahead(app, item).await?;
    if ahead > 0 {
        reasons.push(Refusal::AheadInQueue { count: ahead });
    }
    let waits = item.state == WorkState::Queued;
    let now = app.clock.now();
    let mut agents: Vec<AgentExplanation> = agents
        .into_values()
        .map(|agent| {
            let reasons = refusals(&demand, &agent, now);
            AgentExplanation {
                agent_id: agent.id,
                state: agent.state,
                capacity: agent.capacity,
                load: agent.load,
                can_be_given: waits && reasons.is_empty(),
                reasons,
            }
        })
        .collect();
    agents.sort_unstable_by_key(|agent| agent.agent_id);
    Ok(WorkItemExplanation { work_item_id: item.id, state: item.state, reasons, agents })
}

/// How many items go before this one to the same agents.
async fn ahead(app: &App, item: &work_item::Model) -> Result<i64, DbErr> {
    use work_item::Column;
    if item.state != WorkState::Queued || item.target_agent_id.is_some() {
        return Ok(0);
    }
    let Some(queue) = item.queue_id else { return Ok(0) };
    let before = Condition::any()
        .add(Column::Rank.lt(item.rank))
        .add(Condition::all().add(Column::Rank.eq(item.rank)).add(Column::Id.lt(item.id)));
    let count = work_item::Entity::find()
        .filter(Column::QueueId.eq(queue))
        .filter(Column::Lane.eq(item.lane.as_str()))
        .filter(work_item::is(WorkState::Queued))
        .filter(Column::TargetAgentId.is_null())
        .filter(before)
        .count(app.db.read())
        .await?;
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}
