//! What scripts ask of the world outside, read once for a whole batch, so that each run is a matter of memory.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::{
    entity::{WorkState, work_item},
    roster::{Roster, served},
    rules::Served,
};
use crate::{
    accounts::entity::{Channel, account},
    agents::entity::AgentState,
    clock::Timestamp,
    conversations::entity::message,
    db::among,
    id::{QueueId, ScriptVersionId, TemplateId, UserId},
    queues::entity::{QueueState as State, queue},
    receipts::{Answered, Limits, published},
    scripts::{
        calendar::Calendar,
        definition::Definition,
        library::{Library, Loaded, Snapshot},
        run::RequiredSkill,
        steps::{ReferenceKind, Step},
        turn::{Host, QueueState, SendAnswer},
    },
};

/// What a batch of items needs.
#[derive(Debug, Default)]
pub struct Needs<'a> {
    /// The accounts of the items.
    pub accounts: Vec<Arc<account::Model>>,
    /// The versions that items under way stay on.
    pub versions: Vec<ScriptVersionId>,
    /// The agents who had the conversations before.
    pub last_agents: Vec<UserId>,
    /// The messages that may get an automatic answer.
    pub messages: Vec<&'a message::Model>,
    /// How many automatic answers are enough.
    pub limits: Limits,
}

/// The world as one batch of runs sees it.
#[derive(Debug, Default)]
pub struct World {
    /// Scripts, calendars and global variables.
    pub in_force: Arc<Snapshot>,
    scripts: HashMap<ScriptVersionId, Arc<Loaded>>,
    /// The queues that the scripts and accounts name.
    pub queues: HashMap<QueueId, queue::Model>,
    served: HashMap<QueueId, Served>,
    lengths: RefCell<HashMap<QueueId, i64>>,
    roster: Roster,
    templates: HashSet<TemplateId>,
    /// What was answered automatically, this batch included.
    pub answered: RefCell<Answered>,
}

impl World {
    /// Reads what the batch needs.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn load(
        library: &Library,
        db: &impl ConnectionTrait,
        now: Timestamp,
        needs: Needs<'_>,
    ) -> Result<Self, DbErr> {
        let mut world = Self { in_force: library.snapshot(db).await?, ..Self::default() };
        world.load_scripts(library, db, &needs).await?;
        let mut mentions = Mentions::default();
        for script in world.scripts.values() {
            mentions.read(script.compiled.definition());
        }
        mentions.queues.extend(needs.accounts.iter().filter_map(|account| account.fallback_queue_id));
        let queues: Vec<QueueId> = mentions.queues.iter().copied().collect();
        let rows = queue::Entity::find().filter(among(queue::Column::Id, queues.clone())).all(db).await?;
        world.queues = rows.into_iter().map(|row| (row.id, row)).collect();
        world.load_lengths(db).await?;
        if mentions.agents {
            world.served = served(db, among(queue::Column::Id, queues)).await?;
            let groups: HashSet<_> = world.served.values().flat_map(|queue| queue.groups.clone()).collect();
            world.roster = Roster::members(db, &groups.into_iter().collect::<Vec<_>>()).await?;
            let missing: Vec<UserId> =
                needs.last_agents.into_iter().filter(|id| !world.roster.agents.contains_key(id)).collect();
            world.roster.agents.extend(Roster::of(db, &missing).await?.agents);
        }
        mentions.templates.extend(needs.accounts.iter().filter_map(|account| account.receipt_template_id));
        world.templates = published(db, mentions.templates).await?;
        if !world.templates.is_empty() {
            world.answered = Answered::load(db, needs.limits, now, &needs.messages).await?.into();
        }
        Ok(world)
    }

    /// The version on which a new item of this account begins; none when there is nothing to run.
    pub fn version_for(&self, account: &account::Model) -> Option<ScriptVersionId> {
        self.in_force.active_for(account.script_id).map(|script| script.version_id)
    }

    /// A version made ready to run; none when it does not exist or does not compile.
    pub fn script(&self, version: ScriptVersionId) -> Option<Arc<Loaded>> {
        self.scripts.get(&version).cloned()
    }

    /// Whether a template that a script or an account names may be sent.
    pub fn is_published(&self, template: TemplateId) -> bool {
        self.templates.contains(&template)
    }

    /// Notes that an item took a place in a queue.
    pub fn count(&self, queue: QueueId) {
        if let Some(length) = self.lengths.borrow_mut().get_mut(&queue) {
            *length += 1;
        }
    }

    async fn load_scripts(
        &mut self,
        library: &Library,
        db: &impl ConnectionTrait,
        needs: &Needs<'_>,
    ) -> Result<(), DbErr> {
        let active = needs.accounts.iter().filter_map(|account| self.in_force.active_for(account.script_id));
        self.scripts = active.map(|script| (script.version_id, script)).collect();
        for version in &needs.versions {
            if !self.scripts.contains_key(version) {
                let script = library.version(db, *version).await?;
                self.scripts.extend(script.map(|script| (*version, script)));
            }
        }
        Ok(())
    }

    async fn load_lengths(&mut self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        let bounded: Vec<QueueId> =
            self.queues.values().filter(|queue| queue.max_length.is_some()).map(|queue| queue.id).collect();
        if bounded.is_empty() {
            return Ok(());
        }
        let mut lengths: HashMap<QueueId, i64> = bounded.iter().map(|id| (*id, 0)).collect();
        let counted: Vec<(QueueId, i64)> = work_item::Entity::find()
            .select_only()
            .column(work_item::Column::QueueId)
            .column_as(work_item::Column::Id.count(), "count")
            .filter(among(work_item::Column::QueueId, bounded))
            .filter(work_item::is(WorkState::Queued))
            .group_by(work_item::Column::QueueId)
            .into_tuple()
            .all(db)
            .await?;
        lengths.extend(counted);
        self.lengths = lengths.into();
        Ok(())
    }
}

