//! Timers: offers that lapse, times in queues, snoozes, wrap-ups, and scripts that have something left to do.
//!
//! A due item is leased first and settled in a second transaction, so that one item that cannot be settled never keeps
//! the others from it.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, JsonValue, QueryFilter, QuerySelect};
use serde_json::json;

use super::{
    decline::{self, event_of, requeue_at_home},
    entity::{OfferState, Timer, WorkState, offer, work_item},
    journal::Journal,
    receipts::send_receipts,
    routing::{self, Routing, Subject},
    state,
    world::{Needs, World},
};
use crate::{
    accounts::entity::account,
    app::App,
    clock::Timestamp,
    conversations::entity::{conversation, message},
    db::among,
    id::{ConversationId, UserId, WorkItemId},
    lease::{Claimed, Leased},
    receipts::Limits,
    workers::Step,
};

const LEASED: Leased = Leased { table: "work_items", key: "id", only: "TRUE", order_by: "due_at" };
const LEASE_S: i64 = 60;
const BATCH: u32 = 100;

/// Settles what is due.
///
/// # Errors
/// Whatever the database says.
pub async fn expire(app: App) -> anyhow::Result<Step> {
    let now = app.clock.now();
    let lapsed = decline::lapse(&app, now).await?;
    let due = lease(&app, now).await?;
    if let Err(error) = settle(&app, now, &due).await {
        tracing::warn!(%error, count = due.len(), "due items are settled one by one");
        for one in &due {
            if let Err(error) = settle(&app, now, std::slice::from_ref(one)).await {
                tracing::error!(%error, item = %one.key, attempts = one.attempts, "a due item cannot be settled");
            }
        }
    }
    match lapsed + due.len() {
        0 => Ok(next_due(&app, now).await?.map_or(Step::Idle, Step::IdleUntil)),
        worked => Ok(Step::Worked(worked)),
    }
}

/// Leases what is due; a look without a transaction tells whether there is anything. What is due the clock tells, and
/// who holds it the database's time, which is the same for all replicas.
async fn lease(app: &App, now: Timestamp) -> Result<Vec<Claimed>, DbErr> {
    let at = app.db.now(&app.clock).await?;
    let any = work_item::Entity::find()
        .filter(work_item::Column::DueAt.lte(now))
        .filter(work_item::Column::LeaseUntil.lte(at))
        .one(app.db.read())
        .await?;
    if any.is_none() {
        return Ok(Vec::new());
    }
    let tx = app.db.begin().await?;
    let due = LEASED.claim_due(&tx, now, at, LEASE_S, BATCH).await?;
    tx.commit().await?;
    Ok(due)
}

/// When something is due next.
async fn next_due(app: &App, now: Timestamp) -> Result<Option<Timestamp>, DbErr> {
    let db = app.db.read();
    let smallest =
        |column: work_item::Column| work_item::Entity::find().select_only().column_as(column.min(), "at");
    let timer: Option<Option<Timestamp>> = smallest(work_item::Column::DueAt)
        .filter(work_item::Column::DueAt.gt(now))
        .into_tuple()
        .one(db)
        .await?;
    let leased: Option<Option<Timestamp>> = smallest(work_item::Column::LeaseUntil)
        .filter(work_item::Column::DueAt.lte(now))
        .into_tuple()
        .one(db)
        .await?;
    let offers: Option<Option<Timestamp>> = offer::Entity::find()
        .select_only()
        .column_as(offer::Column::ExpiresAt.min(), "at")
        .filter(offer::is(OfferState::Pending))
        .into_tuple()
        .one(db)
        .await?;
    Ok([timer, leased, offers].into_iter().flatten().flatten().min())
}

