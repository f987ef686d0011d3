//! The operations behind an unsubscribe link: the only ones for a mail's recipient.

use actix_web::{HttpResponse, get, http::header, post, web};
use sea_orm::{ConnectionTrait, EntityTrait};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    app::App,
    broadcasts::{entity::recipient, ledger::ERASED},
    conversations::entity::message,
    http::{Path, Problem},
    id::MessageId,
    mail::address::Mailbox,
    suppressions::{bar::bar, entity::SuppressionReason, link::Links},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(get_unsubscribe_page).service(create_unsubscribe);
}

/// Show the unsubscribe page of a mail.
///
/// It changes nothing: programs that look at links in mails read it, too.
#[utoipa::path(tag = "unsubscribe", params(("token" = String, Path, max_length = 100)),
    responses((status = 200, description = "A page with a button.", body = String, content_type = "text/html")))]
#[get("/u/{token}")]
pub async fn get_unsubscribe_page(app: web::Data<App>, token: Path<String>) -> Result<HttpResponse, Problem> {
    address(&app, &token).await?;
    Ok(page(
        "<p>Do you want no more of these mails?</p>\
         <form method=\"post\"><input type=\"hidden\" name=\"List-Unsubscribe\" value=\"One-Click\">\
         <button type=\"submit\">Unsubscribe</button></form>",
    ))
}

/// Unsubscribe: what a mail program's one click does (RFC 8058), and the page's button.
///
/// From this answer on no advertising goes to the address; a repeat does no harm.
#[utoipa::path(tag = "unsubscribe", params(("token" = String, Path, max_length = 100)),
    responses((status = 200, description = "It holds.", body = String, content_type = "text/html")))]
#[post("/u/{token}")]
pub async fn create_unsubscribe(app: web::Data<App>, token: Path<String>) -> Result<HttpResponse, Problem> {
    let address = address(&app, &token).await?;
    let done = page("<p>You get no more of these mails.</p>");
    // Nothing goes to somebody whose data is erased.
    if address == ERASED {
        return Ok(done);
    }
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    bar(&app, &tx, now, &address, SuppressionReason::Unsubscribed, "by the link in a mail").await?;
    tx.commit().await?;
    Ok(done)
}

/// The address that the mail of this token went to.
async fn address(app: &App, token: &str) -> Result<String, Problem> {
    let gone = || Problem::not_found("mail with this link");
    let id = Links::of(app).read(token).ok_or_else(gone)?;
    of_message(app.db.read(), id).await?.ok_or_else(gone)
}

async fn of_message(db: &impl ConnectionTrait, id: MessageId) -> Result<Option<String>, Problem> {
    if let Some(row) = recipient::Entity::find_by_id(id).one(db).await? {
        return Ok(Some(row.address));
    }
    let Some(row) = message::Entity::find_by_id(id).one(db).await? else { return Ok(None) };
    let to: Vec<Mailbox> = serde_json::from_value(row.to_addresses).unwrap_or_default();
    Ok(to.into_iter().next().map(|mailbox| mailbox.address))
}

fn page(body: &str) -> HttpResponse {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Unsubscribe</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"></head>\
         <body>{body}</body></html>"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(html)
}
