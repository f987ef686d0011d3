//! Finds the messages that nobody else wakes for: left behind by a process that died, held until a server is set, or
//! queued when it was removed.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use super::{
    enqueue::NO_SERVER,
    entity::{
        Phase,
        delivery::{self, ActiveModel, Column, Entity, Model},
    },
    rules::Recipient,
    settle::{message_event, move_message, name},
    timeline::{self, Line},
};
use crate::{
    app::App,
    broadcasts::{entity::recipient, ledger},
    clock::Timestamp,
    conversations::entity::{Direction, MessageState, message},
    db::among,
    events,
    id::MessageId,
    outgoing::{self, settings::RetryPolicy},
};

const BATCH: u64 = 200;

const BEFORE_DOT: &str =
    "the process that was sending it ended before the message was handed over; it is sent again";
const AGAIN: &str = "the process that was sending it ended when the message was perhaps handed over; it is sent again, \
                     so the recipient may get it twice";
const FOR_GOOD: &str = "the process that was sending it ended when the message was perhaps handed over; it is not sent \
                        again, so that nobody gets it twice";

/// Does one batch of each; gives how many messages it moved.
pub(super) async fn tend(app: &App) -> Result<usize, DbErr> {
    let now = app.db.now(&app.clock).await?;
    let left = take_over(app, now).await? + take_over_bulk(app, now).await?;
    let moved = match outgoing::find(app.db.read()).await? {
        Some(server) => queue_held(app, now, server.retry_policy()).await?,
        None => hold(app, now).await?,
    };
    Ok(left + moved)
}

/// Decides about messages whose lease ran out in the middle of a try.
async fn take_over(app: &App, now: Timestamp) -> Result<usize, DbErr> {
    let left = Entity::find().filter(delivery::is_begun()).filter(Column::LeaseUntil.lte(now)).limit(BATCH);
    let rows = left.all(app.db.read()).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let tx = app.db.begin().await?;
    let mut taken = 0;
    for row in &rows {
        let mut recipients: Vec<Recipient> =
            serde_json::from_value(row.recipients.clone()).unwrap_or_default();
        if row.phase == Phase::Dot {
            recipients.iter_mut().filter(|recipient| recipient.is_open()).for_each(Recipient::lose);
        }
        let state = match recipients.iter().any(Recipient::is_uncertain) {
            true => MessageState::Uncertain,
            false => MessageState::Queued,
        };
        let (reason, due_at) = match row.phase {
            Phase::Dot if row.repeatable => (AGAIN, Some(now)),
            Phase::Dot => (FOR_GOOD, None),
            Phase::Begun | Phase::Idle => (BEFORE_DOT, Some(row.due_at.unwrap_or(now))),
        };
        if !fence(&tx, now, row, &recipients, due_at).await? {
            continue;
        }
        taken += 1;
        if !move_message(&tx, now, row.message_id, state, Some(reason)).await? {
            continue;
        }
        let line = Line::note(row.message_id, row.tries + 1, now, name(state), reason);
        timeline::append(&tx, now, vec![line]).await?;
        events::append(&tx, now, message_event(&tx, row.message_id, state).await?.into_iter().collect())
            .await?;
    }
    tx.commit().await?;
    Ok(taken)
}

/// The same for recipients of broadcasts.
async fn take_over_bulk(app: &App, now: Timestamp) -> Result<usize, DbErr> {
    let left = recipient::Entity::find()
        .select_only()
        .column(recipient::Column::Id)
        .filter(ledger::is_begun())
        .filter(recipient::Column::LeaseUntil.lte(now))
        .limit(1);
    let first: Option<MessageId> = left.into_tuple().one(app.db.read()).await?;
    if first.is_none() {
        return Ok(0);
    }
    let tx = app.db.begin().await?;
    let taken = ledger::take_over(&tx, now).await?;
    tx.commit().await?;
    Ok(usize::try_from(taken).unwrap_or(usize::MAX))
}

/// Ends the dead process's claim: should it live after all, its result comes too late.
async fn fence(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    recipients: &[Recipient],
    due_at: Option<Timestamp>,
) -> Result<bool, DbErr> {
    let change = ActiveModel {
        phase: Set(Phase::Idle),
        attempts: Set(row.attempts + 1),
        lease_until: Set(Timestamp::ZERO),
        recipients: Set(json!(recipients)),
        due_at: Set(due_at),
        tries: Set(row.tries + i64::from(row.phase == Phase::Dot)),
        updated_at: Set(now),
        ..Default::default()
    };
    let fenced = Entity::update_many()
        .set(change)
        .filter(Column::MessageId.eq(row.message_id))
        .filter(Column::Attempts.eq(row.attempts))
        .filter(Column::Phase.eq(row.phase))
        .filter(Column::LeaseUntil.lte(now))
        .exec(tx)
        .await?;
    Ok(fenced.rows_affected == 1)
}

