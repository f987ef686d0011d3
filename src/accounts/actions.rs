//! What is done with an account besides changing its settings.

use actix_web::{HttpResponse, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    entity::{AccountState, account},
    mailbox::Secrets,
    rules::{self, Stored},
    settings::{Account, AccountCreate},
    state::{self, AccountAction},
};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Body, Caller, Path, Problem},
    id::AccountId,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(activate_account)
        .service(pause_account)
        .service(resume_account)
        .service(disable_account)
        .service(poll_account)
        .service(backfill_account);
}

/// Which messages are compared.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "limit": 100 }))]
pub struct AccountBackfill {
    /// Only messages that reached the mailbox at or after this moment.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// So many at most, the oldest first.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub limit: Option<u32>,
}

/// Put a draft into use.
///
/// It needs a fallback queue and, to read a mailbox, a complete way in; 422 names what is missing.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The account, active.", body = Account)))]
#[post("/accounts/{id}/activate")]
pub async fn activate_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
) -> Result<HttpResponse, Problem> {
    act(&app, &caller, *id, AccountAction::Activate).await
}

/// Set an account aside: nothing is fetched until it is resumed.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The account, paused.", body = Account)))]
#[post("/accounts/{id}/pause")]
pub async fn pause_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
) -> Result<HttpResponse, Problem> {
    act(&app, &caller, *id, AccountAction::Pause).await
}

/// Put a paused account into use again. What arrived in the meantime is taken in.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The account, active.", body = Account)))]
#[post("/accounts/{id}/resume")]
pub async fn resume_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
) -> Result<HttpResponse, Problem> {
    act(&app, &caller, *id, AccountAction::Resume).await
}

/// Take an account out of use for good. Its conversations stay.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The account, disabled.", body = Account)))]
#[post("/accounts/{id}/disable")]
pub async fn disable_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
) -> Result<HttpResponse, Problem> {
    act(&app, &caller, *id, AccountAction::Disable).await
}

async fn act(
    app: &App,
    caller: &Caller,
    id: AccountId,
    action: AccountAction,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = state::lock(&tx, id).await?;
    state::require(action, &row)?;
    let (state, kind) = match action {
        AccountAction::Pause => (AccountState::Paused, "account.paused"),
        AccountAction::Disable => (AccountState::Disabled, "account.disabled"),
        AccountAction::Resume => (AccountState::Active, "account.resumed"),
        _ => (AccountState::Active, "account.activated"),
    };
    if state == AccountState::Active {
        let secrets = Secrets::open(&app.sealer, &row).map_err(Problem::internal)?;
        let stored = Stored {
            password: row.password_sealed.is_some(),
            refresh_token: secrets.refresh_token.is_some(),
        };
        rules::check_complete(&AccountCreate::from(&row), stored)?;
    }
    let row = state::move_to(&tx, now, &row, state, kind).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Account::of(&app.sealer, row, caller)?)?.versioned(version).into_response())
}

/// Look for mail now.
///
/// The answer does not wait for it: see `health`, and the events of what was taken in.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 202, description = "It was asked for.", body = Account)))]
#[post("/accounts/{id}/poll")]
pub async fn poll_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
) -> Result<HttpResponse, Problem> {
    let ask = NewEvent::new("account.poll_requested", id.uuid(), &json!({}));
    request(&app, &caller, *id, AccountAction::Poll, ask).await
}

/// Compare the whole folder now, and take in what is missing.
///
/// This happens by itself on every connect and at intervals (`mail.reconcile_s`); `since` and `limit` bound this one
/// time only. The answer does not wait for it.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)), request_body = AccountBackfill,
    responses((status = 202, description = "It was asked for.", body = Account)))]
#[post("/accounts/{id}/backfill")]
pub async fn backfill_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
    body: Body<AccountBackfill>,
) -> Result<HttpResponse, Problem> {
    let ask = NewEvent::new("account.backfill_requested", id.uuid(), &body.0);
    request(&app, &caller, *id, AccountAction::Backfill, ask).await
}

/// Asks whoever holds the account's mailbox for something; an account that waits after a failure is tried at once.
async fn request(
    app: &App,
    caller: &Caller,
    id: AccountId,
    action: AccountAction,
    ask: NewEvent,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = state::lock(&tx, id).await?;
    state::require(action, &row)?;
    let change =
        account::ActiveModel { poll_requested: Set(true), due_at: Set(Some(now)), ..Default::default() };
    let guarded = account::Entity::update_many().set(change).filter(account::Column::Id.eq(id));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    events::append(&tx, now, vec![ask.for_supervisors()]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Accepted().json(Account::of(&app.sealer, row, caller)?))
}
