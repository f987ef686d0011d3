//! Routing: an item's script runs until it waits or ends, and what it decided is put on the item. In memory only.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    decline::event_of,
    entity::{Timer, WorkState, work_item},
    journal::{Journal, holder},
    lane::{Lane, SkillNeed},
    state,
    world::{Standpoint, World},
};
use crate::{
    accounts::entity::account,
    clock::Timestamp,
    conversations::entity::{conversation, message},
    id::{ClassId, QueueId, SkillId, TemplateId, UserId},
    receipts::Receipt,
    scripts::{
        definition::StepId,
        evaluate::{Compiled, Progress, advance},
        facts::ItemFacts,
        gather::facts,
        run::{RequiredSkill, Run, RunResult, RunState, Wait},
        steps::Step,
        turn::Effect,
    },
};

/// The priority of items that no queue gives one.
const MIDDLE_PRIORITY: i32 = 5;

/// Where an item's script stands, as the item keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Standing {
    /// The run.
    pub run: Run,
    /// How its wait ended, when it has not been told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// What an item was made from.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The account.
    pub account: Arc<account::Model>,
    /// The conversation.
    pub conversation: conversation::Model,
    /// The message that made it.
    pub message: message::Model,
}

/// Whether the item's script waits for one agent, outside any queue.
pub fn waits_for_agent(item: &work_item::Model) -> bool {
    item.run.as_ref().is_some_and(|run| run["run"]["wait"]["kind"] == "offer_last_agent")
}

/// Sends an item whose wait has ended back to its script; the timers' worker takes it from there.
pub fn resume_with(item: &mut work_item::Model, outcome: &str, now: Timestamp) {
    item.state = WorkState::Routing;
    item.target_agent_id = None;
    item.timer = Some(Timer::Route);
    item.due_at = Some(now);
    if let Some(run) = item.run.as_mut().and_then(Value::as_object_mut) {
        run.insert("outcome".into(), outcome.into());
    }
}

/// The skills of a script's step.
pub fn needs(skills: &[RequiredSkill]) -> Vec<SkillNeed> {
    let need = |skill: &RequiredSkill| SkillNeed {
        skill_id: SkillId(skill.skill_id),
        min_level: skill.min_level.into(),
    };
    skills.iter().map(need).collect()
}

/// One item on its way.
pub struct Routing<'a> {
    /// The world.
    pub world: &'a World,
    /// What the item was made from.
    pub subject: &'a Subject,
    /// Where trace and events go.
    pub journal: &'a mut Journal,
    /// Automatic answers that are to go out.
    pub receipts: &'a mut Vec<Receipt>,
}

