//! Distribution: what waits is held out to agents with room. Woken by events; nothing here looks at the time but for
//! agents who declined an item and may be asked again.

use std::collections::{HashMap, VecDeque};

use sea_orm::{DbErr, QuerySelect};
use uuid::Uuid;

use super::{
    decline::declined_list,
    entity::work_item,
    journal::Journal,
    lane::Lane,
    offer::{Planned, hold_out},
    rank::rank_across_queues,
    roster::Roster,
    rules::{Agent, Choice, Demand, Served, choose},
    waiting,
};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    id::WorkItemId,
    queues::entity::{Distribution, QueueState},
    workers::Step,
};

/// How many offers one transaction makes.
const OFFERS_PER_TRANSACTION: usize = 50;
/// How many items of a lane are looked at beyond those that there is room for: some may be declined for now.
const SLACK: u64 = 100;
/// How many values one `IN` list carries.
const IN_LIST: usize = 500;
/// How many items one step looks at in one lane at most.
const LOOK: u64 = 500;

/// Holds out what waits.
///
/// # Errors
/// Whatever the database says.
pub async fn distribute(app: App) -> anyhow::Result<Step> {
    let now = app.clock.now();
    if !waiting::anything_to_offer(&app.db).await? {
        return Ok(Step::Idle);
    }
    let mut roster = Roster::ready(app.db.read()).await?;
    roster.agents.retain(|_, agent| agent.room(Channel::Email) > 0 || agent.room(Channel::Sms) > 0);
    if roster.agents.is_empty() {
        return Ok(Step::Idle);
    }
    let items = candidates(&app, &roster).await?;
    // Agents without room count too: while they could take an item, who declined it is not asked again.
    let everybody = if items.iter().any(|item| !declined_list(item).is_empty()) {
        Roster::ready(app.db.read()).await?
    } else {
        roster
    };
    let plan = plan(items, everybody, now);
    let mut made = 0;
    for planned in plan.offers.chunks(OFFERS_PER_TRANSACTION) {
        made += commit(&app, now, planned).await?;
    }
    Ok(match (made, plan.again_at) {
        (0, Some(at)) => Step::IdleUntil(at),
        (0, None) => Step::Idle,
        (made, _) => Step::Worked(made),
    })
}

async fn commit(app: &App, now: Timestamp, planned: &[Planned]) -> Result<usize, DbErr> {
    let tx = app.db.begin().await?;
    let mut journal = Journal::new(now);
    let made = hold_out(&tx, &mut journal, planned).await?;
    if made > 0 {
        journal.write(&tx).await?;
        tx.commit().await?;
    }
    Ok(made)
}

/// The items that could go to the agents of the roster now, best first.
async fn candidates(app: &App, roster: &Roster) -> Result<Vec<work_item::Model>, DbErr> {
    let db = app.db.read();
    let agents: Vec<_> = roster.agents.keys().copied().collect();
    let mut items = Vec::new();
    for agents in agents.chunks(IN_LIST) {
        items.extend(waiting::held_for(agents.iter().copied()).limit(LOOK).all(db).await?);
    }
    let offers =
        |queue: &&Served| queue.state != QueueState::Closed && queue.distribution != Distribution::Manual;
    for queue in roster.queues.values().filter(offers) {
        for (key, lane) in waiting::lanes(db, queue.id).await? {
            let room = room(roster, &lane, &queue.groups);
            if room > 0 {
                items.extend(waiting::head(queue.id, &key).limit((room + SLACK).min(LOOK)).all(db).await?);
            }
        }
    }
    items.extend(waiting::outside(roster).limit(LOOK).all(db).await?);
    Ok(merge(items, roster))
}

/// One list of all queues' items: each queue's in its own order, and always the head that is most urgent next.
fn merge(mut items: Vec<work_item::Model>, roster: &Roster) -> Vec<work_item::Model> {
    items.sort_by_key(|item| (item.rank, item.id));
    let mut queues: HashMap<_, VecDeque<work_item::Model>> = HashMap::new();
    for item in items {
        // What is held for one agent was promised, and goes before what anybody may have.
        let key = (item.target_agent_id.is_none(), item.queue_id);
        queues.entry(key).or_default().push_back(item);
    }
    let urgency = |item: &work_item::Model| {
        let queue = item.queue_id.and_then(|id| roster.queues.get(&id));
        let queued_at = item.queued_at.unwrap_or(item.created_at);
        let rank = rank_across_queues(item.priority, queued_at, queue.and_then(|queue| queue.aging_s));
        (item.target_agent_id.is_none(), rank, item.id)
    };
    let mut merged = Vec::new();
    while let Some(head) = queues
        .values_mut()
        .min_by_key(|queue| queue.front().map_or((true, i64::MAX, WorkItemId(Uuid::max())), urgency))
        .and_then(VecDeque::pop_front)
    {
        merged.push(head);
    }
    merged
}

/// How many items of a lane the agents can take together.
fn room(roster: &Roster, lane: &Lane, serving: &[crate::id::GroupId]) -> u64 {
    let fitting = roster.agents.values().filter(|agent| agent.fits(lane, serving));
    let room = |agent: &Agent| agent.room(Channel::Email).max(0) + agent.room(Channel::Sms).max(0);
    fitting.map(|agent| u64::try_from(room(agent)).unwrap_or(0)).sum()
}

/// What is to be done.
#[derive(Debug)]
struct Plan {
    offers: Vec<Planned>,
    again_at: Option<Timestamp>,
}

/// Gives each item in turn to the agent whom the rules choose; what is given counts at once.
fn plan(items: Vec<work_item::Model>, mut roster: Roster, now: Timestamp) -> Plan {
    let mut agents: HashMap<_, Agent> = std::mem::take(&mut roster.agents);
    let groups_of: HashMap<_, _> = agents.iter().map(|(id, agent)| (*id, agent.groups.clone())).collect();
    let mut offers = Vec::new();
    let mut again_at: Option<Timestamp> = None;
    for item in items {
        let queue = item.queue_id.and_then(|id| roster.queues.get(&id));
        let demand = Demand {
            channel: item.channel,
            lane: Lane::parse(&item.lane).unwrap_or_default(),
            target: item.target_agent_id,
            last_agent: item.last_agent_id,
            declined: declined_list(&item),
            queue,
        };
        match choose(&demand, agents.values(), now) {
            Choice::Agent(id) => {
                let Some(agent) = agents.get_mut(&id) else { continue };
                agent.load.add(item.channel, 1);
                // Between offers of one moment the order of giving decides whose turn it is.
                agent.last_offered_at = now.plus_ms(i64::try_from(offers.len()).unwrap_or(0));
                offers.push(Planned {
                    item: item.id,
                    agent: id,
                    capacity: agent.capacity.get(item.channel),
                    terms: roster.terms_of(groups_of.get(&id), item.queue_id, item.group_id),
                    queue_name: queue.map(|queue| queue.name.clone()),
                });
            }
            Choice::Later(at) => again_at = Some(again_at.map_or(at, |known| known.min(at))),
            Choice::Nobody => {}
        }
    }
    Plan { offers, again_at }
}
