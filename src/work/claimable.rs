//! Which of the items that are shown the caller could claim: the same rules as a claim's.

use sea_orm::DbErr;

use super::{
    allowed::{Action, allowed},
    decline::declined_list,
    entity::work_item,
    lane::Lane,
    roster::Roster,
    rules::{Agent, Demand, Refusal, refusals},
    show::WorkItem,
};
use crate::{app::App, clock::Timestamp, http::Caller};

/// The items as the caller sees them, with `claim` only where a claim would be granted now.
///
/// # Errors
/// Whatever the database says.
pub async fn shown(app: &App, caller: &Caller, items: Vec<work_item::Model>) -> Result<Vec<WorkItem>, DbErr> {
    let asks = items.iter().any(|item| allowed(item, caller).contains(&Action::Claim));
    let roster = match caller.user_id().filter(|_| asks) {
        Some(id) => Roster::of(app.db.read(), &[id]).await?,
        None => Roster::default(),
    };
    let (agent, now) = (caller.user_id().and_then(|id| roster.agents.get(&id)), app.clock.now());
    let show = |item: work_item::Model| {
        let can_claim = agent.is_some_and(|agent| is_claimable(&item, &roster, agent, now));
        let mut shown = WorkItem::of(item, caller);
        shown.allowed_actions.retain(|action| can_claim || *action != Action::Claim);
        shown
    };
    Ok(items.into_iter().map(show).collect())
}

fn is_claimable(item: &work_item::Model, roster: &Roster, agent: &Agent, now: Timestamp) -> bool {
    let demand = Demand {
        channel: item.channel,
        lane: Lane::parse(&item.lane).unwrap_or_default(),
        target: item.target_agent_id,
        last_agent: item.last_agent_id,
        declined: declined_list(item),
        queue: item.queue_id.and_then(|id| roster.queues.get(&id)),
    };
    refusals(&demand, agent, now).iter().all(|refusal| matches!(refusal, Refusal::DeclinedRecently { .. }))
}
