//! Operations that answer.

use actix_web::{HttpResponse, get, post, web};
use sea_orm::EntityTrait;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    Way,
    bodies::{Wanted, WorkItemForward, WorkItemReply},
    original::Original,
    prefill::{ReplyTemplate, TemplateQuery},
    send::{SentAnswer, answer},
    texts,
};
use crate::{
    app::App,
    conversations::visibility::find_conversation,
    http::{Body, Caller, Idempotency, Path, Problem, Query, problem::ProblemBody},
    id::WorkItemId,
    work::entity::work_item,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(reply_work_item)
        .service(reply_all_work_item)
        .service(forward_work_item)
        .service(get_reply_template);
}

/// Reply to the customer.
///
/// The answer goes to Reply-To, else From, of the message. It is on its way when this returns: follow it with
/// `GET /v1/messages/{id}/timeline`. Only the agent who has the item answers it.
///
/// The answer to a text goes to the number that wrote: it has `text` alone, takes no more segments than the account
/// allows, quotes nothing, and is refused with `number_stopped` once the number has sent a stop word.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemReply,
    responses((status = 201, description = "It is on its way.", body = SentAnswer, headers(("Location" = String)))))]
#[post("/work-items/{id}/reply")]
pub async fn reply_work_item(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    body: Body<WorkItemReply>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    Box::pin(answer(&app, &caller, *id, Wanted::reply(Way::Reply, body.0), idempotency)).await
}

/// Reply to the customer and everybody who got the message.
///
/// To and Cc are kept, less our own addresses. A text has one recipient: `not_for_texts`.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemReply,
    responses((status = 201, description = "It is on its way.", body = SentAnswer, headers(("Location" = String)))))]
#[post("/work-items/{id}/reply-all")]
pub async fn reply_all_work_item(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    body: Body<WorkItemReply>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    Box::pin(answer(&app, &caller, *id, Wanted::reply(Way::ReplyAll, body.0), idempotency)).await
}

/// Pass a message on to somebody else, with its files.
///
/// The conversation stays ours to answer. A text is not passed on: `not_for_texts`.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path)), request_body = WorkItemForward,
    responses((status = 201, description = "It is on its way.", body = SentAnswer, headers(("Location" = String)))))]
#[post("/work-items/{id}/forward")]
pub async fn forward_work_item(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    body: Body<WorkItemForward>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    Box::pin(answer(&app, &caller, *id, Wanted::forward(body.0), idempotency)).await
}

/// What an answer begins with: recipients, subject, quote and signature.
#[utoipa::path(tag = "work items", params(("id" = WorkItemId, Path), TemplateQuery),
    responses((status = 200, description = "What to put into the editor.", body = ReplyTemplate),
        (status = 409, description = "The account is disabled, or a text is not answered so.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The conversation has no such message.", body = ProblemBody, content_type = "application/problem+json")))]
#[get("/work-items/{id}/reply-template")]
pub async fn get_reply_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<WorkItemId>,
    query: Query<TemplateQuery>,
) -> Result<HttpResponse, Problem> {
    let db = app.db.read();
    let item = work_item::Entity::find_by_id(*id).one(db).await?;
    let item = item.ok_or_else(|| Problem::not_found("work item"))?;
    find_conversation(db, &caller, item.conversation_id).await?;
    let original = Original::load(db, item, query.0.message_id).await?;
    texts::check_way(&original, query.0.kind)?;
    let template = web::block(move || ReplyTemplate::of(&original, query.0.kind)).await;
    Ok(HttpResponse::Ok().json(template.map_err(Problem::internal)?))
}
