//! Operations on a message's way out.

use actix_web::{HttpResponse, get, post, web};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    call_off::{how_many_have_it, stop},
    captured,
    entity::{delivery, step},
    retry,
    rules::Recipient,
    settle::message_event,
    timeline::{self, Line},
};
use crate::{
    access::matrix::Access,
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{Direction, MessageState, message},
        outbound,
        visibility::find_message,
    },
    events,
    http::{Answer, Caller, Code, Idempotency, PageQuery, Path, Problem, Query, idempotency::Start},
    id::MessageId,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(captured::list_captured_messages)
        .service(captured::get_captured_message)
        .service(captured::get_captured_message_raw)
        .service(captured::delete_captured_messages)
        .service(get_message_delivery)
        .service(get_message_timeline)
        .service(cancel_message)
        .service(retry_message);
}

/// What the caller may do with a message on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageDeliveryAction {
    /// Call it off.
    Cancel,
    /// Send it again as a new message.
    Retry,
}

impl MessageDeliveryAction {
    /// The operation that does it, which the matrix knows.
    const fn operation(self) -> &'static str {
        match self {
            Self::Cancel => "cancel_message",
            Self::Retry => "retry_message",
        }
    }
}

/// How far a message is on its way out.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageDelivery {
    /// The message.
    pub message_id: MessageId,
    /// Where it stands.
    pub state: MessageState,
    /// Why, in plain words.
    pub state_reason: Option<String>,
    /// The envelope sender; empty for the null path.
    pub envelope_from: String,
    /// Its recipients, each with the server's last words.
    pub recipients: Vec<Recipient>,
    /// How often a server was asked to take it.
    pub tries: i64,
    /// When it is tried next; none when it is settled or held.
    pub next_try_at: Option<Timestamp>,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// When a server took it.
    pub sent_at: Option<Timestamp>,
    /// The message that this one tries again.
    pub retry_of: Option<MessageId>,
    /// What the caller may do now.
    pub allowed_actions: Vec<MessageDeliveryAction>,
}

/// One line of a message's timeline.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// Which try; 0 before the first.
    #[serde(rename = "try")]
    pub attempt: i64,
    /// A step of the conversation with the server (`connect`, `tls`, `ehlo`, `auth`, `mail`, `rcpt`, `data`, `dot`, `rset`,
    /// `quit`), or the message's new state (`created`, `queued`, `held`, `sent`, …).
    #[schema(examples("rcpt"))]
    pub step: String,
    /// The server's reply code.
    pub code: Option<i32>,
    /// The enhanced status code (RFC 3463).
    #[schema(examples("4.2.1"))]
    pub enhanced: Option<String>,
    /// The server's words, or ours.
    #[schema(examples("mailbox full"))]
    pub text: String,
}

/// One page of a message's timeline.
#[derive(Debug, Serialize, ToSchema)]
pub struct Timeline {
    /// What happened, oldest first.
    pub items: Vec<TimelineEntry>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

impl From<step::Model> for TimelineEntry {
    fn from(row: step::Model) -> Self {
        let step::Model { at, attempt, verb, code, enhanced, text, .. } = row;
        Self { at, attempt, step: verb, code, enhanced, text }
    }
}

impl MessageDelivery {
    async fn of(
        db: &impl ConnectionTrait,
        message: &message::Model,
        row: delivery::Model,
        caller: &Caller,
    ) -> Result<Self, Problem> {
        let allowed_actions = allowed(db, message, &row, caller).await?;
        Ok(Self {
            message_id: message.id,
            state: message.state,
            state_reason: message.state_reason.clone(),
            envelope_from: row.envelope_from,
            recipients: serde_json::from_value(row.recipients).unwrap_or_default(),
            tries: row.tries,
            next_try_at: row.due_at,
            expires_at: row.expires_at,
            sent_at: message.sent_at,
            retry_of: message.retry_of,
            allowed_actions,
        })
    }
}

async fn allowed(
    db: &impl ConnectionTrait,
    message: &message::Model,
    row: &delivery::Model,
    caller: &Caller,
) -> Result<Vec<MessageDeliveryAction>, Problem> {
    let action = match MessageState::UNSENT.contains(&message.state) {
        true => MessageDeliveryAction::Cancel,
        false => MessageDeliveryAction::Retry,
    };
    let may = Access::of(action.operation()).is_some_and(|access| access.allows(caller));
    if !may || own(message, caller).is_err() {
        return Ok(Vec::new());
    }
    let is_possible = match action {
        MessageDeliveryAction::Cancel => reached(row).is_none(),
        MessageDeliveryAction::Retry => retry::refusal(db, message, row).await?.is_none(),
    };
    Ok(is_possible.then_some(action).into_iter().collect())
}

/// Why a message that waits is not certainly unsent: a server took it for some recipients.
fn reached(row: &delivery::Model) -> Option<String> {
    let (count, all) = (how_many_have_it(row), row.recipients.as_array().map_or(0, Vec::len));
    (count > 0).then(|| format!("{count} of its {all} recipients have the message already"))
}

/// Agents call off and retry only what they wrote.
fn own(message: &message::Model, caller: &Caller) -> Result<(), Problem> {
    if caller.oversees() || message.author_id == caller.user_id() {
        return Ok(());
    }
    Err(Problem::new(Code::NotYours, "somebody else wrote this message"))
}

/// Read how far a message is on its way out.
#[utoipa::path(tag = "messages", params(("id" = MessageId, Path)),
    responses((status = 200, description = "Its delivery.", body = MessageDelivery)))]
