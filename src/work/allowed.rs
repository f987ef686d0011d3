//! What may be done with an item: one pure table for the handlers' refusals and for the buttons that a front end draws.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    entity::{WorkState, work_item},
    journal::holder,
    state::wrong_state,
};
use crate::{
    accounts::entity::Channel,
    http::{Caller, Code, Problem, caller::Role},
};

/// Something that can be done with a work item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WorkItemAction)]
pub enum Action {
    /// Take it from its queue.
    Claim,
    /// Answer the customer.
    Reply,
    /// Answer everybody.
    ReplyAll,
    /// Pass a message on.
    Forward,
    /// Write an internal note.
    Note,
    /// Keep an unfinished answer.
    Draft,
    /// Give it to another queue, agent or group.
    Transfer,
    /// Put it back to its place.
    Release,
    /// Lay it aside until a time.
    Snooze,
    /// Say how it went.
    SetOutcome,
    /// Let it go earlier or later.
    SetPriority,
    /// Say what kind of contact it is.
    SetClass,
    /// End the work on it.
    Complete,
    /// End the wrap-up early.
    FinishWrapUp,
}

use Action::*;

const HOLDERS: [Action; 9] =
    [Reply, ReplyAll, Forward, Draft, Transfer, Release, Snooze, SetOutcome, Complete];
const WAITING: &[Action] = &[Transfer, Release];
const WRAPPING: &[Action] = &[SetOutcome, FinishWrapUp];
/// What only the agent at whose desk the item is may do: others transfer it to themselves first.
const ANSWERS: [Action; 4] = [Reply, ReplyAll, Forward, Draft];

impl Action {
    const fn participle(self) -> &'static str {
        match self {
            Claim => "claimed",
            Reply | ReplyAll => "answered",
            Forward => "forwarded",
            Note => "noted on",
            Draft => "drafted on",
            Transfer => "transferred",
            Release => "released",
            Snooze => "snoozed",
            SetOutcome => "given an outcome",
            SetPriority => "given a priority",
            SetClass => "given a class",
            Complete => "completed",
            FinishWrapUp => "taken out of wrap-up",
        }
    }
}

/// What the holder may do in this state.
fn by_holder(state: WorkState) -> &'static [Action] {
    match state {
        WorkState::Assigned => &HOLDERS,
        WorkState::Waiting => WAITING,
        WorkState::Wrapping => WRAPPING,
        _ => &[],
    }
}

/// What somebody who oversees others' work may do besides in this state.
fn by_overseer(state: WorkState) -> &'static [Action] {
    match state {
        WorkState::Queued => &[Transfer, SetPriority, SetClass],
        WorkState::Offered => &[Transfer, Release, SetPriority, SetClass],
        WorkState::Assigned | WorkState::Waiting | WorkState::Wrapping => &[SetPriority, SetClass],
        WorkState::Failed => &[Transfer, SetPriority, SetClass],
        _ => &[],
    }
}

/// Administrators have no desk; what is held for one agent is nobody else's.
fn may_claim(item: &work_item::Model, caller: &Caller) -> bool {
    let has_desk = matches!(caller.role, Role::Supervisor | Role::Agent);
    has_desk && item.target_agent_id.is_none_or(|target| caller.user_id() == Some(target))
}

/// Everything that the caller may do with the item now. Whether the caller could take it, [`super::claimable`] tells.
pub fn allowed(item: &work_item::Model, caller: &Caller) -> Vec<Action> {
    let mine = holder(item).is_some() && holder(item) == caller.user_id();
    let had = item.assigned_agent_id.is_some() && item.assigned_agent_id == caller.user_id();
    let mut actions = Vec::new();
    if item.state == WorkState::Queued && may_claim(item, caller) {
        actions.push(Claim);
    }
    if had || caller.oversees() {
        actions.push(Note);
    }
    if mine {
        actions.extend(by_holder(item.state));
    } else if caller.oversees() {
        actions.extend(by_holder(item.state).iter().filter(|action| !ANSWERS.contains(action)));
    }
    if caller.oversees() {
        actions.extend(by_overseer(item.state));
    }
    if item.channel == Channel::Sms {
        actions.retain(|action| !matches!(action, ReplyAll | Forward));
    }
    actions
}

/// Lets through what is allowed.
///
/// # Errors
/// `not_yours` when another agent has it, `not_assigned` when nobody has, `forbidden` for what only supervisors may do,
/// `invalid_state` otherwise.
pub fn require(item: &work_item::Model, caller: &Caller, action: Action) -> Result<(), Problem> {
    if allowed(item, caller).contains(&action) {
        return Ok(());
    }
    let supervisors = matches!(action, SetPriority | SetClass);
    if supervisors && !caller.oversees() {
        return Err(Problem::new(Code::Forbidden, "only a supervisor may do this"));
    }
    match holder(item) {
        Some(agent) if !caller.oversees() && caller.user_id() != Some(agent) => {
            Err(Problem::new(Code::NotYours, "another agent has this work item"))
        }
        Some(_) if item.state == WorkState::Assigned && ANSWERS.contains(&action) => {
            Err(Problem::new(Code::NotAssigned, "transfer the work item to yourself first"))
        }
        None if matches!(item.state, WorkState::Queued | WorkState::Offered) && HOLDERS.contains(&action) => {
            Err(Problem::new(
                Code::NotAssigned,
                "nobody has this work item yet: claim it or accept its offer",
            ))
        }
        _ => Err(wrong_state(item, action.participle())),
    }
}
