//! Puts a message on its way out, in the transaction that made it.

use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};
use serde_json::json;

use super::{
    entity::{Phase, delivery},
    rules::{Recipient, RecipientState},
    settle::{message_event, name},
    timeline::{self, Line},
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{MessageState, message},
        outbound::Sent,
    },
    events,
    id::{CalendarId, MessageId},
    outgoing::{self, settings::RetryPolicy},
};

/// What is said of a message that waits for an outgoing server.
pub(super) const NO_SERVER: &str = "no outgoing server is set";

/// Which messages go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// An agent's answer, or an automatic one.
    Answer = 0,
    /// A send that another system asked for.
    Triggered = 1,
}

/// A message that was just stored, with its raw bytes, and is to be sent.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The message.
    pub message_id: MessageId,
    /// The envelope sender; empty for the null path of automatic mail (RFC 3834 §3.3).
    pub envelope_from: String,
    /// The envelope recipients: bare addresses, `Bcc` included, each once.
    pub recipients: Vec<String>,
    /// What goes first.
    pub precedence: Precedence,
    /// Whether a try whose answer was lost is repeated (at least once) or not (at most once).
    pub repeatable: bool,
    /// When it may go out; at once when there is none.
    pub not_before: Option<Timestamp>,
    /// The calendar that must be open when it goes out.
    pub window: Option<CalendarId>,
    /// Why it may not go out at all: its recipient is not to be written to.
    pub barred: Option<String>,
}

/// Notes of a message how it was sent before it was stored: the one of a broadcast to which somebody answers.
///
/// # Errors
/// Whatever the database says.
pub async fn enter_sent(
    tx: &DatabaseTransaction,
    id: MessageId,
    envelope_from: String,
    recipients: Vec<String>,
    sent: Sent,
) -> Result<(), DbErr> {
    let recipients: Vec<Recipient> = recipients
        .into_iter()
        .map(|address| Recipient {
            state: RecipientState::Sent,
            code: sent.code.and_then(|code| code.try_into().ok()),
            text: sent.text.clone(),
            ..Recipient::new(address)
        })
        .collect();
    let row = delivery::ActiveModel {
        message_id: Set(id),
        envelope_from: Set(envelope_from),
        recipients: Set(json!(recipients)),
        precedence: Set(Precedence::Triggered as i32),
        repeatable: Set(false),
        phase: Set(Phase::Idle),
        due_at: Set(None),
        lease_until: Set(Timestamp::ZERO),
        attempts: Set(1),
        tries: Set(1),
        expires_at: Set(sent.at),
        window_calendar_id: Set(None),
        last_code: Set(sent.code),
        last_text: Set(sent.text.clone()),
        created_at: Set(sent.at),
        updated_at: Set(sent.at),
    };
    delivery::Entity::insert(row).exec_without_returning(tx).await?;
    let words = sent.text.as_deref().unwrap_or_default();
    let lines = vec![Line::note(id, 1, sent.at, name(MessageState::Sent), words)];
    timeline::append(tx, sent.at, lines).await
}

/// Makes the message `queued`, `scheduled` until its time comes, `held` when there is no outgoing server, or `suppressed`;
/// gives that state.
///
/// # Errors
/// Whatever the database says, `RecordNotFound` when the message is not there.
pub async fn enqueue(
    _app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    outbound: Outbound,
) -> Result<MessageState, DbErr> {
    let id = outbound.message_id;
    let server = outgoing::find(tx).await?;
    let not_before = outbound.not_before.filter(|at| *at > now);
    let (state, due_at, reason) = match (outbound.barred, not_before, &server) {
        (Some(why), _, _) => (MessageState::Suppressed, None, Some(why)),
        // What is missing now may be there when its time comes.
        (None, Some(at), _) => (MessageState::Scheduled, Some(at), None),
        (None, None, Some(_)) => (MessageState::Queued, Some(now), None),
        (None, None, None) => (MessageState::Held, None, Some(NO_SERVER.to_owned())),
    };
    let retry = server.as_ref().map_or_else(RetryPolicy::default, |server| server.retry_policy());
    let recipients: Vec<Recipient> = outbound.recipients.into_iter().map(Recipient::new).collect();
    let row = delivery::ActiveModel {
        message_id: Set(id),
        envelope_from: Set(outbound.envelope_from),
        recipients: Set(json!(recipients)),
        precedence: Set(outbound.precedence as i32),
        repeatable: Set(outbound.repeatable),
        phase: Set(Phase::Idle),
        due_at: Set(due_at),
        lease_until: Set(Timestamp::ZERO),
        attempts: Set(0),
        tries: Set(0),
        expires_at: Set(not_before.unwrap_or(now).plus_s(retry.give_up_after_s)),
        window_calendar_id: Set(outbound.window),
        last_code: Set(None),
        last_text: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
    };
    delivery::Entity::insert(row).exec_without_returning(tx).await?;
    let change =
        message::ActiveModel { state: Set(state), state_reason: Set(reason.clone()), ..Default::default() };
    let update = message::Entity::update_many().set(change).filter(message::Column::Id.eq(id));
    if update.exec(tx).await?.rows_affected == 0 {
        return Err(DbErr::RecordNotFound(format!("message {id}")));
    }
    let text = match (reason, due_at.filter(|at| *at > now)) {
        (Some(reason), _) => reason,
        (None, Some(at)) => format!("to be sent at {at}"),
        (None, None) => String::new(),
    };
    let lines = vec![Line::note(id, 0, now, "created", ""), Line::note(id, 0, now, name(state), &text)];
    timeline::append(tx, now, lines).await?;
    events::append(tx, now, message_event(tx, id, state).await?.into_iter().collect()).await?;
    Ok(state)
}
