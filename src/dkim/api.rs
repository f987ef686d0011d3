//! Operations on DKIM keys.

use actix_web::{HttpResponse, delete, get, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter,
};
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use zeroize::Zeroizing;

use super::{
    actions,
    bodies::{DkimKey, DkimKeyCreate, DkimKeyList},
    check,
    entity::{ActiveModel, Column, DkimAlgorithm, DkimKeyState, Entity, Model},
    purpose,
};
use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Path, Problem, Query, idempotency::Start,
    },
    id::DkimKeyId,
    mail::dkim::{DkimError, Signer, generate},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_dkim_keys)
        .service(create_dkim_key)
        .service(get_dkim_key)
        .service(delete_dkim_key)
        .service(check::check_dkim_key)
        .service(actions::activate_dkim_key)
        .service(actions::retire_dkim_key);
}

/// How keys may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum DkimKeySort {
    /// By domain.
    #[serde(rename = "domain")]
    Domain,
    /// By domain, last first.
    #[serde(rename = "-domain")]
    DomainDescending,
}

/// Which keys to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DkimKeyFilter {
    /// Only those of this domain, as it is shown.
    #[param(max_length = 253)]
    domain: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<DkimKeyState>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<DkimKeySort>,
}

/// Reads a key.
pub(super) async fn find(db: &impl ConnectionTrait, id: DkimKeyId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("DKIM key"))
}

/// Writes a change of a key that is still as `row` says, and its event.
pub(super) async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: ActiveModel,
    kind: &'static str,
) -> Result<Model, DbErr> {
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::State.eq(row.state))
        .filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    events::append(tx, now, vec![event(kind, &row)]).await?;
    Ok(row)
}

fn event(kind: &'static str, row: &Model) -> NewEvent {
    let data = json!({ "domain": row.domain, "selector": row.selector, "state": row.state });
    NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()
}

/// List DKIM keys.
#[utoipa::path(tag = "DKIM keys", params(PageQuery, DkimKeyFilter),
    responses((status = 200, description = "One page.", body = DkimKeyList)))]
#[get("/dkim-keys")]
pub async fn list_dkim_keys(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<DkimKeyFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(domain) = &filter.0.domain {
        select = select.filter(Column::Domain.eq(domain.to_lowercase()));
    }
    if let Some(state) = filter.0.state {
        select = select.filter(Column::State.eq(state));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        DkimKeySort::Domain => (Column::Domain, Order::Asc),
        DkimKeySort::DomainDescending => (Column::Domain, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = found.map(|row| DkimKey::new(row, &caller));
    Ok(HttpResponse::Ok().json(DkimKeyList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a DKIM key, or bring one along, as a draft.
///
/// Publish `dns_record` as a TXT record at `dns_name`; when it is there, activate the key.
#[utoipa::path(tag = "DKIM keys", request_body = DkimKeyCreate,
    responses((status = 201, description = "The new key.", body = DkimKey, headers(("ETag" = String), ("Location" = String)))))]
#[post("/dkim-keys")]
pub async fn create_dkim_key(
    app: web::Data<App>,
    caller: Caller,
    body: Body<DkimKeyCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    // Making an RSA key takes a while: no transaction waits for it, nor the thread.
    let paused = work.pause().await?;
    let (signer, pem) = spawn_blocking(|| made(body.0)).await.map_err(Problem::internal)??;
    let work = match paused.resume(&app.db).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = Entity::insert(new_row(&app, now, &signer, &pem)?).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![event("dkim_key.created", &row)]).await?;
    let key = DkimKey::new(row, &caller);
    work.commit(Answer::created(format!("/v1/dkim-keys/{}", key.id), &key)?.versioned(1)).await
}

/// The key that is given, or a new one.
fn made(wanted: DkimKeyCreate) -> Result<(Signer, Zeroizing<String>), Problem> {
    let DkimKeyCreate { domain, selector, algorithm, private_key } = wanted;
    let pem = match private_key {
        Some(pem) => Zeroizing::new(pem),
        None => generate(algorithm.unwrap_or(DkimAlgorithm::Rsa).into()).map_err(|error| refused(&error))?,
    };
    let signer = Signer::new(&domain, &selector, &pem).map_err(|error| refused(&error))?;
    if algorithm.is_some_and(|wanted| wanted != signer.kind().into()) {
        let detail = "the private key is of another algorithm";
        return Err(Problem::invalid("/algorithm", "other_algorithm", detail));
    }
    Ok((signer, pem))
}

/// What is wrong with the body, at its place.
fn refused(error: &DkimError) -> Problem {
    let (pointer, code) = match error {
        DkimError::Domain => ("/domain", "invalid_domain"),
        DkimError::Selector => ("/selector", "invalid_selector"),
        DkimError::NoKey => ("/private_key", "not_a_private_key"),
        DkimError::Algorithm => ("/private_key", "wrong_algorithm"),
        DkimError::KeySize => ("/private_key", "wrong_size"),
        DkimError::LineBreak | DkimError::Header | DkimError::NoFrom | DkimError::Random => {
            return Problem::internal(error);
        }
    };
    Problem::invalid(pointer, code, error.to_string())
}

fn new_row(app: &App, now: Timestamp, signer: &Signer, pem: &str) -> Result<ActiveModel, Problem> {
    let id = DkimKeyId::new(now);
    Ok(ActiveModel {
        id: Set(id),
        domain: Set(signer.domain().to_owned()),
        selector: Set(signer.selector().to_owned()),
        algorithm: Set(signer.kind().into()),
        state: Set(DkimKeyState::Draft),
        dns_record: Set(signer.dns_record()),
        private_key_sealed: Set(app.sealer.seal(&purpose(id), pem.as_bytes()).map_err(Problem::internal)?),
        activated_at: Set(None),
        retired_at: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    })
}

/// Read one DKIM key: never its private half.
#[utoipa::path(tag = "DKIM keys", params(("id" = DkimKeyId, Path)),
    responses((status = 200, description = "The key.", body = DkimKey, headers(("ETag" = String)))))]
#[get("/dkim-keys/{id}")]
pub async fn get_dkim_key(
    app: web::Data<App>,
    caller: Caller,
    id: Path<DkimKeyId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&DkimKey::new(row, &caller))?.versioned(version).into_response())
}

/// Delete a DKIM key that signs nothing.
///
/// Leave its record published until mail that it signed has arrived everywhere.
#[utoipa::path(tag = "DKIM keys", params(("id" = DkimKeyId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/dkim-keys/{id}")]
pub async fn delete_dkim_key(
    app: web::Data<App>,
    id: Path<DkimKeyId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if row.state == DkimKeyState::Active {
        return Err(Problem::new(Code::InvalidState, "a key that signs is retired before it is deleted"));
    }
    // Guarded: it may be activated at this very moment.
    let row = change(&tx, now, &row, ActiveModel::default(), "dkim_key.deleted").await?;
    row.delete(&*tx).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
