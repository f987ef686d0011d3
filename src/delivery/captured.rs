//! Mail that was kept instead of sent: the sandbox's way out.

use actix_web::{HttpResponse, delete, get, web};
use sea_orm::{EntityTrait, Order, QueryFilter, QuerySelect};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::entity::captured::{Column, Entity, Model};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::entity::message,
    db::among,
    http::{Code, PageQuery, Path, Problem, Query, problem::ProblemBody},
    id::MessageId,
};

/// A message that was kept instead of sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapturedMessage {
    /// Its id.
    pub id: Uuid,
    /// The message.
    pub message_id: MessageId,
    /// The envelope sender; empty for the null path.
    pub envelope_from: String,
    /// Who would have got it.
    pub recipients: Vec<String>,
    /// Its subject.
    pub subject: String,
    /// The size of its source.
    pub size_bytes: i64,
    /// When it would have been sent.
    pub captured_at: Timestamp,
}

/// One page of captured messages.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapturedMessageList {
    /// The messages, newest first.
    pub items: Vec<CapturedMessage>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

type Shown = (MessageId, String, i64);

impl CapturedMessage {
    fn of(row: Model, shown: &[Shown]) -> Self {
        let found = shown.iter().find(|(id, ..)| *id == row.message_id);
        Self {
            id: row.id,
            message_id: row.message_id,
            envelope_from: row.envelope_from,
            recipients: serde_json::from_value(row.recipients).unwrap_or_default(),
            subject: found.map(|(_, subject, _)| subject.clone()).unwrap_or_default(),
            size_bytes: found.map_or(0, |(.., size)| *size),
            captured_at: row.captured_at,
        }
    }
}

/// List captured messages, newest first.
#[utoipa::path(tag = "outgoing server", params(PageQuery),
    responses((status = 200, description = "One page.", body = CapturedMessageList)))]
#[get("/outgoing-server/captured")]
pub async fn list_captured_messages(
    app: web::Data<App>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let newest = Some((Column::Id, Order::Desc));
    let page = page.0.fetch(app.db.read(), Entity::find(), Column::Id, newest).await?;
    let shown = shown(&app, page.items.iter().map(|row| row.message_id)).await?;
    let found = page.map(|row| CapturedMessage::of(row, &shown));
    Ok(HttpResponse::Ok().json(CapturedMessageList { items: found.items, next_cursor: found.next_cursor }))
}

/// Read one captured message.
#[utoipa::path(tag = "outgoing server", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The message.", body = CapturedMessage)))]
#[get("/outgoing-server/captured/{id}")]
pub async fn get_captured_message(app: web::Data<App>, id: Path<Uuid>) -> Result<HttpResponse, Problem> {
    let row = find(&app, *id).await?;
    let shown = shown(&app, [row.message_id]).await?;
    Ok(HttpResponse::Ok().json(CapturedMessage::of(row, &shown)))
}

/// Download the source of a captured message.
#[utoipa::path(tag = "outgoing server", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The message as it would have been sent.", body = String, content_type = "message/rfc822"),
        (status = 410, description = "The source is gone.", body = ProblemBody, content_type = "application/problem+json")))]
#[get("/outgoing-server/captured/{id}/raw")]
pub async fn get_captured_message_raw(app: web::Data<App>, id: Path<Uuid>) -> Result<HttpResponse, Problem> {
    let row = find(&app, *id).await?;
    let raw = app.raw.load(app.db.read(), row.message_id).await.map_err(Problem::internal)?;
    let raw = raw.ok_or_else(|| Problem::new(Code::Gone, "the message's source is gone"))?;
    let disposition = format!("attachment; filename=\"{}.eml\"", row.message_id);
    Ok(HttpResponse::Ok()
        .content_type("message/rfc822")
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Content-Disposition", disposition))
        .body(raw))
}

/// Forget all captured messages.
///
/// The messages themselves stay where they are, as sent.
#[utoipa::path(tag = "outgoing server", responses((status = 204, description = "They are forgotten.")))]
#[delete("/outgoing-server/captured")]
pub async fn delete_captured_messages(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let tx = app.db.begin().await?;
    Entity::delete_many().exec(&*tx).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn find(app: &App, id: Uuid) -> Result<Model, Problem> {
    let row = Entity::find_by_id(id).one(app.db.read()).await?;
    row.ok_or_else(|| Problem::not_found("captured message"))
}

async fn shown(app: &App, ids: impl IntoIterator<Item = MessageId>) -> Result<Vec<Shown>, Problem> {
    use message::Column;
    let rows = message::Entity::find()
        .select_only()
        .columns([Column::Id, Column::Subject, Column::SizeBytes])
        .filter(among(Column::Id, ids))
        .into_tuple()
        .all(app.db.read())
        .await?;
    Ok(rows)
}