impl Routing<'_> {
    /// Runs a new item's script from its start, or another's on from where it stands.
    ///
    /// An item that an agent has meanwhile stays with the agent: its script only finishes what it has to do.
    pub fn route(mut self, item: &mut work_item::Model) {
        let from = (item.state != WorkState::New).then_some(item.state);
        item.script_version_id =
            item.script_version_id.or_else(|| self.world.version_for(&self.subject.account));
        let script = item.script_version_id.and_then(|version| self.world.script(version));
        let Some(script) = script.as_ref() else {
            if held(item) {
                return let_go(item);
            }
            let error = json!({ "code": "script_missing", "detail": "the script version cannot be run" });
            self.fall_back(item, item.script_version_id.map(|_| error));
            return self.told(from, item);
        };
        let (version, script) = (script.version_id, &script.compiled);
        let standing = item.run.take().and_then(|run| serde_json::from_value::<Standing>(run).ok());
        let (mut run, outcome) = match standing {
            Some(Standing { run, outcome }) => {
                let outcome = outcome.or_else(|| implied_outcome(item, &run));
                (run, outcome)
            }
            None => (Run::start(version.uuid(), script), None),
        };
        let progress = self.advance(script, &mut run, item, outcome.as_deref());
        if held(item) {
            return let_go(item);
        }
        self.settle(item, script, run, progress);
        self.told(from, item);
    }

    /// Lets the script go on, applies what it wants done, and moves its trace into the item's.
    fn advance(
        &mut self,
        script: &Compiled,
        run: &mut Run,
        item: &mut work_item::Model,
        outcome: Option<&str>,
    ) -> Progress {
        let Subject { account, conversation, message } = self.subject;
        let begins = conversation.message_count <= 1;
        let (known, in_force) = (facts_of(item), &self.world.in_force);
        let mut facts = facts(account, conversation, begins, message, known, in_force, self.journal.now);
        let last_agent = item.last_agent_id.map(|id| id.uuid());
        facts.conversation.last_agent_id = last_agent.or(facts.conversation.last_agent_id);
        let facts = Arc::new(facts);
        let host = Standpoint { world: self.world, account, message };
        let done = advance(script, run, &facts, &host, outcome);
        for effect in done.effects {
            self.apply(item, effect);
        }
        for entry in run.trace.drain(..) {
            self.journal.trace(item.id, "script_step", json!(entry));
        }
        done.progress
    }

    fn apply(&mut self, item: &mut work_item::Model, effect: Effect) {
        match effect {
            Effect::SetClass { class_id } => item.class_id = Some(ClassId(class_id)),
            Effect::SetPriority { priority } => item.priority = priority.into(),
            Effect::SendTemplate { template_id } => {
                let Subject { account, message, .. } = self.subject;
                let rule = template_id.to_string();
                let mut answered = self.world.answered.borrow_mut();
                // The script was told that it may be sent; a message that asks twice gets one.
                let Ok(to) = answered.may_send(message, &rule) else { return };
                answered.note(account.id, &to, &rule);
                self.receipts.push(Receipt {
                    account: Arc::clone(account),
                    message: message.clone(),
                    work_item_id: item.id,
                    to,
                    rule,
                    template_id: TemplateId(template_id),
                });
            }
        }
    }

    fn settle(&mut self, item: &mut work_item::Model, script: &Compiled, run: Run, progress: Progress) {
        match progress {
            Progress::Waiting(wait) => {
                item.run_continues = continues(script, &run);
                item.run = serde_json::to_value(Standing { run, outcome: None }).ok();
                self.wait(item, wait);
            }
            Progress::Finished(RunResult::Done) => self.fall_back(item, None),
            Progress::Finished(RunResult::Discard) => {
                state::end_script(item);
                item.state = WorkState::Discarded;
                item.result = Some("discard".into());
                item.priority = own_priority(item).unwrap_or(MIDDLE_PRIORITY);
                item.completed_at = Some(self.journal.now);
                (item.timer, item.due_at) = (None, None);
            }
            Progress::Failed(error) => self.fall_back(item, Some(json!(error))),
        }
    }

    fn wait(&mut self, item: &mut work_item::Model, wait: Wait) {
        let now = self.journal.now;
        match wait {
            Wait::Enqueue { queue_id, priority, skills, timeout_s } => {
                let lane = Lane::new(None, needs(&skills));
                item.priority = priority.map(i32::from).or(own_priority(item)).unwrap_or(0);
                self.place(item, QueueId(queue_id), lane);
                let timeout = timeout_s.map(|seconds| now.plus_s(seconds.into()));
                if let Some(at) = timeout.filter(|at| item.due_at.is_none_or(|due| *at <= due)) {
                    item.timer = Some(Timer::QueueTimeout);
                    item.due_at = Some(at);
                }
            }
            Wait::OfferLastAgent { agent_id, timeout_s } => {
                let home = self.subject.account.fallback_queue_id;
                item.state = WorkState::Queued;
                item.queue_id = item.queue_id.or(home);
                item.priority = own_priority(item).unwrap_or(MIDDLE_PRIORITY);
                item.target_agent_id = Some(UserId(agent_id));
                item.queued_at = item.queued_at.or(Some(now));
                item.first_queued_at = item.first_queued_at.or(Some(now));
                item.rank = super::rank::rank(item.priority, item.queued_at.unwrap_or(now), None);
                item.timer = Some(Timer::QueueTimeout);
                item.due_at = Some(now.plus_s(timeout_s.into()));
            }
        }
    }

    fn place(&mut self, item: &mut work_item::Model, id: QueueId, lane: Lane) {
        let Some(queue) = self.world.queues.get(&id) else {
            // The script named it a moment ago, so that it is among what the world knows.
            item.state = WorkState::Failed;
            return;
        };
        if item.queue_id != Some(id) {
            item.declined_by = json!([]);
        }
        item.priority = own_priority(item).unwrap_or(queue.default_priority);
        item.target_agent_id = None;
        item.group_id = lane.group;
        item.required_skills = json!(lane.skills);
        item.lane = lane.key();
        state::enqueue(item, queue, self.journal.now);
        self.world.count(id);
    }

    /// The account's fallback queue takes what the script did not place; without one the item is shown as failed.
    fn fall_back(&mut self, item: &mut work_item::Model, error: Option<Value>) {
        state::end_script(item);
        if error.is_some() {
            item.error = error;
        }
        match self.subject.account.fallback_queue_id.filter(|id| self.world.queues.contains_key(id)) {
            Some(id) => self.place(item, id, Lane::default()),
            None => {
                item.state = WorkState::Failed;
                item.priority = own_priority(item).unwrap_or(MIDDLE_PRIORITY);
                (item.timer, item.due_at) = (None, None);
                item.error.get_or_insert_with(|| {
                    let detail = "no script placed the item and the account has no fallback queue";
                    json!({ "code": "no_fallback_queue", "detail": detail })
                });
            }
        }
    }

    fn told(&mut self, from: Option<WorkState>, item: &work_item::Model) {
        let why = item.error.as_ref().map_or_else(|| json!({}), |error| json!({ "error": error }));
        self.journal.moved(from, item, event_of(item.state), why);
    }
}

