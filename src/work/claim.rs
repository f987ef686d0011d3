//! An agent takes work instead of waiting for an offer: this item, or the next best one.
//!
//! Claims of the next item are taken together: those that come while a transaction runs share the following one, whose
//! statements grow with the number of lanes and not with the number of claims.

use std::collections::{HashMap, HashSet, VecDeque};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, QueryFilter, QuerySelect, Select,
    sea_query::{LockBehavior, LockType},
};
use serde_json::json;

use super::{
    decline::declined_list,
    entity::{WorkState, work_item},
    journal::Journal,
    lane::Lane,
    rank::rank_across_queues,
    roster::{Roster, load},
    rules::{Demand, PerChannel, Refusal, refusals},
    state, waiting,
};
use crate::{
    accounts::entity::Channel,
    agents::entity::{AgentState, agent},
    db::in_list,
    http::{Code, Problem},
    id::{QueueId, UserId, WorkItemId},
    queues::entity::QueueState,
};

/// How many items that are held for the claiming agents, or for their groups, are looked at.
const HELD: u64 = 500;

/// An agent wants the next item.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The agent.
    pub agent: UserId,
    /// Only from this queue.
    pub queue: Option<QueueId>,
}

/// Where agents may take items from; read before the transaction, so that the transaction stays short.
#[derive(Debug)]
pub struct Reach {
    roster: Roster,
    lanes: Vec<Reached>,
}

/// A lane in which something waits.
#[derive(Debug)]
struct Reached {
    queue: QueueId,
    key: String,
    lane: Lane,
}

impl Reach {
    /// What the claiming agents may take.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn of(db: &impl ConnectionTrait, claims: &[Claim]) -> Result<Self, DbErr> {
        let agents: Vec<UserId> = claims.iter().map(|claim| claim.agent).collect();
        let roster = Roster::of(db, &agents).await?;
        let wanted = |id| claims.iter().any(|claim| claim.queue.is_none_or(|queue| queue == id));
        let mut lanes = Vec::new();
        for queue in
            roster.queues.values().filter(|queue| queue.state != QueueState::Closed && wanted(queue.id))
        {
            let found = waiting::lanes(db, queue.id).await?;
            lanes.extend(found.into_iter().map(|(key, lane)| Reached { queue: queue.id, key, lane }));
        }
        Ok(Self { roster, lanes })
    }

    /// Whether a claim can be served at all.
    fn check(&self, claim: Claim) -> Result<(), Problem> {
        match claim.queue.map(|id| self.roster.queues.get(&id)) {
            Some(None) => {
                Err(Problem::new(Code::NothingToClaim, "the caller is in no group that serves this queue"))
            }
            Some(Some(queue)) if queue.state == QueueState::Closed => {
                Err(Problem::new(Code::QueueClosed, "the queue is closed"))
            }
            _ => Ok(()),
        }
    }

    /// The lanes, by their place, from which a claim may be served.
    fn lanes_of(&self, claim: Claim) -> impl Iterator<Item = usize> {
        let agent = self.roster.agents.get(&claim.agent);
        let may = move |reached: &Reached| {
            let serving = self.roster.queues.get(&reached.queue).map(|queue| queue.groups.as_slice());
            claim.queue.is_none_or(|id| id == reached.queue)
                && agent.zip(serving).is_some_and(|(agent, serving)| agent.fits(&reached.lane, serving))
        };
        self.lanes.iter().enumerate().filter(move |(_, reached)| may(reached)).map(|(place, _)| place)
    }

    /// Whether an item outside the lanes is held for the agent, or for a group of the agent.
    fn is_held_for(&self, item: &work_item::Model, agent: UserId) -> bool {
        match item.target_agent_id {
            Some(target) => target == agent,
            None => {
                let agent = self.roster.agents.get(&agent);
                agent.zip(Lane::parse(&item.lane)).is_some_and(|(agent, lane)| agent.fits(&lane, &[]))
            }
        }
    }

    /// How an item stands against the heads of other queues, smallest first.
    fn urgency(&self, lane: usize, item: &work_item::Model) -> (i64, WorkItemId) {
        let queue = self.lanes.get(lane).and_then(|reached| self.roster.queues.get(&reached.queue));
        let queued_at = item.queued_at.unwrap_or(item.created_at);
        (rank_across_queues(item.priority, queued_at, queue.and_then(|queue| queue.aging_s)), item.id)
    }
}

