//! What the rules need to know of agents, groups and queues, read in a handful of queries.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, Statement, Value,
};

use super::rules::{Agent, PerChannel, Served};
use crate::{
    accounts::entity::Channel,
    agents::entity::{AgentState, agent, agent_skill, group, group_member},
    db::{among, in_list},
    id::{GroupId, QueueId, UserId},
    queues::entity::{queue, queue_group},
};

/// How many ids one `IN` list carries.
const CHUNK: usize = 500;

/// Agents with everything that decides what they can be given.
#[derive(Debug, Default)]
pub struct Roster {
    /// The agents.
    pub agents: HashMap<UserId, Agent>,
    /// Their groups.
    pub groups: HashMap<GroupId, group::Model>,
    /// The queues that those groups serve.
    pub queues: HashMap<QueueId, Served>,
}

/// What an agent's group says of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it is held out.
    pub offer_timeout_s: i64,
    /// Whether it is taken at once.
    pub auto_accept: bool,
    /// How long the agent may finish the item afterwards.
    pub wrap_up_s: i64,
    /// Whether an agent who misses it becomes not ready.
    pub missed_makes_not_ready: bool,
}

impl Roster {
    /// All agents who are ready.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn ready(db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        let rows = agent::Entity::find().filter(agent::Column::State.eq(AgentState::Ready)).all(db).await?;
        Self::around(db, rows).await
    }

    /// These agents, whatever their state.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn of(db: &impl ConnectionTrait, ids: &[UserId]) -> Result<Self, DbErr> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(CHUNK) {
            rows.extend(
                agent::Entity::find().filter(among(agent::Column::Id, ids.iter().copied())).all(db).await?,
            );
        }
        Self::around(db, rows).await
    }

    /// The members of these groups, whatever their state.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn members(db: &impl ConnectionTrait, groups: &[GroupId]) -> Result<Self, DbErr> {
        let members = group_member::Entity::find()
            .filter(among(group_member::Column::GroupId, groups.iter().copied()))
            .all(db)
            .await?;
        let mut ids: Vec<UserId> = members.into_iter().map(|member| member.agent_id).collect();
        ids.sort_unstable();
        ids.dedup();
        Self::of(db, &ids).await
    }

    async fn around(db: &impl ConnectionTrait, rows: Vec<agent::Model>) -> Result<Self, DbErr> {
        let ids: Vec<UserId> = rows.iter().map(|row| row.id).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let members = members_of(db, &ids).await?;
        let mut group_ids: Vec<GroupId> = members.values().flatten().copied().collect();
        group_ids.sort_unstable();
        group_ids.dedup();
        let (groups, queues, mut skills, mut load) = tokio::try_join!(
            groups_by_id(db, &group_ids),
            served_by(db, &group_ids),
            skills_of(db, &ids),
            load(db, &ids),
        )?;
        let agents = rows.into_iter().map(|row| {
            let groups_of = members.get(&row.id).cloned().unwrap_or_default();
            let agent = Agent {
                id: row.id,
                state: row.state,
                idle_since: row.idle_since,
                last_offered_at: row.last_offered_at,
                capacity: capacity(&row, groups_of.iter().filter_map(|id| groups.get(id))),
                groups: groups_of,
                skills: skills.remove(&row.id).unwrap_or_default(),
                load: load.remove(&row.id).unwrap_or_default(),
            };
            (row.id, agent)
        });
        Ok(Self { agents: agents.collect(), groups, queues })
    }

    /// The terms under which an agent gets an item of this queue, or one held for this group: those of the first of the
    /// agent's groups that may have it, else of the agent's first group.
    pub fn terms(&self, agent: UserId, queue: Option<QueueId>, group: Option<GroupId>) -> Terms {
        self.terms_of(self.agents.get(&agent).map(|agent| &agent.groups), queue, group)
    }

    /// The terms for an agent with these groups.
    pub fn terms_of(
        &self,
        own: Option<&Vec<GroupId>>,
        queue: Option<QueueId>,
        group: Option<GroupId>,
    ) -> Terms {
        let own = own.map(Vec::as_slice).unwrap_or_default();
        let serving = queue.and_then(|id| self.queues.get(&id)).map(|queue| queue.groups.as_slice());
        let through = own
            .iter()
            .find(|id| group == Some(**id))
            .or_else(|| own.iter().find(|id| serving.is_some_and(|serving| serving.contains(id))))
            .or(own.first());
        match through.and_then(|id| self.groups.get(id)) {
            Some(group) => Terms {
                offer_timeout_s: group.offer_timeout_s,
                auto_accept: group.auto_accept,
                wrap_up_s: group.wrap_up_s,
                missed_makes_not_ready: group.missed_offer_action
                    == crate::agents::entity::MissedOfferAction::NotReady,
            },
            None => {
                Terms { offer_timeout_s: 30, auto_accept: false, wrap_up_s: 0, missed_makes_not_ready: false }
            }
        }
    }
}

