//! Operations on accounts as configuration.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait, Order, QueryFilter,
    sea_query::{Expr, ExprTrait},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    actions, check,
    entity::{AccountState, Channel, account, folder, source},
    health::Health,
    mailbox::{Secrets, password_purpose},
    preview_text, references,
    rules::{self, Stored},
    settings::{Account, AccountCreate, Inbound, OauthSettings},
    state::{self, is_polled},
};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start,
    },
    id::AccountId,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_accounts)
        .service(create_account)
        .service(get_account)
        .service(update_account)
        .service(delete_account)
        .service(check::check_account)
        .service(preview_text::preview_text);
    actions::mount(config);
}

/// One page of accounts.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountList {
    /// The accounts.
    pub items: Vec<Account>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How accounts may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum AccountSort {
    /// By address.
    #[serde(rename = "address")]
    Address,
    /// By address, last first.
    #[serde(rename = "-address")]
    AddressDescending,
}

/// Which accounts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AccountFilter {
    /// Only the account of this address.
    #[param(max_length = 254)]
    address: Option<String>,
    /// Only accounts that carry this.
    #[param(inline)]
    channel: Option<Channel>,
    /// Only accounts in this state.
    #[param(inline)]
    state: Option<AccountState>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<AccountSort>,
}

/// List accounts.
#[utoipa::path(tag = "accounts", params(PageQuery, AccountFilter),
    responses((status = 200, description = "One page.", body = AccountList)))]
#[get("/accounts")]
pub async fn list_accounts(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<AccountFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = account::Entity::find();
    if let Some(address) = &filter.0.address {
        select = select.filter(account::Column::Address.eq(address));
    }
    if let Some(channel) = filter.0.channel {
        select = select.filter(account::Column::Channel.eq(channel));
    }
    if let Some(state) = filter.0.state {
        select = select.filter(account::Column::State.eq(state));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        AccountSort::Address => (account::Column::Address, Order::Asc),
        AccountSort::AddressDescending => (account::Column::Address, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, account::Column::Id, sort).await?;
    let found = found.map(|row| Account::of(&app.sealer, row, &caller));
    let items = found.items.into_iter().collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(AccountList { items, next_cursor: found.next_cursor }))
}

/// Create an account.
///
/// It begins as a draft: nothing is fetched or sent until it is activated.
#[utoipa::path(tag = "accounts", request_body = AccountCreate, responses(
    (status = 201, description = "The new account.", body = Account, headers(("ETag" = String), ("Location" = String)))))]
#[post("/accounts")]
pub async fn create_account(
    app: web::Data<App>,
    caller: Caller,
    body: Body<AccountCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let mut wanted = body.0;
    rules::check(&mut wanted, app.config.mail.allow_plaintext)?;
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    references::check(&work.tx, &wanted, None).await?;
    let id = AccountId::new(now);
    let secrets = Sealed::of(&app, id, None, &wanted, |_| false)?;
    let row = account::ActiveModel {
        id: Set(id),
        state: Set(AccountState::Draft),
        state_reason: Set(None),
        health: Set(Health::default().column()),
        due_at: Set(None),
        lease_until: Set(Timestamp::ZERO),
        attempts: Set(0),
        failures: Set(0),
        poll_requested: Set(false),
        version: Set(1),
        created_at: Set(now),
        ..columns(now, wanted, secrets)?
    };
    let row = account::Entity::insert(row).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![state::event("account.created", &row)]).await?;
    let account = Account::of(&app.sealer, row, &caller)?;
    work.commit(Answer::created(format!("/v1/accounts/{id}"), &account)?.versioned(1)).await
}

/// Read one account.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The account.", body = Account, headers(("ETag" = String)))))]
#[get("/accounts/{id}")]
pub async fn get_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
) -> Result<HttpResponse, Problem> {
    let row = account::Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("account"))?;
    let version = row.version;
    Ok(Answer::ok(&Account::of(&app.sealer, row, &caller)?)?.versioned(version).into_response())
}

/// Change an account.
///
/// An account in use must stay complete; its mailbox is opened again with the new settings at once. A secret that the
/// patch does not name stays as it is, `null` removes it.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    request_body(content = ref("#/components/schemas/AccountPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed account.", body = Account, headers(("ETag" = String)))))]
#[patch("/accounts/{id}")]
pub async fn update_account(
    app: web::Data<App>,
    caller: Caller,
    id: Path<AccountId>,
    if_match: IfMatch,
    patch: Patch<AccountCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = state::lock(&tx, *id).await?;
    if_match.check(row.version)?;
    let mut wanted = patch.apply(&AccountCreate::from(&row))?;
    rules::check(&mut wanted, app.config.mail.allow_plaintext)?;
    rules::check_unchanged(&row, &wanted)?;
    references::check(&tx, &wanted, Some(&row)).await?;
    let secrets = Sealed::of(&app, row.id, Some(&row), &wanted, |pointer| patch.removes(pointer))?;
    if !matches!(row.state, AccountState::Draft | AccountState::Disabled) {
        rules::check_complete(&wanted, secrets.stored)?;
    }
    if is_other_mailbox(&row, &wanted) {
        retire_sources(&tx, now, row.id).await?;
    }
    let row = change(&tx, now, &row, columns(now, wanted, secrets)?).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Account::of(&app.sealer, row, &caller)?)?.versioned(version).into_response())
}

/// Whether UIDs, even with the same UIDVALIDITY, may mean other messages than before.
fn is_other_mailbox(row: &account::Model, wanted: &AccountCreate) -> bool {
    let (old, new) = (Inbound::of(&row.inbound), &wanted.inbound);
    (old.host.as_str(), old.port, row.username.as_str())
        != (new.host.as_str(), new.port, wanted.username.as_str())
}