fn no_agent() -> Problem {
    Problem::new(Code::AgentNotReady, "the caller is no agent")
}

fn no_room() -> Problem {
    Problem::new(Code::NoCapacity, "the agent has as much as the capacity allows")
}

fn require_ready(agent: &agent::Model) -> Result<(), Problem> {
    match agent.state {
        AgentState::Ready => Ok(()),
        _ => Err(Problem::new(Code::AgentNotReady, "become ready before taking work")),
    }
}

/// Of those that wait, what no other transaction is giving away right now.
fn skip_locked(select: Select<work_item::Entity>) -> Select<work_item::Entity> {
    select.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
}

/// How a claim stands.
#[derive(Debug)]
enum Standing {
    Open,
    Picked(WorkItemId),
    Refused(Problem),
}

/// The claims of one transaction.
struct Batch<'a> {
    tx: &'a DatabaseTransaction,
    reach: &'a Reach,
    claims: &'a [Claim],
    standing: Vec<Standing>,
    /// What the agents have, with what is picked for them.
    load: HashMap<UserId, PerChannel>,
    picked: HashMap<WorkItemId, UserId>,
}

/// Gives each claim its item: what is held for the agent or the agent's group first, then the most urgent head of all
/// lanes. The claims are served in their order.
///
/// Of each claim: `agent_not_ready`, `no_capacity`, `queue_closed`, `nothing_to_claim`.
///
/// # Errors
/// Whatever the database says: then nobody got anything.
pub async fn next_of_each(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    reach: &Reach,
    claims: &[Claim],
) -> Result<Vec<Result<work_item::Model, Problem>>, DbErr> {
    let mut batch = Batch::begin(tx, reach, claims).await?;
    batch.take_what_is_held().await?;
    batch.take_from_lanes(None).await?;
    batch.take_from_lanes(Some(Channel::Email)).await?;
    batch.take_from_lanes(Some(Channel::Sms)).await?;
    batch.assign(journal).await
}

/// The same for one claim alone.
///
/// # Errors
/// `agent_not_ready`, `no_capacity`, `queue_closed`, `nothing_to_claim`.
pub async fn next(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    reach: &Reach,
    claim: Claim,
) -> Result<work_item::Model, Problem> {
    let answer = next_of_each(tx, journal, reach, &[claim]).await?.pop();
    answer.unwrap_or_else(|| Err(Problem::internal("a claim without an answer")))
}

impl<'a> Batch<'a> {
    /// Locks the agents, so that nothing else can raise their load until the transaction ends.
    async fn begin(
        tx: &'a DatabaseTransaction,
        reach: &'a Reach,
        claims: &'a [Claim],
    ) -> Result<Self, DbErr> {
        let agents = state::lock_agents(tx, claims.iter().map(|claim| claim.agent)).await?;
        let ids: Vec<UserId> = agents.keys().copied().collect();
        let load = load(tx, &ids).await?;
        let mut batch = Self { tx, reach, claims, standing: Vec::new(), load, picked: HashMap::new() };
        for claim in claims {
            let ready = match agents.get(&claim.agent) {
                None => Err(no_agent()),
                Some(agent) => require_ready(agent).and_then(|()| reach.check(*claim)),
            };
            let standing = match ready {
                Ok(()) if batch.channels(claim.agent).is_empty() => Standing::Refused(no_room()),
                Ok(()) => Standing::Open,
                Err(problem) => Standing::Refused(problem),
            };
            batch.standing.push(standing);
        }
        Ok(batch)
    }

