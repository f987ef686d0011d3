//! Who can be given an item, and who is chosen: pure rules, shared by distribution, claims and `explain`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lane::Lane;
use crate::{
    accounts::entity::Channel,
    agents::entity::AgentState,
    clock::Timestamp,
    id::{GroupId, QueueId, SkillId, UserId},
    queues::entity::{Distribution, QueueState},
};

/// An agent who declined an item is not asked again for so many seconds while somebody else could take it.
pub const DECLINED_S: i64 = 60;
/// Nor for so many seconds when there is nobody else.
pub const DECLINED_ALONE_S: i64 = 10;

/// A number for each channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PerChannel {
    /// E-mails.
    pub email: i64,
    /// Texts.
    pub sms: i64,
}

impl PerChannel {
    /// The number of one channel.
    pub fn get(self, channel: Channel) -> i64 {
        match channel {
            Channel::Email => self.email,
            Channel::Sms => self.sms,
        }
    }

    /// Adds to the number of one channel.
    pub fn add(&mut self, channel: Channel, count: i64) {
        match channel {
            Channel::Email => self.email += count,
            Channel::Sms => self.sms += count,
        }
    }
}

/// What the rules know of an agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The agent.
    pub id: UserId,
    /// Whether the agent takes work.
    pub state: AgentState,
    /// When the agent last became ready or finished an item.
    pub idle_since: Timestamp,
    /// When the agent last got an offer.
    pub last_offered_at: Timestamp,
    /// The agent's groups, oldest first.
    pub groups: Vec<GroupId>,
    /// The agent's skills and their levels.
    pub skills: HashMap<SkillId, i32>,
    /// How much the agent may have at a time.
    pub capacity: PerChannel,
    /// How much the agent has: assigned, in wrap-up, or held out.
    pub load: PerChannel,
}

impl Agent {
    /// How much more the agent may have.
    pub fn room(&self, channel: Channel) -> i64 {
        self.capacity.get(channel) - self.load.get(channel)
    }

    /// Whether group and skills fit.
    pub fn fits(&self, lane: &Lane, serving: &[GroupId]) -> bool {
        let in_group = match lane.group {
            Some(group) => self.groups.contains(&group),
            None => self.groups.iter().any(|group| serving.contains(group)),
        };
        in_group && lane.skills.iter().all(|need| self.level(need.skill_id) >= need.min_level)
    }

    fn level(&self, skill: SkillId) -> i32 {
        self.skills.get(&skill).copied().unwrap_or(0)
    }
}

/// An agent who rejected or missed an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// The agent.
    pub agent_id: UserId,
    /// When.
    pub at: Timestamp,
}

/// What the rules know of a queue.
#[derive(Clone, Debug)]
pub struct Served {
    /// The queue.
    pub id: QueueId,
    /// Its name.
    pub name: String,
    /// Whether it gives work.
    pub state: QueueState,
    /// Who gets the next item.
    pub distribution: Distribution,
    /// Whether the last agent is asked first.
    pub last_agent_first: bool,
    /// How its priorities age.
    pub aging_s: Option<i64>,
    /// The groups that serve it.
    pub groups: Vec<GroupId>,
}

/// What an item asks.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// E-mail or text.
    pub channel: Channel,
    /// Group and skills.
    pub lane: Lane,
    /// Only this agent.
    pub target: Option<UserId>,
    /// The agent who had the conversation before.
    pub last_agent: Option<UserId>,
    /// Who declined it.
    pub declined: Vec<Declined>,
    /// Its queue; none when it is held out to one agent outside any queue.
    pub queue: Option<&'a Served>,
}

/// Why an agent cannot be given an item now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// The agent takes no work now.
    NotReady {
        /// The agent's state.
        state: AgentState,
    },
    /// The agent has as much as the capacity allows.
    NoCapacity {
        /// How much the agent may have on this channel.
        capacity: i64,
        /// How much the agent has.
        load: i64,
    },
    /// A required skill is missing or not good enough.
    MissingSkill {
        /// The skill.
        skill_id: SkillId,
        /// The agent's level; 0 for none.
        have: i32,
        /// The level that is needed.
        need: i32,
    },
    /// The agent rejected or missed it a moment ago.
    DeclinedRecently {
        /// Until when others are asked first.
        until: Timestamp,
    },
    /// The agent is in no group that may have it.
    NotInGroup,
    /// It is held for another agent.
    HeldForAnother {
        /// That agent.
        agent_id: UserId,
    },
    /// Its queue is closed.
    QueueClosed,
    /// It is not waiting.
    NotQueued,
    /// Others wait before it.
    AheadInQueue {
        /// How many.
        count: i64,
    },
}

