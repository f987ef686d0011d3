//! The step-by-step check of a mailbox.

use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use sea_orm::EntityTrait;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    entity::account,
    mailbox::{self, MailboxError},
    settings::{Inbound, InboundAuth},
    state::{self, AccountAction},
};
use crate::{
    app::App,
    http::{Path, Problem},
    id::AccountId,
    mail::imap,
};

/// One thing that was tried.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountCheckStep {
    /// What: `settings`, `token`, `resolve`, `connect`, `tls`, `login`, `select` or `count`.
    #[schema(examples("login"))]
    pub name: String,
    /// Whether it worked.
    pub ok: bool,
    /// What was found, or why it failed.
    #[schema(examples("logged in"))]
    pub detail: String,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0, maximum = 3_600_000)]
    pub duration_ms: u64,
}

/// What a check of a mailbox found.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountCheck {
    /// Whether every step worked.
    pub ok: bool,
    /// The steps, in order; those after the first failure are not tried.
    pub steps: Vec<AccountCheckStep>,
}

/// Try the mailbox with the stored settings, and report each step.
///
/// Nothing in the mailbox changes. A mailbox that cannot be read is 200 with `ok: false`.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The report.", body = AccountCheck)))]
#[post("/accounts/{id}/check")]
pub async fn check_account(app: web::Data<App>, id: Path<AccountId>) -> Result<HttpResponse, Problem> {
    let row = account::Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("account"))?;
    state::require(AccountAction::Check, &row)?;
    let steps = steps(&app, &row).await;
    Ok(HttpResponse::Ok().json(AccountCheck { ok: steps.iter().all(|step| step.ok), steps }))
}

async fn steps(app: &App, row: &account::Model) -> Vec<AccountCheckStep> {
    let inbound = Inbound::of(&row.inbound);
    let mut steps = Vec::new();
    let endpoint = match mailbox::endpoint(app, &inbound) {
        Ok(endpoint) => endpoint,
        Err(error) => return vec![failed(&error, Duration::ZERO)],
    };
    let began = tokio::time::Instant::now();
    let credentials = match mailbox::credentials(app, row).await {
        Ok(credentials) => credentials,
        Err(error) => return vec![failed(&error, began.elapsed())],
    };
    if inbound.auth == InboundAuth::Xoauth2 {
        steps.push(step("token", true, "the token server gave an access token".into(), began.elapsed()));
    }
    let tried = imap::check(&endpoint, &credentials, &inbound.folder, mailbox::timeouts(app)).await;
    steps.extend(tried.into_iter().map(|tried| AccountCheckStep {
        name: tried.name.as_str().to_owned(),
        ok: tried.ok,
        detail: tried.detail,
        duration_ms: tried.duration_ms,
    }));
    steps
}

fn failed(error: &MailboxError, took: Duration) -> AccountCheckStep {
    let name =
        if matches!(error, MailboxError::Oauth(_) | MailboxError::Changed) { "token" } else { "settings" };
    step(name, false, error.to_string(), took)
}

fn step(name: &str, ok: bool, detail: String, took: Duration) -> AccountCheckStep {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    AccountCheckStep { name: name.to_owned(), ok, detail, duration_ms }
}