    /// The claims that have nothing yet, by their place.
    fn open(&self) -> Vec<usize> {
        let standing = self.standing.iter().enumerate();
        standing.filter(|(_, one)| matches!(one, Standing::Open)).map(|(place, _)| place).collect()
    }

    /// The channels on which the agent has room, what is picked already included.
    fn channels(&self, agent: UserId) -> Vec<Channel> {
        let load = self.load.get(&agent).copied().unwrap_or_default();
        let capacity = self.reach.roster.agents.get(&agent).map(|agent| agent.capacity).unwrap_or_default();
        let has_room = |channel: &Channel| load.get(*channel) < capacity.get(*channel);
        [Channel::Email, Channel::Sms].into_iter().filter(has_room).collect()
    }

    fn pick(&mut self, place: usize, item: &work_item::Model) {
        let agent = self.claims[place].agent;
        self.load.entry(agent).or_default().add(item.channel, 1);
        self.picked.insert(item.id, agent);
        self.standing[place] = Standing::Picked(item.id);
    }

    async fn take_what_is_held(&mut self) -> Result<(), DbErr> {
        let open = self.open();
        if open.is_empty() {
            return Ok(());
        }
        let agents = open.iter().map(|place| self.claims[*place].agent);
        let held = waiting::held_for(agents).limit(HELD);
        let mut items = skip_locked(held).all(self.tx).await?;
        items.extend(skip_locked(waiting::outside(&self.reach.roster).limit(HELD)).all(self.tx).await?);
        for place in open {
            let claim = self.claims[place];
            let channels = self.channels(claim.agent);
            let fits = |item: &&work_item::Model| {
                let of_queue = claim.queue.is_none_or(|id| item.queue_id == Some(id));
                let free = !self.picked.contains_key(&item.id) && channels.contains(&item.channel);
                of_queue && free && self.reach.is_held_for(item, claim.agent)
            };
            if let Some(item) = items.iter().find(fits).cloned() {
                self.pick(place, &item);
            }
        }
        Ok(())
    }

    /// Serves the open claims from the heads of the lanes; with `only`, those of agents who have room for nothing else.
    async fn take_from_lanes(&mut self, only: Option<Channel>) -> Result<(), DbErr> {
        let mut open = self.open();
        if let Some(only) = only {
            open.retain(|place| self.channels(self.claims[*place].agent) == [only]);
        }
        let reached: HashSet<usize> =
            open.iter().flat_map(|place| self.reach.lanes_of(self.claims[*place])).collect();
        let mut heads: HashMap<usize, VecDeque<work_item::Model>> = HashMap::new();
        for lane in reached {
            let Reached { queue, key, .. } = &self.reach.lanes[lane];
            let mut head = waiting::head(*queue, key).limit(open.len() as u64);
            // They are ours and still wait, so that nothing else keeps them from being given away twice.
            head = head.filter(work_item::Column::Id.is_not_in(in_list(self.picked.keys().copied())));
            if let Some(only) = only {
                head = head.filter(work_item::Column::Channel.eq(only));
            }
            heads.insert(lane, skip_locked(head).all(self.tx).await?.into());
        }
        for place in open {
            let claim = self.claims[place];
            let channels = self.channels(claim.agent);
            let first = |lane: usize| {
                let at = heads.get(&lane)?.iter().position(|item| channels.contains(&item.channel))?;
                Some((self.reach.urgency(lane, heads.get(&lane)?.get(at)?), lane, at))
            };
            if let Some((_, lane, at)) = self.reach.lanes_of(claim).filter_map(first).min()
                && let Some(item) = heads.get_mut(&lane).and_then(|heads| heads.remove(at))
            {
                self.pick(place, &item);
            } else if only.is_some() || channels.len() > 1 {
                self.standing[place] = Standing::Refused(self.nothing(claim, only).await?);
            }
        }
        Ok(())
    }

