//! An agent takes an item instead of waiting for an offer.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryFilter, sea_query::Expr,
};
use serde_json::json;

use super::{
    decline::declined_list,
    entity::{WorkState, work_item},
    journal::Journal,
    lane::Lane,
    rank::rank_across_queues,
    roster::{Roster, load},
    rules::{Agent, Demand, Refusal, refusals},
    state, waiting,
};
use crate::{
    accounts::entity::Channel,
    agents::entity::{AgentState, agent},
    clock::Timestamp,
    db::Db,
    http::{Code, Problem},
    id::{QueueId, UserId, WorkItemId},
    queues::entity::QueueState,
};

/// Where an agent may take items from; read before the transaction, so that the transaction stays short.
#[derive(Debug)]
pub struct Reach {
    agent: Agent,
    lanes: Vec<(QueueId, String, Option<i64>)>,
}

impl Reach {
    /// What the agent may take, in all queues or in one.
    ///
    /// # Errors
    /// `agent_not_ready` when the caller is no agent, `nothing_to_claim` when the agent does not serve the queue,
    /// `queue_closed` when it gives no work.
    pub async fn of(db: &Db, agent: UserId, queue: Option<QueueId>) -> Result<Self, Problem> {
        let mut roster = Roster::of(db.read(), &[agent]).await?;
        let agent = roster.agents.remove(&agent).ok_or_else(no_agent)?;
        if let Some(id) = queue {
            let served = roster.queues.get(&id).ok_or_else(|| {
                Problem::new(Code::NothingToClaim, "the caller is in no group that serves this queue")
            })?;
            if served.state == QueueState::Closed {
                return Err(Problem::new(Code::QueueClosed, "the queue is closed"));
            }
        }
        let mut lanes = Vec::new();
        let served = roster.queues.values().filter(|served| queue.is_none_or(|id| id == served.id));
        for served in served.filter(|served| served.state != QueueState::Closed) {
            for (key, lane) in waiting::lanes(db.read(), served.id).await? {
                if agent.fits(&lane, &served.groups) {
                    lanes.push((served.id, key, served.aging_s));
                }
            }
        }
        Ok(Self { agent, lanes })
    }
}

fn no_agent() -> Problem {
    Problem::new(Code::AgentNotReady, "the caller is no agent")
}

/// Gives the agent the next best item: what is held for the agent first, then the most urgent head of all lanes.
///
/// # Errors
/// `agent_not_ready`, `no_capacity`, `nothing_to_claim`.
pub async fn next(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    reach: &Reach,
    queue: Option<QueueId>,
) -> Result<work_item::Model, Problem> {
    let agent = &reach.agent;
    lock_ready(tx, agent.id).await?;
    let load = load(tx, &[agent.id]).await?.remove(&agent.id).unwrap_or_default();
    let has_room = |channel: Channel| load.get(channel) < agent.capacity.get(channel);
    let channels: Vec<Channel> =
        [Channel::Email, Channel::Sms].into_iter().filter(|one| has_room(*one)).collect();
    if channels.is_empty() {
        return Err(Problem::new(Code::NoCapacity, "the agent has as much as the capacity allows"));
    }
    for item in waiting::held_for(tx, &[agent.id], 10).await? {
        let wanted = queue.is_none_or(|id| item.queue_id == Some(id)) && channels.contains(&item.channel);
        if wanted {
            if let Some(item) = take(tx, agent.id, journal.now, work_item::Column::Id.eq(item.id)).await? {
                return Ok(taken(journal, agent.id, item));
            }
        }
    }
    let mut heads = heads(tx, reach, &channels).await?;
    heads.sort_unstable();
    for (_, _, place) in heads {
        let (queue, lane, _) = &reach.lanes[place];
        if let Some(item) = take(tx, agent.id, journal.now, first_of(tx, *queue, lane, &channels)).await? {
            return Ok(taken(journal, agent.id, item));
        }
    }
    Err(Problem::new(Code::NothingToClaim, "nothing waits that the agent may take"))
}

/// The urgency of each lane's head, with the lane's place; a single lane needs no comparison.
async fn heads(
    tx: &DatabaseTransaction,
    reach: &Reach,
    channels: &[Channel],
) -> Result<Vec<(i64, WorkItemId, usize)>, DbErr> {
    let nobody = WorkItemId(uuid::Uuid::nil());
    if reach.lanes.len() == 1 {
        return Ok(vec![(0, nobody, 0)]);
    }
    let mut found = Vec::new();
    for (place, (queue, lane, aging_s)) in reach.lanes.iter().enumerate() {
        let head = waiting::head(tx, *queue, lane, 1).await?;
        let head = head.into_iter().next();
        if let Some(item) = head.filter(|item| channels.contains(&item.channel) || channels.len() == 1) {
            let queued_at = item.queued_at.unwrap_or(item.created_at);
            found.push((rank_across_queues(item.priority, queued_at, *aging_s), item.id, place));
        }
    }
    Ok(found)
}

/// `id IN (the first of the lane that nobody else is taking right now)`.
fn first_of(tx: &DatabaseTransaction, queue: QueueId, lane: &str, channels: &[Channel]) -> Expr {
    let skip = if tx.get_database_backend() == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
    let channel = match channels {
        [Channel::Email] => "AND channel = 'email'",
        [Channel::Sms] => "AND channel = 'sms'",
        _ => "",
    };
    let sql = format!(
        "id IN (SELECT id FROM work_items WHERE queue_id = $1 AND lane = $2 AND state = 'queued' \
         AND target_agent_id IS NULL {channel} ORDER BY rank, id LIMIT 1 {skip})"
    );
    Expr::cust_with_values(sql, [sea_orm::Value::from(queue.uuid()), lane.into()])
}

async fn take(
    tx: &DatabaseTransaction,
    agent: UserId,
    now: Timestamp,
    which: Expr,
) -> Result<Option<work_item::Model>, DbErr> {
    let taken =
        state::assign(agent, now).filter(which).filter(work_item::Column::State.eq(WorkState::Queued));
    Ok(taken.exec_with_returning(tx).await?.into_iter().next())
}

fn taken(journal: &mut Journal, agent: UserId, item: work_item::Model) -> work_item::Model {
    let why = json!({ "agent_id": agent, "why": "claimed" });
    journal.moved(Some(WorkState::Queued), &item, "work_item.assigned", why);
    item
}

/// Locks the agent, so that nothing else can raise the agent's load until the transaction ends.
async fn lock_ready(tx: &DatabaseTransaction, id: UserId) -> Result<(), Problem> {
    let agent: Option<agent::Model> = state::lock_agents(tx, [id]).await?.remove(&id);
    match agent {
        None => Err(no_agent()),
        Some(agent) if agent.state != AgentState::Ready => {
            Err(Problem::new(Code::AgentNotReady, "become ready before taking work"))
        }
        Some(_) => Ok(()),
    }
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
    lock_ready(tx, agent_id).await?;
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
    let item = take(tx, agent_id, journal.now, work_item::Column::Id.eq(id))
        .await?
        .ok_or(DbErr::RecordNotUpdated)?;
    Ok(taken(journal, agent_id, item))
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
