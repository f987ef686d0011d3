//! Writes the ledger: one row for each customer who gets the broadcast, a page in a transaction, so that a process that
//! dies goes on where it was.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use serde_json::json;

use super::{
    change::{self, Change},
    entity::{BroadcastRecipientState, BroadcastState, RecipientPhase, broadcast, recipient},
    gather::{self, Excluded, Exclusion, Sieve, Sieved, reach},
    settings::find,
};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    customers::entity::customer,
    id::{CustomerId, MessageId},
    lease::Claimed,
    outgoing::{self, settings::RetryPolicy},
};

/// Pages of one step; other broadcasts have their turn after it.
const PAGES: usize = 40;

/// Goes on preparing a broadcast that this process holds; gives how many customers were looked at.
///
/// # Errors
/// Whatever the database says.
pub async fn prepare(app: &App, held: Claimed, mut row: broadcast::Model) -> anyhow::Result<usize> {
    let sieve = match Sieve::of(&row, crate::suppressions::AddressKeys::of(app)) {
        Ok(sieve) => sieve,
        Err(reason) => return fail(app, held, &row, &reason).await,
    };
    let lists = gather::lists(app.db.read(), &row).await?;
    let retry = match outgoing::find(app.db.read()).await? {
        Some(server) => server.retry_policy(),
        None => RetryPolicy::default(),
    };
    let mut seen = 0;
    for _ in 0..PAGES {
        if app.shutdown.is_stopping() {
            break;
        }
        let page = if lists.is_empty() {
            Vec::new()
        } else {
            gather::page(app.db.read(), &lists, row.prepared_to).await?
        };
        let Some(last) = page.last().map(|customer| customer.id) else {
            finish(app, held, &row).await?;
            return Ok(seen.max(1));
        };
        seen += page.len();
        let (now, looked_at) = (app.clock.now(), page.len());
        let sieved = sieve.sieve(app.db.read(), page, now).await?;
        let expires_at = now.plus_s(retry.give_up_after_s);
        match write(app, held, &row, sieved, Page { last, looked_at, now, expires_at }).await? {
            Some(next) => row = next,
            // It was called off, or another process prepares it.
            None => return Ok(seen),
        }
    }
    change::look_again(app, held, app.clock.now()).await?;
    Ok(seen)
}

struct Page {
    last: CustomerId,
    looked_at: usize,
    now: Timestamp,
    expires_at: Timestamp,
}

/// Writes the rows of one page and how far it has come; none when the broadcast is not ours to prepare any more.
async fn write(
    app: &App,
    held: Claimed,
    row: &broadcast::Model,
    sieved: Sieved,
    page: Page,
) -> Result<Option<broadcast::Model>, DbErr> {
    let until = app.db.now(&app.clock).await?.plus_s(change::LEASE_S);
    let tx = app.db.begin().await?;
    let taken = sieved.taken.len();
    let written = insert(&tx, row, sieved.taken, &page).await?;
    let mut excluded: Excluded = serde_json::from_value(row.excluded.clone()).unwrap_or_default();
    for (why, count) in sieved.excluded {
        *excluded.entry(why).or_default() += count;
    }
    let twice = taken as u64 - written;
    if twice > 0 {
        *excluded.entry(Exclusion::Duplicate).or_default() += twice;
    }
    let found = row.found_count.saturating_add(i64::try_from(page.looked_at).unwrap_or(i64::MAX));
    let update = broadcast::Entity::update_many()
        .col_expr(broadcast::Column::PreparedTo, Expr::value(Some(page.last)))
        .col_expr(broadcast::Column::FoundCount, Expr::value(found))
        .col_expr(broadcast::Column::Excluded, Expr::value(json!(excluded)))
        .col_expr(broadcast::Column::LeaseUntil, Expr::value(until))
        .filter(broadcast::Column::Id.eq(row.id))
        .filter(broadcast::Column::Attempts.eq(held.attempts))
        .filter(broadcast::Column::State.eq(BroadcastState::Preparing));
    let Some(row) = update.exec_with_returning(&*tx).await?.pop() else { return Ok(None) };
    tx.commit_untold().await?;
    Ok(Some(row))
}

async fn insert(
    tx: &DatabaseTransaction,
    row: &broadcast::Model,
    customers: Vec<customer::Model>,
    page: &Page,
) -> Result<u64, DbErr> {
    if customers.is_empty() {
        return Ok(0);
    }
    let now = page.now;
    let rows = customers.into_iter().map(|customer| (to(row.channel, &customer), customer));
    let rows = rows.map(|((address, address_key), customer)| recipient::ActiveModel {
        id: Set(MessageId::new(now)),
        broadcast_id: Set(row.id),
        customer_id: Set(customer.id),
        address: Set(address),
        address_key: Set(address_key),
        name: Set(customer.name),
        state: Set(BroadcastRecipientState::Queued),
        reason: Set(None),
        phase: Set(RecipientPhase::Idle),
        due_at: Set(Some(now)),
        lease_until: Set(Timestamp::ZERO),
        attempts: Set(0),
        tries: Set(0),
        expires_at: Set(page.expires_at),
        last_code: Set(None),
        last_text: Set(None),
        sent_at: Set(None),
        updated_at: Set(now),
    });
    let once = OnConflict::columns([recipient::Column::BroadcastId, recipient::Column::AddressKey])
        .do_nothing()
        .to_owned();
    recipient::Entity::insert_many(rows).on_conflict(once).exec_without_returning(tx).await
}

fn to(channel: Channel, customer: &customer::Model) -> (String, String) {
    let (address, key) = reach(channel, customer);
    (address.unwrap_or_default().to_owned(), key.unwrap_or_default().to_owned())
}

/// All customers were looked at: it runs, or there is nobody to send to. Nothing changes when it was called off meanwhile.
///
/// # Errors
/// Whatever the database says.
pub async fn finish(app: &App, held: Claimed, row: &broadcast::Model) -> anyhow::Result<()> {
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let any = recipient::Entity::find().filter(recipient::Column::BroadcastId.eq(row.id)).one(&*tx).await?;
    let to = if any.is_some() { BroadcastState::Running } else { BroadcastState::Failed };
    let change = Change {
        prepared_at: Some(now),
        due_at: any.is_some().then_some(now),
        reason: any.is_none().then(|| "no_recipients: nobody is left who may get it".to_owned()),
        ended_at: any.is_none().then_some(now),
        ..Change::to(to)
    };
    let current = find(&*tx, row.id).await?;
    if current.attempts == held.attempts && change::apply(&tx, now, &current, change).await?.is_some() {
        tx.commit().await?;
    }
    Ok(())
}

async fn fail(app: &App, held: Claimed, row: &broadcast::Model, reason: &str) -> anyhow::Result<usize> {
    let now = app.clock.now();
    let tx = app.db.begin().await?;
    let current = find(&*tx, row.id).await?;
    let change =
        Change { reason: Some(reason.to_owned()), ended_at: Some(now), ..Change::to(BroadcastState::Failed) };
    if current.attempts == held.attempts && change::apply(&tx, now, &current, change).await?.is_some() {
        tx.commit().await?;
    }
    Ok(1)
}
