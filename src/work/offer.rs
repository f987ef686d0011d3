//! Offers are made and accepted. Capacity is reserved while an offer is pending.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    QuerySelect,
    sea_query::{Expr, LockBehavior, LockType},
};
use serde_json::{Value, json};

use super::{
    entity::{OfferState, WorkState, offer, work_item},
    journal::Journal,
    roster::{self, Terms},
    routing, state,
};
use crate::{
    agents::entity::{AgentState, agent},
    db::among,
    http::{Code, Problem},
    id::{OfferId, UserId, WorkItemId},
};

/// An item that is to be held out to an agent, as it looked when it was planned.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The item.
    pub item: WorkItemId,
    /// The agent.
    pub agent: UserId,
    /// How much the agent may have on the item's channel.
    pub capacity: i64,
    /// How the agent's group wants it.
    pub terms: Terms,
    /// The queue's name, for the agent's desk.
    pub queue_name: Option<String>,
}

/// Holds items out to agents, as far as the agents are still ready and have room and the items still wait; returns how
/// many offers were made. What another process took meanwhile is left out.
///
/// # Errors
/// Whatever the database says.
pub async fn hold_out(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    planned: &[Planned],
) -> Result<usize, DbErr> {
    let agents = state::lock_agents(tx, planned.iter().map(|plan| plan.agent)).await?;
    let ids: Vec<UserId> =
        agents.values().filter(|agent| agent.state == AgentState::Ready).map(|agent| agent.id).collect();
    if ids.is_empty() {
        return Ok(0);
    }
    let mut load = roster::load(tx, &ids).await?;
    let mut items = lock_waiting(tx, planned.iter().map(|plan| plan.item)).await?;
    let mut made = Vec::new();
    for plan in planned.iter().filter(|plan| ids.contains(&plan.agent)) {
        let Some(item) = items.get(&plan.item) else { continue };
        let load = load.entry(plan.agent).or_default();
        let held_for_another = item.target_agent_id.is_some_and(|target| target != plan.agent);
        if held_for_another || load.get(item.channel) >= plan.capacity {
            continue;
        }
        load.add(item.channel, 1);
        if let Some(item) = items.remove(&plan.item) {
            made.push(make(tx, journal, plan, item).await?);
        }
    }
    if made.is_empty() {
        return Ok(0);
    }
    finish(tx, journal, &made).await?;
    Ok(made.len())
}

