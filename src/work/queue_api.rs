//! What waits in a queue, and how the queue is doing.

use actix_web::{HttpResponse, get, web};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    claimable,
    entity::{WorkState, work_item},
    show::WorkItemList,
    stats::{self, QueueStats},
};
use crate::{
    app::App,
    http::{Caller, PageQuery, Path, Problem, Query},
    id::QueueId,
    queues::entity::queue,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_queue_items).service(get_queue_stats);
}

/// List what waits in a queue, next first.
#[utoipa::path(tag = "queues", params(("id" = QueueId, Path), PageQuery),
    responses((status = 200, description = "One page.", body = WorkItemList)))]
#[get("/queues/{id}/items")]
pub async fn list_queue_items(
    app: web::Data<App>,
    id: Path<QueueId>,
    page: Query<PageQuery>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    use work_item::Column;
    let found = queue::Entity::find_by_id(*id).one(app.db.read()).await?;
    found.ok_or_else(|| Problem::not_found("queue"))?;
    let waiting =
        work_item::Entity::find().filter(Column::QueueId.eq(*id)).filter(work_item::is(WorkState::Queued));
    let found = page.0.fetch(app.db.read(), waiting, Column::Id, Some((Column::Rank, Order::Asc))).await?;
    let items = claimable::shown(&app, &caller, found.items).await?;
    Ok(HttpResponse::Ok().json(WorkItemList { items, next_cursor: found.next_cursor }))
}

/// How a queue is doing right now.
#[utoipa::path(tag = "queues", params(("id" = QueueId, Path)),
    responses((status = 200, description = "The figures.", body = QueueStats)))]
#[get("/queues/{id}/stats")]
pub async fn get_queue_stats(app: web::Data<App>, id: Path<QueueId>) -> Result<HttpResponse, Problem> {
    let stats = stats::queue(app.db.read(), *id, app.clock.now()).await?;
    Ok(HttpResponse::Ok().json(stats.ok_or_else(|| Problem::not_found("queue"))?))
}
