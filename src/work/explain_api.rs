//! Why an item is where it is: what happened to it, and who could be given it now.

use actix_web::{HttpResponse, get, web};
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, PaginatorTrait, QueryFilter};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::{
    api::visible,
    decline::declined_list,
    entity::{WorkState, trace, work_item},
    lane::Lane,
    roster::{Roster, served},
    rules::{Demand, PerChannel, Refusal, Served, refusals},
};
use crate::{
    agents::entity::AgentState,
    app::App,
    clock::Timestamp,
    http::{Caller, PageQuery, Path, Problem, Query},
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
    /// The members of the groups that serve it, and the agent it is held for.
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

/// Who can be given a work item now, and why others cannot.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 200, description = "The explanation.", body = WorkItemExplanation)))]
#[get("/work-items/{id}/explain")]
pub async fn explain_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let item = visible(&app, *id, &caller).await?;
    Ok(HttpResponse::Ok().json(explain(&app, &item).await?))
}

async fn explain(app: &App, item: &work_item::Model) -> Result<WorkItemExplanation, DbErr> {
    let db = app.db.read();
    let queue: Option<Served> = match item.queue_id {
        Some(id) => served(db, queue::Column::Id.eq(id)).await?.remove(&id),
        None => None,
    };
    let mut groups: Vec<GroupId> = queue.iter().flat_map(|queue| queue.groups.clone()).collect();
    groups.extend(item.group_id);
    let mut agents = Roster::members(db, &groups).await?.agents;
    if let Some(target) = item.target_agent_id {
        agents.extend(Roster::of(db, &[target]).await?.agents);
    }
    let demand = Demand {
        channel: item.channel,
        lane: Lane::parse(&item.lane).unwrap_or_default(),
        target: item.target_agent_id,
        last_agent: item.last_agent_id,
        declined: declined_list(item),
        queue: queue.as_ref(),
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
        .filter(Column::State.eq(WorkState::Queued))
        .filter(Column::TargetAgentId.is_null())
        .filter(before)
        .count(app.db.read())
        .await?;
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}
