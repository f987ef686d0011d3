//! Revising a published template: a draft of its own is written, and takes its place when it is published.
//!
//! Whatever refers to the template goes on referring to it. What was written before stays as it was, and so does a broadcast
//! that has begun: it is pinned to its revision.

use actix_web::{HttpResponse, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    ModelTrait, QueryFilter, QuerySelect,
};
use serde_json::{Value, json};

use super::{
    api::{change, find, told},
    bodies::Template,
    entity::{ActiveModel, Column, Entity, Model, TemplateState},
    files::{self, TemplateAttachment},
    partials::{entity::revision, freeze, uses},
};
use crate::{
    app::App,
    campaigns::references,
    clock::Timestamp,
    conversations::source::raw_problem,
    events::{self, NewEvent},
    http::{Answer, Caller, Code, Idempotency, Path, Problem, idempotency::Start, problem::FieldError},
    id::{TemplateAttachmentId, TemplateId},
    raw::Kept,
    scripts::library,
};

/// The longest name, in characters.
const NAME_MAX: usize = 100;

/// Begin a revision of a published template.
///
/// It makes a draft with the template's content and files, and `revises`. The draft is changed, seen and test-sent like any
/// other; when it is published, the template takes its content over, with the next `revision`, and the draft is gone. Meanwhile
/// the template is sent as it is, and keeps its name: the draft's own is not taken over. A template has one such draft at a
/// time; to give it up, delete it.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 201, description = "The draft.", body = Template, headers(("ETag" = String), ("Location" = String)))))]
#[post("/templates/{id}/revise")]
pub async fn revise_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let template = find(&*work.tx, *id).await?;
    refuse(&*work.tx, &template).await?;
    // The object store takes its time, and no transaction waits for it.
    let paused = work.pause().await?;
    let mut objects = Vec::new();
    let begun = async {
        let (listed, copies) = copy_files(&app, now, &template, &mut objects).await?;
        let work = match paused.resume(&app.db).await? {
            Start::Replay(answer) => return Ok(Err(answer)),
            Start::Run(work) => work,
        };
        let current = Entity::find_by_id(*id).lock_exclusive().one(&*work.tx).await?;
        let current = current.ok_or_else(|| Problem::not_found("template"))?;
        refuse(&*work.tx, &current).await?;
        if current.version != template.version {
            return Err(DbErr::RecordNotUpdated.into());
        }
        let draft = begin(&work.tx, now, &current, &listed, copies).await?;
        Ok::<_, Problem>(Ok((work, draft)))
    };
    match begun.await {
        Ok(Ok((work, draft))) => {
            let draft = Template::new(draft, &caller);
            work.commit(Answer::created(format!("/v1/templates/{}", draft.id), &draft)?.versioned(1)).await
        }
        // Another replica has begun it meanwhile, or it cannot be: what was stored for it is not needed.
        Ok(Err(before)) => {
            app.raw.drop_objects(objects).await;
            Ok(before)
        }
        Err(problem) => {
            app.raw.drop_objects(objects).await;
            Err(problem)
        }
    }
}

async fn refuse(db: &impl ConnectionTrait, template: &Model) -> Result<(), Problem> {
    if template.state != TemplateState::Published {
        return Err(Problem::new(Code::InvalidState, "only a published template is revised"));
    }
    match draft_of(db, template.id).await? {
        None => Ok(()),
        Some(draft) => {
            let detail = format!("the template {} is a revision of it already", draft.id);
            Err(Problem::new(Code::AlreadyExists, detail))
        }
    }
}

/// The draft that revises a template.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn draft_of(db: &impl ConnectionTrait, id: TemplateId) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Revises.eq(id)).one(db).await
}

async fn begin(
    tx: &DatabaseTransaction,
    now: Timestamp,
    template: &Model,
    listed: &[TemplateAttachment],
    copies: Vec<files::entity::Model>,
) -> Result<Model, DbErr> {
    let id = TemplateId::new(now);
    let row = Model {
        id,
        name: name_of(template, id),
        partials: json!({}),
        attachments: json!(listed),
        revision: 0,
        state: TemplateState::Draft,
        revises: Some(template.id),
        version: 1,
        created_at: now,
        updated_at: now,
        ..template.clone()
    };
    let draft = Entity::insert(row.into_active_model()).exec_with_returning(tx).await?;
    if !copies.is_empty() {
        let copies = copies.into_iter().map(|copy| files::entity::Model { template_id: id, ..copy });
        files::entity::Entity::insert_many(copies.map(IntoActiveModel::into_active_model))
            .exec_without_returning(tx)
            .await?;
    }
    uses::note_template(tx, id, freeze::named_by(&draft)).await?;
    let event = NewEvent::new("template.created", id.uuid(), &told(&draft)).for_supervisors();
    events::append(tx, now, vec![event]).await?;
    Ok(draft)
}

