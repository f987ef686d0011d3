//! Operations that give a message's raw source and its attachments.
//!
//! What they give was written by strangers: it is sent with `nosniff` and a policy that lets nothing in it run, and as
//! a download, except pictures of types that cannot hold scripts.

use actix_web::{
    HttpResponse, HttpResponseBuilder, get,
    http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS},
    web,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    disposition::content_disposition, entity::message, messages::attachments, visibility::find_message,
};
use crate::{
    app::App,
    http::{Caller, Code, Path, Problem, Query, problem::ProblemBody},
    id::MessageId,
    mail::parse,
    raw::RawError,
};

/// Pictures that may be shown within a page.
const SHOWN: [&str; 6] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"];
/// Nothing in the answer may run or load anything, even when a browser is made to show it.
const POLICY: &str = "default-src 'none'; sandbox";

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(get_message_raw).service(get_message_attachment);
}

/// A message as it crosses the wire (RFC 5322).
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct MailSource(pub Vec<u8>);

/// A file's bytes.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct FileContent(pub Vec<u8>);

/// How to send an attachment.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AttachmentView {
    /// Whether a picture may be shown within a page; every other file stays a download.
    #[serde(default)]
    #[param(default = false)]
    inline: bool,
}

/// Download a message's raw source.
///
/// Byte for byte what was received or sent. Of a message that was too large to fetch it is the header section; when not
/// even that was fetched, or a message of ours was not composed yet, there is none.
#[utoipa::path(tag = "messages", params(("id" = MessageId, Path)),
    responses((status = 200, description = "The source.", body = MailSource, content_type = "message/rfc822"),
        (status = 410, description = "It was erased.", body = ProblemBody, content_type = "application/problem+json")))]
#[get("/messages/{id}/raw")]
pub async fn get_message_raw(
    app: web::Data<App>,
    caller: Caller,
    id: Path<MessageId>,
) -> Result<HttpResponse, Problem> {
    let row = find_message(app.db.read(), &caller, *id).await?;
    require_content(&row)?;
    let source = app.raw.stream(app.db.read(), row.id).await.map_err(raw_problem)?;
    let source = source.ok_or_else(|| Problem::not_found("raw source of this message"))?;
    let mut answer = guarded(&content_disposition(false, &format!("{}.eml", row.id)));
    Ok(answer.content_type("message/rfc822").no_chunking(source.size_bytes).streaming(source.bytes))
}

/// Download an attachment.
///
/// The media type is the one that the sender claims.
#[utoipa::path(tag = "messages",
    params(("id" = MessageId, Path), ("number" = u32, Path, description = "Its number within the message, from 1.", example = 1), AttachmentView),
    responses((status = 200, description = "The file.", body = FileContent, content_type = "*/*"),
        (status = 410, description = "It was erased.", body = ProblemBody, content_type = "application/problem+json")))]
#[get("/messages/{id}/attachments/{number}")]
pub async fn get_message_attachment(
    app: web::Data<App>,
    caller: Caller,
    path: Path<(MessageId, u32)>,
    view: Query<AttachmentView>,
) -> Result<HttpResponse, Problem> {
    let (id, number) = path.into_inner();
    let missing = || Problem::not_found("attachment of this message");
    let row = find_message(app.db.read(), &caller, id).await?;
    require_content(&row)?;
    let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).ok_or_else(missing)?;
    // Of a message that was taken in unread, nothing is read for this either.
    if !attachments(&row).iter().any(|part| part.index == index) {
        return Err(missing());
    }
    let raw = app.raw.load(app.db.read(), row.id).await.map_err(raw_problem)?.ok_or_else(missing)?;
    let part = web::block(move || parse::attachment(&raw, index)).await.map_err(Problem::internal)?;
    let part = part.ok_or_else(missing)?;
    let inline = view.0.inline && SHOWN.contains(&part.content_type.as_str());
    let name = part.filename.unwrap_or_else(|| format!("attachment-{number}"));
    let mut answer = guarded(&content_disposition(inline, &name));
    Ok(answer.content_type(media_type(&part.content_type)).body(part.bytes))
}

fn require_content(row: &message::Model) -> Result<(), Problem> {
    match row.erased_at {
        None => Ok(()),
        Some(_) => {
            Err(Problem::new(Code::Gone, "the message was erased with what was known of the customer"))
        }
    }
}

/// An answer in which nothing may run, whoever wrote what it carries.
pub fn guarded(disposition: &str) -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CONTENT_DISPOSITION, disposition));
    answer
}

/// The claimed media type when it has the form of one.
pub fn media_type(claimed: &str) -> &str {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let fits = claimed.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if fits && claimed.len() <= 127 { claimed } else { "application/octet-stream" }
}

/// A raw source that cannot be stored or read, as the API answers it.
pub fn raw_problem(error: RawError) -> Problem {
    match error {
        RawError::Db(error) => error.into(),
        error if error.passes() => {
            tracing::error!(%error, "the object store failed");
            Problem::new(Code::Unavailable, "the object store is not reachable").retry_after(5)
        }
        other => Problem::internal(other),
    }
}