#[get("/messages/{id}/delivery")]
pub async fn get_message_delivery(
    app: web::Data<App>,
    caller: Caller,
    id: Path<MessageId>,
) -> Result<HttpResponse, Problem> {
    let (message, row) = seen(app.db.read(), &caller, *id).await?;
    Ok(HttpResponse::Ok().json(MessageDelivery::of(app.db.read(), &message, row, &caller).await?))
}

/// Read the timeline of an outbound message.
///
/// Every step of every try with the server's words, and every change of state.
#[utoipa::path(tag = "messages", params(("id" = MessageId, Path), PageQuery),
    responses((status = 200, description = "One page, oldest first.", body = Timeline)))]
#[get("/messages/{id}/timeline")]
pub async fn get_message_timeline(
    app: web::Data<App>,
    caller: Caller,
    id: Path<MessageId>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    seen(app.db.read(), &caller, *id).await?;
    let select = step::Entity::find().filter(step::Column::MessageId.eq(*id));
    let found = page.0.fetch(app.db.read(), select, step::Column::Id, None).await?.map(TimelineEntry::from);
    Ok(HttpResponse::Ok().json(Timeline { items: found.items, next_cursor: found.next_cursor }))
}

/// Call a message off.
///
/// Only while it is certainly unsent: one that is being sent right now, or that some of its recipients have already, cannot
/// be called back.
#[utoipa::path(tag = "messages", params(("id" = MessageId, Path)),
    responses((status = 200, description = "It is cancelled.", body = MessageDelivery)))]
#[post("/messages/{id}/cancel")]
pub async fn cancel_message(
    app: web::Data<App>,
    caller: Caller,
    id: Path<MessageId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    // The delivery's row first, as the worker does, so that the two never wait for each other.
    let stopped = !stop(&tx, now, vec![*id]).await?.is_empty();
    let (message, row) = find(&*tx, *id).await?;
    own(&message, &caller)?;
    if let Some(reached) = reached(&row).filter(|_| stopped) {
        return Err(Problem::new(Code::InvalidState, reached));
    }
    if !stopped || !cancel(&tx, now, *id, &caller).await? {
        let state = super::settle::name(message.state);
        return Err(Problem::new(Code::InvalidState, format!("the message is no longer unsent ({state})")));
    }
    let (message, row) = find(&*tx, *id).await?;
    let shown = MessageDelivery::of(&*tx, &message, row, &caller).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(shown))
}

async fn cancel(
    tx: &DatabaseTransaction,
    now: Timestamp,
    id: MessageId,
    caller: &Caller,
) -> Result<bool, Problem> {
    let reason = format!("{} cancelled it", caller.name);
    let change = message::ActiveModel {
        state: Set(MessageState::Cancelled),
        state_reason: Set(Some(reason.clone())),
        updated_at: Set(now),
        ..Default::default()
    };
    let cancelled = message::Entity::update_many()
        .set(change)
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .filter(message::Column::Id.eq(id))
        .filter(message::Column::State.is_in(MessageState::UNSENT))
        .exec(tx)
        .await?;
    if cancelled.rows_affected == 0 {
        return Ok(false);
    }
    timeline::append(tx, now, vec![Line::note(id, 0, now, "cancelled", &reason)]).await?;
    let told = message_event(tx, id, MessageState::Cancelled).await?;
    events::append(tx, now, told.into_iter().collect()).await?;
    Ok(true)
}

/// Send a message again that was not delivered.
///
/// For messages that failed, expired, bounced or are uncertain. It makes a new message with the same content, its own
/// `Message-ID` and `Date`, and `retry_of`; it goes to the recipients that the old one did not reach, or to all of them
/// when it bounced. A message is retried once: retry the new one then.
#[utoipa::path(tag = "messages", params(("id" = MessageId, Path)),
    responses((status = 201, description = "The new message's delivery.", body = MessageDelivery, headers(("Location" = String)))))]
#[post("/messages/{id}/retry")]
pub async fn retry_message(
    app: web::Data<App>,
    caller: Caller,
    id: Path<MessageId>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let (old, row) = find(&*work.tx, *id).await?;
    own(&old, &caller)?;
    retry::refuse(&*work.tx, &old, &row).await?;
    // Signing and the object store take their time, and no transaction waits for them.
    let paused = work.pause().await?;
    let new = retry::prepare(&app, now, &old).await?;
    outbound::finish(&app, paused, new.object(), async |tx| {
        let (message, row) = find(tx, *id).await?;
        let new_id = new.id;
        retry::retry(&app, tx, now, message, row, new).await?;
        let (message, row) = find(tx, new_id).await?;
        let delivery = MessageDelivery::of(tx, &message, row, &caller).await?;
        Answer::created(format!("/v1/messages/{new_id}"), &delivery)
    })
    .await
}

/// A message on its way out that the caller wrote, or whose conversation the caller sees; any other does not exist.
async fn seen(
    db: &impl ConnectionTrait,
    caller: &Caller,
    id: MessageId,
) -> Result<(message::Model, delivery::Model), Problem> {
    let found = find(db, id).await;
    if !found.as_ref().is_ok_and(|(message, _)| own(message, caller).is_ok()) {
        find_message(db, caller, id).await?;
    }
    found
}

async fn find(
    db: &impl ConnectionTrait,
    id: MessageId,
) -> Result<(message::Model, delivery::Model), Problem> {
    let none = || Problem::not_found("outbound message");
    let message = message::Entity::find_by_id(id).one(db).await?.ok_or_else(none)?;
    if message.direction != Direction::Outbound {
        return Err(Problem::new(Code::NotFound, "this message came in"));
    }
    let row = delivery::Entity::find_by_id(id).one(db).await?.ok_or_else(none)?;
    Ok((message, row))
}
