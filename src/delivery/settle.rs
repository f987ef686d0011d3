//! Writes down what became of a try; a process that lost its lease writes nothing.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, FromQueryResult, JoinType, QueryFilter,
    QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use super::{
    claim::Job,
    entity::{Phase, captured, delivery},
    rules::{Effect, Verdict, words},
    timeline::{self, Line},
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::entity::{MessageState, conversation, message},
    events::{self, NewEvent},
    id::{ConversationId, MessageId, UserId, WorkItemId, new_uuid},
    outgoing::{entity::OutgoingState, state},
};

/// Pauses between the tries to write a result down: what the server took must not be forgotten for a database hiccup.
const TRIES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(3)];

/// Settles a job. False when another process has taken it over, in which case nothing was changed.
pub(super) async fn settle(
    app: &App,
    job: &Job,
    verdict: &Verdict,
    lines: &[Line],
    capture: bool,
) -> Result<bool, DbErr> {
    insist(|| try_settle(app, job, verdict, lines, capture)).await
}

/// Writes results down, and tries it again some times.
///
/// # Errors
/// What the database says at last.
pub(super) async fn insist<T, F>(write: impl Fn() -> F) -> Result<T, DbErr>
where
    F: Future<Output = Result<T, DbErr>>,
{
    for pause in TRIES {
        match write().await {
            Ok(written) => return Ok(written),
            Err(error) => tracing::warn!(%error, "results of deliveries are not written down yet"),
        }
        tokio::time::sleep(pause).await;
    }
    write().await
}

async fn try_settle(
    app: &App,
    job: &Job,
    verdict: &Verdict,
    lines: &[Line],
    capture: bool,
) -> Result<bool, DbErr> {
    let now = app.db.now(&app.clock).await?;
    let tx = app.db.begin().await?;
    if !settle_row(&tx, now, job, verdict).await? {
        tracing::warn!(message = %job.row.message_id, "a late result was dropped: another process has the message");
        return Ok(false);
    }
    let (id, state) = (job.row.message_id, verdict.state.unwrap_or(job.was));
    let moved = move_message(&tx, now, id, state, Some(&verdict.reason)).await?;
    if capture {
        keep(&tx, now, job).await?;
    }
    let mut lines = lines.to_vec();
    lines.extend(moved.then(|| Line::note(id, job.row.tries + 1, now, name(state), &verdict.reason)));
    timeline::append(&tx, now, lines).await?;
    if moved && verdict.state.is_some() {
        events::append(&tx, now, message_event(&tx, id, state).await?.into_iter().collect()).await?;
    }
    match &verdict.effect {
        Effect::Slow(reason) => state::fail(&tx, now, &job.server, reason).await?,
        Effect::Pause(reason) => state::pause(&tx, now, &job.server, reason).await?,
        Effect::Fine if job.server.state == OutgoingState::Failing => state::recover(&tx, now).await?,
        Effect::Fine | Effect::None => false,
    };
    tx.commit().await?;
    Ok(true)
}

async fn settle_row(
    tx: &DatabaseTransaction,
    now: Timestamp,
    job: &Job,
    verdict: &Verdict,
) -> Result<bool, DbErr> {
    use delivery::Column;
    let reply = verdict.reply.as_ref();
    let change = delivery::ActiveModel {
        phase: Set(Phase::Idle),
        lease_until: Set(Timestamp::ZERO),
        due_at: Set(verdict.due_at),
        tries: Set(job.row.tries + i64::from(verdict.counts)),
        recipients: Set(json!(verdict.recipients)),
        last_code: Set(reply.map(|reply| i32::from(reply.code))),
        last_text: Set(reply.map(words)),
        updated_at: Set(now),
        ..Default::default()
    };
    let settled = delivery::Entity::update_many()
        .set(change)
        .filter(Column::MessageId.eq(job.row.message_id))
        .filter(Column::Attempts.eq(job.row.attempts))
        .filter(Column::Phase.ne(Phase::Idle))
        .exec(tx)
        .await?;
    Ok(settled.rows_affected == 1)
}

