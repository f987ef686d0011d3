//! Operations on uploads: files that wait to be attached to an answer.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, delete, dev::Payload, get, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    app::App,
    clock::Timestamp,
    conversations::entity::upload::{ActiveModel, Column, Entity},
    http::{
        Answer, Caller, Code, Idempotency, Path, Problem, Query, body::collect_up_to, idempotency::Start,
    },
    id::UploadId,
};

/// How long an upload waits for its answer, in seconds.
pub const KEPT_S: i64 = 24 * 3600;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(create_upload).service(get_upload).service(delete_upload);
}

/// A file that waits to be attached to an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    /// The upload's id, for `attachment_ids`.
    pub id: UploadId,
    /// Its name.
    #[schema(examples("invoice.pdf"))]
    pub filename: String,
    /// Its media type.
    #[schema(examples("application/pdf"))]
    pub content_type: String,
    /// Its size.
    #[schema(minimum = 0, examples(48_213))]
    pub size_bytes: i64,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// When it is removed, unless an answer took it with it.
    pub expires_at: Timestamp,
}

/// What the file is called.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Its name, without folders.
    #[param(min_length = 1, max_length = 255, pattern = r"^[^\x00-\x1f\x7f/\\]+$", example = "invoice.pdf")]
    filename: String,
}

/// A file as a request's body: its bytes and its media type.
#[derive(Debug)]
pub struct File {
    content_type: String,
    bytes: web::Bytes,
}

/// The file's bytes, as they are.
#[derive(Debug)]
pub struct FileContent;

impl PartialSchema for FileContent {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::SchemaType::AnyValue)
            .description(Some("The file's bytes, as they are."))
            .into()
    }
}

impl ToSchema for FileContent {}

impl FromRequest for File {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let content_type = media_type(request.content_type())?;
            let app = request.app_data::<web::Data<App>>();
            let limit = app.map(|app| app.config.limits.max_attachments_bytes);
            let limit = limit.ok_or_else(|| Problem::internal("the application is not mounted"))?;
            let bytes = collect_up_to(&request, payload, limit).await?;
            Ok(Self { content_type, bytes })
        })
    }
}

/// `type/subtype` of a media type, `application/octet-stream` when none is given.
fn media_type(given: &str) -> Result<String, Problem> {
    let wrong = |detail: &str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    let essence = given.trim().to_ascii_lowercase();
    let token = |part: &str| {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        (1..=100).contains(&part.len()) && part.bytes().all(is_token)
    };
    match essence.split_once('/') {
        None if essence.is_empty() => Ok("application/octet-stream".to_owned()),
        Some(("multipart", _)) => wrong("send the file itself as the body, with its name as ?filename="),
        Some((kind, subtype)) if token(kind) && token(subtype) => Ok(essence),
        _ => wrong("the Content-Type is not type/subtype"),
    }
}

type Row = (UploadId, String, String, i64, Timestamp);

fn show((id, filename, content_type, size_bytes, created_at): Row) -> Upload {
    Upload { id, filename, content_type, size_bytes, created_at, expires_at: created_at.plus_s(KEPT_S) }
}

/// Upload a file, to be attached to an answer or to a template.
///
/// The body is the file itself. Only its owner sees it, and it is gone after 24 hours.
#[utoipa::path(tag = "work items", params(UploadQuery),
    request_body(content = inline(FileContent), content_type = "application/octet-stream",
        description = "The file itself, under its own Content-Type."),
    responses((status = 201, description = "It waits for its answer.", body = Upload, headers(("Location" = String)))))]
#[post("/uploads")]
pub async fn create_upload(
    app: web::Data<App>,
    caller: Caller,
    query: Query<UploadQuery>,
    file: File,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let size_bytes = i64::try_from(file.bytes.len()).unwrap_or(i64::MAX);
    let id = UploadId::new(now);
    let row = ActiveModel {
        id: Set(id),
        owner_id: Set(caller.id),
        filename: Set(query.0.filename.clone()),
        content_type: Set(file.content_type.clone()),
        size_bytes: Set(size_bytes),
        data: Set(file.bytes.to_vec()),
        created_at: Set(now),
    };
    Entity::insert(row).exec_without_returning(&*work.tx).await?;
    let upload = show((id, query.0.filename, file.content_type, size_bytes, now));
    work.commit(Answer::created(format!("/v1/uploads/{id}"), &upload)?).await
}

/// Read about an upload of one's own.
#[utoipa::path(tag = "work items", params(("id" = UploadId, Path)),
    responses((status = 200, description = "The upload.", body = Upload)))]
#[get("/uploads/{id}")]
pub async fn get_upload(
    app: web::Data<App>,
    caller: Caller,
    id: Path<UploadId>,
) -> Result<HttpResponse, Problem> {
    let columns = [Column::Id, Column::Filename, Column::ContentType, Column::SizeBytes, Column::CreatedAt];
    let found: Option<Row> = Entity::find_by_id(*id)
        .select_only()
        .columns(columns)
        .filter(Column::OwnerId.eq(caller.id))
        .filter(Column::CreatedAt.gt(app.clock.now().plus_s(-KEPT_S)))
        .into_tuple()
        .one(app.db.read())
        .await?;
    let found = found.ok_or_else(|| Problem::not_found("upload of yours"))?;
    Ok(HttpResponse::Ok().json(show(found)))
}

/// Delete an upload of one's own.
#[utoipa::path(tag = "work items", params(("id" = UploadId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/uploads/{id}")]
pub async fn delete_upload(
    app: web::Data<App>,
    caller: Caller,
    id: Path<UploadId>,
) -> Result<HttpResponse, Problem> {
    let tx = app.db.begin().await?;
    let mine = Entity::delete_many().filter(Column::Id.eq(*id)).filter(Column::OwnerId.eq(caller.id));
    if mine.exec(&*tx).await?.rows_affected == 0 {
        return Err(Problem::not_found("upload of yours"));
    }
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
