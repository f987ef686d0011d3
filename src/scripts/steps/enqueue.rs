//! `enqueue`: puts the work item in a queue and waits for what becomes of it there.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::set_priority::Priority;
use super::{Exit, Reference, ReferenceKind, StepKind};
use crate::scripts::turn::{Next, QueueState, StepError, Turn};
use crate::scripts::expression::Expr;
use crate::scripts::problem::Report;
use crate::scripts::run::{RequiredSkill, Wait};
use crate::scripts::validate::References;

/// Shortest and longest time-out: five seconds and thirty days.
const TIMEOUT_S: (u64, u64) = (5, 2_592_000);
const MAX_SKILLS: u64 = 20;

/// Puts the item in a queue; the script goes on when an agent has it, or when the queue cannot or does not serve it.
///
/// Without `queue_id` it is the account's fallback queue, which takes the item whatever its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "enqueue", "queue_id": "01900000-0000-7000-8000-0000000000aa", "priority": 3,
    "skills": [{"skill_id": "01900000-0000-7000-8000-0000000005c1", "min_level": 2}], "timeout_s": 900,
    "next": {"assigned": "done", "timeout": "overflow", "queue_full": "overflow", "closed": "overflow"}
}))]
pub struct Enqueue {
    /// The queue; absent or null means the account's fallback queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<Uuid>,
    /// The priority in the queue; absent means what the item has, or else the queue's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The skills that an agent must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 20)]
    pub skills: Vec<RequiredSkill>,
    /// How long to wait before leaving by `timeout`; absent means without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 5, maximum = 2592000)]
    pub timeout_s: Option<u32>,
    /// Where each outcome leads.
    pub next: EnqueueNext,
}

outcomes! {
    /// The outcomes of an `enqueue`.
    pub struct EnqueueNext {
        /// An agent has the item.
        assigned: after_wait,
        /// `timeout_s` has passed; required when it is given.
        timeout: after_wait,
        /// No agent who could serve the item is logged on; optional: without it the item waits all the same.
        no_agents: at_once,
        /// The queue holds as many items as it may; required when `queue_id` is given.
        queue_full: at_once,
        /// The queue is closed or draining; required when `queue_id` is given.
        closed: at_once,
    }
}

impl StepKind for Enqueue {
    fn exits(&self) -> Vec<Exit<'_>> {
        let required = |outcome: &str| match outcome {
            "timeout" => self.timeout_s.is_some(),
            "no_agents" => false,
            "queue_full" | "closed" => self.queue_id.is_some(),
            _ => true,
        };
        let exits = self.next.exits().into_iter();
        exits.map(|exit| { let needed = required(&exit.outcome); exit.required_if(needed) }).collect()
    }

    fn expressions(&self) -> Vec<(String, &Expr)> {
        self.priority.iter().flat_map(|priority| priority.expression("/priority")).collect()
    }

    fn references(&self) -> Vec<(String, Reference)> {
        let queue = self.queue_id.map(|id| ("/queue_id".to_owned(), Reference { kind: ReferenceKind::Queue, id }));
        let skill = |(i, skill): (usize, &RequiredSkill)| {
            (format!("/skills/{i}/skill_id"), Reference { kind: ReferenceKind::Skill, id: skill.skill_id })
        };
        queue.into_iter().chain(self.skills.iter().enumerate().map(skill)).collect()
    }

    fn check(&self, _known: &dyn References, report: &mut Report) {
        if let Some(timeout) = self.timeout_s {
            report.range("/timeout_s", u64::from(timeout), TIMEOUT_S.0, TIMEOUT_S.1);
        }
        if let Some(priority) = &self.priority {
            priority.check("/priority", report);
        }
        report.range("/skills", self.skills.len() as u64, 0, MAX_SKILLS);
        for (i, skill) in self.skills.iter().enumerate() {
            report.range(&format!("/skills/{i}/min_level"), u64::from(skill.min_level), 1, 10);
        }
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        let queue_id = self.queue_id.or(turn.facts().account.fallback_queue_id);
        let queue_id = queue_id.ok_or_else(|| {
            StepError::new("no_fallback_queue", "the step names no queue and the account has no fallback queue")
        })?;
        let priority = self.priority.as_ref().map(|priority| priority.value(turn)).transpose()?;
        match turn.host().queue_state(queue_id, &self.skills) {
            QueueState::Missing => return Err(StepError::missing(ReferenceKind::Queue, queue_id)),
            QueueState::Closed if self.queue_id.is_some() => return Ok(Next::by("closed")),
            QueueState::Full if self.queue_id.is_some() => return Ok(Next::by("queue_full")),
            QueueState::NoAgents if self.next.no_agents.is_some() => return Ok(Next::by("no_agents")),
            QueueState::Accepting | QueueState::Closed | QueueState::Full | QueueState::NoAgents => {}
        }
        Ok(Next::Wait(Wait::Enqueue { queue_id, priority, skills: self.skills.clone(), timeout_s: self.timeout_s }))
    }
}
