//! The worker that sees to broadcasts: begins scheduled ones, prepares them, watches those that run, and clears up after
//! those that were called off.

use std::time::{Duration, Instant};

use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use super::{
    change::{self, Change, LEASE_S, LEASED},
    counts::{self, BroadcastCounts},
    entity::{BroadcastRecipientState, BroadcastState, RecipientPhase, broadcast, recipient},
    prepare::prepare,
    settings::{self, find},
};
use crate::{
    app::App,
    clock::Timestamp,
    db::Gate,
    events::{self, NewEvent},
    id::{BroadcastId, MessageId},
    lease::Claimed,
    workers::Step,
};

/// A broadcast whose time passed by this long ago, because nothing ran, is not begun without somebody's word.
const OVERDUE_S: i64 = 15 * 60;
/// How often a running broadcast is counted; a count that takes long is made less often.
const LOOK: Duration = Duration::from_secs(1);
/// A part of few says nothing: guards look at no fewer tried recipients.
const SAMPLE: u64 = 20;
/// How many recipients are called off in one transaction.
const SWEEP: u64 = 2_000;

/// Sees to one broadcast that wants something done.
///
/// # Errors
/// Whatever the database says.
pub async fn tend(app: App) -> anyhow::Result<Step> {
    let now = app.db.now(&app.clock).await?;
    let tx = app.db.begin().await?;
    let Some(held) = LEASED.claim(&tx, now, LEASE_S, 1).await?.pop() else {
        drop(tx);
        let next = LEASED.next_due(app.db.read()).await?;
        return Ok(next.map_or(Step::Idle, Step::IdleUntil));
    };
    tx.commit_untold().await?;
    let row = find(app.db.read(), BroadcastId(held.key)).await?;
    let done = match row.state {
        BroadcastState::Scheduled => begin(&app, held, &row).await?,
        BroadcastState::Preparing => prepare(&app, held, row).await?,
        BroadcastState::Running => watch(&app, held, &row).await?,
        BroadcastState::Cancelled => sweep(&app, held, &row).await?,
        _ => {
            forget(&app, held).await?;
            1
        }
    };
    Ok(Step::Worked(done))
}

/// Its time has come.
async fn begin(app: &App, held: Claimed, row: &broadcast::Model) -> anyhow::Result<usize> {
    let now = app.clock.now();
    let late = row.scheduled_at.is_some_and(|at| at.plus_s(OVERDUE_S) < now);
    let late = late.then_some("its time passed by while nothing ran; resume it to send it all the same");
    let obstacle = settings::obstacles(app, app.db.read(), row).await?.into_iter().next();
    let change = if let Some(reason) = late.map(str::to_owned).or(obstacle.map(|found| found.detail)) {
        Change { reason: Some(reason), ..Change::to(BroadcastState::Paused) }
    } else {
        Change { due_at: Some(now), started_at: Some(now), ..Change::to(BroadcastState::Preparing) }
    };
    let tx = app.db.begin().await?;
    let current = find(&*tx, row.id).await?;
    if current.attempts == held.attempts && change::apply(&tx, now, &current, change).await?.is_some() {
        tx.commit().await?;
    }
    Ok(1)
}

/// Counts, tells, and ends or pauses a broadcast that runs.
async fn watch(app: &App, held: Claimed, row: &broadcast::Model) -> anyhow::Result<usize> {
    let began = Instant::now();
    let counts = counts::count(app.db.read(), row.id).await?;
    let (now, took) = (app.clock.now(), began.elapsed());
    let change = if counts.open() == 0 {
        let over = if counts.missed() > 0 {
            BroadcastState::CompletedWithFailures
        } else {
            BroadcastState::Completed
        };
        Some(Change { ended_at: Some(now), ..Change::to(over) })
    } else {
        guarded(row, &counts)
            .map(|reason| Change { reason: Some(reason), ..Change::to(BroadcastState::Paused) })
    };
    let tx = app.db.begin().await?;
    // Before the row is touched: who pauses or calls it off shuts the gate and then wants the row.
    if change.as_ref().is_some_and(|change| change.to == BroadcastState::Paused) {
        Gate::Sends.shut(&tx).await?;
    }
    tell(&tx, now, row, &counts).await?;
    let Some(change) = change else {
        tx.commit().await?;
        let pause = LOOK.max(took * 20);
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        change::look_again(app, held, now.plus_ms(pause)).await?;
        return Ok(1);
    };
    let current = find(&*tx, row.id).await?;
    if current.attempts == held.attempts && change::apply(&tx, now, &current, change).await?.is_some() {
        tx.commit().await?;
    }
    Ok(1)
}

