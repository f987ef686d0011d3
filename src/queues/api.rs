//! Operations on queues.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter, QueryOrder,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::entity::{Distribution, QueueState, queue, queue_group};
use crate::{
    agents::entity::group,
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Body, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start},
    id::{GroupId, QueueId},
    scripts::{known, steps::ReferenceKind},
    work,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_queues)
        .service(create_queue)
        .service(get_queue)
        .service(update_queue)
        .service(delete_queue);
}

/// How many of a hundred items are to be taken within which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceLevel {
    /// Within so many seconds.
    #[schema(minimum = 1, maximum = 31_536_000, examples(3600))]
    pub target_s: i64,
    /// So many of a hundred.
    #[schema(minimum = 1, maximum = 100, examples(80))]
    pub percent: i32,
}

/// A queue to be made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Sales", "description": "Orders and offers" }))]
pub struct QueueCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Sales"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub description: String,
    /// The groups that serve it.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub agent_group_ids: Vec<GroupId>,
    /// Which agent gets the next item.
    #[serde(default = "default_distribution")]
    pub distribution: Distribution,
    /// Whether the agent who last had the conversation is asked first.
    #[serde(default = "default_last_agent_first")]
    #[schema(default = true)]
    pub last_agent_first: bool,
    /// The priority of items whose script sets none, 1 (first) to 10.
    #[serde(default = "default_priority")]
    #[schema(minimum = 1, maximum = 10, default = 5, examples(5))]
    pub default_priority: i32,
    /// Waiting for so many seconds counts as much as one step of priority; null: priority is strict.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31_536_000, examples(1800))]
    pub aging_s: Option<i64>,
    /// How many items may wait; a script learns `queue_full` beyond.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub max_length: Option<i64>,
    /// How long an item may wait, in seconds.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub max_wait_s: Option<i64>,
    /// What is promised to customers.
    #[serde(default)]
    pub service_level: Option<ServiceLevel>,
    /// Whether it takes and gives work.
    #[serde(default = "default_state")]
    pub state: QueueState,
}

fn default_distribution() -> Distribution {
    Distribution::LongestIdle
}

fn default_last_agent_first() -> bool {
    true
}

fn default_priority() -> i32 {
    5
}

fn default_state() -> QueueState {
    QueueState::Open
}

/// Where work waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queue {
    /// The queue's id.
    pub id: QueueId,
    /// Its unique name.
    #[schema(examples("Sales"))]
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The groups that serve it.
    pub agent_group_ids: Vec<GroupId>,
    /// Which agent gets the next item.
    pub distribution: Distribution,
    /// Whether the agent who last had the conversation is asked first.
    pub last_agent_first: bool,
    /// The priority of items whose script sets none, 1 (first) to 10.
    #[schema(examples(5))]
    pub default_priority: i32,
    /// Waiting for so many seconds counts as much as one step of priority.
    pub aging_s: Option<i64>,
    /// How many items may wait.
    pub max_length: Option<i64>,
    /// How long an item may wait, in seconds.
    pub max_wait_s: Option<i64>,
    /// What is promised to customers.
    pub service_level: Option<ServiceLevel>,
    /// Whether it takes and gives work.
    pub state: QueueState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One page of queues.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueList {
    /// The queues.
    pub items: Vec<Queue>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How queues may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum QueueSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which queues to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct QueueFilter {
    /// Only the queue of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// Only queues in this state.
    #[param(inline)]
    state: Option<QueueState>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<QueueSort>,
}

impl Queue {
    fn new(row: queue::Model, agent_group_ids: Vec<GroupId>) -> Self {
        let service_level = row.service_level_target_s.zip(row.service_level_percent);
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            agent_group_ids,
            distribution: row.distribution,
            last_agent_first: row.last_agent_first,
            default_priority: row.default_priority,
            aging_s: row.aging_s,
            max_length: row.max_length,
            max_wait_s: row.max_wait_s,
            service_level: service_level.map(|(target_s, percent)| ServiceLevel { target_s, percent }),
            state: row.state,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    fn settings(self) -> QueueCreate {
        QueueCreate {
            name: self.name,
            description: self.description,
            agent_group_ids: self.agent_group_ids,
            distribution: self.distribution,
            last_agent_first: self.last_agent_first,
            default_priority: self.default_priority,
            aging_s: self.aging_s,
            max_length: self.max_length,
            max_wait_s: self.max_wait_s,
            service_level: self.service_level,
            state: self.state,
        }
    }
}

fn columns(settings: &QueueCreate) -> queue::ActiveModel {
    queue::ActiveModel {
        name: Set(settings.name.clone()),
        description: Set(settings.description.clone()),
        distribution: Set(settings.distribution),
        last_agent_first: Set(settings.last_agent_first),
        default_priority: Set(settings.default_priority),
        aging_s: Set(settings.aging_s),
        max_length: Set(settings.max_length),
        max_wait_s: Set(settings.max_wait_s),
        service_level_target_s: Set(settings.service_level.map(|level| level.target_s)),
        service_level_percent: Set(settings.service_level.map(|level| level.percent)),
        state: Set(settings.state),
        ..Default::default()
    }
}

async fn groups(db: &impl ConnectionTrait, queue: QueueId) -> Result<Vec<GroupId>, DbErr> {
    let select = queue_group::Entity::find().filter(queue_group::Column::QueueId.eq(queue));
    let rows = select.order_by_asc(queue_group::Column::GroupId).all(db).await?;
    Ok(rows.into_iter().map(|row| row.group_id).collect())
}

async fn replace_groups(tx: &DatabaseTransaction, queue: QueueId, wanted: &[GroupId]) -> Result<(), Problem> {
    queue_group::Entity::delete_many().filter(queue_group::Column::QueueId.eq(queue)).exec(tx).await?;
    for (index, group_id) in wanted.iter().enumerate() {
        let pointer = format!("/agent_group_ids/{index}");
        if wanted[..index].contains(group_id) {
            return Err(Problem::invalid(pointer, "not_unique", "the group is named twice"));
        }
        if group::Entity::find_by_id(*group_id).one(tx).await?.is_none() {
            return Err(Problem::unknown_reference(&pointer, "agent group"));
        }
        let row = queue_group::ActiveModel { queue_id: Set(queue), group_id: Set(*group_id) };
        queue_group::Entity::insert(row).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// List queues.
#[utoipa::path(tag = "queues", params(PageQuery, QueueFilter),
    responses((status = 200, description = "One page.", body = QueueList)))]
#[get("/queues")]
pub async fn list_queues(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<QueueFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = queue::Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(queue::Column::Name.eq(name));
    }
    if let Some(state) = filter.0.state {
        select = select.filter(queue::Column::State.eq(state));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        QueueSort::Name => (queue::Column::Name, Order::Asc),
        QueueSort::NameDescending => (queue::Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, queue::Column::Id, sort).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for row in found.items {
        let group_ids = groups(app.db.read(), row.id).await?;
        items.push(Queue::new(row, group_ids));
    }
    Ok(HttpResponse::Ok().json(QueueList { items, next_cursor: found.next_cursor }))
}

/// Create a queue.
#[utoipa::path(tag = "queues", request_body = QueueCreate, responses(
    (status = 201, description = "The new queue.", body = Queue, headers(("ETag" = String), ("Location" = String)))))]
