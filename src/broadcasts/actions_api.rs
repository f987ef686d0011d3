//! Operations that move a broadcast on: preflight, start, pause, resume, cancel, retry-failed.

use actix_web::{HttpResponse, post, web};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, sea_query::Expr};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    api::{Broadcast, show},
    change::{self, Change},
    counts,
    entity::{BroadcastRecipientState, BroadcastState, broadcast, recipient},
    preflight::{self, BroadcastPreflight},
    rules::BroadcastAction,
    settings::{self, find},
    test_send::test_send_broadcast,
};
use crate::{
    app::App,
    clock::Timestamp,
    db::Gate,
    http::{Caller, Code, Path, Problem},
    id::BroadcastId,
    outgoing::{self, settings::RetryPolicy},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(preflight_broadcast)
        .service(test_send_broadcast)
        .service(start_broadcast)
        .service(pause_broadcast)
        .service(resume_broadcast)
        .service(cancel_broadcast)
        .service(retry_failed_broadcast);
}

/// See who would get a broadcast.
///
/// Nothing is changed or sent. What is found now may differ when it is started.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "What it would do.", body = BroadcastPreflight)))]
#[post("/broadcasts/{id}/preflight")]
pub async fn preflight_broadcast(
    app: web::Data<App>,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    fits(&row, BroadcastAction::Preflight)?;
    Ok(HttpResponse::Ok().json(preflight::look(&app, &row).await?))
}

/// Begin a broadcast: at once, or at its `scheduled_at`.
///
/// Its recipients are gathered first (`preparing`), then it runs.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "It is begun, or scheduled.", body = Broadcast, headers(("ETag" = String)))))]
#[post("/broadcasts/{id}/start")]
pub async fn start_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    fits(&row, BroadcastAction::Start)?;
    let row = settings::with_category(&tx, row).await?;
    refuse_obstacles(&app, &tx, &row).await?;
    let change = match row.scheduled_at.filter(|at| *at > now) {
        Some(at) => Change { due_at: Some(at), ..Change::to(BroadcastState::Scheduled) },
        None => begun(now),
    };
    let row = changed(&tx, now, &row, change).await?;
    tx.commit().await?;
    show(&app, &caller, row).await
}

/// Send nothing more of a broadcast for now.
///
/// When this answers, no message of it begins any more; those that are being sent are finished.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "It is paused.", body = Broadcast, headers(("ETag" = String)))))]
#[post("/broadcasts/{id}/pause")]
pub async fn pause_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    Gate::Sends.shut(&tx).await?;
    let row = find(&*tx, *id).await?;
    fits(&row, BroadcastAction::Pause)?;
    let change =
        Change { reason: Some("somebody paused it".to_owned()), ..Change::to(BroadcastState::Paused) };
    let row = changed(&tx, now, &row, change).await?;
    tx.commit().await?;
    show(&app, &caller, row).await
}

/// Go on with a broadcast that was paused, or whose time passed by while nothing ran.
///
/// Its guard judges those who are tried from now on, so that a broadcast which it paused does go on.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "It goes on.", body = Broadcast, headers(("ETag" = String)))))]
#[post("/broadcasts/{id}/resume")]
pub async fn resume_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    fits(&row, BroadcastAction::Resume)?;
    refuse_obstacles(&app, &tx, &row).await?;
    let change = match row.prepared_at {
        Some(_) => goes_on(&tx, now, &row).await?,
        None => begun(now),
    };
    let row = changed(&tx, now, &row, change).await?;
    tx.commit().await?;
    show(&app, &caller, row).await
}

/// Call a broadcast off for good.
///
/// When this answers, no message of it begins any more. Recipients who did not get it become `cancelled` one batch after
/// the other.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "It is called off.", body = Broadcast, headers(("ETag" = String)))))]
#[post("/broadcasts/{id}/cancel")]
pub async fn cancel_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    Gate::Sends.shut(&tx).await?;
    let row = find(&*tx, *id).await?;
    fits(&row, BroadcastAction::Cancel)?;
    let change = Change { due_at: Some(now), ended_at: Some(now), ..Change::to(BroadcastState::Cancelled) };
    let row = changed(&tx, now, &row, change).await?;
    tx.commit().await?;
    show(&app, &caller, row).await
}

/// Try those again whom a broadcast certainly did not reach: `failed` and `expired`.
///
/// Uncertain ones are left alone, so that nobody gets it twice.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "It runs again.", body = Broadcast, headers(("ETag" = String)))))]
#[post("/broadcasts/{id}/retry-failed")]
pub async fn retry_failed_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    fits(&row, BroadcastAction::RetryFailed)?;
    refuse_obstacles(&app, &tx, &row).await?;
    let retry = match outgoing::find(&*tx).await? {
        Some(server) => server.retry_policy(),
        None => RetryPolicy::default(),
    };
    if requeue(&tx, now, &row, retry).await? == 0 {
        return Err(Problem::new(Code::InvalidState, "nobody failed whom it certainly did not reach"));
    }
    let change = goes_on(&tx, now, &row).await?;
    let row = changed(&tx, now, &row, change).await?;
    tx.commit().await?;
    show(&app, &caller, row).await
}

/// What keeps it from being sent may have come up since it was begun.
pub(super) async fn refuse_obstacles(
    app: &App,
    tx: &DatabaseTransaction,
    row: &broadcast::Model,
) -> Result<(), Problem> {
    let obstacles = settings::obstacles(app, tx, row).await?;
    if obstacles.is_empty() { Ok(()) } else { Err(Problem::validation(obstacles)) }
}

async fn requeue(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &broadcast::Model,
    retry: RetryPolicy,
) -> Result<u64, DbErr> {
    use recipient::Column;
    let again = [BroadcastRecipientState::Failed, BroadcastRecipientState::Expired];
    let done = recipient::Entity::update_many()
        .col_expr(Column::State, Expr::value(BroadcastRecipientState::Queued))
        .col_expr(Column::DueAt, Expr::value(Some(now)))
        .col_expr(Column::Tries, Expr::value(0_i64))
        .col_expr(Column::ExpiresAt, Expr::value(now.plus_s(retry.give_up_after_s)))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::BroadcastId.eq(row.id))
        .filter(Column::State.is_in(again))
        .exec(tx)
        .await?;
    Ok(done.rows_affected)
}

/// It runs again; its guard judges what comes now.
async fn goes_on(tx: &DatabaseTransaction, now: Timestamp, row: &broadcast::Model) -> Result<Change, DbErr> {
    let judged_from = Some(counts::count(tx, row.id).await?);
    Ok(Change { due_at: Some(now), judged_from, ..Change::to(BroadcastState::Running) })
}

fn begun(now: Timestamp) -> Change {
    Change { due_at: Some(now), started_at: Some(now), ..Change::to(BroadcastState::Preparing) }
}

pub(super) fn fits(row: &broadcast::Model, action: BroadcastAction) -> Result<(), Problem> {
    if action.fits(row.state) {
        return Ok(());
    }
    let state = serde_json::to_value(row.state).unwrap_or_default();
    let state = state.as_str().unwrap_or_default();
    Err(Problem::new(Code::InvalidState, format!("the broadcast is {state}")))
}

async fn changed(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &broadcast::Model,
    change: Change,
) -> Result<broadcast::Model, Problem> {
    Ok(change::apply(tx, now, row, change).await?.ok_or(DbErr::RecordNotUpdated)?)
}
