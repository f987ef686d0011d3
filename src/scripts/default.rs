//! The script that is there on first start.

use std::collections::BTreeMap;

use super::definition::{Definition, StepId};
use super::run::RunResult;
use super::steps::enqueue::EnqueueNext;
use super::steps::{End, Enqueue, Step};

/// The name under which the default script is made.
pub const NAME: &str = "default";

/// Puts every item into its account's fallback queue and waits there for an agent.
///
/// An `enqueue` without `queue_id` is what says "the account's fallback queue"; that queue takes an item whatever its
/// state, so there is no other way to wire.
pub fn definition() -> Definition {
    let next = EnqueueNext { assigned: Some(StepId::from("done")), ..EnqueueNext::default() };
    let enqueue = Enqueue { queue_id: None, priority: None, skills: Vec::new(), timeout_s: None, next };
    let steps = BTreeMap::from([
        (StepId::from("queue"), Step::Enqueue(enqueue)),
        (StepId::from("done"), Step::End(End { result: RunResult::Done })),
    ]);
    Definition { start: StepId::from("queue"), variables: BTreeMap::new(), steps, on_error: None }
}
