//! What becomes of an agent's work when the agent leaves.

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;

use super::{
    decline::{self, event_of, requeue_at_home},
    entity::{WorkState, work_item},
    journal::Journal,
    routing, state,
};
use crate::{clock::Timestamp, id::UserId};

/// An agent logged off: what was held out to the agent goes back, and what was held for the agent is for everybody.
///
/// What the agent has stays assigned, unless `release` is set because the agent will not come back: then it goes back to
/// its place, snoozed items too, and what is in wrap-up is completed.
///
/// # Errors
/// Whatever the database says.
pub async fn agent_left(
    tx: &DatabaseTransaction,
    agent: UserId,
    now: Timestamp,
    release: bool,
) -> Result<(), DbErr> {
    let mut journal = Journal::new(now);
    decline::rescind_from_agent(tx, &mut journal, agent, "agent_left").await?;
    for before in concerned(tx, agent, release).await? {
        let mut item = before.clone();
        item.target_agent_id = None;
        match before.state {
            WorkState::Queued if routing::waits_for_agent(&before) => {
                routing::resume_with(&mut item, "not_available", now);
            }
            WorkState::Queued if item.queue_id.is_some() => {}
            WorkState::Wrapping => {
                item.state = WorkState::Completed;
                (item.timer, item.due_at) = (None, None);
            }
            _ => {
                state::end_script(&mut item);
                item.last_agent_id = Some(agent);
                requeue_at_home(tx, &mut item, now).await?;
            }
        }
        let item = state::save(tx, &before, item, now).await?;
        journal.moved(Some(before.state), &item, event_of(item.state), json!({ "why": "agent_left" }));
    }
    journal.write(tx).await
}

/// An agent takes no new work for a while: what was held out to the agent goes back, and scripts that wait for the agent
/// go on. What was transferred to the agent stays held for the agent.
///
/// # Errors
/// Whatever the database says.
pub async fn agent_paused(tx: &DatabaseTransaction, agent: UserId, now: Timestamp) -> Result<(), DbErr> {
    let mut journal = Journal::new(now);
    decline::rescind_from_agent(tx, &mut journal, agent, "agent_not_ready").await?;
    for before in concerned(tx, agent, false).await? {
        if !routing::waits_for_agent(&before) {
            continue;
        }
        let mut item = before.clone();
        routing::resume_with(&mut item, "not_available", now);
        let item = state::save(tx, &before, item, now).await?;
        journal.moved(Some(before.state), &item, event_of(item.state), json!({ "why": "agent_not_ready" }));
    }
    journal.write(tx).await
}

async fn concerned(
    tx: &DatabaseTransaction,
    agent: UserId,
    release: bool,
) -> Result<Vec<work_item::Model>, DbErr> {
    let held_for = Condition::all()
        .add(work_item::Column::TargetAgentId.eq(agent))
        .add(work_item::is(WorkState::Queued));
    let has = Condition::all()
        .add(work_item::Column::AssignedAgentId.eq(agent))
        .add(work_item::Column::State.is_in([WorkState::Assigned, WorkState::Waiting, WorkState::Wrapping]));
    let which = if release { Condition::any().add(held_for).add(has) } else { held_for };
    work_item::Entity::find().filter(which).order_by_asc(work_item::Column::Id).lock_exclusive().all(tx).await
}