/// Tells how far it has come, when that is further than what was told last.
async fn tell(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &broadcast::Model,
    counts: &BroadcastCounts,
) -> Result<(), DbErr> {
    let told = json!(counts);
    if row.told_counts.as_ref() == Some(&told) {
        return Ok(());
    }
    let data = json!({ "state": row.state, "counts": told });
    let event = NewEvent::new("broadcast.progress", row.id.uuid(), &data).for_supervisors();
    events::append(tx, now, vec![event]).await?;
    broadcast::Entity::update_many()
        .col_expr(broadcast::Column::ToldCounts, Expr::value(Some(told)))
        .filter(broadcast::Column::Id.eq(row.id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Why a broadcast is not to go on; none when all is well. What was before somebody let it go on is theirs.
fn guarded(row: &broadcast::Model, counts: &BroadcastCounts) -> Option<String> {
    let before = row.judged_from.clone().and_then(|from| serde_json::from_value(from).ok());
    let before: BroadcastCounts = before.unwrap_or_default();
    let since = |of: fn(&BroadcastCounts) -> u64| of(counts).saturating_sub(of(&before));
    let of = since(BroadcastCounts::tried);
    if of < SAMPLE {
        return None;
    }
    let beyond = |count: u64, percent: Option<i32>| {
        let percent = u64::try_from(percent?).ok()?;
        (count * 100 > percent * of).then_some((count, percent))
    };
    if let Some((count, percent)) = beyond(since(|all| all.failed + all.expired), row.max_fail_percent) {
        return Some(format!("{count} of {of} failed, which is more than {percent} %"));
    }
    let (count, percent) = beyond(since(|all| all.bounced), row.max_bounce_percent)?;
    Some(format!("{count} of {of} came back, which is more than {percent} %"))
}

/// Calls off the recipients of a broadcast that was called off; those that are being sent are waited for.
async fn sweep(app: &App, held: Claimed, row: &broadcast::Model) -> anyhow::Result<usize> {
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let ids: Vec<MessageId> = recipient::Entity::find()
        .select_only()
        .column(recipient::Column::Id)
        .filter(recipient::Column::BroadcastId.eq(row.id))
        .filter(recipient::Column::DueAt.is_not_null())
        .limit(SWEEP)
        .into_tuple()
        .all(&*tx)
        .await?;
    let mut swept = 0;
    for ids in ids.chunks(500) {
        swept += call_off(&tx, now, ids).await?;
    }
    tx.commit_untold().await?;
    if swept > 0 {
        change::look_again(app, held, now).await?;
        return Ok(usize::try_from(swept).unwrap_or(usize::MAX));
    }
    let counts = counts::count(app.db.read(), row.id).await?;
    let tx = app.db.begin().await?;
    tell(&tx, now, row, &counts).await?;
    tx.commit().await?;
    if counts.open() > 0 {
        change::look_again(app, held, now.plus_s(1)).await?;
    } else {
        forget(app, held).await?;
    }
    Ok(1)
}

async fn call_off(tx: &DatabaseTransaction, now: Timestamp, ids: &[MessageId]) -> Result<u64, DbErr> {
    use recipient::Column;
    let changed = recipient::Entity::update_many()
        .col_expr(Column::State, Expr::value(BroadcastRecipientState::Cancelled))
        .col_expr(Column::Reason, Expr::value(Some("the broadcast was called off".to_owned())))
        .col_expr(Column::Phase, Expr::value(RecipientPhase::Idle))
        .col_expr(Column::DueAt, Expr::value(None::<Timestamp>))
        .col_expr(Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        // Whoever holds it finds that it does not.
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(crate::db::among(Column::Id, ids.iter().copied()))
        .filter(Column::Phase.ne(RecipientPhase::Begun))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected)
}

/// There is nothing more to do for it.
async fn forget(app: &App, held: Claimed) -> Result<(), DbErr> {
    let tx = app.db.begin().await?;
    broadcast::Entity::update_many()
        .col_expr(broadcast::Column::DueAt, Expr::value(None::<Timestamp>))
        .col_expr(broadcast::Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        .filter(broadcast::Column::Id.eq(held.key))
        .filter(broadcast::Column::Attempts.eq(held.attempts))
        .exec(&*tx)
        .await?;
    tx.commit_untold().await
}
