//! Operations on the outgoing server.

use actix_web::{HttpResponse, delete, get, post, put, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait, QueryFilter,
};
use serde_json::json;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::{
    ID, check,
    entity::{
        OutgoingState, Transport,
        outgoing_server::{ActiveModel, Column, Entity, Model},
    },
    find,
    relay::PASSWORD,
    settings::{OutgoingServer, OutgoingServerSettings},
    state,
};
use crate::{
    app::App,
    clock::Timestamp,
    db::Gate,
    events::{self, NewEvent},
    http::{Answer, Body, Caller, Code, IfMatch, Problem, problem::ProblemBody},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(get_outgoing_server)
        .service(replace_outgoing_server)
        .service(delete_outgoing_server)
        .service(check::check_outgoing_server)
        .service(check::send_test_message)
        .service(pause_outgoing_server)
        .service(resume_outgoing_server);
}

/// Read the outgoing server.
///
/// 404 until one is set: what is to be sent is `held` until then.
#[utoipa::path(tag = "outgoing server",
    responses((status = 200, description = "The outgoing server.", body = OutgoingServer, headers(("ETag" = String))),
        (status = 404, description = "None is set.", body = ProblemBody, content_type = "application/problem+json")))]
#[get("/outgoing-server")]
pub async fn get_outgoing_server(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read()).await?.ok_or_else(none)?;
    let version = row.version;
    Ok(Answer::ok(&OutgoingServer::of(row, &caller))?.versioned(version).into_response())
}

/// Set the outgoing server.
///
/// Messages that were held for want of one are queued. A server that was paused because it refused our login or showed a
/// bad certificate runs again with the new settings; one that an administrator paused stays paused. The ETag is that of
/// the settings: the state moves without it.
#[utoipa::path(tag = "outgoing server", request_body = OutgoingServerSettings,
    responses((status = 200, description = "The server as it is now.", body = OutgoingServer, headers(("ETag" = String))),
        (status = 201, description = "The first outgoing server.", body = OutgoingServer, headers(("ETag" = String), ("Location" = String)))))]
#[put("/outgoing-server")]
pub async fn replace_outgoing_server(
    app: web::Data<App>,
    caller: Caller,
    if_match: IfMatch,
    body: Body<OutgoingServerSettings>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let known = find(&*tx).await?;
    if_match.check(known.as_ref().map_or(0, |row| row.version))?;
    let has_password = known.as_ref().is_some_and(|row| row.password_sealed.is_some());
    body.0.check(has_password, app.config.mail.allow_plaintext)?;
    let is_new = known.is_none();
    let row = store(&app, &tx, now, body.0, known).await?;
    let data = json!({ "transport": row.transport, "state": row.state });
    let event = NewEvent::new("outgoing_server.updated", Uuid::nil(), &data).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    let version = row.version;
    let server = OutgoingServer::of(row, &caller);
    let answer = if is_new { Answer::created("/v1/outgoing-server", &server)? } else { Answer::ok(&server)? };
    Ok(answer.versioned(version).into_response())
}

async fn store(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    wanted: OutgoingServerSettings,
    known: Option<Model>,
) -> Result<Model, Problem> {
    let password_sealed = match &wanted.password {
        None => known.as_ref().and_then(|row| row.password_sealed.clone()),
        Some(None) => None,
        Some(Some(text)) => Some(app.sealer.seal(PASSWORD, text.as_bytes()).map_err(Problem::internal)?),
    };
    let by_hand = known.as_ref().filter(|row| {
        row.state == OutgoingState::Paused && row.state_reason.as_deref() == Some(state::PAUSED_BY_HAND)
    });
    let row = ActiveModel {
        id: Set(ID),
        transport: Set(wanted.transport),
        host: Set(wanted.host),
        port: Set(wanted.port),
        security: Set(wanted.security),
        auth: Set(wanted.auth),
        username: Set(wanted.username),
        password_sealed: Set(password_sealed),
        allow_plaintext: Set(wanted.allow_plaintext),
        helo_name: Set(wanted.helo_name),
        max_connections: Set(wanted.max_connections),
        max_messages_per_connection: Set(wanted.max_messages_per_connection),
        rate_per_minute: Set(wanted.rate_per_minute),
        retry: Set(serde_json::to_value(wanted.retry).map_err(Problem::internal)?),
        state: Set(if by_hand.is_some() { OutgoingState::Paused } else { OutgoingState::Running }),
        state_reason: Set(by_hand.and_then(|row| row.state_reason.clone())),
        retry_at: Set(None),
        failures: Set(0),
        next_slot_us: Set(known.as_ref().map_or(0, |row| row.next_slot_us)),
        version: Set(known.as_ref().map_or(1, |row| row.version + 1)),
        created_at: Set(known.as_ref().map_or(now, |row| row.created_at)),
        updated_at: Set(now),
    };
    let Some(known) = known else {
        return Ok(Entity::insert(row).exec_with_returning(tx).await?);
    };
    let guarded = Entity::update_many()
        .set(row)
        .filter(Column::Id.eq(ID))
        .filter(Column::Version.eq(known.version))
        .exec_with_returning(tx)
        .await?;
    Ok(guarded.into_iter().next().ok_or(DbErr::RecordNotUpdated)?)
}

/// Remove the outgoing server.
///
/// Messages that wait to be sent become `held`, and are queued again when a server is set.
#[utoipa::path(tag = "outgoing server",
    responses((status = 204, description = "It is gone."), (status = 404, description = "None is set.", body = ProblemBody, content_type = "application/problem+json")))]
#[delete("/outgoing-server")]
pub async fn delete_outgoing_server(app: web::Data<App>, if_match: IfMatch) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx).await?.ok_or_else(none)?;
    if_match.check(row.version)?;
    row.delete(&*tx).await?;
    let event = NewEvent::new("outgoing_server.deleted", Uuid::nil(), &json!({})).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Stop sending.
///
/// Messages whose last bytes are on their way are finished; all others wait, as if they had not been tried.
#[utoipa::path(tag = "outgoing server",
    responses((status = 200, description = "The paused server.", body = OutgoingServer, headers(("ETag" = String))),
        (status = 404, description = "None is set.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/outgoing-server/pause")]
pub async fn pause_outgoing_server(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    Gate::Sends.shut(&tx).await?;
    let row = find(&*tx).await?.ok_or_else(none)?;
    if !state::pause(&tx, now, &row, state::PAUSED_BY_HAND).await? {
        return Err(Problem::new(Code::InvalidState, "the outgoing server is paused already"));
    }
    let row = find(&*tx).await?.ok_or_else(none)?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&OutgoingServer::of(row, &caller))?.versioned(version).into_response())
}

/// Send again.
///
/// A paused server runs again, and a failing one is asked at once.
#[utoipa::path(tag = "outgoing server",
    responses((status = 200, description = "The running server.", body = OutgoingServer, headers(("ETag" = String))),
        (status = 404, description = "None is set.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/outgoing-server/resume")]
pub async fn resume_outgoing_server(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    find(&*tx).await?.ok_or_else(none)?;
    if !state::resume(&tx, now).await? {
        return Err(Problem::new(Code::InvalidState, "the outgoing server is running"));
    }
    let row = find(&*tx).await?.ok_or_else(none)?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&OutgoingServer::of(row, &caller))?.versioned(version).into_response())
}

pub(super) fn none() -> Problem {
    Problem::not_found("outgoing server: none is set")
}

/// Whether this server keeps mail instead of sending it.
pub(super) fn captures(row: &Model) -> bool {
    row.transport == Transport::Capture
}