/// Every reason why `agent` cannot be given the item at `now`; none when it can.
pub fn refusals(demand: &Demand<'_>, agent: &Agent, now: Timestamp) -> Vec<Refusal> {
    let mut found = Vec::new();
    if agent.state != AgentState::Ready {
        found.push(Refusal::NotReady { state: agent.state });
    }
    if agent.room(demand.channel) < 1 {
        let (capacity, load) = (agent.capacity.get(demand.channel), agent.load.get(demand.channel));
        found.push(Refusal::NoCapacity { capacity, load });
    }
    match demand.target {
        Some(target) if target != agent.id => found.push(Refusal::HeldForAnother { agent_id: target }),
        Some(_) => return found,
        None => {}
    }
    if demand.queue.is_some_and(|queue| queue.state == QueueState::Closed) {
        found.push(Refusal::QueueClosed);
    }
    let serving = demand.queue.map(|queue| queue.groups.as_slice()).unwrap_or_default();
    let anybodys = Lane { group: demand.lane.group, skills: Vec::new() };
    if !agent.fits(&anybodys, serving) {
        found.push(Refusal::NotInGroup);
    }
    for need in &demand.lane.skills {
        let have = agent.level(need.skill_id);
        if have < need.min_level {
            found.push(Refusal::MissingSkill { skill_id: need.skill_id, have, need: need.min_level });
        }
    }
    if let Some(at) = declined_at(demand, agent.id) {
        let until = at.plus_s(DECLINED_S);
        if until > now {
            found.push(Refusal::DeclinedRecently { until });
        }
    }
    found
}

/// When the agent last declined the item.
fn declined_at(demand: &Demand<'_>, agent: UserId) -> Option<Timestamp> {
    demand.declined.iter().filter(|declined| declined.agent_id == agent).map(|declined| declined.at).max()
}

/// Who gets an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This agent.
    Agent(UserId),
    /// Nobody yet: somebody may be asked again then.
    Later(Timestamp),
    /// Nobody.
    Nobody,
}

/// Chooses among `agents` by the queue's rule; those who declined the item a moment ago come last and after a pause.
pub fn choose<'a>(demand: &Demand<'_>, agents: impl Iterator<Item = &'a Agent>, now: Timestamp) -> Choice {
    if demand.target.is_none() && demand.queue.is_some_and(|queue| queue.distribution == Distribution::Manual)
    {
        return Choice::Nobody;
    }
    let (mut open, mut declined, mut busy_others) = (Vec::new(), Vec::new(), false);
    for agent in agents {
        match refusals(demand, agent, now).as_slice() {
            [] => open.push(agent),
            [Refusal::DeclinedRecently { until }] => declined.push((agent, *until)),
            [Refusal::NoCapacity { .. }] => busy_others = true,
            _ => {}
        }
    }
    if let Some(agent) = preferred(demand, &open) {
        return Choice::Agent(agent.id);
    }
    let patience = if busy_others { 0 } else { DECLINED_S - DECLINED_ALONE_S };
    let mut again: Vec<(Timestamp, &Agent)> =
        declined.into_iter().map(|(agent, until)| (until.plus_s(-patience), agent)).collect();
    again.sort_unstable_by_key(|(at, agent)| (*at, agent.id));
    match again.first() {
        Some((at, agent)) if *at <= now => Choice::Agent(agent.id),
        Some((at, _)) => Choice::Later(*at),
        None => Choice::Nobody,
    }
}

fn preferred<'a>(demand: &Demand<'_>, open: &[&'a Agent]) -> Option<&'a Agent> {
    let queue = demand.queue;
    if queue.is_none_or(|queue| queue.last_agent_first)
        && let Some(agent) = open.iter().find(|agent| Some(agent.id) == demand.last_agent)
    {
        return Some(agent);
    }
    let idle_since = |agent: &Agent| (agent.idle_since.max(agent.last_offered_at), agent.id);
    let spare = |agent: &Agent| -agent.room(demand.channel);
    let skill = |agent: &Agent| -> i32 {
        -demand.lane.skills.iter().map(|need| agent.level(need.skill_id)).sum::<i32>()
    };
    let all = open.iter().copied();
    match queue.map_or(Distribution::LongestIdle, |queue| queue.distribution) {
        // Somebody who has work is not idle, however long ago it was given.
        Distribution::LongestIdle | Distribution::Manual => {
            all.min_by_key(|agent| (agent.load.email + agent.load.sms > 0, idle_since(agent)))
        }
        Distribution::RoundRobin => all.min_by_key(|agent| (agent.last_offered_at, agent.id)),
        Distribution::MostSpare => all.min_by_key(|agent| (spare(agent), idle_since(agent))),
        Distribution::BestSkill => all.min_by_key(|agent| (skill(agent), idle_since(agent))),
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
