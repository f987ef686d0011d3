//! Operations that take mail in.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, dev::Payload, post, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::push::push;
use crate::{
    app::App,
    conversations::{messages::MessageSummary, source::MailSource},
    http::{Code, Idempotency, Path, Problem, body::collect_up_to},
    id::{AccountId, ConversationId, WorkItemId},
};

/// The media type of a raw message (RFC 2046 §5.2.1).
const MEDIA_TYPE: &str = "message/rfc822";

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(push_message);
}

/// A message that was pushed, and what it became.
#[derive(Debug, Serialize, ToSchema)]
pub struct PushedMessage {
    /// The new message.
    pub message: MessageSummary,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// The work item that covers it; none for automatic answers and our own mail coming back.
    pub work_item_id: Option<WorkItemId>,
}

/// A raw message as a request's body.
#[derive(Debug)]
pub struct RawBody(Vec<u8>);

impl FromRequest for RawBody {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            if !request.content_type().eq_ignore_ascii_case(MEDIA_TYPE) {
                return Err(Problem::new(Code::UnsupportedMediaType, format!("send {MEDIA_TYPE}")));
            }
            let app = request.app_data::<web::Data<App>>();
            let limit = app.map(|app| app.config.mail.max_message_bytes);
            let limit = limit.ok_or_else(|| Problem::internal("the application is not mounted"))?;
            let bytes = collect_up_to(&request, payload, limit).await?;
            if bytes.is_empty() {
                return Err(Problem::new(Code::UnparsableMessage, "the body is empty"));
            }
            Ok(Self(bytes.to_vec()))
        })
    }
}

/// Push a raw message into an account.
///
/// The message takes the same way as one that was fetched over IMAP: it is stored byte for byte, parsed, put into its
/// conversation and routed. A message that cannot be parsed is kept as `unparsed` and becomes work all the same.
/// A message that is pushed again is taken in again: only the same `Idempotency-Key` says that it is a repeat.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    request_body(content = MailSource, content_type = "message/rfc822",
        example = "From: Anna <anna@example.org>\r\nTo: support@example.com\r\nSubject: Where is my order?\r\n\r\nIt was due on Monday.\r\n"),
    responses((status = 201, description = "The message is stored.", body = PushedMessage, headers(("Location" = String)))))]
#[post("/accounts/{id}/messages")]
pub async fn push_message(
    app: web::Data<App>,
    id: Path<AccountId>,
    raw: RawBody,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    push(&app, *id, raw.0, idempotency).await
}