/// Whether an agent has the item or had it to its end.
fn held(item: &work_item::Model) -> bool {
    holder(item).is_some() || item.state == WorkState::Completed
}

/// Ends the script of an item that is with an agent or done: it stays where it is.
fn let_go(item: &mut work_item::Model) {
    state::end_script(item);
    (item.timer, item.due_at) = (None, None);
}

/// What a script may know of its item.
fn facts_of(item: &work_item::Model) -> ItemFacts {
    ItemFacts {
        id: item.id.uuid(),
        priority: own_priority(item).and_then(|priority| u8::try_from(priority).ok()),
        class_id: item.class_id.map(|id| id.uuid()),
        queue_id: item.queue_id.map(|id| id.uuid()),
    }
}

fn own_priority(item: &work_item::Model) -> Option<i32> {
    (1..=10).contains(&item.priority).then_some(item.priority)
}

/// What the run waited for has come about, when an agent has the item.
fn implied_outcome(item: &work_item::Model, run: &Run) -> Option<String> {
    item.assigned_agent_id.filter(|_| held(item))?;
    match &run.state {
        RunState::Waiting { wait: Wait::Enqueue { .. } } => Some("assigned".into()),
        RunState::Waiting { wait: Wait::OfferLastAgent { .. } } => Some("accepted".into()),
        _ => None,
    }
}

/// Whether the script does more than end once an agent has the item.
fn continues(script: &Compiled, run: &Run) -> bool {
    let steps = &script.definition().steps;
    let next: Option<&StepId> = match steps.get(&run.position) {
        Some(Step::Enqueue(step)) => step.next.assigned.as_ref(),
        Some(Step::OfferLastAgent(step)) => step.next.accepted.as_ref(),
        _ => None,
    };
    !matches!(next.and_then(|id| steps.get(id)), Some(Step::End(end)) if end.result == RunResult::Done)
}

/// Whether the item's script has a way on for when the time in the queue is over.
pub fn has_timeout(world: &World, item: &work_item::Model) -> bool {
    let Some(script) = item.script_version_id.and_then(|version| world.script(version)) else { return false };
    let position = item.run.as_ref().and_then(|run| run["run"]["position"].as_str()).map(StepId::from);
    let step = position.and_then(|position| script.compiled.definition().steps.get(&position).cloned());
    match step {
        Some(Step::Enqueue(step)) => step.next.timeout.is_some(),
        Some(Step::OfferLastAgent(_)) => true,
        _ => false,
    }
}
