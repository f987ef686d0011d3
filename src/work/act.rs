//! What people do with items they have: give them back or on, lay them aside, end them.

use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait, QuerySelect};
use serde_json::{Value, json};

use super::{
    allowed::{Action, require},
    decline::{self, declined, event_of, requeue_at_home},
    entity::{Timer, WorkState, work_item},
    journal::{Journal, holder},
    lane::Lane,
    offer::{Planned, hold_out},
    rank::rank,
    roster::Roster,
    state,
};
use crate::{
    agents::entity::{AgentState, group},
    clock::Timestamp,
    conversations::{drafts, entity::note, notes::note_added},
    http::{Caller, Code, Problem},
    id::{ClassId, GroupId, NoteId, QueueId, UserId, WorkItemId},
    queues::entity::{QueueState, queue},
};

/// Where an item is transferred to.
#[derive(Clone, Copy, Debug)]
pub enum Destination {
    /// A queue.
    Queue(QueueId),
    /// One agent.
    Agent(UserId),
    /// The members of a group.
    Group(GroupId),
}

/// Puts the item back to its place in its queue.
///
/// # Errors
/// Those of [`require`].
pub async fn release(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
) -> Result<work_item::Model, Problem> {
    free_agent(tx, id, journal.now).await?;
    let before = prepare(tx, journal, id, caller, Action::Release).await?;
    let mut item = before.clone();
    if let Some(agent) = holder(&before).filter(|_| before.state == WorkState::Assigned) {
        // Who gives it back is not the next to be asked.
        item.declined_by = declined(&item, agent, journal.now);
        item.last_agent_id = Some(agent);
    }
    state::end_script(&mut item);
    item.target_agent_id = None;
    requeue_at_home(tx, &mut item, journal.now).await?;
    finish(tx, journal, &before, item, json!({ "why": "released", "by": caller.id })).await
}

/// Gives the item to a queue, an agent or a group.
///
/// # Errors
/// Those of [`require`]; `validation_failed` when the agent has it already, `unknown_reference`, `queue_closed`, `agent_not_ready` when the agent is logged off,
/// `invalid_state` when the item has no queue that could hold it for a group.
pub async fn transfer(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
    to: Destination,
    text: Option<String>,
) -> Result<work_item::Model, Problem> {
    let seen = state::find(tx, id).await?;
    let mut agents: Vec<UserId> = holder(&seen).into_iter().collect();
    if let Destination::Agent(agent) = to {
        agents.push(agent);
    }
    let locked = state::lock_agents(tx, agents).await?;
    state::note_idle(tx, holder(&seen), journal.now).await?;
    let before = prepare(tx, journal, id, caller, Action::Transfer).await?;
    if let Destination::Agent(agent) = to
        && before.state == WorkState::Assigned
        && holder(&before) == Some(agent)
    {
        return Err(Problem::invalid("/agent_id", "same_agent", "the agent has the work item already"));
    }
    let mut item = before.clone();
    item.last_agent_id = holder(&before).or(item.last_agent_id);
    state::end_script(&mut item);
    item.declined_by = json!([]);
    (item.error, item.target_agent_id) = (None, None);
    match to {
        Destination::Queue(queue) => to_queue(tx, &mut item, queue, journal.now).await?,
        Destination::Group(group) => to_group(tx, &mut item, group, journal.now).await?,
        Destination::Agent(agent) => {
            let state = locked.get(&agent).map(|agent| agent.state);
            let state = state.ok_or_else(|| Problem::unknown_reference("/agent_id", "agent"))?;
            if state == AgentState::LoggedOff {
                return Err(Problem::new(Code::AgentNotReady, "the agent is logged off"));
            }
            to_agent(tx, &mut item, agent, journal.now).await?;
        }
    }
    add_note(tx, journal, &item, caller, text).await?;
    let why = json!({ "why": "transferred", "by": caller.id, "target_agent_id": item.target_agent_id,
        "group_id": item.group_id });
    let item = finish(tx, journal, &before, item, why).await?;
    match to {
        Destination::Agent(agent) => offer_at_once(tx, journal, item, agent).await,
        _ => Ok(item),
    }
}

async fn to_queue(
    tx: &DatabaseTransaction,
    item: &mut work_item::Model,
    id: QueueId,
    now: Timestamp,
) -> Result<(), Problem> {
    let queue = queue::Entity::find_by_id(id).one(tx).await?;
    let queue = queue.ok_or_else(|| Problem::unknown_reference("/queue_id", "queue"))?;
    if queue.state != QueueState::Open {
        return Err(Problem::new(Code::QueueClosed, "the queue takes no work"));
    }
    // What the script asked of agents was meant for the queue it chose.
    (item.group_id, item.required_skills, item.lane) = (None, json!([]), String::new());
    state::enqueue(item, &queue, now);
    Ok(())
}

