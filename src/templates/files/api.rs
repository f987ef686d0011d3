//! Operations on the files that go out with a template.

use actix_web::{HttpResponse, delete, get, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, ModelTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    MAX_FILES, TemplateAttachment,
    entity::{ActiveModel, Entity, Model},
    of, total_bytes,
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::{
        disposition::content_disposition,
        entity::upload,
        source::{FileContent, guarded, media_type, raw_problem},
    },
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, Path, Problem,
        idempotency::{Start, Work},
    },
    id::{TemplateAttachmentId, TemplateId, UploadId},
    raw::Kept,
    templates::{
        api::{change, find},
        entity::{self as template, TemplateChannel, TemplatePurpose, TemplateState},
    },
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(create_template_attachment)
        .service(get_template_attachment)
        .service(delete_template_attachment);
}

/// A file to go out with a template.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "upload_id": "019aa1b2-0000-7000-8000-000000000001", "content_id": "logo" }))]
pub struct TemplateAttachmentCreate {
    /// The file: an upload of the caller (`POST /v1/uploads`), which this uses up.
    pub upload_id: UploadId,
    /// What the HTML shows it as, after `cid:`: `<img src="cid:logo">`. Left out for a file that is only attached.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$", examples("logo"))]
    pub content_id: Option<String>,
}

/// Have a file go out with every mail of a template.
///
/// Only drafts for e-mail take files, receipts none. When the template is published they are frozen with it.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)), request_body = TemplateAttachmentCreate,
    responses((status = 201, description = "The attachment.", body = TemplateAttachment, headers(("Location" = String)))))]
#[post("/templates/{id}/attachments")]
pub async fn create_template_attachment(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
    body: Body<TemplateAttachmentCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let template = find(&*work.tx, *id).await?;
    let select = upload::Entity::find_by_id(body.0.upload_id).filter(upload::Column::OwnerId.eq(caller.id));
    let upload = select.one(&*work.tx).await?;
    let upload = upload.ok_or_else(|| Problem::unknown_reference("/upload_id", "upload of yours"))?;
    let limit = app.config.limits.max_attachments_bytes;
    let attachment = fitting(&template, &upload, body.0.content_id, limit, now)?;
    let paused = work.pause().await?;
    let sha256 = Sha256::digest(&upload.data).to_vec();
    let kept = app.raw.keep(attachment.id.uuid(), upload.data).await.map_err(raw_problem)?;
    let object = kept.object_key.clone();
    let row =
        Model { id: attachment.id, template_id: *id, sha256, data: kept.data, object_key: kept.object_key };
    let location = format!("/v1/templates/{}/attachments/{}", *id, attachment.id);
    let attached = async {
        let work = match paused.resume(&app.db).await? {
            Start::Replay(answer) => return Ok(Err(answer)),
            Start::Run(work) => work,
        };
        attach(&work.tx, now, &template, upload.id, row, &attachment).await?;
        Ok::<Result<Box<Work>, HttpResponse>, Problem>(Ok(work))
    };
    match attached.await {
        Ok(Ok(work)) => work.commit(Answer::created(location, &attachment)?).await,
        // Another replica has attached it meanwhile, or it cannot be: what was stored for it is not needed.
        Ok(Err(before)) => {
            app.raw.drop_objects(object).await;
            Ok(before)
        }
        Err(problem) => {
            app.raw.drop_objects(object).await;
            Err(problem)
        }
    }
}

/// The attachment that an upload becomes, if the template may have it.
fn fitting(
    template: &template::Model,
    upload: &upload::Model,
    content_id: Option<String>,
    limit: usize,
    now: Timestamp,
) -> Result<TemplateAttachment, Problem> {
    open(template)?;
    if template.channel != TemplateChannel::Email || template.purpose != TemplatePurpose::General {
        let detail = "only templates for e-mail of the purpose `general` have attachments";
        return Err(Problem::new(Code::InvalidState, detail));
    }
    let files = of(template);
    if files.len() >= MAX_FILES {
        let detail = format!("a template has at most {MAX_FILES} attachments");
        return Err(Problem::invalid("/upload_id", "too_long", detail));
    }
    let size = total_bytes(template).saturating_add(upload.size_bytes);
    if usize::try_from(size).is_ok_and(|size| size > limit) {
        let detail = format!("the files would have {size} bytes, the limit is {limit}");
        return Err(Problem::invalid("/upload_id", "too_large", detail));
    }
    if content_id.is_some() && files.iter().any(|file| file.content_id == content_id) {
        return Err(Problem::invalid("/content_id", "duplicate", "another attachment has this content_id"));
    }
    Ok(TemplateAttachment {
        id: TemplateAttachmentId::new(now),
        filename: upload.filename.clone(),
        content_type: upload.content_type.clone(),
        size_bytes: upload.size_bytes,
        content_id,
        created_at: now,
    })
}

