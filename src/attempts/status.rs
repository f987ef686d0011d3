//! What an attempt makes of its customer. No I/O.

use crate::{
    campaigns::rules::RuleTrigger,
    clock::Timestamp,
    customers::entity::{CustomerStatus, OutcomeCategory, customer},
};

/// What is to become of the customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// What the dialler reported.
    pub code: Option<String>,
    /// What that means.
    pub category: Option<OutcomeCategory>,
    /// Whether the dialler gives them up.
    pub terminate: bool,
    /// When they are to be called back.
    pub callback_at: Option<Timestamp>,
    /// About the call-back.
    pub callback_note: Option<String>,
}

/// What happened to a customer by an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    /// What rules may wait for.
    pub triggers: Vec<RuleTrigger>,
    /// Whether they had been given up before.
    pub was_terminated: bool,
    /// Whether they are not to be written to unasked: they said so just now.
    pub leave_alone: bool,
}

/// Notes an attempt on its customer.
pub(super) fn apply(
    customer: &mut customer::Model,
    ending: &Ending,
    attempted_at: Timestamp,
    now: Timestamp,
) -> Happened {
    let was_terminated = customer.status == CustomerStatus::Terminated;
    let leave_alone = ending.category == Some(OutcomeCategory::DoNotContact);
    let terminates = !was_terminated && (ending.terminate || leave_alone);
    let mut triggers = Vec::new();
    if customer.attempt_count == 0 {
        triggers.push(RuleTrigger::FirstAttempt);
    }
    if ending.code.is_some() {
        triggers.push(RuleTrigger::Outcome);
    }
    if terminates {
        triggers.push(RuleTrigger::Terminated);
    }
    customer.attempt_count += 1;
    customer.last_attempt_at = customer.last_attempt_at.max(Some(attempted_at));
    customer.version += 1;
    customer.updated_at = now;
    if terminates {
        customer.status = CustomerStatus::Terminated;
        customer.termination_code.clone_from(&ending.code);
        customer.termination_category = ending.category;
        customer.termination_note = None;
        customer.terminated_at = Some(now);
        (customer.callback_at, customer.callback_note) = (None, None);
    } else if !was_terminated {
        if ending.callback_at.is_some() {
            triggers.push(RuleTrigger::CallbackSet);
            customer.status = CustomerStatus::Callback;
        } else {
            customer.status = CustomerStatus::InProgress;
        }
        (customer.callback_at, customer.callback_note) = (ending.callback_at, ending.callback_note.clone());
    }
    Happened { triggers, was_terminated, leave_alone }
}
