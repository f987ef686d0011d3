//! Operations on suppressions.

use actix_web::{HttpResponse, delete, get, post, web};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    AddressKeys,
    enter::forget_expired,
    entity::{Column, Entity, Model, SuppressionReason},
    entry,
};
use crate::{
    accounts::entity::Channel,
    app::App,
    campaigns::entity::campaign,
    clock::Timestamp,
    db::Gate,
    events::{self, NewEvent},
    http::{Answer, Body, Idempotency, PageQuery, Path, Problem, Query, idempotency::Start},
    id::{CampaignId, SuppressionId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_suppressions)
        .service(create_suppression)
        .service(get_suppression)
        .service(delete_suppression);
}

/// An address that we may not send to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Suppression {
    /// The suppression's id.
    pub id: SuppressionId,
    /// The address in lower case, or the number as `+` and digits; none when it was erased with its customer.
    #[schema(examples("anna@example.org"))]
    pub address: Option<String>,
    /// What the address is for.
    pub channel: Channel,
    /// The campaign that it holds for; for everything when there is none.
    pub campaign_id: Option<CampaignId>,
    /// Why. `unsubscribed` holds back marketing only; `stopped` was set by a stop word, and a start word lifts it.
    pub reason: SuppressionReason,
    /// More about why.
    #[schema(examples("Asked by telephone on 12 March"))]
    pub note: Option<String>,
    /// When it ends; never if there is no time.
    pub expires_at: Option<Timestamp>,
    /// Whether it holds now.
    pub in_force: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An address that is not to be written to any more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "address": "carl@example.org", "note": "Asked by telephone on 12 March" }))]
pub struct SuppressionCreate {
    /// The e-mail address in any case, or the number for texts with its country code.
    #[schema(min_length = 3, max_length = 320, examples("anna@example.org"))]
    pub address: String,
    /// What the address is for: e-mail when it has an `@`, else texts, when it is left out.
    #[serde(default)]
    pub channel: Option<Channel>,
    /// The campaign that it holds for; it holds for everything when it is left out.
    #[serde(default)]
    pub campaign_id: Option<CampaignId>,
    /// Why.
    #[serde(default = "manual")]
    #[schema(default = "manual")]
    pub reason: SuppressionReason,
    /// More about why.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500, examples("Asked by telephone on 12 March"))]
    pub note: Option<String>,
    /// When it ends; it stays when it is left out.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

fn manual() -> SuppressionReason {
    SuppressionReason::Manual
}

/// One page of suppressions.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuppressionList {
    /// The suppressions.
    pub items: Vec<Suppression>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How suppressions may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum SuppressionSort {
    /// By address; those that have none, because it was erased, are left out.
    #[serde(rename = "address")]
    Address,
    /// By address, last first; those that have none are left out.
    #[serde(rename = "-address")]
    AddressDescending,
}

/// Which suppressions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SuppressionFilter {
    /// Only those of this address, in any case, or of this number.
    #[param(max_length = 320)]
    address: Option<String>,
    /// Only those of this channel.
    #[param(inline)]
    channel: Option<Channel>,
    /// Only those that hold for this campaign alone.
    campaign_id: Option<CampaignId>,
    /// Only those for this reason.
    #[param(inline)]
    reason: Option<SuppressionReason>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<SuppressionSort>,
}

impl Suppression {
    fn of(row: Model, now: Timestamp) -> Self {
        let Model { id, address, channel, campaign_id, reason, note, expires_at, created_at, .. } = row;
        let in_force = expires_at.is_none_or(|at| at > now);
        Self { id, address, channel, campaign_id, reason, note, expires_at, in_force, created_at }
    }
}

/// List suppressions.
#[utoipa::path(tag = "suppressions", params(PageQuery, SuppressionFilter),
    responses((status = 200, description = "One page.", body = SuppressionList)))]
#[get("/suppressions")]
pub async fn list_suppressions(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<SuppressionFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(address) = &filter.0.address {
        select = select.filter(Column::AddressKey.eq(AddressKeys::of(&app).key(&entry::asked(address))));
    }
    if let Some(channel) = filter.0.channel {
        select = select.filter(Column::Channel.eq(channel));
    }
    if let Some(campaign) = filter.0.campaign_id {
        select = select.filter(Column::CampaignId.eq(campaign));
    }
    if let Some(reason) = filter.0.reason {
        select = select.filter(Column::Reason.eq(reason));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        SuppressionSort::Address => (Column::Address, Order::Asc),
        SuppressionSort::AddressDescending => (Column::Address, Order::Desc),
    });
    if sort.is_some() {
        select = select.filter(Column::Address.is_not_null());
    }
    let now = app.clock.now();
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = found.map(|row| Suppression::of(row, now));
    Ok(HttpResponse::Ok().json(SuppressionList { items: found.items, next_cursor: found.next_cursor }))
}

/// Send no more to an address.
///
/// It holds at once, also for messages that are made but not sent yet. Agents' answers to customers who write to us still
/// go out. An address may be suppressed for several reasons, each of which stands and ends by itself; one that holds already
/// for the same reason (and campaign) is a conflict.
#[utoipa::path(tag = "suppressions", request_body = SuppressionCreate,
    responses((status = 201, description = "It holds.", body = Suppression, headers(("Location" = String)))))]
#[post("/suppressions")]
pub async fn create_suppression(
    app: web::Data<App>,
    body: Body<SuppressionCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let wanted = body.0;
    if let Some(id) = wanted.campaign_id
        && campaign::Entity::find_by_id(id).one(&*work.tx).await?.is_none()
    {
        return Err(Problem::unknown_reference("/campaign_id", "campaign"));
    }
    let keys = AddressKeys::of(&app);
    let row = entry::row(wanted, &keys, now).map_err(Problem::validation)?;
    // When this is answered, no send to the address begins any more.
    Gate::Sends.shut(&work.tx).await?;
    // One that is over stands in nobody's way.
    forget_expired(&work.tx, now, vec![row.address_key.clone()]).await?;
    let row = Entity::insert(row.into_active_model()).exec_with_returning(&*work.tx).await?;
    let event = NewEvent::new("suppression.created", row.id.uuid(), &json!({ "reason": row.reason }))
        .for_supervisors();
    events::append(&work.tx, now, vec![event]).await?;
    let shown = Suppression::of(row, now);
    work.commit(Answer::created(format!("/v1/suppressions/{}", shown.id), &shown)?).await
}

/// Read one suppression.
#[utoipa::path(tag = "suppressions", params(("id" = SuppressionId, Path)),
    responses((status = 200, description = "The suppression.", body = Suppression)))]
#[get("/suppressions/{id}")]
pub async fn get_suppression(app: web::Data<App>, id: Path<SuppressionId>) -> Result<HttpResponse, Problem> {
    let row = Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("suppression"))?;
    Ok(HttpResponse::Ok().json(Suppression::of(row, app.clock.now())))
}

/// Send to an address again.
///
/// Messages that were held back stay so: send them anew.
#[utoipa::path(tag = "suppressions", params(("id" = SuppressionId, Path)),
    responses((status = 204, description = "The address may be written to.")))]
#[delete("/suppressions/{id}")]
pub async fn delete_suppression(
    app: web::Data<App>,
    id: Path<SuppressionId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?;
    row.ok_or_else(|| Problem::not_found("suppression"))?.delete(&*tx).await?;
    let event = NewEvent::new("suppression.deleted", id.uuid(), &json!({})).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
