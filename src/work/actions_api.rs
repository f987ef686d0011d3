//! What people do with work items.

use actix_web::{HttpResponse, post, web};
use sea_orm::DatabaseTransaction;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    act::{self, Amendment, Destination},
    entity::work_item,
    journal::Journal,
    show::WorkItem,
};
use crate::{
    app::App,
    classes,
    clock::Timestamp,
    http::{Answer, Body, Caller, Idempotency, Path, Problem, idempotency::Start},
    id::{ClassId, GroupId, QueueId, UserId, WorkItemId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(release_work_item)
        .service(transfer_work_item)
        .service(snooze_work_item)
        .service(set_work_item_outcome)
        .service(set_work_item_priority)
        .service(set_work_item_class)
        .service(complete_work_item)
        .service(finish_work_item_wrap_up);
}

/// Where an item goes: exactly one of a queue, an agent or a group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "group_id": "019aa1b2-0000-7000-8000-000000000001", "note": "Customer insists on a refund"
}))]
pub struct WorkItemTransfer {
    /// To this queue, at the place of its waiting time.
    #[serde(default)]
    pub queue_id: Option<QueueId>,
    /// To this agent, who is asked at once, or as soon as there is room.
    #[serde(default)]
    pub agent_id: Option<UserId>,
    /// To the members of this group.
    #[serde(default)]
    pub group_id: Option<GroupId>,
    /// An internal note for whoever gets it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 10_000, examples("Customer insists on a refund"))]
    pub note: Option<String>,
}

/// Until when an item is laid aside.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "until": "2027-01-04T09:00:00Z" }))]
pub struct WorkItemSnooze {
    /// A time within the next year.
    pub until: Timestamp,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "resolved" }))]
pub struct WorkItemOutcome {
    /// The outcome's code.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$", examples("resolved"))]
    pub code: String,
}

/// Whether it goes earlier or later.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "priority": 2 }))]
pub struct WorkItemPriority {
    /// 1 (first) to 10.
    #[schema(minimum = 1, maximum = 10, examples(2))]
    pub priority: i32,
}

/// What kind of contact it is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "class_id": null }))]
pub struct WorkItemClass {
    /// The class; null for none.
    #[schema(required)]
    pub class_id: Option<ClassId>,
}

/// How the work ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "outcome_code": "resolved" }))]
pub struct WorkItemComplete {
    /// The outcome's code.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$", examples("resolved"))]
    pub outcome_code: Option<String>,
}

/// Does something with an item, once per idempotency key, and answers with the item.
async fn perform(
    app: &App,
    idempotency: Idempotency,
    caller: &Caller,
    what: impl AsyncFnOnce(&DatabaseTransaction, &mut Journal) -> Result<work_item::Model, Problem>,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let mut journal = Journal::new(now);
    let item = what(&work.tx, &mut journal).await?;
    journal.write(&work.tx).await?;
    let version = item.version;
    work.commit(Answer::ok(&WorkItem::of(item, caller))?.versioned(version)).await
}

/// Release a work item.
///
/// It goes back to its place in its queue. A supervisor takes back an offer this way; a snoozed item wakes up.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/release")]
pub async fn release_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let what =
        async |tx: &DatabaseTransaction, journal: &mut Journal| act::release(tx, journal, *id, &caller).await;
    perform(&app, idempotency, &caller, what).await
}

/// Transfer a work item to a queue, an agent or a group.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemTransfer,
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/transfer")]
pub async fn transfer_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    body: Body<WorkItemTransfer>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let to = match (body.0.queue_id, body.0.agent_id, body.0.group_id) {
        (Some(queue), None, None) => Destination::Queue(queue),
        (None, Some(agent), None) => Destination::Agent(agent),
        (None, None, Some(group)) => Destination::Group(group),
        _ => return Err(Problem::invalid("", "exactly_one", "name one of queue_id, agent_id and group_id")),
    };
    let what = async |tx: &DatabaseTransaction, journal: &mut Journal| {
        act::transfer(tx, journal, *id, &caller, to, body.0.note).await
    };
    perform(&app, idempotency, &caller, what).await
}

/// Snooze a work item.
///
/// It comes back to its place in its queue then, or as soon as the customer writes.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemSnooze,
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/snooze")]
pub async fn snooze_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    body: Body<WorkItemSnooze>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let what = async |tx: &DatabaseTransaction, journal: &mut Journal| {
        act::snooze(tx, journal, *id, &caller, body.0.until).await
    };
    perform(&app, idempotency, &caller, what).await
}

async fn amend(
    app: &App,
    idempotency: Idempotency,
    id: WorkItemId,
    caller: &Caller,
    amendment: Amendment,
) -> Result<HttpResponse, Problem> {
    let what = async |tx: &DatabaseTransaction, journal: &mut Journal| {
        act::amend(tx, journal, id, caller, amendment).await
    };
    perform(app, idempotency, caller, what).await
}

/// Set the outcome of a work item.
///
/// The code is the contact centre's own; it need not be one of the outcomes of attempts (`/v1/outcomes`).
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemOutcome,
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/set-outcome")]
pub async fn set_work_item_outcome(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    body: Body<WorkItemOutcome>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    amend(&app, idempotency, *id, &caller, Amendment::Outcome(body.0.code)).await
}

/// Set the priority of a work item.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemPriority,
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/set-priority")]
pub async fn set_work_item_priority(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    body: Body<WorkItemPriority>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    amend(&app, idempotency, *id, &caller, Amendment::Priority(body.0.priority)).await
}

/// Set the class of a work item.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemClass,
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/set-class")]
pub async fn set_work_item_class(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    body: Body<WorkItemClass>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    use sea_orm::EntityTrait;
    if let Some(class) = body.0.class_id {
        let known = classes::entity::Entity::find_by_id(class).one(app.db.read()).await?;
        known.ok_or_else(|| Problem::unknown_reference("/class_id", "class"))?;
    }
    amend(&app, idempotency, *id, &caller, Amendment::Class(body.0.class_id)).await
}

/// Complete a work item.
///
/// The conversation is closed. Where the agent's group has wrap-up time the item is `wrapping` until that is over.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemComplete,
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/complete")]
pub async fn complete_work_item(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    body: Body<WorkItemComplete>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let what = async |tx: &DatabaseTransaction, journal: &mut Journal| {
        act::complete(tx, journal, *id, &caller, body.0.outcome_code).await
    };
    perform(&app, idempotency, &caller, what).await
}

/// End the wrap-up of a work item before its time.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 200, description = "The item.", body = WorkItem, headers(("ETag" = String)))))]
#[post("/work-items/{id}/finish-wrap-up")]
pub async fn finish_work_item_wrap_up(
    app: web::Data<App>,
    id: Path<WorkItemId>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let what = async |tx: &DatabaseTransaction, journal: &mut Journal| {
        act::finish_wrap_up(tx, journal, *id, &caller).await
    };
    perform(&app, idempotency, &caller, what).await
}
