//! Offers that come to nothing: rejected, timed out or rescinded. Their items go back to their place.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::{Value, json};

use super::{
    entity::{OfferState, Timer, WorkState, offer, work_item},
    journal::Journal,
    offer::refuse,
    roster::Roster,
    routing,
    rules::{DECLINED_S, Declined},
    state,
};
use crate::{
    app::App,
    clock::Timestamp,
    db::among,
    http::Problem,
    id::{OfferId, UserId, WorkItemId},
};

/// How many offers one step lets lapse.
const BATCH: u64 = 100;

/// The agent refuses the item.
///
/// # Errors
/// `not_found`, `not_yours`, `offer_not_pending`.
pub async fn reject(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: OfferId,
    agent: UserId,
    reason: Option<String>,
) -> Result<offer::Model, Problem> {
    let change = settled(OfferState::Rejected, reason, journal.now);
    let guarded = offer::Entity::update_many()
        .set(change)
        .filter(offer::Column::Id.eq(id))
        .filter(offer::Column::AgentId.eq(agent))
        .filter(offer::is(OfferState::Pending))
        .filter(offer::Column::ExpiresAt.gt(journal.now));
    let Some(offer) = guarded.exec_with_returning(tx).await?.into_iter().next() else {
        let offer = offer::Entity::find_by_id(id).one(tx).await?;
        return Err(refuse(offer.as_ref(), agent));
    };
    journal.offer(&offer, "offer.rejected", Value::Null);
    give_back(tx, journal, std::slice::from_ref(&offer)).await?;
    Ok(offer)
}

fn settled(state: OfferState, reason: Option<String>, now: Timestamp) -> offer::ActiveModel {
    offer::ActiveModel {
        state: Set(state),
        reason: Set(reason),
        settled_at: Set(Some(now)),
        ..Default::default()
    }
}

/// Ends the offers whose time is over; returns how many.
///
/// # Errors
/// Whatever the database says.
pub async fn lapse(app: &App, now: Timestamp) -> Result<usize, DbErr> {
    let due = offer::Entity::find()
        .filter(offer::is(OfferState::Pending))
        .filter(offer::Column::ExpiresAt.lte(now))
        .order_by_asc(offer::Column::ExpiresAt)
        .limit(BATCH)
        .all(app.db.read())
        .await?;
    if due.is_empty() {
        return Ok(0);
    }
    let agents: Vec<UserId> = due.iter().map(|offer| offer.agent_id).collect();
    let roster = Roster::of(app.db.read(), &agents).await?;
    let tx = app.db.begin().await?;
    let mut journal = Journal::new(now);
    state::lock_agents(&tx, agents).await?;
    let ids = due.iter().map(|offer| offer.id);
    let change = settled(OfferState::TimedOut, None, now);
    let mut lapsed = offer::Entity::update_many()
        .set(change)
        .filter(among(offer::Column::Id, ids))
        .filter(offer::is(OfferState::Pending))
        .filter(offer::Column::ExpiresAt.lte(now))
        .exec_with_returning(&*tx)
        .await?;
    lapsed.sort_unstable_by_key(|offer| offer.id);
    for offer in &lapsed {
        journal.offer(offer, "offer.timed_out", Value::Null);
    }
    let items = give_back(&tx, &mut journal, &lapsed).await?;
    for offer in &lapsed {
        let group = items.iter().find(|item| item.id == offer.work_item_id).and_then(|item| item.group_id);
        if roster.terms(offer.agent_id, offer.queue_id, group).missed_makes_not_ready {
            state::miss(&tx, offer.agent_id, &mut journal).await?;
        }
    }
    journal.write(&tx).await?;
    tx.commit().await?;
    Ok(lapsed.len())
}

/// Takes back everything that is held out to an agent; returns the items, which wait again.
///
/// # Errors
/// Whatever the database says.
pub async fn rescind_from_agent(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    agent: UserId,
    reason: &str,
) -> Result<Vec<work_item::Model>, DbErr> {
    state::lock_agents(tx, [agent]).await?;
    let change = settled(OfferState::Rescinded, Some(reason.to_owned()), journal.now);
    let taken = offer::Entity::update_many()
        .set(change)
        .filter(offer::Column::AgentId.eq(agent))
        .filter(offer::is(OfferState::Pending))
        .exec_with_returning(tx)
        .await?;
    for offer in &taken {
        journal.offer(offer, "offer.rescinded", Value::Null);
    }
    give_back(tx, journal, &taken).await
}

