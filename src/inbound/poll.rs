//! Polling mailboxes: one supervisor that leases accounts, and one task for each account that it holds.
//!
//! An account is polled by whoever holds its lease. Its task keeps one connection (see [`session`]), renews the lease,
//! and settles it when the session ends: at once when this process stops or the account was changed, after a pause that
//! doubles when the mailbox could not be read. Accounts share nothing, so a slow server delays nobody else.

mod afterwards;
mod folder;
mod held;
mod intake;
mod session;
mod watch;

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use sea_orm::{DbErr, EntityTrait};

use self::{
    held::{End, Held},
    watch::Watch,
};
use crate::{
    accounts::{entity::account, mailbox::MailboxError, state::is_polled},
    app::App,
    id::AccountId,
    lease::{Claimed, Leased},
    workers::{Step, run},
};

const ACCOUNTS: Leased = Leased { table: "accounts", key: "id", only: "TRUE", order_by: "due_at" };
/// How long a lease holds unless it is renewed, in seconds: how soon another replica takes over from a dead one.
pub const LEASE_S: i64 = 60;
/// How many accounts are claimed at once.
const CLAIMS: u32 = 20;
/// The longest pause between two looks at what is due.
const IDLE: Duration = Duration::from_secs(10);
/// How long a session may take to end when the process stops; the process itself has 10 seconds.
const FAREWELL: Duration = Duration::from_secs(8);

/// Starts polling.
pub fn start(app: &App) {
    run(app, "poll", |wakes| &wakes.poll, IDLE, poll_due);
}

/// Takes the accounts that are due and starts a task for each.
///
/// # Errors
/// Whatever the database says.
pub async fn poll_due(app: App) -> anyhow::Result<Step> {
    let now = app.db.now(&app.clock).await?;
    match ACCOUNTS.next_due(app.db.read()).await? {
        None => return Ok(Step::Idle),
        Some(at) if at > now => return Ok(Step::IdleUntil(at)),
        Some(_) => {}
    }
    let tx = app.db.begin().await?;
    let left_behind = ACCOUNTS.left_behind(&tx, now).await?;
    let claimed = ACCOUNTS.claim(&tx, now, LEASE_S, CLAIMS).await?;
    tx.commit().await?;
    for one in &claimed {
        spawn(&app, *one, left_behind.contains(&one.key));
    }
    Ok(if claimed.is_empty() { Step::Idle } else { Step::Worked(claimed.len()) })
}

/// An account that fails, in whatever way, must not end the process.
fn spawn(app: &App, claimed: Claimed, left_behind: bool) {
    let (app, tasks) = (app.clone(), app.tasks.clone());
    tasks.spawn(format!("poll {}", claimed.key), async move {
        let id = AccountId(claimed.key);
        match AssertUnwindSafe(Box::pin(hold(&app, id, claimed.attempts, left_behind))).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(account = %id, %error, "a lease ends by itself"),
            Err(_) => give_up(&app, id, claimed.attempts).await,
        }
        app.wakes.poll.notify_one();
        Ok(())
    });
}

async fn hold(app: &App, id: AccountId, attempts: i64, left_behind: bool) -> Result<(), DbErr> {
    let mut watch = Watch::new(app, id);
    let Some(row) = account::Entity::find_by_id(id).one(app.db.read()).await? else { return Ok(()) };
    let polled = is_polled(&row);
    let held = Held::new(app.clone(), row, attempts);
    held.be_wary(left_behind);
    if !polled {
        return held.settle(Ok(End::Released)).await;
    }
    let end = tokio::select! {
        end = session::run(&held, &mut watch) => end,
        end = held.keep() => Ok(end),
        () = overdue(app) => Ok(End::Released),
    };
    held.settle(end).await
}

async fn overdue(app: &App) {
    app.shutdown.stopping().await;
    tokio::time::sleep(FAREWELL).await;
}

async fn give_up(app: &App, id: AccountId, attempts: i64) {
    tracing::error!(account = %id, "the task of an account panicked");
    let failure = MailboxError::Internal("a fault in this service".into());
    match account::Entity::find_by_id(id).one(app.db.read()).await {
        Ok(Some(row)) => {
            if let Err(error) = Held::new(app.clone(), row, attempts).settle(Err(failure)).await {
                tracing::error!(account = %id, %error, "a lease ends by itself");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(account = %id, %error, "a lease ends by itself"),
    }
}