async fn to_group(
    tx: &DatabaseTransaction,
    item: &mut work_item::Model,
    id: GroupId,
    now: Timestamp,
) -> Result<(), Problem> {
    if group::Entity::find_by_id(id).lock_shared().one(tx).await?.is_none() {
        return Err(Problem::unknown_reference("/group_id", "agent group"));
    }
    let home = state::home_queue(tx, item).await?;
    let home = home.ok_or_else(|| {
        Problem::new(Code::InvalidState, "the item has no queue and its account has no fallback queue")
    })?;
    item.group_id = Some(id);
    item.required_skills = json!([]);
    item.lane = Lane::new(Some(id), Vec::new()).key();
    state::enqueue(item, &home, now);
    Ok(())
}

async fn to_agent(
    tx: &DatabaseTransaction,
    item: &mut work_item::Model,
    agent: UserId,
    now: Timestamp,
) -> Result<(), DbErr> {
    match state::home_queue(tx, item).await? {
        Some(queue) => state::enqueue(item, &queue, now),
        None => {
            item.state = WorkState::Queued;
            item.queued_at = item.queued_at.or(Some(now));
            item.first_queued_at = item.first_queued_at.or(Some(now));
            item.rank = rank(item.priority, item.queued_at.unwrap_or(now), None);
            (item.timer, item.due_at) = (None, None);
        }
    }
    item.target_agent_id = Some(agent);
    Ok(())
}

/// The agent is asked in the same transaction, when there is room; else as soon as there is.
async fn offer_at_once(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    item: work_item::Model,
    agent: UserId,
) -> Result<work_item::Model, Problem> {
    let roster = Roster::of(tx, &[agent]).await?;
    let Some(known) = roster.agents.get(&agent) else { return Ok(item) };
    let queue = item.queue_id.and_then(|id| roster.queues.get(&id));
    let planned = Planned {
        item: item.id,
        agent,
        capacity: known.capacity.get(item.channel),
        terms: roster.terms(agent, item.queue_id, item.group_id),
        queue_name: queue.map(|queue| queue.name.clone()),
    };
    hold_out(tx, journal, &[planned]).await?;
    state::find(tx, item.id).await
}

async fn add_note(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    item: &work_item::Model,
    caller: &Caller,
    text: Option<String>,
) -> Result<(), DbErr> {
    let Some(text) = text else { return Ok(()) };
    let (id, now) = (NoteId::new(journal.now), journal.now);
    let note = note::ActiveModel {
        id: Set(id),
        conversation_id: Set(item.conversation_id),
        work_item_id: Set(Some(item.id)),
        author_id: Set(caller.id),
        author_name: Set(caller.name.clone()),
        text: Set(text),
        created_at: Set(now),
    };
    note::Entity::insert(note).exec_without_returning(tx).await?;
    let reader = item.target_agent_id.or(item.last_agent_id);
    journal.event(note_added(item.conversation_id, id, Some(item.id), reader));
    Ok(())
}

/// Lays the item aside; it comes back to its place then, or when the customer writes.
///
/// # Errors
/// Those of [`require`]; `validation_failed` when `until` is not within the next year.
pub async fn snooze(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
    until: Timestamp,
) -> Result<work_item::Model, Problem> {
    if until <= journal.now {
        return Err(Problem::invalid(
            "/until",
            "out_of_range",
            format!("this is in the past: it is {} now", journal.now),
        ));
    }
    if until > journal.now.plus_s(366 * 24 * 3600) {
        return Err(Problem::invalid("/until", "out_of_range", "choose a time within the next year"));
    }
    free_agent(tx, id, journal.now).await?;
    let before = prepare(tx, journal, id, caller, Action::Snooze).await?;
    let mut item = before.clone();
    state::end_script(&mut item);
    item.state = WorkState::Waiting;
    item.last_agent_id = item.assigned_agent_id;
    (item.timer, item.due_at) = (Some(Timer::Snooze), Some(until));
    finish(tx, journal, &before, item, json!({ "until": until, "by": caller.id })).await
}

