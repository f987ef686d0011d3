//! Messages that may only go out at certain hours: asked right before a try, whatever delayed it until then.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use super::{
    entity::delivery::{ActiveModel, Column, Entity, Model},
    settle::message_event,
    timeline::{self, Line},
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::entity::{MessageState, message},
    events,
};

const NEVER: &str = "the calendar of its send window is gone, or opens no more within 400 days";

/// What a message's window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// It may go out now.
    Open,
    /// Not before then.
    ClosedUntil(Timestamp),
    /// Never again.
    Shut,
}

/// Whether a message may go out at this hour.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn window(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
) -> Result<Window, DbErr> {
    let Some(id) = row.window_calendar_id else { return Ok(Window::Open) };
    let calendar = app.scripts.snapshot(tx).await?.calendar(id.uuid());
    let opens = calendar.and_then(|calendar| calendar.open_from(now.to_chrono())).map(Timestamp::from);
    Ok(match opens {
        Some(at) if at <= now => Window::Open,
        Some(at) => Window::ClosedUntil(at),
        None => Window::Shut,
    })
}

/// Lets a claimed message wait until its window opens; the time in which it is given up stands still.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn put_off(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    was: MessageState,
    opens: Timestamp,
) -> Result<(), DbErr> {
    let reason = format!("its send window opens at {opens}");
    let expires_at = row.expires_at.plus_ms(opens.as_millis() - now.as_millis());
    let_go(tx, now, row, Some(opens), expires_at).await?;
    // What may have been sent already is not called unsent.
    let state = if was == MessageState::Uncertain { was } else { MessageState::Scheduled };
    let change = message::ActiveModel { send_at: Set(Some(opens)), ..Default::default() };
    bring(tx, now, (row, was), state, change, &reason).await
}

/// Gives a claimed message up that can go out at no time.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn give_up(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    was: MessageState,
) -> Result<(), DbErr> {
    let_go(tx, now, row, None, row.expires_at).await?;
    let state = if was == MessageState::Uncertain { was } else { MessageState::Cancelled };
    bring(tx, now, (row, was), state, message::ActiveModel::default(), NEVER).await
}

async fn let_go(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    due_at: Option<Timestamp>,
    expires_at: Timestamp,
) -> Result<(), DbErr> {
    let change = ActiveModel {
        lease_until: Set(Timestamp::ZERO),
        due_at: Set(due_at),
        expires_at: Set(expires_at),
        updated_at: Set(now),
        ..Default::default()
    };
    let update = Entity::update_many().set(change).filter(Column::MessageId.eq(row.message_id));
    update.exec(tx).await.map(|_| ())
}

async fn bring(
    tx: &DatabaseTransaction,
    now: Timestamp,
    (row, was): (&Model, MessageState),
    state: MessageState,
    change: message::ActiveModel,
    reason: &str,
) -> Result<(), DbErr> {
    let id = row.message_id;
    let change = message::ActiveModel {
        state: Set(state),
        state_reason: Set(Some(reason.to_owned())),
        updated_at: Set(now),
        ..change
    };
    message::Entity::update_many()
        .set(change)
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .filter(message::Column::Id.eq(id))
        .filter(message::Column::State.eq(was))
        .exec(tx)
        .await?;
    timeline::append(tx, now, vec![Line::note(id, row.tries, now, super::settle::name(state), reason)])
        .await?;
    if state == was {
        return Ok(());
    }
    let told = message_event(tx, id, state).await?;
    events::append(tx, now, told.into_iter().collect()).await
}