/// Settles leased items in one transaction.
///
/// # Errors
/// Whatever the database says; nothing is settled then, and the leases run out.
pub async fn settle(app: &App, now: Timestamp, due: &[Claimed]) -> Result<(), DbErr> {
    if due.is_empty() {
        return Ok(());
    }
    let tx = app.db.begin().await?;
    let attempts: HashMap<WorkItemId, i64> =
        due.iter().map(|claimed| (WorkItemId(claimed.key), claimed.attempts)).collect();
    lock_conversations(&tx, attempts.keys().copied()).await?;
    note_ended_wrap_ups(&tx, attempts.keys().copied(), now).await?;
    let mut items = state::lock_all(&tx, attempts.keys().copied()).await?;
    items.retain(|item| {
        attempts.get(&item.id) == Some(&item.attempts) && item.due_at.is_some_and(|at| at <= now)
    });
    let mut journal = Journal::new(now);
    let (to_route, to_settle): (Vec<_>, Vec<_>) = items.into_iter().partition(needs_script);
    for before in to_settle {
        let mut item = before.clone();
        elapse(&tx, &mut journal, &mut item).await?;
        state::save(&tx, &before, item, now).await?;
    }
    route(app, &tx, &mut journal, to_route).await?;
    journal.write(&tx).await?;
    tx.commit().await
}

/// Conversations are locked before items, everywhere: a script may answer, which is noted on the conversation.
async fn lock_conversations(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = WorkItemId>,
) -> Result<(), DbErr> {
    let conversations: Vec<ConversationId> = work_item::Entity::find()
        .select_only()
        .column(work_item::Column::ConversationId)
        .filter(among(work_item::Column::Id, ids))
        .filter(work_item::Column::Timer.is_in([Timer::Route, Timer::QueueTimeout, Timer::MaxWait]))
        .into_tuple()
        .all(tx)
        .await?;
    if conversations.is_empty() { Ok(()) } else { state::lock_conversations(tx, conversations).await }
}

/// Agents are locked before items, everywhere.
async fn note_ended_wrap_ups(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = WorkItemId>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let wrapping = work_item::Entity::find()
        .filter(among(work_item::Column::Id, ids))
        .filter(work_item::is(WorkState::Wrapping))
        .all(tx)
        .await?;
    let agents: Vec<UserId> = wrapping.into_iter().filter_map(|item| item.assigned_agent_id).collect();
    if agents.is_empty() { Ok(()) } else { state::note_idle(tx, agents, now).await }
}

fn needs_script(item: &work_item::Model) -> bool {
    match item.timer {
        Some(Timer::Route) => true,
        Some(Timer::QueueTimeout | Timer::MaxWait) => item.state == WorkState::Queued,
        _ => false,
    }
}

/// What a timer that concerns no script does.
async fn elapse(
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    item: &mut work_item::Model,
) -> Result<(), DbErr> {
    let from = item.state;
    let timer = item.timer.take();
    item.due_at = None;
    match (timer, from) {
        (Some(Timer::Snooze), WorkState::Waiting) => requeue_at_home(tx, item, journal.now).await?,
        (Some(Timer::WrapUp), WorkState::Wrapping) => item.state = WorkState::Completed,
        (Some(Timer::QueueTimeout | Timer::MaxWait), WorkState::Offered) => {
            // The offer comes first; its end looks at the time again.
            let pending = offer::Entity::find()
                .filter(offer::Column::WorkItemId.eq(item.id))
                .filter(offer::is(OfferState::Pending))
                .one(tx)
                .await?;
            item.timer = timer;
            item.due_at = pending.map(|offer| offer.expires_at.max(journal.now).plus_ms(1));
        }
        _ => {}
    }
    if item.state != from {
        journal.moved(Some(from), item, event_of(item.state), json!({ "timer": timer }));
    }
    Ok(())
}