/// What definitions speak of.
#[derive(Debug, Default)]
struct Mentions {
    queues: HashSet<QueueId>,
    agents: bool,
    templates: HashSet<TemplateId>,
}

impl Mentions {
    fn read(&mut self, definition: &Definition) {
        for (_, reference) in definition.references() {
            match reference.kind {
                ReferenceKind::Queue => {
                    self.queues.insert(QueueId(reference.id));
                }
                ReferenceKind::Template => {
                    self.templates.insert(TemplateId(reference.id));
                }
                _ => {}
            }
        }
        self.agents |= definition.steps.values().any(|step| match step {
            Step::Enqueue(enqueue) => enqueue.next.no_agents.is_some(),
            Step::OfferLastAgent(_) => true,
            _ => false,
        });
    }
}

/// The world as the run of one item sees it.
#[derive(Debug)]
pub struct Standpoint<'a> {
    /// The world.
    pub world: &'a World,
    /// The item's account.
    pub account: &'a account::Model,
    /// The message that made the item.
    pub message: &'a message::Model,
}

impl Standpoint<'_> {
    fn somebody_could_serve(&self, queue: QueueId, skills: &[RequiredSkill]) -> bool {
        let Some(served) = self.world.served.get(&queue) else { return true };
        let lane = super::lane::Lane::new(None, super::routing::needs(skills));
        let mut agents = self.world.roster.agents.values();
        agents.any(|agent| agent.state != AgentState::LoggedOff && agent.fits(&lane, &served.groups))
    }
}

impl Host for Standpoint<'_> {
    fn calendar(&self, id: Uuid) -> Option<Arc<Calendar>> {
        self.world.in_force.calendar(id)
    }

    fn queue_state(&self, id: Uuid, skills: &[RequiredSkill]) -> QueueState {
        let id = QueueId(id);
        let Some(queue) = self.world.queues.get(&id) else { return QueueState::Missing };
        let length = self.world.lengths.borrow().get(&id).copied().unwrap_or(0);
        if queue.state != State::Open {
            QueueState::Closed
        } else if queue.max_length.is_some_and(|most| length >= most) {
            QueueState::Full
        } else if !self.somebody_could_serve(id, skills) {
            QueueState::NoAgents
        } else {
            QueueState::Accepting
        }
    }

    fn agent_available(&self, id: Uuid) -> bool {
        let channel: Channel = self.account.channel;
        let agent = self.world.roster.agents.get(&UserId(id));
        agent.is_some_and(|agent| agent.state == AgentState::Ready && agent.room(channel) > 0)
    }

    fn may_send_template(&self, id: Uuid) -> SendAnswer {
        if !self.world.is_published(TemplateId(id)) {
            return SendAnswer::Refuse("the template is not published".into());
        }
        let answered = self.world.answered.borrow();
        match answered.may_send(self.message, &id.to_string()) {
            Ok(_) => SendAnswer::Send,
            Err(reason) => SendAnswer::Refuse(reason.to_string()),
        }
    }
}
