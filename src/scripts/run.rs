//! One run of a script: where it stands, what it knows, what it did. All of it is JSON, so that a run outlives the
//! process.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::definition::StepId;
use super::evaluate::Compiled;

/// Most trace entries that a run keeps; older ones make room and are counted.
pub const MAX_TRACE: usize = 200;

/// What the end of a run means for the work item.
///
/// An item that no agent holds when its run ends `done` belongs into the account's fallback queue: no item is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// The script has done its part.
    Done,
    /// The item needs nobody's work.
    Discard,
}

/// A skill that an agent must have, and at least how well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredSkill {
    /// The skill.
    pub skill_id: Uuid,
    /// The lowest level that will do, 1–10.
    #[schema(minimum = 1, maximum = 10)]
    pub min_level: u8,
}

/// What a run waits for; the caller brings it about and comes back with the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = ScriptWait)]
pub enum Wait {
    /// The item is to wait in a queue; comes back as `assigned`, `timeout`, `no_agents`, `queue_full` or `closed`.
    Enqueue {
        /// The queue, the account's fallback queue already put in.
        queue_id: Uuid,
        /// The priority, 1–10; `None` leaves it to the item and the queue.
        priority: Option<u8>,
        /// What an agent must be able to do.
        skills: Vec<RequiredSkill>,
        /// How long until `timeout`; `None` means never.
        timeout_s: Option<u32>,
    },
    /// The item is to be offered to one agent; comes back as `accepted`, `not_available` or `timeout`.
    OfferLastAgent {
        /// The agent.
        agent_id: Uuid,
        /// How long until `timeout`.
        timeout_s: u32,
    },
}

/// Whether a run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// It stands before its step.
    Ready,
    /// It stands in its step until something happens.
    Waiting {
        /// For what.
        wait: Wait,
    },
    /// It came to an end.
    Finished {
        /// To which.
        result: RunResult,
    },
    /// It failed; [`Run::error`] says how.
    Failed,
}

/// Why a step or a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("step `{step}`: {detail}")]
pub struct ScriptError {
    /// The step in which it happened.
    pub step: StepId,
    /// Stable, snake_case word for the kind of failure.
    pub code: String,
    /// A sentence for a person.
    pub detail: String,
    /// The expression that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// The line in the expression, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in the line, in characters from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// An expression that a step evaluated, with what went in and what came out; long values are cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// The expression.
    pub expression: String,
    /// Its value.
    pub value: Json,
    /// The plain values that it read, by their path, such as `message.subject`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Json>,
}

/// One visit to one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceEntry {
    /// The step.
    pub step: StepId,
    /// Its type.
    pub r#type: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The expressions it evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saw: Vec<Seen>,
    /// The outcome it left by; absent while it waits, when it failed and at an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why it decided as it did, where the values do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ScriptError>,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

/// One run of one version of a script for one work item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The version that the run began with and stays on.
    pub version_id: Uuid,
    /// The step it stands at.
    pub position: StepId,
    /// Whether it goes on.
    #[serde(flatten)]
    pub state: RunState,
    /// The script's variables.
    pub vars: BTreeMap<String, Json>,
    /// Whether `on_error` was taken, which happens once.
    pub recovered: bool,
    /// The last failure; it stays after `on_error` was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ScriptError>,
    /// How many steps were entered, over the whole run.
    pub steps_taken: u32,
    /// What happened, oldest first, at most [`MAX_TRACE`] entries.
    pub trace: Vec<TraceEntry>,
    /// How many older trace entries are gone.
    pub trace_dropped: u32,
}

impl Run {
    /// A run that stands before the first step of `script`.
    pub fn start(version_id: Uuid, script: &Compiled) -> Self {
        Self {
            version_id,
            position: script.start().clone(),
            state: RunState::Ready,
            vars: script.variables().clone(),
            recovered: false,
            error: None,
            steps_taken: 0,
            trace: Vec::new(),
            trace_dropped: 0,
        }
    }

    pub(super) fn record(&mut self, entry: TraceEntry) {
        if self.trace.len() >= MAX_TRACE {
            self.trace.remove(0);
            self.trace_dropped = self.trace_dropped.saturating_add(1);
        }
        self.trace.push(entry);
    }
}
