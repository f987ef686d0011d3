//! Background work: the one place that starts tasks, watches them and waits for their end.

use std::{future::Future, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::{app::App, clock::Timestamp, housekeeping, lease, shutdown::Shutdown};

/// What a worker's step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It settled this many things; there may be more.
    Worked(usize),
    /// There was nothing to do.
    Idle,
    /// There is nothing to do until then.
    IdleUntil(Timestamp),
}

/// Starts tasks and knows whether they are alive.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
}

impl Tasks {
    /// An empty set that ends with `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { tracker: TaskTracker::new(), shutdown }
    }

    /// Runs a task until it ends or the hard stop comes. A task that panics or fails stops the process.
    #[expect(clippy::disallowed_methods, reason = "the one home of background tasks")]
    pub fn spawn(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let (name, shutdown) = (name.into(), self.shutdown.clone());
        self.tracker.spawn(tokio::spawn(async move {
            let watched = std::panic::AssertUnwindSafe(task).catch_unwind();
            let ended = tokio::select! {
                ended = watched => ended,
                () = shutdown.aborting() => return,
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(task = %name, error = format!("{error:#}"), "a background task failed");
                    shutdown.fail();
                }
                Err(_) => {
                    tracing::error!(task = %name, "a background task panicked");
                    shutdown.fail();
                }
            }
        }));
    }

    /// Runs a task that nobody waits for: it only ever asks for the hard stop.
    #[expect(clippy::disallowed_methods, reason = "the one home of background tasks")]
    pub fn watch_abort(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    /// How many tasks run.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until all tasks have ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The wake-up calls of the workers; each is rung by whoever makes work for it.
#[derive(Debug, Default)]
pub struct Wakes {
    /// An item was queued, or an agent has room.
    pub distribute: Notify,
    /// A message is due to be sent.
    pub deliver: Notify,
    /// A broadcast was begun, or called off.
    pub broadcasts: Notify,
    /// A timer (offer, wrap-up, snooze, time-out) was set.
    pub timers: Notify,
    /// An account was made, changed or asked to poll.
    pub poll: Notify,
    /// What is known of a customer was erased.
    pub erasures: Notify,
    /// Never rung: old rows can wait.
    pub housekeeping: Notify,
}

/// Which wake-up call a worker listens to.
pub type WakeOf = fn(&Wakes) -> &Notify;

/// Runs `step` again and again until the soft stop: at once while there is work, else when woken or after `idle`.
pub fn run<F>(app: &App, name: &'static str, wake: WakeOf, idle: Duration, step: fn(App) -> F)
where
    F: Future<Output = anyhow::Result<Step>> + Send + 'static,
{
    let app = app.clone();
    let tasks = app.tasks.clone();
    tasks.spawn(name, async move {
        let mut failures = 0_u32;
        while !app.shutdown.is_stopping() {
            let wakes = Arc::clone(&app.wakes);
            let woken = wake(&wakes).notified();
            let pause = match step(app.clone()).await {
                Ok(Step::Worked(count)) => {
                    metrics::counter!("postroom_worker_settled_total", "worker" => name)
                        .increment(count as u64);
                    failures = 0;
                    continue;
                }
                Ok(quiet) => {
                    failures = 0;
                    if let Step::IdleUntil(at) = quiet { at.since(app.clock.now()).min(idle) } else { idle }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::error!(worker = name, error = format!("{error:#}"), failures, "a step failed");
                    metrics::counter!("postroom_worker_failures_total", "worker" => name).increment(1);
                    Duration::from_millis(100 << failures.min(8))
                }
            };
            tokio::select! {
                () = woken => {}
                () = app.clock.sleep(pause) => {}
                () = app.shutdown.stopping() => {}
            }
        }
        Ok(())
    });
}

/// How often due messages are looked for when nobody calls.
const DELIVERY_LOOKS: Duration = Duration::from_secs(5);

/// How often customers whose texts are to be erased are looked for when nobody calls.
const ERASURE_LOOKS: Duration = Duration::from_secs(60);

/// Starts every background loop.
pub fn start(app: &App) {
    crate::events::start(app);
    crate::access::audit::start(app);
    run(app, "housekeeping", |wakes| &wakes.housekeeping, housekeeping::PAUSE, housekeeping::remove_old_rows);
    let idle = Duration::from_secs(5);
    run(app, "distribute", |wakes| &wakes.distribute, idle, crate::work::distribute::distribute);
    let app = app.clone();
    app.tasks.clone().spawn("leases", async move {
        if let Err(error) = lease::release_dead(&app.db).await {
            tracing::warn!(%error, "leases of an earlier process are waited for");
        }
        run(&app, "timers", |wakes| &wakes.timers, idle, crate::work::timers::expire);
        run(&app, "broadcasts", |wakes| &wakes.broadcasts, idle, crate::broadcasts::watch::tend);
        run(&app, "erasures", |wakes| &wakes.erasures, ERASURE_LOOKS, crate::customers::erase::texts::empty);
        run(&app, "delivery", |wakes| &wakes.deliver, DELIVERY_LOOKS, crate::delivery::send::deliver);
        crate::inbound::poll::start(&app);
        Ok(())
    });
}
