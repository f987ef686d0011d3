//! Operations on drafts: an answer that is still being written, one per work item.

use actix_web::{HttpResponse, delete, get, put, web};
use sea_orm::{EntityTrait, IntoActiveModel, sea_query::OnConflict};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{bodies::DraftContent, desk::at_desk_of};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::{
        drafts::discard,
        entity::draft::{Column, Entity, Model},
        visibility::find_conversation,
    },
    http::{Answer, Body, Caller, IfMatch, Path, Problem},
    id::{UserId, WorkItemId},
    work::entity::{WorkState, work_item},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(get_draft).service(replace_draft).service(delete_draft);
}

/// An answer that is still being written.
#[derive(Debug, Serialize, ToSchema)]
pub struct Draft {
    /// The work item.
    pub work_item_id: WorkItemId,
    /// The agent who wrote it last.
    pub author_id: UserId,
    /// The answer so far.
    pub content: DraftContent,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

fn show(row: Model) -> Result<Draft, Problem> {
    let content = serde_json::from_value(row.content).map_err(Problem::internal)?;
    let Model { work_item_id, author_id, created_at, updated_at, .. } = row;
    Ok(Draft { work_item_id, author_id, content, created_at, updated_at })
}

fn missing() -> Problem {
    Problem::not_found("draft")
}

/// Read the draft of a work item.
///
/// It stays with the item when the item goes on to another agent, and is gone when the item is answered or done.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 200, description = "The draft.", body = Draft, headers(("ETag" = String)))))]
#[get("/work-items/{id}/draft")]
pub async fn get_draft(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
) -> Result<HttpResponse, Problem> {
    let db = app.db.read();
    let item = work_item::Entity::find_by_id(*id).one(db).await?;
    let item = item.ok_or_else(|| Problem::not_found("work item"))?;
    find_conversation(db, &caller, item.conversation_id).await?;
    if matches!(item.state, WorkState::Completed | WorkState::Discarded) {
        return Err(missing());
    }
    let row = Entity::find_by_id(*id).one(db).await?.ok_or_else(missing)?;
    let version = row.version;
    Ok(Answer::ok(&show(row)?)?.versioned(version).into_response())
}

/// Write the draft of a work item.
///
/// Only the agent who has the item writes it. With If-Match, only over the draft that the agent has seen.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = DraftContent,
    responses((status = 200, description = "The draft.", body = Draft, headers(("ETag" = String)))))]
#[put("/work-items/{id}/draft")]
pub async fn replace_draft(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    if_match: IfMatch,
    body: Body<DraftContent>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    // The lock on the item keeps two writers of its draft apart.
    let (_, agent) = at_desk_of(&tx, *id, &caller).await?;
    let before = Entity::find_by_id(*id).one(&*tx).await?;
    let seen = before.as_ref().map_or(0, |draft| draft.version);
    if_match.check(seen)?;
    let row = Model {
        work_item_id: *id,
        author_id: agent,
        content: serde_json::to_value(&body.0).map_err(Problem::internal)?,
        version: seen + 1,
        created_at: before.map_or(now, |draft| draft.created_at),
        updated_at: now,
    };
    let over = [Column::AuthorId, Column::Content, Column::Version, Column::UpdatedAt];
    let over = OnConflict::column(Column::WorkItemId).update_columns(over).to_owned();
    Entity::insert(row.clone().into_active_model()).on_conflict(over).exec_without_returning(&*tx).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&show(row)?)?.versioned(version).into_response())
}

/// Throw the draft of a work item away.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/work-items/{id}/draft")]
pub async fn delete_draft(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let tx = app.db.begin().await?;
    at_desk_of(&tx, *id, &caller).await?;
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(missing)?;
    if_match.check(row.version)?;
    discard(&tx, *id).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