/// Items of the list that wait and that nobody else is changing right now.
async fn lock_waiting(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = WorkItemId>,
) -> Result<HashMap<WorkItemId, work_item::Model>, DbErr> {
    let rows = work_item::Entity::find()
        .filter(among(work_item::Column::Id, ids))
        .filter(work_item::is(WorkState::Queued))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Makes one offer; with `auto_accept` the item is the agent's at once.
async fn make(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    plan: &Planned,
    mut item: work_item::Model,
) -> Result<offer::Model, DbErr> {
    let now = journal.now;
    let mut expires_at = now.plus_s(Ord::max(plan.terms.offer_timeout_s, 1));
    if routing::waits_for_agent(&item) {
        // The script said how long this agent has.
        expires_at = item.due_at.unwrap_or(expires_at);
    }
    let accepted = plan.terms.auto_accept;
    let offer = offer::Model {
        id: OfferId::new(now),
        work_item_id: item.id,
        agent_id: plan.agent,
        queue_id: item.queue_id,
        state: if accepted { OfferState::Accepted } else { OfferState::Pending },
        reason: accepted.then(|| "auto_accept".to_owned()),
        created_at: now,
        expires_at,
        settled_at: accepted.then_some(now),
    };
    let card = card(&item, plan.queue_name.as_deref());
    if accepted {
        let assigned = state::assign(&[(item.id, plan.agent)], now)
            .filter(work_item::is(WorkState::Queued))
            .exec_with_returning(tx)
            .await?;
        item = assigned.into_iter().next().ok_or(DbErr::RecordNotUpdated)?;
        journal.offer(&offer, "offer.accepted", card);
        journal.moved(
            Some(WorkState::Queued),
            &item,
            "work_item.assigned",
            json!({ "agent_id": plan.agent }),
        );
    } else {
        journal.offer(&offer, "offer.created", card);
    }
    Ok(offer)
}

/// Writes the offers, and that their items are held out and their agents were asked.
async fn finish(tx: &DatabaseTransaction, journal: &Journal, made: &[offer::Model]) -> Result<(), DbErr> {
    let pending: Vec<WorkItemId> = made
        .iter()
        .filter(|offer| offer.state == OfferState::Pending)
        .map(|offer| offer.work_item_id)
        .collect();
    if !pending.is_empty() {
        let changed = work_item::Entity::update_many()
            .col_expr(work_item::Column::State, Expr::value(WorkState::Offered))
            .col_expr(work_item::Column::UpdatedAt, Expr::value(journal.now))
            .col_expr(work_item::Column::Version, Expr::col(work_item::Column::Version).add(1))
            .filter(among(work_item::Column::Id, pending.iter().copied()))
            .filter(work_item::is(WorkState::Queued))
            .exec(tx)
            .await?;
        if changed.rows_affected != pending.len() as u64 {
            return Err(DbErr::RecordNotUpdated);
        }
    }
    let agents: HashSet<UserId> = made.iter().map(|offer| offer.agent_id).collect();
    agent::Entity::update_many()
        .col_expr(agent::Column::LastOfferedAt, Expr::value(journal.now))
        .filter(among(agent::Column::Id, agents))
        .exec(tx)
        .await?;
    let rows = made.iter().map(|offer| offer.clone().into_active_model().reset_all());
    offer::Entity::insert_many(rows).exec_without_returning(tx).await?;
    Ok(())
}

/// What an agent's desk shows of an item that is held out.
fn card(item: &work_item::Model, queue_name: Option<&str>) -> Value {
    json!({
        "work_item": {
            "id": item.id, "subject": item.subject, "channel": item.channel, "priority": item.priority,
            "customer_name": item.customer_name, "customer_address": item.customer_address,
            "account_id": item.account_id, "conversation_id": item.conversation_id,
            "class_id": item.class_id, "queue_id": item.queue_id, "queue_name": queue_name,
            "message_count": item.message_count, "first_queued_at": item.first_queued_at,
        },
    })
}

/// The agent takes the item: exactly one of any number of parallel calls succeeds.
///
/// # Errors
/// `not_found`, `not_yours`, `offer_not_pending`.
pub async fn accept(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: OfferId,
    agent: UserId,
) -> Result<(offer::Model, work_item::Model), Problem> {
    let now = journal.now;
    let change = offer::ActiveModel {
        state: Set(OfferState::Accepted),
        settled_at: Set(Some(now)),
        ..Default::default()
    };
    let guarded = offer::Entity::update_many()
        .set(change)
        .filter(offer::Column::Id.eq(id))
        .filter(offer::Column::AgentId.eq(agent))
        .filter(offer::is(OfferState::Pending))
        .filter(offer::Column::ExpiresAt.gt(now));
    let Some(offer) = guarded.exec_with_returning(tx).await?.into_iter().next() else {
        let offer = offer::Entity::find_by_id(id).one(tx).await?;
        return Err(refuse(offer.as_ref(), agent));
    };
    let assigned = state::assign(&[(offer.work_item_id, agent)], now)
        .filter(work_item::is(WorkState::Offered))
        .exec_with_returning(tx)
        .await?;
    let item = assigned.into_iter().next().ok_or(DbErr::RecordNotUpdated)?;
    journal.offer(&offer, "offer.accepted", Value::Null);
    let why = json!({ "agent_id": agent, "offer_id": offer.id });
    journal.moved(Some(WorkState::Offered), &item, "work_item.assigned", why);
    Ok((offer, item))
}

/// Why `agent` cannot settle this offer.
pub fn refuse(offer: Option<&offer::Model>, agent: UserId) -> Problem {
    match offer {
        None => Problem::not_found("offer"),
        Some(offer) if offer.agent_id != agent => {
            Problem::new(Code::NotYours, "the offer was made to another agent")
        }
        Some(offer) if offer.state == OfferState::Pending => {
            Problem::new(Code::OfferNotPending, "the offer's time is over")
        }
        Some(offer) => {
            let state = serde_json::to_value(offer.state).unwrap_or_default();
            Problem::new(
                Code::OfferNotPending,
                format!("the offer is {}", state.as_str().unwrap_or_default()),
            )
        }
    }
}