/// The agent's own capacity, else the largest of the groups'; an agent without either may have one item.
fn capacity<'a>(agent: &agent::Model, groups: impl Iterator<Item = &'a group::Model> + Clone) -> PerChannel {
    let email = groups.clone().map(|group| group.capacity_email).max();
    let sms = groups.map(|group| group.capacity_sms).max();
    PerChannel {
        email: agent.capacity_email.or(email).unwrap_or(1).into(),
        sms: agent.capacity_sms.or(sms).unwrap_or(1).into(),
    }
}

async fn groups_by_id(
    db: &impl ConnectionTrait,
    ids: &[GroupId],
) -> Result<HashMap<GroupId, group::Model>, DbErr> {
    let ids = in_list(ids.iter().copied());
    let rows = group::Entity::find().filter(among(group::Column::Id, ids)).all(db).await?;
    Ok(rows.into_iter().map(|group| (group.id, group)).collect())
}

async fn members_of(
    db: &impl ConnectionTrait,
    agents: &[UserId],
) -> Result<HashMap<UserId, Vec<GroupId>>, DbErr> {
    let mut found: HashMap<UserId, Vec<GroupId>> = HashMap::new();
    for ids in agents.chunks(CHUNK) {
        let rows = group_member::Entity::find()
            .filter(among(group_member::Column::AgentId, ids.iter().copied()))
            .order_by_asc(group_member::Column::GroupId)
            .all(db)
            .await?;
        for row in rows {
            found.entry(row.agent_id).or_default().push(row.group_id);
        }
    }
    Ok(found)
}

async fn skills_of(
    db: &impl ConnectionTrait,
    agents: &[UserId],
) -> Result<HashMap<UserId, HashMap<crate::id::SkillId, i32>>, DbErr> {
    let mut found: HashMap<UserId, HashMap<_, _>> = HashMap::new();
    for ids in agents.chunks(CHUNK) {
        let rows = agent_skill::Entity::find()
            .filter(among(agent_skill::Column::AgentId, ids.iter().copied()))
            .all(db)
            .await?;
        for row in rows {
            found.entry(row.agent_id).or_default().insert(row.skill_id, row.level);
        }
    }
    Ok(found)
}

async fn served_by(db: &impl ConnectionTrait, groups: &[GroupId]) -> Result<HashMap<QueueId, Served>, DbErr> {
    let links = queue_group::Entity::find()
        .filter(among(queue_group::Column::GroupId, groups.iter().copied()))
        .all(db)
        .await?;
    let mut ids: Vec<QueueId> = links.iter().map(|link| link.queue_id).collect();
    ids.sort_unstable();
    ids.dedup();
    served(db, among(queue::Column::Id, ids)).await
}

/// The queues of a condition, with the groups that serve them.
///
/// # Errors
/// Whatever the database says.
pub async fn served(
    db: &impl ConnectionTrait,
    which: impl sea_orm::sea_query::IntoCondition,
) -> Result<HashMap<QueueId, Served>, DbErr> {
    let rows = queue::Entity::find().filter(Condition::all().add(which.into_condition())).all(db).await?;
    let ids: Vec<QueueId> = rows.iter().map(|row| row.id).collect();
    let links = queue_group::Entity::find()
        .filter(among(queue_group::Column::QueueId, ids))
        .order_by_asc(queue_group::Column::GroupId)
        .all(db)
        .await?;
    let mut queues: HashMap<QueueId, Served> = rows
        .into_iter()
        .map(|row| {
            let served = Served {
                id: row.id,
                name: row.name,
                state: row.state,
                distribution: row.distribution,
                last_agent_first: row.last_agent_first,
                aging_s: row.aging_s,
                groups: Vec::new(),
            };
            (row.id, served)
        })
        .collect();
    for link in links {
        if let Some(queue) = queues.get_mut(&link.queue_id) {
            queue.groups.push(link.group_id);
        }
    }
    Ok(queues)
}

/// What agents have: assigned, in wrap-up, and held out to them.
///
/// # Errors
/// Whatever the database says.
pub async fn load(
    db: &impl ConnectionTrait,
    agents: &[UserId],
) -> Result<HashMap<UserId, PerChannel>, DbErr> {
    let mut found: HashMap<UserId, PerChannel> = HashMap::new();
    for ids in agents.chunks(CHUNK) {
        let ids = in_list(ids.iter().copied());
        let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
        let places = places.join(", ");
        let sql = format!(
            "SELECT assigned_agent_id, channel, COUNT(*) FROM work_items \
             WHERE assigned_agent_id IN ({places}) AND state IN ('assigned', 'wrapping') GROUP BY 1, 2 \
             UNION ALL SELECT offers.agent_id, work_items.channel, COUNT(*) FROM offers \
             JOIN work_items ON work_items.id = offers.work_item_id \
             WHERE offers.agent_id IN ({places}) AND offers.state = 'pending' GROUP BY 1, 2"
        );
        let values = ids.iter().map(|id| Value::from(id.uuid()));
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        for row in db.query_all_raw(statement).await? {
            let agent: UserId = UserId(row.try_get_by_index(0)?);
            let channel: Channel = row.try_get_by_index(1)?;
            found.entry(agent).or_default().add(channel, row.try_get_by_index(2)?);
        }
    }
    Ok(found)
}