/// Runs the scripts of items on: after their time in a queue, after an agent got them, or again after a crash.
async fn route(
    app: &App,
    tx: &DatabaseTransaction,
    journal: &mut Journal,
    items: Vec<work_item::Model>,
) -> Result<(), DbErr> {
    if items.is_empty() {
        return Ok(());
    }
    let subjects = subjects(tx, &items).await?;
    let world = World::load(&app.scripts, tx, journal.now, needs(app, &items, &subjects)).await?;
    let mut wanted = Vec::new();
    for before in items {
        let Some(subject) = subjects.get(&before.id) else { continue };
        let mut item = before.clone();
        if !overdue_without_script(&world, subject, journal, &mut item) {
            if item.timer != Some(Timer::Route) {
                journal.trace(
                    item.id,
                    "state",
                    json!({ "from": item.state, "to": "routing", "timer": item.timer }),
                );
                routing::resume_with(&mut item, "timeout", journal.now);
            }
            (item.timer, item.due_at) = (None, None);
            Routing { world: &world, subject, journal, receipts: &mut wanted }.route(&mut item);
        }
        state::save(tx, &before, item, journal.now).await?;
    }
    send_receipts(app, tx, journal.now, wanted).await
}

/// An item that waited for too long and whose script has no way on for that goes to the fallback queue, or stays.
fn overdue_without_script(
    world: &World,
    subject: &Subject,
    journal: &mut Journal,
    item: &mut work_item::Model,
) -> bool {
    if item.timer == Some(Timer::Route) || routing::has_timeout(world, item) {
        return false;
    }
    let timer = item.timer.take();
    item.due_at = None;
    let fallback = subject.account.fallback_queue_id.filter(|id| item.queue_id != Some(*id));
    if let Some(queue) = fallback.and_then(|id| world.queues.get(&id)) {
        state::end_script(item);
        (item.lane, item.required_skills) = (String::new(), JsonValue::Array(Vec::new()));
        (item.group_id, item.target_agent_id) = (None, None);
        item.declined_by = JsonValue::Array(Vec::new());
        state::enqueue(item, queue, journal.now);
    }
    journal.moved(Some(WorkState::Queued), item, "work_item.overdue", json!({ "timer": timer }));
    true
}

async fn subjects(
    tx: &DatabaseTransaction,
    items: &[work_item::Model],
) -> Result<HashMap<WorkItemId, Subject>, DbErr> {
    let accounts = account::Entity::find()
        .filter(among(account::Column::Id, items.iter().map(|item| item.account_id)))
        .all(tx)
        .await?;
    let accounts: HashMap<_, _> = accounts.into_iter().map(|row| (row.id, Arc::new(row))).collect();
    let conversations = conversation::Entity::find()
        .filter(among(conversation::Column::Id, items.iter().map(|item| item.conversation_id)))
        .all(tx)
        .await?;
    let conversations: HashMap<_, _> = conversations.into_iter().map(|row| (row.id, row)).collect();
    let messages = message::Entity::find()
        .filter(among(message::Column::Id, items.iter().map(|item| item.first_message_id)))
        .all(tx)
        .await?;
    let messages: HashMap<_, _> = messages.into_iter().map(|row| (row.id, row)).collect();
    let subject = |item: &work_item::Model| {
        Some(Subject {
            account: Arc::clone(accounts.get(&item.account_id)?),
            conversation: conversations.get(&item.conversation_id)?.clone(),
            message: messages.get(&item.first_message_id)?.clone(),
        })
    };
    Ok(items.iter().filter_map(|item| Some((item.id, subject(item)?))).collect())
}

fn needs<'a>(app: &App, items: &[work_item::Model], subjects: &'a HashMap<WorkItemId, Subject>) -> Needs<'a> {
    let mut accounts: HashMap<_, _> = HashMap::new();
    for subject in subjects.values() {
        accounts.insert(subject.account.id, Arc::clone(&subject.account));
    }
    Needs {
        accounts: accounts.into_values().collect(),
        versions: items.iter().filter_map(|item| item.script_version_id).collect(),
        last_agents: items.iter().filter_map(|item| item.last_agent_id).collect(),
        messages: subjects.values().map(|subject| &subject.message).collect(),
        limits: Limits::from(&app.config.limits),
    }
}
