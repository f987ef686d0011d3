//! Operations on conversations.

use std::collections::HashSet;

use actix_web::{HttpResponse, get, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, Order, QueryFilter, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    entity::{
        ConversationState,
        conversation::{ActiveModel, Column, Entity, Model},
        message,
    },
    messages::{MessageList, MessageSummary, asked_key},
    visibility::{find_conversation, visible_to, with_agent},
};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    db::among,
    events::{self, NewEvent},
    http::{Caller, Code, PageQuery, Path, Problem, Query},
    id::{AccountId, ConversationId, MessageId, UserId},
    work::entity::{WorkState, work_item},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_conversations)
        .service(get_conversation)
        .service(list_conversation_messages)
        .service(close_conversation);
}

/// A thread of messages with a customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conversation {
    /// The conversation's id.
    pub id: ConversationId,
    /// The account it runs over.
    pub account_id: AccountId,
    /// E-mail or text.
    pub channel: Channel,
    /// Whose turn it is.
    pub state: ConversationState,
    /// The first message's subject.
    #[schema(examples("Where is my order?"))]
    pub subject: String,
    /// The customer's name as last written.
    #[schema(examples("Anna Smith"))]
    pub customer_name: Option<String>,
    /// The customer's address, in lower case.
    #[schema(examples("anna@example.org"))]
    pub customer_address: Option<String>,
    /// How many messages it has.
    #[schema(minimum = 0, examples(2))]
    pub message_count: i64,
    /// The newest message, inbound or outbound.
    pub last_message_id: Option<MessageId>,
    /// When that was.
    pub last_message_at: Timestamp,
    /// The agent who last had it.
    pub last_agent_id: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What can be done with it now.
    pub allowed_actions: Vec<ConversationAction>,
}

/// What can be done with a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationAction {
    /// `POST /v1/conversations/{id}/close`
    Close,
}

/// One page of conversations.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationList {
    /// The conversations.
    pub items: Vec<Conversation>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How conversations may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum ConversationSort {
    /// By the last message, oldest first.
    #[serde(rename = "last_message_at")]
    LastMessageAt,
    /// By the last message, newest first.
    #[serde(rename = "-last_message_at")]
    LastMessageAtDescending,
}

/// Which conversations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConversationFilter {
    /// Only those of this account.
    #[param(inline)]
    account_id: Option<AccountId>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<ConversationState>,
    /// Only those with this customer's address, in any case.
    #[param(max_length = 320)]
    customer_address: Option<String>,
    /// Only those that this agent has or had work in.
    #[param(inline)]
    agent_id: Option<UserId>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<ConversationSort>,
}

impl Conversation {
    fn of(row: Model, has_open_item: bool) -> Self {
        let can_close = row.state != ConversationState::Closed && !has_open_item;
        Self {
            id: row.id,
            account_id: row.account_id,
            channel: row.channel,
            state: row.state,
            subject: row.subject,
            customer_name: row.customer_name,
            customer_address: row.customer_address,
            message_count: row.message_count,
            last_message_id: row.last_message_id,
            last_message_at: row.last_message_at,
            last_agent_id: row.last_agent_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
            allowed_actions: can_close.then_some(ConversationAction::Close).into_iter().collect(),
        }
    }
}

/// List conversations.
///
/// Agents see those that they have or had work in.
#[utoipa::path(tag = "conversations", params(PageQuery, ConversationFilter),
    responses((status = 200, description = "One page.", body = ConversationList)))]
#[get("/conversations")]
pub async fn list_conversations(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<ConversationFilter>,
) -> Result<HttpResponse, Problem> {
    let filter = filter.0;
    let mut select = Entity::find().filter(visible_to(&caller, Column::Id));
    if let Some(id) = filter.account_id {
        select = select.filter(Column::AccountId.eq(id));
    }
    if let Some(state) = filter.state {
        select = select.filter(Column::State.eq(state));
    }
    if let Some(address) = &filter.customer_address {
        select = select.filter(Column::CustomerAddress.eq(asked_key(address)));
    }
    if let Some(agent) = filter.agent_id {
        select = select.filter(with_agent(agent, Column::Id));
    }
    let sort = filter.sort.map(|sort| match sort {
        ConversationSort::LastMessageAt => (Column::LastMessageAt, Order::Asc),
        ConversationSort::LastMessageAtDescending => (Column::LastMessageAt, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let busy = with_open_item(app.db.read(), found.items.iter().map(|row| row.id)).await?;
    let found = found.map(|row| {
        let has_open_item = busy.contains(&row.id);
        Conversation::of(row, has_open_item)
    });
    Ok(HttpResponse::Ok().json(ConversationList { items: found.items, next_cursor: found.next_cursor }))
}

/// Read one conversation.
#[utoipa::path(tag = "conversations", params(("id" = ConversationId, Path)),
    responses((status = 200, description = "The conversation.", body = Conversation)))]
#[get("/conversations/{id}")]
pub async fn get_conversation(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ConversationId>,
) -> Result<HttpResponse, Problem> {
    let row = find_conversation(app.db.read(), &caller, *id).await?;
    let busy = with_open_item(app.db.read(), [row.id]).await?;
    Ok(HttpResponse::Ok().json(Conversation::of(row, !busy.is_empty())))
}

/// List a conversation's messages, oldest first.
#[utoipa::path(tag = "conversations", params(("id" = ConversationId, Path), PageQuery),
    responses((status = 200, description = "One page.", body = MessageList)))]
#[get("/conversations/{id}/messages")]
pub async fn list_conversation_messages(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ConversationId>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let conversation = find_conversation(app.db.read(), &caller, *id).await?;
    let select = message::Entity::find().filter(message::Column::ConversationId.eq(conversation.id));
    let found = page.0.fetch(app.db.read(), select, message::Column::Id, None).await?;
    let found = found.map(MessageSummary::from);
    Ok(HttpResponse::Ok().json(MessageList { items: found.items, next_cursor: found.next_cursor }))
}

/// Close a conversation whose work is done.
///
/// The customer's next message opens it again.
#[utoipa::path(tag = "conversations", params(("id" = ConversationId, Path)),
    responses((status = 200, description = "The closed conversation.", body = Conversation)))]
#[post("/conversations/{id}/close")]
pub async fn close_conversation(
    app: web::Data<App>,
    caller: Caller,
    id: Path<ConversationId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find_conversation(&*tx, &caller, *id).await?;
    if row.state == ConversationState::Closed {
        return Err(Problem::new(Code::InvalidState, "the conversation is closed already"));
    }
    if !with_open_item(&*tx, [row.id]).await?.is_empty() {
        return Err(Problem::new(Code::InvalidState, "complete the conversation's work item first"));
    }
    let change = ActiveModel {
        state: Set(ConversationState::Closed),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded =
        Entity::update_many().set(change).filter(Column::Id.eq(*id)).filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let event = NewEvent::new("conversation.updated", id.uuid(), &json!({ "state": row.state }));
    let event = match row.last_agent_id {
        Some(agent) => event.for_agent(agent),
        None => event.for_supervisors(),
    };
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(Conversation::of(row, false)))
}

/// Which of these conversations have a work item that is not done.
async fn with_open_item(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = ConversationId>,
) -> Result<HashSet<ConversationId>, DbErr> {
    let open: Vec<ConversationId> = work_item::Entity::find()
        .select_only()
        .column(work_item::Column::ConversationId)
        .filter(among(work_item::Column::ConversationId, ids))
        .filter(work_item::Column::State.is_not_in(WorkState::DONE))
        .into_tuple()
        .all(db)
        .await?;
    Ok(open.into_iter().collect())
}
