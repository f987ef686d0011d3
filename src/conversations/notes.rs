//! Operations on internal notes: for everybody who sees the conversation, never for the customer.

use actix_web::{HttpResponse, get, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, Order, QueryFilter, QueryOrder};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::{
    entity::{
        conversation,
        note::{ActiveModel, Column, Entity, Model},
    },
    visibility::find_conversation,
};
use crate::{
    app::App,
    clock::Timestamp,
    db::Tx,
    events::{self, NewEvent},
    http::{Answer, Body, Caller, Idempotency, PageQuery, Path, Problem, Query, idempotency::Start},
    id::{ConversationId, NoteId, UserId, WorkItemId},
    work::entity::{WorkState, work_item},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_conversation_notes).service(create_conversation_note).service(create_work_item_note);
}

/// An internal note on a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Note {
    /// The note's id.
    pub id: NoteId,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The work item it was written on.
    pub work_item_id: Option<WorkItemId>,
    /// The user or API key that wrote it.
    pub author_id: Uuid,
    /// The author's name then.
    #[schema(examples("anna"))]
    pub author_name: String,
    /// The note.
    #[schema(examples("She called as well and is in a hurry."))]
    pub text: String,
    /// When it was written.
    pub created_at: Timestamp,
}

/// A note to be written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "text": "She called as well and is in a hurry." }))]
pub struct NoteCreate {
    /// The note.
    #[schema(min_length = 1, max_length = 20_000, examples("She called as well and is in a hurry."))]
    pub text: String,
}

/// One page of notes.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoteList {
    /// The notes.
    pub items: Vec<Note>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How notes may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum NoteSort {
    /// Newest first.
    #[serde(rename = "-created_at")]
    CreatedAtDescending,
}

/// Which notes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NoteFilter {
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<NoteSort>,
}

impl From<Model> for Note {
    fn from(row: Model) -> Self {
        let Model { id, conversation_id, work_item_id, author_id, author_name, text, created_at } = row;
        Self { id, conversation_id, work_item_id, author_id, author_name, text, created_at }
    }
}

/// List the notes on a conversation.
#[utoipa::path(tag = "conversations", params(("id" = ConversationId, Path), PageQuery, NoteFilter),
    responses((status = 200, description = "One page.", body = NoteList)))]
#[get("/conversations/{id}/notes")]
pub async fn list_conversation_notes(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ConversationId>,
    page: Query<PageQuery>,
    filter: Query<NoteFilter>,
) -> Result<HttpResponse, Problem> {
    let db = app.db.read();
    find_conversation(db, &caller, *id).await?;
    let select = Entity::find().filter(Column::ConversationId.eq(*id));
    let sort = filter.0.sort.map(|NoteSort::CreatedAtDescending| (Column::Id, Order::Desc));
    let found = page.0.fetch(db, select, Column::Id, sort).await?.map(Note::from);
    Ok(HttpResponse::Ok().json(NoteList { items: found.items, next_cursor: found.next_cursor }))
}

/// Write a note on a conversation.
#[utoipa::path(tag = "conversations", params(("id" = ConversationId, Path)), request_body = NoteCreate,
    responses((status = 201, description = "The new note.", body = Note, headers(("Location" = String)))))]
#[post("/conversations/{id}/notes")]
pub async fn create_conversation_note(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ConversationId>,
    body: Body<NoteCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let conversation = find_conversation(app.db.read(), &caller, *id).await?;
    write(&app, &caller, conversation, None, body.0, idempotency).await
}

/// Write a note on a work item: it stands on the item's conversation.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = NoteCreate,
    responses((status = 201, description = "The new note.", body = Note, headers(("Location" = String)))))]
#[post("/work-items/{id}/notes")]
pub async fn create_work_item_note(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    body: Body<NoteCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let db = app.db.read();
    let missing = || Problem::not_found("work item");
    let item = work_item::Entity::find_by_id(*id).one(db).await?.ok_or_else(missing)?;
    let conversation = find_conversation(db, &caller, item.conversation_id).await.map_err(|_| missing())?;
    write(&app, &caller, conversation, Some(item.id), body.0, idempotency).await
}

/// The event of a new note: for the agent who has the conversation to read, and for those who oversee.
pub fn note_added(
    conversation: ConversationId,
    note: NoteId,
    work_item: Option<WorkItemId>,
    reader: Option<UserId>,
) -> NewEvent {
    let data = json!({ "id": conversation, "note_id": note, "work_item_id": work_item });
    let event = NewEvent::new("conversation.note_added", conversation.uuid(), &data);
    event.for_agent_or_supervisors(reader)
}

/// The agent who has the conversation's open item.
async fn holder(tx: &Tx, conversation: ConversationId) -> Result<Option<UserId>, DbErr> {
    let held = work_item::Entity::find()
        .filter(work_item::Column::ConversationId.eq(conversation))
        .filter(work_item::Column::State.is_in([
            WorkState::Assigned,
            WorkState::Wrapping,
            WorkState::Waiting,
        ]))
        .order_by_desc(work_item::Column::Id);
    Ok(held.one(&**tx).await?.and_then(|item| item.assigned_agent_id))
}

async fn write(
    app: &App,
    caller: &Caller,
    conversation: conversation::Model,
    work_item_id: Option<WorkItemId>,
    body: NoteCreate,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    if body.text.trim().is_empty() {
        return Err(Problem::invalid("/text", "too_short", "the note says nothing"));
    }
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = ActiveModel {
        id: Set(NoteId::new(now)),
        conversation_id: Set(conversation.id),
        work_item_id: Set(work_item_id),
        author_id: Set(caller.id),
        author_name: Set(caller.name.clone()),
        text: Set(body.text),
        created_at: Set(now),
    };
    let note = Note::from(Entity::insert(row).exec_with_returning(&*work.tx).await?);
    let reader = holder(&work.tx, conversation.id).await?.or(conversation.last_agent_id);
    let event = note_added(conversation.id, note.id, work_item_id, reader.or(caller.user_id()));
    events::append(&work.tx, now, vec![event]).await?;
    work.commit(Answer::created(format!("/v1/conversations/{}/notes", conversation.id), &note)?).await
}
