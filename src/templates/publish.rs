//! Operations that publish and archive templates.

use actix_web::{HttpResponse, post, web};
use sea_orm::ActiveValue::Set;

use super::{
    api::{change, find},
    bodies::Template,
    check,
    entity::{ActiveModel, Model, TemplateState},
    partials::freeze,
    revise::{publish, take_over},
};
use crate::{
    app::App,
    campaigns::references,
    http::{Answer, Caller, Code, Path, Problem},
    id::TemplateId,
    scripts::library,
};

/// Publish a draft: it is frozen with the partials that it includes, and can be sent.
///
/// In every language it may read only what it will be given, with filters, tests and partials that exist; marketing has
/// `unsubscribe_url` in its text and in its HTML. Publishing a published template again takes over its partials as they are
/// now: its `revision` grows, and broadcasts that have begun stay with what they began with. Publishing a draft that revises
/// a template answers with that template, which says from now on what the draft said; the draft is gone, and publishing it
/// again is answered with 404.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 200, description = "The published template.", body = Template, headers(("ETag" = String)))))]
#[post("/templates/{id}/publish")]
pub async fn publish_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    if row.state == TemplateState::Archived {
        return Err(Problem::new(Code::InvalidState, "an archived template is not published again"));
    }
    let frozen = freeze::gather(app.db.read(), &row).await?;
    if row.state == TemplateState::Published && frozen == freeze::of(&row) {
        let version = row.version;
        return Ok(Answer::ok(&Template::new(row, &caller))?.versioned(version).into_response());
    }
    let partials = serde_json::to_value(frozen).map_err(Problem::internal)?;
    let found = check::publishable(&Model { partials: partials.clone(), ..row.clone() });
    if !found.is_empty() {
        return Err(Problem::validation(found));
    }
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = match row.revises {
        Some(template) => take_over(&tx, now, row, template, partials).await?,
        None => publish(&tx, now, &row, partials, ActiveModel::default()).await?,
    };
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Template::new(row, &caller))?.versioned(version).into_response())
}

/// Archive a published template that no message rule refers to: it is sent no longer.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)),
    responses((status = 200, description = "The archived template.", body = Template, headers(("ETag" = String)))))]
#[post("/templates/{id}/archive")]
pub async fn archive_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    if row.state != TemplateState::Published {
        return Err(Problem::new(Code::InvalidState, "only published templates are archived"));
    }
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    references::refuse(&tx, id.uuid()).await?;
    let to = ActiveModel { state: Set(TemplateState::Archived), ..Default::default() };
    let row = change(&tx, now, &row, to, "template.archived").await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Template::new(row, &caller))?.versioned(version).into_response())
}