#[post("/queues")]
pub async fn create_queue(
    app: web::Data<App>,
    body: Body<QueueCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = queue::ActiveModel {
        id: Set(QueueId::new(now)),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..columns(&body.0)
    };
    let row = queue::Entity::insert(row).exec_with_returning(&*work.tx).await?;
    replace_groups(&work.tx, row.id, &body.0.agent_group_ids).await?;
    let queue = Queue::new(row, body.0.agent_group_ids);
    events::append(&work.tx, now, vec![NewEvent::new("queue.created", queue.id.uuid(), &queue)]).await?;
    work.commit(Answer::created(format!("/v1/queues/{}", queue.id), &queue)?.versioned(1)).await
}

/// Read one queue.
#[utoipa::path(tag = "queues", params(("id" = QueueId, Path)),
    responses((status = 200, description = "The queue.", body = Queue, headers(("ETag" = String)))))]
#[get("/queues/{id}")]
pub async fn get_queue(app: web::Data<App>, id: Path<QueueId>) -> Result<HttpResponse, Problem> {
    let row = queue::Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("queue"))?;
    let (version, group_ids) = (row.version, groups(app.db.read(), row.id).await?);
    Ok(Answer::ok(&Queue::new(row, group_ids))?.versioned(version).into_response())
}

/// Change a queue.
///
/// `draining` gives what it has and takes nothing new, `closed` neither. A new `aging_s` holds for what waits already, too.
#[utoipa::path(tag = "queues", params(("id" = QueueId, Path)),
    request_body(content = ref("#/components/schemas/QueuePatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed queue.", body = Queue, headers(("ETag" = String)))))]
#[patch("/queues/{id}")]
pub async fn update_queue(
    app: web::Data<App>,
    id: Path<QueueId>,
    if_match: IfMatch,
    patch: Patch<QueueCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = queue::Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("queue"))?;
    if_match.check(row.version)?;
    let (version, aging_s) = (row.version, row.aging_s);
    let group_ids = groups(&*tx, *id).await?;
    let wanted = patch.apply(&Queue::new(row, group_ids).settings())?;
    let change = queue::ActiveModel { version: Set(version + 1), updated_at: Set(now), ..columns(&wanted) };
    let guarded = queue::Entity::update_many().set(change).filter(queue::Column::Id.eq(*id));
    let guarded = guarded.filter(queue::Column::Version.eq(version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    replace_groups(&tx, *id, &wanted.agent_group_ids).await?;
    if wanted.aging_s != aging_s {
        work::stats::reorder(&tx, *id, wanted.aging_s).await?;
    }
    let queue = Queue::new(row, wanted.agent_group_ids);
    events::append(&tx, now, vec![NewEvent::new("queue.updated", queue.id.uuid(), &queue)]).await?;
    tx.commit().await?;
    Ok(Answer::ok(&queue)?.versioned(version + 1).into_response())
}

/// Delete a queue that nothing refers to, no active version of a script either, and that has never held work.
#[utoipa::path(tag = "queues", params(("id" = QueueId, Path)), responses((status = 204, description = "It is gone.")))]
#[delete("/queues/{id}")]
pub async fn delete_queue(
    app: web::Data<App>,
    id: Path<QueueId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    known::refuse_deletion(&tx, now, ReferenceKind::Queue, id.uuid()).await?;
    let row = queue::Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("queue"))?;
    if_match.check(row.version)?;
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![NewEvent::new("queue.deleted", id.uuid(), &serde_json::json!({}))]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