fn open(template: &template::Model) -> Result<(), Problem> {
    if template.state == TemplateState::Draft {
        return Ok(());
    }
    Err(Problem::new(Code::VersionLocked, "a template that was published is frozen"))
}

/// Uses up the upload, stores the file and notes it on the template, if nobody has changed that meanwhile.
async fn attach(
    tx: &DatabaseTransaction,
    now: Timestamp,
    template: &template::Model,
    upload: UploadId,
    row: Model,
    attachment: &TemplateAttachment,
) -> Result<(), Problem> {
    let used = upload::Entity::delete_by_id(upload).exec(tx).await?;
    if used.rows_affected == 0 {
        return Err(Problem::unknown_reference("/upload_id", "upload of yours"));
    }
    let mut files = of(template);
    files.push(attachment.clone());
    note(tx, now, template, &files).await?;
    let Model { id, template_id, sha256, data, object_key } = row;
    let row = ActiveModel {
        id: Set(id),
        template_id: Set(template_id),
        sha256: Set(sha256),
        data: Set(data),
        object_key: Set(object_key),
    };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

async fn note(
    tx: &DatabaseTransaction,
    now: Timestamp,
    template: &template::Model,
    files: &[TemplateAttachment],
) -> Result<(), Problem> {
    let files = template::ActiveModel { attachments: Set(json!(files)), ..Default::default() };
    change(tx, now, template, files, "template.updated").await?;
    Ok(())
}

/// Download a file that goes out with a template.
#[utoipa::path(tag = "templates",
    params(("id" = TemplateId, Path), ("attachment_id" = TemplateAttachmentId, Path)),
    responses((status = 200, description = "The file.", body = FileContent, content_type = "*/*")))]
#[get("/templates/{id}/attachments/{attachment_id}")]
pub async fn get_template_attachment(
    app: web::Data<App>,
    path: Path<(TemplateId, TemplateAttachmentId)>,
) -> Result<HttpResponse, Problem> {
    let (id, attachment_id) = path.into_inner();
    let missing = || Problem::not_found("attachment of this template");
    let template = find(app.db.read(), id).await?;
    let file = of(&template).into_iter().find(|file| file.id == attachment_id).ok_or_else(missing)?;
    let row = Entity::find_by_id(attachment_id).one(app.db.read()).await?.ok_or_else(missing)?;
    let kept = Kept { data: row.data, object_key: row.object_key };
    let bytes = app.raw.read(row.id.uuid(), kept, &row.sha256).await.map_err(raw_problem)?;
    let mut answer = guarded(&content_disposition(false, &file.filename));
    Ok(answer.content_type(media_type(&file.content_type)).body(bytes))
}

/// Take a file away from a draft.
#[utoipa::path(tag = "templates",
    params(("id" = TemplateId, Path), ("attachment_id" = TemplateAttachmentId, Path)),
    responses((status = 204, description = "It goes out no longer.")))]
#[delete("/templates/{id}/attachments/{attachment_id}")]
pub async fn delete_template_attachment(
    app: web::Data<App>,
    path: Path<(TemplateId, TemplateAttachmentId)>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (id, attachment_id) = path.into_inner();
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let template = find(&*tx, id).await?;
    if_match.check(template.version)?;
    open(&template)?;
    let row = Entity::find_by_id(attachment_id).one(&*tx).await?.filter(|row| row.template_id == id);
    let row = row.ok_or_else(|| Problem::not_found("attachment of this template"))?;
    let mut files = of(&template);
    files.retain(|file| file.id != attachment_id);
    note(&tx, now, &template, &files).await?;
    let object = row.object_key.clone();
    row.delete(&*tx).await?;
    tx.commit().await?;
    app.raw.drop_objects(object).await;
    Ok(HttpResponse::NoContent().finish())
}
