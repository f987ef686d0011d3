//! Operations on offers.

use actix_web::{HttpResponse, get, post, web};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    decline,
    entity::{OfferState, offer, work_item},
    journal::Journal,
    offer as offers,
    show::{Offer, OfferList},
};
use crate::{
    app::App,
    http::{Answer, Body, Caller, Code, Idempotency, PageQuery, Path, Problem, Query, idempotency::Start},
    id::{OfferId, QueueId, UserId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_offers).service(get_offer).service(accept_offer).service(reject_offer);
}

/// How offers may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum OfferSort {
    /// What ends first.
    #[serde(rename = "expires_at")]
    ExpiresAt,
    /// What ends last.
    #[serde(rename = "-expires_at")]
    ExpiresAtDescending,
}

/// Which offers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfferFilter {
    /// Only offers in this state; pending ones when it is left out.
    #[param(inline)]
    state: Option<OfferState>,
    /// Only offers to this agent; agents see their own whatever they ask for.
    agent_id: Option<UserId>,
    /// Only offers from this queue.
    queue_id: Option<QueueId>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<OfferSort>,
}

/// Why an offer is refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "Not my language" }))]
pub struct OfferReject {
    /// The agent's reason.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200, examples("Not my language"))]
    pub reason: Option<String>,
}

/// List offers.
///
/// Agents see the offers that were made to them, others everybody's.
#[utoipa::path(tag = "offers", params(PageQuery, OfferFilter),
    responses((status = 200, description = "One page.", body = OfferList)))]
#[get("/offers")]
pub async fn list_offers(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<OfferFilter>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let filter = filter.0;
    let mut select = offer::Entity::find().filter(offer::is(filter.state.unwrap_or(OfferState::Pending)));
    let agent = if caller.oversees() { filter.agent_id } else { Some(caller.agent_id()?) };
    if let Some(agent) = agent {
        select = select.filter(offer::Column::AgentId.eq(agent));
    }
    if let Some(queue) = filter.queue_id {
        select = select.filter(offer::Column::QueueId.eq(queue));
    }
    let sort = filter.sort.map(|sort| match sort {
        OfferSort::ExpiresAt => (offer::Column::ExpiresAt, Order::Asc),
        OfferSort::ExpiresAtDescending => (offer::Column::ExpiresAt, Order::Desc),
    });
    let found = page.0.fetch_also(app.db.read(), select, offer::Column::Id, sort).await?;
    let now = app.clock.now();
    let found = found.map(|(offer, item)| Offer::of(offer, item, &caller, now));
    Ok(HttpResponse::Ok().json(OfferList { items: found.items, next_cursor: found.next_cursor }))
}

/// Read one offer.
#[utoipa::path(tag = "offers", params(("id" = OfferId, Path)),
    responses((status = 200, description = "The offer.", body = Offer)))]
#[get("/offers/{id}")]
pub async fn get_offer(
    app: web::Data<App>,
    id: Path<OfferId>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let row = offer::Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("offer"))?;
    if !caller.oversees() && caller.user_id() != Some(row.agent_id) {
        return Err(Problem::new(Code::NotYours, "the offer was made to another agent"));
    }
    let item = work_item::Entity::find_by_id(row.work_item_id).one(app.db.read()).await?;
    Ok(HttpResponse::Ok().json(Offer::of(row, item, &caller, app.clock.now())))
}

/// Accept an offer.
///
/// The item is the agent's from now on. Of any number of parallel calls one succeeds; a late one gets 409
/// `offer_not_pending`.
#[utoipa::path(tag = "offers", params(("id" = OfferId, Path)),
    responses((status = 200, description = "The accepted offer.", body = Offer)))]
#[post("/offers/{id}/accept")]
pub async fn accept_offer(
    app: web::Data<App>,
    id: Path<OfferId>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let (now, agent) = (app.clock.now(), caller.agent_id()?);
    let seen = offer::Entity::find_by_id(*id).one(app.db.read()).await?;
    let open = |offer: &offer::Model| {
        offer.agent_id == agent && offer.state == OfferState::Pending && offer.expires_at > now
    };
    // A look without a transaction spares the writer most of the calls that come too late; a repeat is not late.
    if !idempotency.has_key() && !seen.as_ref().is_some_and(open) {
        return Err(offers::refuse(seen.as_ref(), agent));
    }
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let mut journal = Journal::new(now);
    let (offer, item) = offers::accept(&work.tx, &mut journal, *id, agent).await?;
    journal.write(&work.tx).await?;
    work.commit(Answer::ok(&Offer::of(offer, Some(item), &caller, now))?).await
}

/// Reject an offer.
///
/// The item goes back to its place in the queue, and others are asked before the same agent.
#[utoipa::path(tag = "offers", params(("id" = OfferId, Path)), request_body = OfferReject,
    responses((status = 200, description = "The rejected offer.", body = Offer)))]
#[post("/offers/{id}/reject")]
pub async fn reject_offer(
    app: web::Data<App>,
    id: Path<OfferId>,
    body: Body<OfferReject>,
    idempotency: Idempotency,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let (now, agent) = (app.clock.now(), caller.agent_id()?);
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let mut journal = Journal::new(now);
    let offer = decline::reject(&work.tx, &mut journal, *id, agent, body.0.reason).await?;
    journal.write(&work.tx).await?;
    work.commit(Answer::ok(&Offer::of(offer, None, &caller, now))?).await
}