/// There is a server now: what was held goes out.
async fn queue_held(app: &App, now: Timestamp, retry: RetryPolicy) -> Result<usize, DbErr> {
    let ids = outbound(app, &[MessageState::Held]).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let tx = app.db.begin().await?;
    let ids = lock_waiting(&tx, ids).await?;
    let moved = move_all(&tx, now, ids, &[MessageState::Held], MessageState::Queued, None).await?;
    let change = ActiveModel {
        due_at: Set(Some(now)),
        expires_at: Set(now.plus_s(retry.give_up_after_s)),
        updated_at: Set(now),
        ..Default::default()
    };
    let queued = Entity::update_many().set(change).filter(among(Column::MessageId, moved.iter().copied()));
    queued.exec(&*tx).await?;
    tx.commit().await?;
    Ok(moved.len())
}

/// Locks those that nobody is sending: until then another replica may have done the same and sent them. The deliveries
/// are locked before their messages are moved, as everywhere.
async fn lock_waiting(tx: &DatabaseTransaction, ids: Vec<MessageId>) -> Result<Vec<MessageId>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::MessageId)
        .filter(among(Column::MessageId, ids))
        .filter(Column::Phase.eq(Phase::Idle))
        .order_by_asc(Column::MessageId)
        .lock_exclusive()
        .into_tuple()
        .all(tx)
        .await
}

/// There is no server (any more): what waits is held, and so is what was put off until now.
async fn hold(app: &App, now: Timestamp) -> Result<usize, DbErr> {
    let mut ids = outbound(app, &[MessageState::Queued, MessageState::Deferred]).await?;
    ids.extend(put_off(app, now).await?);
    let waiting = [MessageState::Queued, MessageState::Deferred, MessageState::Scheduled];
    if ids.is_empty() {
        return Ok(0);
    }
    let tx = app.db.begin().await?;
    let ids = lock_waiting(&tx, ids).await?;
    let moved = move_all(&tx, now, ids, &waiting, MessageState::Held, Some(NO_SERVER)).await?;
    let change = ActiveModel { due_at: Set(None), updated_at: Set(now), ..Default::default() };
    let held = Entity::update_many().set(change).filter(among(Column::MessageId, moved.iter().copied()));
    held.exec(&*tx).await?;
    tx.commit().await?;
    Ok(moved.len())
}

/// What was put off until now.
async fn put_off(app: &App, now: Timestamp) -> Result<Vec<MessageId>, DbErr> {
    let scheduled = message::Entity::find()
        .select_only()
        .column(message::Column::Id)
        .filter(message::Column::Direction.eq(Direction::Outbound))
        .filter(message::Column::State.eq(MessageState::Scheduled))
        .into_query();
    let due = Entity::find().select_only().column(Column::MessageId).filter(Column::DueAt.lte(now));
    let due = due.filter(Column::MessageId.in_subquery(scheduled));
    due.order_by_asc(Column::DueAt).limit(BATCH).into_tuple().all(app.db.read()).await
}

async fn outbound(app: &App, states: &[MessageState]) -> Result<Vec<MessageId>, DbErr> {
    message::Entity::find()
        .select_only()
        .column(message::Column::Id)
        .filter(message::Column::Direction.eq(Direction::Outbound))
        .filter(message::Column::State.is_in(states.iter().copied()))
        .order_by_asc(message::Column::Id)
        .limit(BATCH)
        .into_tuple()
        .all(app.db.read())
        .await
}

/// Gives those that were in one of the states.
async fn move_all(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: Vec<MessageId>,
    from: &[MessageState],
    to: MessageState,
    reason: Option<&str>,
) -> Result<Vec<MessageId>, DbErr> {
    let change = message::ActiveModel {
        state: Set(to),
        state_reason: Set(reason.map(str::to_owned)),
        ..Default::default()
    };
    let moved = message::Entity::update_many()
        .set(change)
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .filter(among(message::Column::Id, ids))
        .filter(message::Column::State.is_in(from.iter().copied()))
        .exec_with_returning(tx)
        .await?;
    let (mut lines, mut told) = (Vec::with_capacity(moved.len()), Vec::with_capacity(moved.len()));
    for row in &moved {
        lines.push(Line::note(row.id, 0, now, name(to), reason.unwrap_or("an outgoing server is set")));
        told.extend(message_event(tx, row.id, to).await?);
    }
    timeline::append(tx, now, lines).await?;
    events::append(tx, now, told).await?;
    Ok(moved.into_iter().map(|row| row.id).collect())
}
