//! The one way in which a broadcast changes its state: guarded, counted and told.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use super::counts::BroadcastCounts;
use super::entity::{
    BroadcastState,
    broadcast::{ActiveModel, Column, Entity, Model},
};
use crate::{
    app::App,
    clock::Timestamp,
    db::Gate,
    events::{self, NewEvent},
    id::{BroadcastId, CampaignId, ListId},
    lease::{Claimed, Leased},
};

/// How long a process holds a broadcast while it sees to it, in seconds.
pub const LEASE_S: i64 = 30;
/// Broadcasts that want something done.
pub const LEASED: Leased =
    Leased { table: "broadcasts", key: "id", only: "due_at IS NOT NULL", order_by: "due_at" };

/// A change of state and what goes with it; what is none stays as it is, but for the reason and the due time.
#[derive(Clone, Debug)]
pub struct Change {
    /// The new state.
    pub to: BroadcastState,
    /// Why.
    pub reason: Option<String>,
    /// When something is to be done for it.
    pub due_at: Option<Timestamp>,
    /// When all recipients were gathered.
    pub prepared_at: Option<Timestamp>,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// What its guard leaves out from now on.
    pub judged_from: Option<BroadcastCounts>,
}

impl Change {
    /// Only the state.
    pub const fn to(to: BroadcastState) -> Self {
        Self {
            to,
            reason: None,
            due_at: None,
            prepared_at: None,
            started_at: None,
            ended_at: None,
            judged_from: None,
        }
    }
}

/// Changes a broadcast that is still as `row` says; none when it is not.
///
/// # Errors
/// Whatever the database says.
pub async fn apply(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: Change,
) -> Result<Option<Model>, DbErr> {
    let update = ActiveModel {
        state: Set(change.to),
        state_reason: Set(change.reason),
        due_at: Set(change.due_at),
        lease_until: Set(Timestamp::ZERO),
        prepared_at: Set(change.prepared_at.or(row.prepared_at)),
        started_at: Set(change.started_at.or(row.started_at)),
        ended_at: Set(change.ended_at),
        judged_from: Set(change.judged_from.map(|counts| json!(counts)).or_else(|| row.judged_from.clone())),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded = Entity::update_many()
        .set(update)
        // Whoever holds it finds that it was changed under their hands.
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .filter(Column::Id.eq(row.id))
        .filter(Column::Version.eq(row.version))
        .filter(Column::State.eq(row.state));
    let Some(changed) = guarded.exec_with_returning(tx).await?.pop() else { return Ok(None) };
    let data = json!({ "state": changed.state, "state_reason": changed.state_reason });
    let event = NewEvent::new(kind(changed.state), changed.id.uuid(), &data).for_supervisors();
    events::append(tx, now, vec![event]).await?;
    Ok(Some(changed))
}

/// Pauses a broadcast that cannot go on by itself, and says why; one that does not run any more is left as it is.
///
/// # Errors
/// Whatever the database says.
pub async fn halt(app: &App, id: BroadcastId, reason: String) -> Result<(), DbErr> {
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    Gate::Sends.shut(&tx).await?;
    let row = Entity::find_by_id(id).filter(Column::State.eq(BroadcastState::Running)).one(&*tx).await?;
    let Some(row) = row else { return Ok(()) };
    let change = Change { reason: Some(reason), ..Change::to(BroadcastState::Paused) };
    if apply(&tx, now, &row, change).await?.is_some() {
        tx.commit().await?;
    }
    Ok(())
}

/// Takes the broadcasts to a list along to the list's new campaign, whose suppressions hold for them from then on; what is
/// over for good stays with the campaign that it was sent for. The caller has shut [`Gate::Sends`] before it touched the list.
///
/// # Errors
/// Whatever the database says.
pub async fn follow_list(
    tx: &DatabaseTransaction,
    now: Timestamp,
    list: ListId,
    campaign: Option<CampaignId>,
) -> Result<(), DbErr> {
    let over = [BroadcastState::Completed, BroadcastState::Cancelled, BroadcastState::Failed];
    let moved = Entity::update_many()
        .col_expr(Column::CampaignId, Expr::value(campaign))
        // Mails that name the campaign are written anew.
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::ListId.eq(list))
        .filter(Column::State.is_not_in(over))
        .exec_with_returning(tx)
        .await?;
    events::append(tx, now, moved.iter().map(|row| told("broadcast.updated", row)).collect()).await
}

/// What the event log tells of a broadcast that was written.
pub(super) fn told(kind: &'static str, row: &Model) -> NewEvent {
    NewEvent::new(kind, row.id.uuid(), &json!({ "name": row.name, "state": row.state })).for_supervisors()
}

/// What the event log calls the entry into a state.
fn kind(state: BroadcastState) -> &'static str {
    match state {
        BroadcastState::Draft => "broadcast.updated",
        BroadcastState::Scheduled => "broadcast.scheduled",
        BroadcastState::Preparing => "broadcast.preparing",
        BroadcastState::Running => "broadcast.running",
        BroadcastState::Paused => "broadcast.paused",
        BroadcastState::Completed | BroadcastState::CompletedWithFailures => "broadcast.completed",
        BroadcastState::Cancelled => "broadcast.cancelled",
        BroadcastState::Failed => "broadcast.failed",
    }
}

/// Lets a broadcast go that this process holds, until `at`.
///
/// # Errors
/// Whatever the database says.
pub async fn look_again(app: &App, held: Claimed, at: Timestamp) -> Result<(), DbErr> {
    let tx = app.db.begin().await?;
    Entity::update_many()
        .col_expr(Column::DueAt, Expr::value(Some(at)))
        .col_expr(Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        .filter(Column::Id.eq(held.key))
        .filter(Column::Attempts.eq(held.attempts))
        .filter(Column::DueAt.is_not_null())
        .exec(&*tx)
        .await?;
    tx.commit_untold().await
}