    /// Why there is nothing: no room for what waits, or nothing that waits.
    async fn nothing(&self, claim: Claim, only: Option<Channel>) -> Result<Problem, DbErr> {
        if only.is_some() {
            for lane in self.reach.lanes_of(claim) {
                let Reached { queue, key, .. } = &self.reach.lanes[lane];
                if waiting::head(*queue, key).limit(1).one(self.tx).await?.is_some() {
                    return Ok(no_room());
                }
            }
        }
        Ok(Problem::new(Code::NothingToClaim, "nothing waits that the agent may take"))
    }

    /// Gives the picked items away, all in one statement.
    async fn assign(self, journal: &mut Journal) -> Result<Vec<Result<work_item::Model, Problem>>, DbErr> {
        let mut assigned = HashMap::new();
        if !self.picked.is_empty() {
            let picked: Vec<(WorkItemId, UserId)> = self.picked.into_iter().collect();
            let rows = state::assign(&picked, journal.now).exec_with_returning(self.tx).await?;
            assigned.extend(rows.into_iter().map(|item| (item.id, item)));
        }
        let answers = self.standing.into_iter().zip(self.claims).map(|(standing, claim)| match standing {
            Standing::Picked(id) => {
                // It is locked and waits, so that it cannot be gone.
                let item = assigned.remove(&id).ok_or(DbErr::RecordNotUpdated)?;
                Ok(Ok(taken(journal, claim.agent, item)))
            }
            Standing::Refused(problem) => Ok(Err(problem)),
            Standing::Open => Ok(Err(no_room())),
        });
        answers.collect()
    }
}

fn taken(journal: &mut Journal, agent: UserId, item: work_item::Model) -> work_item::Model {
    let why = json!({ "agent_id": agent, "why": "claimed" });
    journal.moved(Some(WorkState::Queued), &item, "work_item.assigned", why);
    item
}

/// Gives the agent this very item.
///
/// # Errors
/// `not_found`, `invalid_state`, `agent_not_ready`, `no_capacity`, `queue_closed`, `not_yours`, `nothing_to_claim`.
pub async fn this(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    agent_id: UserId,
) -> Result<work_item::Model, Problem> {
    require_ready(state::lock_agents(tx, [agent_id]).await?.get(&agent_id).ok_or_else(no_agent)?)?;
    let roster = Roster::of(tx, &[agent_id]).await?;
    let agent = roster.agents.get(&agent_id).ok_or_else(no_agent)?;
    let item = state::lock(tx, id).await?;
    if item.state != WorkState::Queued {
        return Err(state::wrong_state(&item, "claimed"));
    }
    let queue = item.queue_id.and_then(|id| roster.queues.get(&id));
    let demand = Demand {
        channel: item.channel,
        lane: Lane::parse(&item.lane).unwrap_or_default(),
        target: item.target_agent_id,
        last_agent: item.last_agent_id,
        declined: declined_list(&item),
        queue,
    };
    for refusal in refusals(&demand, agent, journal.now) {
        // Who asks for an item has thought better of declining it.
        if !matches!(refusal, Refusal::DeclinedRecently { .. }) {
            return Err(refused(&refusal));
        }
    }
    let item = state::assign(&[(id, agent_id)], journal.now).exec_with_returning(tx).await?;
    Ok(taken(journal, agent_id, item.into_iter().next().ok_or(DbErr::RecordNotUpdated)?))
}

fn refused(refusal: &Refusal) -> Problem {
    let (code, detail) = match refusal {
        Refusal::NotReady { .. } => (Code::AgentNotReady, "become ready before taking work"),
        Refusal::NoCapacity { .. } => (Code::NoCapacity, "the agent has as much as the capacity allows"),
        Refusal::QueueClosed => (Code::QueueClosed, "the item's queue is closed"),
        Refusal::HeldForAnother { .. } => (Code::NotYours, "the item is held for another agent"),
        Refusal::NotInGroup => (Code::NotYours, "the agent is in no group that may have the item"),
        Refusal::MissingSkill { .. } => (Code::NotYours, "the agent lacks a skill that the item needs"),
        _ => (Code::NothingToClaim, "the item cannot be claimed now"),
    };
    Problem::new(code, detail)
}