/// Takes back the offer of an item, if one is pending. The item itself is left to the caller.
///
/// # Errors
/// Whatever the database says.
pub async fn rescind_of_item(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    item: WorkItemId,
    reason: &str,
) -> Result<(), DbErr> {
    let change = settled(OfferState::Rescinded, Some(reason.to_owned()), journal.now);
    let taken = offer::Entity::update_many()
        .set(change)
        .filter(offer::Column::WorkItemId.eq(item))
        .filter(offer::is(OfferState::Pending))
        .exec_with_returning(tx)
        .await?;
    for offer in &taken {
        journal.offer(offer, "offer.rescinded", Value::Null);
    }
    Ok(())
}

/// Whether an offer of the item is pending.
pub(super) async fn is_offered(tx: &DatabaseTransaction, item: WorkItemId) -> Result<bool, DbErr> {
    let pending = offer::Entity::find()
        .filter(offer::Column::WorkItemId.eq(item))
        .filter(offer::is(OfferState::Pending));
    Ok(pending.one(tx).await?.is_some())
}

/// The items of these ended offers go back to their place, or on in their script; returns them.
async fn give_back(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    offers: &[offer::Model],
) -> Result<Vec<work_item::Model>, DbErr> {
    let mut items = Vec::with_capacity(offers.len());
    for before in state::lock_all(tx, offers.iter().map(|offer| offer.work_item_id)).await? {
        let offer = offers.iter().find(|offer| offer.work_item_id == before.id);
        let Some(offer) = offer.filter(|_| before.state == WorkState::Offered) else { continue };
        let mut item = before.clone();
        if offer.state != OfferState::Rescinded {
            item.declined_by = declined(&item, offer.agent_id, journal.now);
        }
        item.target_agent_id = None;
        if routing::waits_for_agent(&before) {
            let outcome = if offer.state == OfferState::TimedOut { "timeout" } else { "not_available" };
            routing::resume_with(&mut item, outcome, journal.now);
        } else if item.queue_id.is_some() {
            item.state = WorkState::Queued;
        } else {
            requeue_at_home(tx, &mut item, journal.now).await?;
        }
        let item = state::save(tx, &before, item, journal.now).await?;
        let why = json!({ "offer_id": offer.id, "offer": offer.state });
        journal.moved(Some(WorkState::Offered), &item, event_of(item.state), why);
        items.push(item);
    }
    Ok(items)
}

/// Puts an item that lost its agent into the queue it belongs to; without one it is shown as failed.
pub(super) async fn requeue_at_home(
    tx: &DatabaseTransaction,
    item: &mut work_item::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    match state::home_queue(tx, item).await? {
        Some(queue) => state::enqueue(item, &queue, now),
        None => {
            item.state = WorkState::Failed;
            (item.timer, item.due_at) = (None::<Timer>, None);
            item.error = Some(json!({
                "code": "no_queue", "detail": "the item has no queue to go back to: transfer it",
            }));
        }
    }
    Ok(())
}

/// The event that tells of an item in this state.
pub(super) fn event_of(state: WorkState) -> &'static str {
    match state {
        WorkState::New | WorkState::Routing => "work_item.routing",
        WorkState::Queued => "work_item.queued",
        WorkState::Offered => "work_item.offered",
        WorkState::Assigned => "work_item.assigned",
        WorkState::Waiting => "work_item.snoozed",
        WorkState::Wrapping => "work_item.wrapping",
        WorkState::Completed => "work_item.completed",
        WorkState::Discarded => "work_item.discarded",
        WorkState::Failed => "work_item.failed",
    }
}

/// Who declined the item a moment ago, with this agent added.
pub(super) fn declined(item: &work_item::Model, agent: UserId, now: Timestamp) -> Value {
    let mut list = declined_list(item);
    list.retain(|one| one.agent_id != agent && one.at.plus_s(DECLINED_S) > now);
    list.push(Declined { agent_id: agent, at: now });
    json!(list)
}

/// Who declined the item.
pub(super) fn declined_list(item: &work_item::Model) -> Vec<Declined> {
    serde_json::from_value(item.declined_by.clone()).unwrap_or_default()
}

/// Whether the item is held out to this agent now.
pub(super) async fn offered_to(
    db: &impl ConnectionTrait,
    item: WorkItemId,
    agent: UserId,
) -> Result<bool, DbErr> {
    let pending = offer::Entity::find()
        .filter(offer::Column::WorkItemId.eq(item))
        .filter(offer::Column::AgentId.eq(agent))
        .filter(offer::is(OfferState::Pending));
    Ok(pending.one(db).await?.is_some())
}
