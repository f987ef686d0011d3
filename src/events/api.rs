//! Reading the event log: as pages, and as a stream of server-sent events.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::{
    entity::{Column, Entity, Model},
    stream,
    tail::last_position,
    vocabulary,
};
use crate::{
    access::ticket,
    app::App,
    clock::Timestamp,
    http::{Caller, Code, Problem, Query},
    id::EventId,
};

/// How many events one request looks at to fill a page with those that the caller may see.
const SCAN: u64 = 2000;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_events).service(create_event_ticket).service(stream_events);
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// The place in the log: grows, and no smaller one appears later.
    #[schema(examples(4711))]
    pub position: i64,
    /// The event's id.
    pub id: EventId,
    /// `resource.what_happened`: one of these, and others in later versions.
    #[schema(examples("offer.created"))]
    pub r#type: String,
    /// When.
    pub at: Timestamp,
    /// The resource it tells of.
    pub subject_id: Uuid,
    /// What changed.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

/// A stretch of the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList {
    /// The events that the caller may see, in order.
    pub items: Vec<Event>,
    /// Give this as `after` to read on; it also moves when there was nothing to see.
    #[schema(examples(4711))]
    pub next_after: i64,
    /// Whether there is more to read right now.
    pub has_more: bool,
}

/// A one-time pass to the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventTicket {
    /// Give this as `ticket` to `GET /v1/events/stream`; it works once.
    pub ticket: String,
    /// Until when it works.
    pub expires_at: Timestamp,
}

/// Which part of the log to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only events after this position; 0 begins at the oldest.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// How many events to return at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u64>,
    /// Only events whose type begins with this, such as `offer.`; 400 when no type does.
    #[param(max_length = 100)]
    r#type: Option<String>,
}

/// Where to begin the stream.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only events after this position; the header `Last-Event-ID` goes first. New events only when both are left out.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// A ticket, for clients that cannot send headers.
    #[param(max_length = 100)]
    #[allow(dead_code, reason = "the guard reads it")]
    ticket: Option<String>,
}

impl From<Model> for Event {
    fn from(row: Model) -> Self {
        let Model { position, id, kind, at, subject_id, data, .. } = row;
        Self { position: position.unwrap_or_default(), id, r#type: kind, at, subject_id, data }
    }
}

/// List events in order.
///
/// Agents see what concerns everybody and themselves. Reading on with `next_after` misses nothing; an `after` beyond the end of
/// the log is refused with 400. These are the types:
#[utoipa::path(tag = "events", params(EventFilter),
    responses((status = 200, description = "A stretch of the log.", body = EventList)))]
#[get("/events")]
pub async fn list_events(
    app: web::Data<App>,
    caller: Caller,
    filter: Query<EventFilter>,
) -> Result<HttpResponse, Problem> {
    let filter = filter.0;
    if filter.r#type.as_deref().is_some_and(|start| !vocabulary::has_type_like(start)) {
        return Err(Problem::new(Code::InvalidParameter, "type: no type of event begins like this"));
    }
    if let Some(after) = filter.after {
        within_log(&app, after).await?;
    }
    let (mut next_after, limit) = (filter.after.unwrap_or(0), filter.limit.unwrap_or(50));
    let select =
        Entity::find().filter(Column::Position.gt(next_after)).order_by_asc(Column::Position).limit(SCAN);
    let rows = select.all(app.db.read()).await?;
    let (mut items, scanned) = (Vec::new(), rows.len() as u64);
    let mut has_more = scanned == SCAN;
    for row in rows {
        if items.len() as u64 == limit {
            has_more = true;
            break;
        }
        next_after = row.position.unwrap_or(next_after);
        let wanted = filter.r#type.as_deref().is_none_or(|start| row.kind.starts_with(start));
        if wanted && row.is_visible_to(&caller) {
            items.push(Event::from(row));
        }
    }
    Ok(HttpResponse::Ok().json(EventList { items, next_after, has_more }))
}

/// Refuses a position that the log has not reached: of another database, or of one that was put back to an older state.
async fn within_log(app: &App, position: i64) -> Result<(), Problem> {
    if position > 0 && position > last_position(&app.db).await? {
        let detail = "the position is beyond the log; start anew";
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    Ok(())
}

/// Get a ticket for the event stream.
///
/// A browser's `EventSource` cannot send headers: it gives this ticket instead, once, within 30 seconds. Because it works once,
/// the browser's own reconnecting is refused with 401: on `error` close the `EventSource`, get a new ticket, and open another
/// one with that `ticket` and with `after` set to the `lastEventId` of the last event; before the first event, load the lists anew.
#[utoipa::path(tag = "events", responses((status = 201, description = "The ticket.", body = EventTicket)))]
#[post("/events/ticket")]
pub async fn create_event_ticket(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let (ticket, expires_at) = ticket::issue(&app, &caller).await?;
    Ok(HttpResponse::Created().json(EventTicket { ticket, expires_at }))
}

/// Follow events as they happen.
///
/// Server-sent events: `id` is the position, `event` the type (see `list_events`), `data` the event as JSON. The stream says at
/// once, as an `id` without data, from which position it follows: open the stream, wait for that (in a browser for `open`), then
/// load the lists; what changes meanwhile comes as an event, so there is no gap. The stream ends after the lifetime of an access token, and when the
/// caller may no longer follow it; come back with `Last-Event-ID`, or with `after`, and nothing is missed. A position beyond the
/// end of the log is refused with 400: start anew. A browser's `EventSource` comes back with a new ticket and `after`, since a
/// ticket works once.
#[utoipa::path(tag = "events", params(StreamQuery, ("Last-Event-ID" = Option<i64>, Header, description = "The last position that the client has.")),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream")))]
#[get("/events/stream")]
pub async fn stream_events(
    request: HttpRequest,
    app: web::Data<App>,
    caller: Caller,
    query: Query<StreamQuery>,
) -> Result<HttpResponse, Problem> {
    let last = match request
        .headers()
        .get("last-event-id")
        .map(|value| value.to_str().ok().and_then(|id| id.parse().ok()))
    {
        Some(Some(position)) => Some(position),
        Some(None) => {
            return Err(Problem::new(Code::InvalidHeader, "Last-Event-ID is a position of the log"));
        }
        None => query.0.after,
    };
    if let Some(position) = last {
        within_log(&app, position).await?;
    }
    let events = stream::follow(app.get_ref().clone(), caller, last).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events))
}
