//! Follows the log: gives positions (PostgreSQL), hands each new event to this process's readers, wakes its workers.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement, sqlx::postgres::PgListener,
};
use tokio::sync::broadcast;

use super::entity::{Column, Entity, Model};
use crate::{
    app::App,
    db::{Db, Lock},
    workers::Wakes,
};

/// The PostgreSQL channel on which replicas tell each other of new events.
const CHANNEL: &str = "postroom_events";
/// A commit of another replica whose call was lost is found after this time.
const POLL: Duration = Duration::from_secs(1);
const BATCH: u64 = 500;

/// Where this process's readers get new events from, in order and without gaps unless they fall far behind.
#[derive(Clone, Debug)]
pub struct Tail {
    readers: broadcast::Sender<Arc<Model>>,
    /// The log's end before anybody could listen: all that comes after it is handed out, however late following starts.
    opened_at: i64,
}

impl Tail {
    /// Before the first reader.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn open(db: &Db) -> Result<Self, DbErr> {
        Ok(Self { readers: broadcast::channel(4096).0, opened_at: last_position(db).await? })
    }

    /// Begins to listen. A reader that lags behind by 4,096 events is told so and reads on in the table.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Model>> {
        self.readers.subscribe()
    }
}

/// Starts following the log.
pub fn start(app: &App) {
    let app = app.clone();
    let tasks = app.tasks.clone();
    tasks.spawn("events", async move { follow(&app).await });
}

async fn follow(app: &App) -> anyhow::Result<()> {
    let mut listener = Listener::connect(app).await?;
    let mut seen = app.tail.opened_at;
    while !app.shutdown.is_stopping() {
        match advance(app, seen).await {
            Ok(position) => seen = position,
            Err(error) => tracing::error!(%error, "the event log cannot be read"),
        }
        tokio::select! {
            () = app.db.committed().notified() => {}
            () = listener.notified() => {}
            () = tokio::time::sleep(POLL) => {}
            () = app.shutdown.stopping() => {}
        }
    }
    Ok(())
}

/// Reads everything after `seen`, hands it out, and returns the new last position.
async fn advance(app: &App, mut seen: i64) -> Result<i64, DbErr> {
    place(&app.db).await?;
    loop {
        let events = Entity::find()
            .filter(Column::Position.gt(seen))
            .order_by_asc(Column::Position)
            .limit(BATCH)
            .all(app.db.read())
            .await?;
        let count = events.len() as u64;
        for event in events {
            seen = event.position.unwrap_or(seen);
            wake(&app.wakes, &event.kind);
            if event.kind.starts_with("dkim_key.") {
                app.dkim.changed();
            }
            // Nobody listening is fine: the table keeps the event.
            let _ = app.tail.readers.send(Arc::new(event));
        }
        if count < BATCH {
            return Ok(seen);
        }
    }
}

/// The newest position of the log.
pub(super) async fn last_position(db: &Db) -> Result<i64, DbErr> {
    let last = Entity::find()
        .filter(Column::Position.is_not_null())
        .order_by_desc(Column::Position)
        .one(db.read())
        .await?;
    Ok(last.and_then(|event| event.position).unwrap_or(0))
}

/// On PostgreSQL, gives positions to committed events that have none, one process at a time, and tells the replicas.
///
/// The lock is held until the positions are committed, so a position is never visible before a smaller one.
async fn place(db: &Db) -> Result<(), DbErr> {
    if db.backend() != DbBackend::Postgres {
        return Ok(());
    }
    let waiting = "SELECT EXISTS (SELECT 1 FROM events WHERE position IS NULL)";
    let row = db.read().query_one_raw(Statement::from_string(DbBackend::Postgres, waiting)).await?;
    if !row.map(|row| row.try_get_by_index::<bool>(0)).transpose()?.unwrap_or(false) {
        return Ok(());
    }
    let tx = db.begin().await?;
    Lock::Positions.take(&tx).await?;
    tx.execute_unprepared(
        "UPDATE events SET position = placed.position FROM (\
           SELECT seq, (SELECT coalesce(max(position), 0) FROM events) + row_number() OVER (ORDER BY seq) AS position \
           FROM events WHERE position IS NULL\
         ) AS placed WHERE events.seq = placed.seq",
    )
    .await?;
    tx.execute_unprepared(&format!("NOTIFY {CHANNEL}")).await?;
    tx.commit().await
}

/// The call of other replicas; on SQLite there are none.
enum Listener {
    Postgres(PgListener),
    Alone,
}

impl Listener {
    async fn connect(app: &App) -> anyhow::Result<Self> {
        if app.db.backend() != DbBackend::Postgres {
            return Ok(Self::Alone);
        }
        let mut listener =
            PgListener::connect(&app.config.database.url).await.context("LISTEN cannot connect")?;
        listener.listen(CHANNEL).await.context("LISTEN was refused")?;
        Ok(Self::Postgres(listener))
    }

    async fn notified(&mut self) {
        match self {
            // A broken connection is made anew by the next call; until then the poll finds what is new.
            Self::Postgres(listener) => {
                if listener.recv().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Self::Alone => std::future::pending().await,
        }
    }
}

/// Rings the workers for which an event of this kind may mean work.
fn wake(wakes: &Wakes, kind: &str) {
    let (resource, _) = kind.split_once('.').unwrap_or((kind, ""));
    match resource {
        // Always beside another event of the same change.
        _ if kind == "work_item.left_queue" => {}
        // Who takes something has less room than before; its script may have something left to do.
        _ if kind == "work_item.assigned" => wakes.timers.notify_one(),
        "work_item" | "offer" => {
            wakes.distribute.notify_one();
            wakes.timers.notify_one();
        }
        "agent" | "queue" | "agent_group" => wakes.distribute.notify_one(),
        "message" | "outgoing_server" => wakes.deliver.notify_one(),
        // Told every second while it runs.
        _ if kind == "broadcast.progress" => {}
        "broadcast" => {
            wakes.broadcasts.notify_one();
            wakes.deliver.notify_one();
        }
        "account" => wakes.poll.notify_one(),
        _ if kind == "customer.erased" => wakes.erasures.notify_one(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn only_workers_for_whom_there_may_be_work_are_woken() {
        let woken = |kind: &str| {
            let wakes = Wakes::default();
            wake(&wakes, kind);
            [&wakes.distribute, &wakes.timers, &wakes.deliver]
                .map(|worker| worker.notified().now_or_never().is_some())
        };
        assert_eq!(woken("work_item.queued"), [true, true, false]);
        assert_eq!(woken("work_item.assigned"), [false, true, false]);
        assert_eq!(woken("work_item.left_queue"), [false, false, false]);
        assert_eq!(woken("offer.timed_out"), [true, true, false]);
        assert_eq!(woken("agent.state_changed"), [true, false, false]);
        assert_eq!(woken("message.queued"), [false, false, true]);
    }
}
