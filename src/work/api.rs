//! Operations on work items: lists, single items, claims. What is done with an item is in `actions_api`.

use actix_web::{HttpResponse, get, post, web};
use sea_orm::{ColumnTrait, Condition, EntityTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    actions_api,
    claim::{self, Claim, Reach},
    claimable,
    entity::{WorkState, work_item},
    explain_api,
    journal::{Journal, holder},
    offers_api, queue_api,
    roster::Roster,
    show::{WorkItem, WorkItemList},
};
use crate::{
    app::App,
    db::among,
    http::{Answer, Body, Caller, Code, Idempotency, PageQuery, Path, Problem, Query, idempotency::Start},
    id::{AccountId, ClassId, ConversationId, QueueId, UserId, WorkItemId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .configure(queue_api::mount)
        .service(list_work_items)
        .service(claim_next_work_item)
        .service(get_work_item)
        .service(claim_work_item)
        .configure(actions_api::mount)
        .configure(explain_api::mount)
        .configure(offers_api::mount);
}

/// How work items may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum WorkItemSort {
    /// In the order of their queue.
    #[serde(rename = "rank")]
    Rank,
    /// Best priority first.
    #[serde(rename = "priority")]
    Priority,
    /// Changed last first.
    #[serde(rename = "-updated_at")]
    UpdatedAtDescending,
    /// Made last first.
    #[serde(rename = "-created_at")]
    CreatedAtDescending,
}

/// Which work items to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WorkItemFilter {
    /// Only items in this state.
    #[param(inline)]
    state: Option<WorkState>,
    /// Only items that wait in, or were taken from, this queue.
    queue_id: Option<QueueId>,
    /// Only items that this agent has, or had last.
    agent_id: Option<UserId>,
    /// Only items of this conversation.
    conversation_id: Option<ConversationId>,
    /// Only items of this account.
    account_id: Option<AccountId>,
    /// Only items of this class.
    class_id: Option<ClassId>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<WorkItemSort>,
}

/// Where to claim from.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct WorkItemClaim {
    /// Only from this queue; from all that the agent serves when it is left out.
    #[serde(default)]
    pub queue_id: Option<QueueId>,
}

/// List work items.
///
/// Agents see the items they have or had, and what waits in the queues they serve.
#[utoipa::path(tag = "work items", params(PageQuery, WorkItemFilter),
    responses((status = 200, description = "One page.", body = WorkItemList)))]
#[get("/work-items")]
pub async fn list_work_items(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<WorkItemFilter>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    use work_item::Column;
    let filter = filter.0;
    let mut which = Condition::all()
        .add_option(filter.state.map(work_item::is))
        .add_option(filter.queue_id.map(|id| Column::QueueId.eq(id)))
        .add_option(filter.agent_id.map(|id| Column::AssignedAgentId.eq(id)))
        .add_option(filter.conversation_id.map(|id| Column::ConversationId.eq(id)))
        .add_option(filter.account_id.map(|id| Column::AccountId.eq(id)))
        .add_option(filter.class_id.map(|id| Column::ClassId.eq(id)));
    if !caller.oversees() {
        which = which.add(visible_to(&app, caller.agent_id()?).await?);
    }
    let sort = filter.sort.map(|sort| match sort {
        WorkItemSort::Rank => (Column::Rank, Order::Asc),
        WorkItemSort::Priority => (Column::Priority, Order::Asc),
        WorkItemSort::UpdatedAtDescending => (Column::UpdatedAt, Order::Desc),
        WorkItemSort::CreatedAtDescending => (Column::CreatedAt, Order::Desc),
    });
    let select = work_item::Entity::find().filter(which);
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let items = claimable::shown(&app, &caller, found.items).await?;
    Ok(HttpResponse::Ok().json(WorkItemList { items, next_cursor: found.next_cursor }))
}

async fn visible_to(app: &App, agent: UserId) -> Result<Condition, Problem> {
    use work_item::Column;
    let roster = Roster::of(app.db.read(), &[agent]).await?;
    let waits = Condition::all()
        .add(work_item::is(WorkState::Queued))
        .add(Condition::any().add(Column::TargetAgentId.is_null()).add(Column::TargetAgentId.eq(agent)))
        .add(
            Condition::any()
                .add(among(Column::QueueId, roster.queues.keys().copied()))
                .add(among(Column::GroupId, roster.groups.keys().copied()))
                .add(Column::TargetAgentId.eq(agent)),
        );
    Ok(Condition::any().add(Column::AssignedAgentId.eq(agent)).add(waits))
}

/// The item, if the caller may see it.
///
/// # Errors
/// `not_found`, `not_yours`.
pub(super) async fn visible(app: &App, id: WorkItemId, caller: &Caller) -> Result<work_item::Model, Problem> {
    let row = work_item::Entity::find_by_id(id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("work item"))?;
    if caller.oversees() || row.assigned_agent_id == caller.user_id() {
        return Ok(row);
    }
    let agent = caller.agent_id()?;
    let offered = super::decline::offered_to(app.db.read(), id, agent).await?;
    if offered {
        return Ok(row);
    }
    let of_queue = visible_to(app, agent).await?;
    let seen = work_item::Entity::find_by_id(id).filter(of_queue).one(app.db.read()).await?;
    seen.ok_or_else(|| {
        let whose = if holder(&row).is_some() { "another agent has" } else { "the caller is not to have" };
        Problem::new(Code::NotYours, format!("{whose} this work item"))
    })
}

/// Read one work item.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[get("/work-items/{id}")]
pub async fn get_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let row = visible(&app, *id, &caller).await?;
    let version = row.version;
    let shown = claimable::shown(&app, &caller, vec![row]).await?.pop();
    Ok(Answer::ok(&shown)?.versioned(version).into_response())
}

/// Claim the next work item.
///
/// The calling agent gets the item that is next in the queues that the agent serves, without an offer.
#[utoipa::path(tag = "work items", request_body = WorkItemClaim,
    responses((status = 200, description = "The claimed item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/claim")]
pub async fn claim_next_work_item(
    app: web::Data<App>,
    body: Body<WorkItemClaim>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let (now, agent) = (app.clock.now(), caller.agent_id()?);
    let claim = Claim { agent, queue: body.0.queue_id };
    if !idempotency.has_key() {
        let item = app.claims.take(&app, claim).await?;
        let version = item.version;
        return Ok(Answer::ok(&WorkItem::of(item, &caller))?.versioned(version).into_response());
    }
    let reach = Reach::of(app.db.read(), &[claim]).await?;
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let mut journal = Journal::new(now);
    let item = claim::next(&work.tx, &mut journal, &reach, claim).await?;
    journal.write(&work.tx).await?;
    let version = item.version;
    work.commit(Answer::ok(&WorkItem::of(item, &caller))?.versioned(version)).await
}

/// Claim this work item.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 200, description = "The claimed item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/claim")]
pub async fn claim_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let (now, agent) = (app.clock.now(), caller.agent_id()?);
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let mut journal = Journal::new(now);
    let item = claim::this(&work.tx, &mut journal, *id, agent).await?;
    journal.write(&work.tx).await?;
    let version = item.version;
    work.commit(Answer::ok(&WorkItem::of(item, &caller))?.versioned(version)).await
}