/// Ends the work: the conversation is closed, and the agent may have wrap-up time.
///
/// # Errors
/// Those of [`require`].
pub async fn complete(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
    outcome: Option<String>,
) -> Result<work_item::Model, Problem> {
    let seen = state::find(tx, id).await?;
    require(&seen, caller, Action::Complete)?;
    state::lock_conversation(tx, seen.conversation_id).await?;
    free_agent(tx, id, journal.now).await?;
    let before = prepare(tx, journal, id, caller, Action::Complete).await?;
    let mut item = before.clone();
    let agent = item.assigned_agent_id;
    let wrap_up_s = match agent {
        Some(agent) => Roster::of(tx, &[agent]).await?.terms(agent, item.queue_id, item.group_id).wrap_up_s,
        None => 0,
    };
    item.outcome_code = outcome.or(item.outcome_code);
    item.result = Some("completed".into());
    item.completed_at = Some(journal.now);
    if before.timer == Some(Timer::Route) {
        // The script has something left to do, due now: it is faster than any wrap-up.
        item.state = WorkState::Completed;
    } else if wrap_up_s > 0 {
        item.state = WorkState::Wrapping;
        (item.timer, item.due_at) = (Some(Timer::WrapUp), Some(journal.now.plus_s(wrap_up_s)));
    } else {
        item.state = WorkState::Completed;
        (item.timer, item.due_at) = (None, None);
    }
    state::close_conversation(tx, item.conversation_id, agent, journal).await?;
    finish(tx, journal, &before, item, json!({ "by": caller.id })).await
}

/// Ends the wrap-up before its time.
///
/// # Errors
/// Those of [`require`].
pub async fn finish_wrap_up(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
) -> Result<work_item::Model, Problem> {
    free_agent(tx, id, journal.now).await?;
    let before = prepare(tx, journal, id, caller, Action::FinishWrapUp).await?;
    let mut item = before.clone();
    item.state = WorkState::Completed;
    (item.timer, item.due_at) = (None, None);
    finish(tx, journal, &before, item, json!({ "by": caller.id })).await
}

/// A change that leaves the item where it is.
#[derive(Clone, Debug)]
pub enum Amendment {
    /// How it went.
    Outcome(String),
    /// 1 (first) to 10.
    Priority(i32),
    /// What kind of contact it is.
    Class(Option<ClassId>),
}

/// Changes what is said of an item.
///
/// # Errors
/// Those of [`require`]; `unknown_reference` for a class that does not exist.
pub async fn amend(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
    amendment: Amendment,
) -> Result<work_item::Model, Problem> {
    let action = match amendment {
        Amendment::Outcome(_) => Action::SetOutcome,
        Amendment::Priority(_) => Action::SetPriority,
        Amendment::Class(_) => Action::SetClass,
    };
    let before = state::lock(tx, id).await?;
    require(&before, caller, action)?;
    let mut item = before.clone();
    let entry = match amendment {
        Amendment::Outcome(code) => {
            item.outcome_code = Some(code);
            json!({ "event": "work_item.updated", "outcome_code": item.outcome_code, "by": caller.id })
        }
        Amendment::Priority(priority) => {
            item.priority = priority;
            let queue = match item.queue_id {
                Some(id) => queue::Entity::find_by_id(id).one(tx).await?,
                None => None,
            };
            if let Some(queued_at) = item.queued_at {
                item.rank = rank(priority, queued_at, queue.and_then(|queue| queue.aging_s));
            }
            json!({ "event": "work_item.updated", "priority": priority, "by": caller.id })
        }
        Amendment::Class(class) => {
            item.class_id = class;
            json!({ "event": "work_item.updated", "class_id": class, "by": caller.id })
        }
    };
    let item = state::save(tx, &before, item, journal.now).await?;
    journal.trace(item.id, "note", entry);
    journal.tell(&item, "work_item.updated");
    Ok(item)
}

/// Locks the item's agent, who will have less to do, before the item itself.
async fn free_agent(tx: &DatabaseTransaction, id: WorkItemId, now: Timestamp) -> Result<(), Problem> {
    let seen = state::find(tx, id).await?;
    state::note_idle(tx, holder(&seen), now).await?;
    Ok(())
}

/// Takes back a pending offer, locks the item, and makes sure that the action is allowed.
async fn prepare(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    id: WorkItemId,
    caller: &Caller,
    action: Action,
) -> Result<work_item::Model, Problem> {
    require(&state::find(tx, id).await?, caller, action)?;
    decline::rescind_of_item(tx, journal, id, action_reason(action)).await?;
    let item = state::lock(tx, id).await?;
    require(&item, caller, action)?;
    if item.state == WorkState::Offered {
        // Offered only now, after the look for an offer: the next try finds it.
        let pending = decline::is_offered(tx, id).await?;
        if pending {
            return Err(DbErr::RecordNotUpdated.into());
        }
    }
    Ok(item)
}

fn action_reason(action: Action) -> &'static str {
    if action == Action::Transfer { "transferred" } else { "taken_back" }
}

async fn finish(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    before: &work_item::Model,
    item: work_item::Model,
    why: Value,
) -> Result<work_item::Model, Problem> {
    let item = state::save(tx, before, item, journal.now).await?;
    if matches!(item.state, WorkState::Wrapping | WorkState::Completed) {
        drafts::discard(tx, item.id).await?;
    }
    journal.moved(Some(before.state), &item, event_of(item.state), why);
    Ok(item)
}