/// Moves a message that is being sent on to its next state; false when a report did so before.
pub(super) async fn move_message(
    tx: &DatabaseTransaction,
    now: Timestamp,
    id: MessageId,
    state: MessageState,
    reason: Option<&str>,
) -> Result<bool, DbErr> {
    use message::Column;
    let mut update = message::Entity::update_many()
        .col_expr(Column::State, Expr::value(state))
        .col_expr(Column::StateReason, Expr::value(reason.map(str::to_owned)))
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(MessageState::Sending));
    if state == MessageState::Sent {
        update = update.col_expr(Column::SentAt, Expr::value(Some(now)));
    }
    Ok(update.exec(tx).await?.rows_affected == 1)
}

async fn keep(tx: &DatabaseTransaction, now: Timestamp, job: &Job) -> Result<(), DbErr> {
    let addresses: Vec<&str> = job.recipients.iter().map(|recipient| recipient.address.as_str()).collect();
    let row = captured::ActiveModel {
        id: Set(new_uuid(now)),
        message_id: Set(job.row.message_id),
        envelope_from: Set(job.row.envelope_from.clone()),
        recipients: Set(json!(addresses)),
        captured_at: Set(now),
    };
    captured::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Whom and what a message concerns.
#[derive(FromQueryResult)]
struct Concerned {
    conversation_id: ConversationId,
    work_item_id: Option<WorkItemId>,
    author_id: Option<UserId>,
    last_agent_id: Option<UserId>,
}

/// The event that tells of a message's new state; none for states that nobody is told of. It is for the agent who wrote
/// the message, else for the one who last had its conversation.
pub(super) async fn message_event(
    tx: &DatabaseTransaction,
    id: MessageId,
    state: MessageState,
) -> Result<Option<NewEvent>, DbErr> {
    let kind = match state {
        MessageState::Scheduled => "message.scheduled",
        MessageState::Held => "message.held",
        MessageState::Queued => "message.queued",
        MessageState::Deferred => "message.deferred",
        MessageState::Sent => "message.sent",
        MessageState::Failed => "message.failed",
        MessageState::Uncertain => "message.uncertain",
        MessageState::Expired => "message.expired",
        MessageState::Cancelled => "message.cancelled",
        MessageState::Suppressed => "message.suppressed",
        MessageState::Delivered => "message.delivered",
        MessageState::Bounced => "message.bounced",
        MessageState::Complained => "message.complained",
        _ => return Ok(None),
    };
    let to_conversation = message::Entity::belongs_to(conversation::Entity)
        .from(message::Column::ConversationId)
        .to(conversation::Column::Id);
    let found = message::Entity::find_by_id(id)
        .join(JoinType::InnerJoin, to_conversation.into())
        .select_only()
        .columns([message::Column::ConversationId, message::Column::WorkItemId, message::Column::AuthorId])
        .column(conversation::Column::LastAgentId)
        .into_model::<Concerned>()
        .one(tx)
        .await?;
    Ok(found.map(|Concerned { conversation_id, work_item_id, author_id, last_agent_id }| {
        let data =
            json!({ "conversation_id": conversation_id, "work_item_id": work_item_id, "state": state });
        let event = NewEvent::new(kind, id.uuid(), &data);
        match author_id.or(last_agent_id) {
            Some(agent) => event.for_agent(agent),
            None => event.for_supervisors(),
        }
    }))
}

/// A state's word in the timeline.
pub(super) fn name(state: MessageState) -> &'static str {
    match state {
        MessageState::Held => "held",
        MessageState::Queued => "queued",
        MessageState::Deferred => "deferred",
        MessageState::Sent => "sent",
        MessageState::Failed => "failed",
        MessageState::Uncertain => "uncertain",
        MessageState::Expired => "expired",
        MessageState::Cancelled => "cancelled",
        MessageState::Sending => "sending",
        MessageState::Scheduled => "scheduled",
        MessageState::Suppressed => "suppressed",
        MessageState::Delivered => "delivered",
        MessageState::Bounced => "bounced",
        MessageState::Complained => "complained",
        MessageState::Received | MessageState::Parsed | MessageState::Unparsed | MessageState::Oversize => {
            "inbound"
        }
    }
}