/// Gives what was taken in a UIDVALIDITY that no folder has, so that it is known again by its content only.
async fn retire_sources(tx: &DatabaseTransaction, now: Timestamp, id: AccountId) -> Result<(), DbErr> {
    // A UIDVALIDITY has 32 bits; the seconds above them keep what is retired now from what was retired before.
    let shift = (now.as_millis() / 1000) << 32;
    source::Entity::update_many()
        .col_expr(source::Column::UidValidity, Expr::col(source::Column::UidValidity).sub(shift))
        .filter(source::Column::AccountId.eq(id))
        .filter(source::Column::Folder.ne("push"))
        .filter(source::Column::UidValidity.gt(0))
        .exec(tx)
        .await?;
    folder::Entity::delete_many().filter(folder::Column::AccountId.eq(id)).exec(tx).await?;
    Ok(())
}

/// Writes new settings; whoever polls the account begins again with them, without waiting for a failure to cool down.
async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &account::Model,
    columns: account::ActiveModel,
) -> Result<account::Model, DbErr> {
    let version = row.version + 1;
    let change = account::ActiveModel { version: Set(version), failures: Set(0), ..columns };
    let guarded = account::Entity::update_many()
        .set(change)
        .filter(account::Column::Id.eq(row.id))
        .filter(account::Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let due_at = is_polled(&row).then_some(now);
    let due = account::ActiveModel { due_at: Set(due_at), ..Default::default() };
    let row = account::Entity::update_many()
        .set(due)
        .filter(account::Column::Id.eq(row.id))
        .exec_with_returning(tx)
        .await?
        .pop()
        .ok_or(DbErr::RecordNotUpdated)?;
    events::append(tx, now, vec![state::event("account.updated", &row)]).await?;
    Ok(row)
}

/// Delete a draft that has no messages.
///
/// An account that has been in use is disabled instead: its conversations refer to it.
#[utoipa::path(tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/accounts/{id}")]
pub async fn delete_account(
    app: web::Data<App>,
    id: Path<AccountId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = state::lock(&tx, *id).await?;
    if_match.check(row.version)?;
    if row.state != AccountState::Draft {
        return Err(Problem::new(Code::InUse, "the account has been in use: disable it instead"));
    }
    row.delete(&*tx).await?;
    let gone = NewEvent::new("account.deleted", id.uuid(), &json!({})).for_supervisors();
    events::append(&tx, now, vec![gone]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The secrets as they are stored once a change is made.
struct Sealed {
    password: Option<Vec<u8>>,
    oauth: Option<Vec<u8>>,
    stored: Stored,
}

impl Sealed {
    /// A new secret replaces the old one; one that `removes` names is removed; others stay.
    fn of(
        app: &App,
        id: AccountId,
        row: Option<&account::Model>,
        wanted: &AccountCreate,
        removes: impl Fn(&str) -> bool,
    ) -> Result<Self, Problem> {
        let kept = row.and_then(|row| row.password_sealed.clone());
        let password = match &wanted.password {
            Some(text) => {
                Some(app.sealer.seal(&password_purpose(id), text.as_bytes()).map_err(Problem::internal)?)
            }
            None => kept.filter(|_| !removes("/password")),
        };
        let known = row.map(|row| Secrets::open(&app.sealer, row)).transpose().map_err(Problem::internal)?;
        let known = known.unwrap_or_default();
        let secrets = match &wanted.oauth {
            None => Secrets::default(),
            Some(oauth) => Secrets {
                client_secret: (oauth.client_secret.clone())
                    .or(known.client_secret.filter(|_| !removes("/oauth/client_secret"))),
                refresh_token: (oauth.refresh_token.clone())
                    .or(known.refresh_token.filter(|_| !removes("/oauth/refresh_token"))),
            },
        };
        let stored = Stored { password: password.is_some(), refresh_token: secrets.refresh_token.is_some() };
        let oauth = secrets.seal(&app.sealer, id).map_err(Problem::internal)?;
        Ok(Self { password, oauth, stored })
    }
}

fn columns(now: Timestamp, wanted: AccountCreate, secrets: Sealed) -> Result<account::ActiveModel, Problem> {
    let without_secrets = |oauth| OauthSettings { client_secret: None, refresh_token: None, ..oauth };
    let oauth =
        wanted.oauth.map(without_secrets).map(serde_json::to_value).transpose().map_err(Problem::internal)?;
    let sms = wanted.sms.map(serde_json::to_value).transpose().map_err(Problem::internal)?;
    Ok(account::ActiveModel {
        channel: Set(wanted.channel),
        address: Set(wanted.address),
        display_name: Set(wanted.display_name),
        description: Set(wanted.description),
        username: Set(wanted.username),
        password_sealed: Set(secrets.password),
        oauth: Set(oauth),
        oauth_sealed: Set(secrets.oauth),
        inbound: Set(serde_json::to_value(wanted.inbound).map_err(Problem::internal)?),
        signature_text: Set(wanted.signature_text),
        signature_html: Set(wanted.signature_html),
        script_id: Set(wanted.script_id),
        fallback_queue_id: Set(wanted.fallback_queue_id),
        class_id: Set(wanted.class_id),
        script_settings: Set(wanted.script_settings.into()),
        receipt_template_id: Set(wanted.receipt_template_id),
        sms: Set(sms),
        updated_at: Set(now),
        ..Default::default()
    })
}