/// Its own for ever, because names are unique; the template keeps the one that it has.
fn name_of(template: &Model, id: TemplateId) -> String {
    let ending = format!(" (revision {}, {})", template.revision + 1, &id.uuid().simple().to_string()[24..]);
    let kept = NAME_MAX - ending.chars().count();
    template.name.chars().take(kept).chain(ending.chars()).collect()
}

/// The template's files once more, under ids of their own: a file belongs to one template. `objects` gets what was stored.
async fn copy_files(
    app: &App,
    now: Timestamp,
    template: &Model,
    objects: &mut Vec<String>,
) -> Result<(Vec<TemplateAttachment>, Vec<files::entity::Model>), Problem> {
    let (mut listed, mut copies) = (Vec::new(), Vec::new());
    for file in files::of(template) {
        let row = files::entity::Entity::find_by_id(file.id).one(app.db.read()).await?;
        let row = row.ok_or_else(|| Problem::internal(format!("the file {} is gone", file.id)))?;
        let kept = Kept { data: row.data, object_key: row.object_key };
        let bytes = app.raw.read(row.id.uuid(), kept, &row.sha256).await.map_err(raw_problem)?;
        let id = TemplateAttachmentId::new(now);
        let Kept { data, object_key } = app.raw.keep(id.uuid(), bytes.to_vec()).await.map_err(raw_problem)?;
        objects.extend(object_key.clone());
        copies.push(files::entity::Model { id, data, object_key, ..row });
        listed.push(TemplateAttachment { id, ..file });
    }
    Ok((listed, copies))
}

/// What a draft that revises a template may not change, because others rely on it.
///
/// # Errors
/// `validation_failed`.
pub(super) fn check_change(before: &Model, wanted: &super::bodies::TemplateCreate) -> Result<(), Problem> {
    if before.revises.is_none() {
        return Ok(());
    }
    let changes =
        [("/channel", wanted.channel != before.channel), ("/purpose", wanted.purpose != before.purpose)];
    let wrong: Vec<FieldError> = changes
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(pointer, _)| FieldError::new(pointer, "not_changeable", "a revision keeps it"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Problem::validation(wrong)) }
}

/// Puts a revision in its template's place, with the partials that it includes now; gives the template.
///
/// # Errors
/// `invalid_state` when the template was archived, `in_use` when something refers to the draft itself.
pub(super) async fn take_over(
    tx: &DatabaseTransaction,
    now: Timestamp,
    draft: Model,
    template: TemplateId,
    partials: Value,
) -> Result<Model, Problem> {
    library::touch(tx, now).await?;
    references::refuse(tx, draft.id.uuid()).await?;
    let current = find(tx, template).await?;
    if current.state != TemplateState::Published {
        return Err(Problem::new(Code::InvalidState, "the template that it revises was archived"));
    }
    // Guarded: it may be changed at this very moment.
    let draft = change(tx, now, &draft, ActiveModel::default(), "template.deleted").await?;
    let move_files = files::entity::ActiveModel { template_id: Set(template), ..Default::default() };
    files::entity::Entity::update_many()
        .set(move_files)
        .filter(files::entity::Column::TemplateId.eq(draft.id))
        .exec(tx)
        .await?;
    let Model { description, category, subject, text, html, variants, fields, attachments, .. } =
        draft.clone();
    draft.delete(tx).await?;
    let to = ActiveModel {
        description: Set(description),
        category: Set(category),
        subject: Set(subject),
        text: Set(text),
        html: Set(html),
        variants: Set(variants),
        fields: Set(fields),
        attachments: Set(attachments),
        ..Default::default()
    };
    publish(tx, now, &current, partials, to).await
}

/// Makes the next revision of a template, of its content or of what `to` changes of it.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn publish(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    partials: Value,
    to: ActiveModel,
) -> Result<Model, Problem> {
    let to = ActiveModel {
        state: Set(TemplateState::Published),
        partials: Set(partials),
        revision: Set(row.revision + 1),
        ..to
    };
    let row = change(tx, now, row, to, "template.published").await?;
    uses::note_template(tx, row.id, freeze::of(&row).into_keys().collect()).await?;
    let kept = revision::Model::of(row.clone(), now).into_active_model();
    revision::Entity::insert(kept).exec_without_returning(tx).await?;
    Ok(row)
}
