//! The delivery worker's step: sends what is due, over as many connections as the server allows.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    bulk::{Bulk, Fed, Ran, feed, run},
    carry::carry,
    claim::{Claim, Job, claim, renew},
    recover::tend,
};
use crate::{
    app::App,
    broadcasts::ledger,
    clock::Timestamp,
    id::MessageId,
    outgoing::{self, entity::outgoing_server},
    workers::Step,
};

/// How often new work is looked for while messages are being sent, should no one call.
const LOOK: Duration = Duration::from_secs(1);
/// Leases are renewed well before they run out.
const RENEW: Duration = Duration::from_secs(ledger::LEASE_S as u64 / 3);

/// Sends everything that is due, until nothing is; the next step goes on when something is.
///
/// # Errors
/// When the database could not be used at last; messages that are being sent are finished first.
pub async fn deliver(app: App) -> anyhow::Result<Step> {
    let server = outgoing::find(app.db.read()).await?;
    app.connections.close_idle(server.as_ref()).await;
    let mut round = Round::new(&app);
    round.run().await?;
    Ok(match (round.done, round.next) {
        (0, None) => Step::Idle,
        (0, Some(at)) => Step::IdleUntil(at),
        (done, _) => Step::Worked(done),
    })
}

/// How many connections the server takes.
fn connections(server: &outgoing_server::Model) -> usize {
    usize::try_from(server.max_connections).unwrap_or(1)
}

/// Something that the round waits for.
enum Done {
    Tended(anyhow::Result<usize>),
    Claimed(anyhow::Result<Claim>),
    Carried(MessageId, anyhow::Result<()>),
    Fed(anyhow::Result<Fed>),
    Ran(Ran),
    Emptied,
    Renewed(anyhow::Result<()>),
}

/// One step's messages. Everything that touches the database runs beside the connections, so that none waits for another.
struct Round<'a> {
    app: &'a App,
    running: FuturesUnordered<BoxFuture<'a, Done>>,
    /// The messages that are being sent, with the fence of each.
    flying: HashMap<MessageId, i64>,
    is_claiming: bool,
    /// Claimed messages whose connection is still used by a run.
    waiting: VecDeque<Job>,
    /// Broadcasts, the server that takes them, and how many connections carry them.
    bulk: Arc<Bulk>,
    server: Option<Arc<outgoing_server::Model>>,
    runs: usize,
    is_feeding: bool,
    /// Why the last look failed, how many failed in a row, and before when there is no other.
    failure: Option<anyhow::Error>,
    failures: u32,
    not_before: Instant,
    done: usize,
    next: Option<Timestamp>,
}

impl<'a> Round<'a> {
    fn new(app: &'a App) -> Self {
        Self {
            app,
            running: FuturesUnordered::new(),
            flying: HashMap::new(),
            is_claiming: false,
            waiting: VecDeque::new(),
            bulk: Bulk::new(app),
            server: None,
            runs: 0,
            is_feeding: false,
            failure: None,
            failures: 0,
            not_before: Instant::now(),
            done: 0,
            next: None,
        }
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        self.look();
        let mut renewing = tokio::time::interval_at(Instant::now() + RENEW, RENEW);
        let bulk = Arc::clone(&self.bulk);
        while !self.running.is_empty() {
            let (called, pause) = (self.app.wakes.deliver.notified(), self.pause());
            tokio::select! {
                Some(done) = self.running.next() => {
                    self.take(done);
                    // What ended at the same moment is claimed for together.
                    while let Some(Some(done)) = self.running.next().now_or_never() {
                        self.take(done);
                    }
                }
                _ = renewing.tick() => self.renew(),
                () = called => self.look(),
                () = bulk.low() => self.feed(),
                () = tokio::time::sleep(pause) => self.look(),
            }
        }
        self.bulk.empty().await;
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Looks for messages that nobody wakes for, and then for due ones.
    fn look(&mut self) {
        let app = self.app;
        if self.may_begin() {
            self.is_claiming = true;
            self.running.push(async move { Done::Tended(tend(app).await.map_err(Into::into)) }.boxed());
        }
    }

    fn claim(&mut self) {
        let (app, flying) = (self.app, self.flying.len() + self.waiting.len());
        if self.may_begin() {
            self.is_claiming = true;
            self.running
                .push(async move { Done::Claimed(claim(app, flying).await.map_err(Into::into)) }.boxed());
        }
    }

    fn may_begin(&self) -> bool {
        !self.is_claiming && Instant::now() >= self.not_before && !self.app.shutdown.is_stopping()
    }

    fn renew(&mut self) {
        let (app, bulk) = (self.app, self.bulk.held());
        let waiting = self.waiting.iter().map(|job| (job.row.message_id, job.row.attempts));
        let held = self.flying.iter().map(|(id, attempts)| (*id, *attempts)).chain(waiting).collect();
        let renewed = async move {
            app.connections.close_idle(outgoing::find(app.db.read()).await?.as_ref()).await;
            Ok(renew(app, held, bulk).await?)
        };
        self.running.push(renewed.map(Done::Renewed).boxed());
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Tended(Ok(moved)) => {
                self.is_claiming = false;
                self.done += moved;
                self.claim();
            }
            Done::Claimed(Ok(found)) => {
                (self.is_claiming, self.failure, self.failures) = (false, None, 0);
                self.next = None;
                match found {
                    Claim::Jobs(jobs) => self.waiting.extend(jobs),
                    Claim::Passed(count) => {
                        self.done += count;
                        self.claim();
                    }
                    Claim::Wait(at) => self.next = Some(at),
                    Claim::Nothing => {}
                }
                self.go_on();
                self.feed();
            }
            Done::Carried(id, result) => {
                self.flying.remove(&id);
                self.done += 1;
                if let Err(error) = result {
                    // Its lease runs out; the others have nothing to do with it.
                    tracing::error!(message = %id, error = format!("{error:#}"), "a message was not settled");
                    metrics::counter!("postroom_worker_failures_total", "worker" => "delivery").increment(1);
                }
                self.claim();
                self.go_on();
            }
            Done::Fed(Ok(fed)) => {
                self.is_feeding = false;
                match fed {
                    Fed::Some(server) => {
                        self.server = Some(server);
                        self.go_on();
                        // Perhaps nobody of the lot gets it any more.
                        self.feed();
                    }
                    Fed::Wait(at) => self.next = self.next.into_iter().chain([at]).min(),
                    Fed::Nothing => {}
                }
            }
            Done::Ran(ran) => self.ran(&ran),
            Done::Emptied => self.feed(),
            Done::Renewed(Ok(())) => {}
            Done::Renewed(Err(error)) => tracing::warn!(%error, "leases of messages were not renewed"),
            Done::Fed(Err(error)) => {
                self.is_feeding = false;
                self.fail(error);
            }
            Done::Tended(Err(error)) | Done::Claimed(Err(error)) => {
                self.is_claiming = false;
                self.fail(error);
            }
        }
    }

    /// A connection that carried recipients of broadcasts is free.
    fn ran(&mut self, ran: &Ran) {
        self.runs -= 1;
        self.done += ran.tried;
        if ran.stopped {
            // What the others carry goes on; what is ready waits in the database until the server is asked again.
            self.server = None;
            let bulk = Arc::clone(&self.bulk);
            self.running.push(async move { bulk.empty().await }.map(|()| Done::Emptied).boxed());
        }
        self.go_on();
        self.feed();
    }

    /// A look failed: the messages that are being sent go on, and after a pause there is another look.
    fn fail(&mut self, error: anyhow::Error) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + Duration::from_millis(100 << self.failures.min(7));
        tracing::warn!(error = format!("{error:#}"), failures = self.failures, "due messages were not found");
        self.failure = Some(error);
    }

    /// Claims recipients of broadcasts while few are ready.
    fn feed(&mut self) {
        let bulk = Arc::clone(&self.bulk);
        let may = Instant::now() >= self.not_before && !self.app.shutdown.is_stopping();
        if may && !self.is_feeding && bulk.is_low() {
            self.is_feeding = true;
            self.running.push(async move { Done::Fed(feed(bulk).await) }.boxed());
        }
    }

    /// Gives free connections to messages that wait for one, and what is left of them to broadcasts.
    fn go_on(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            if self.flying.len() + self.runs >= connections(&job.server) {
                self.waiting.push_front(job);
                break;
            }
            self.carry(job);
        }
        self.bulk.ask_to_yield(self.waiting.len().min(self.runs));
        // What is ready goes back when the round ends.
        if self.app.shutdown.is_stopping() {
            return;
        }
        let Some(server) = self.server.clone() else { return };
        let room = connections(&server).saturating_sub(self.flying.len() + self.waiting.len());
        while self.runs < room.min(self.bulk.len()) {
            self.runs += 1;
            let (bulk, server) = (Arc::clone(&self.bulk), Arc::clone(&server));
            self.running.push(async move { Done::Ran(Box::pin(run(bulk, server)).await) }.boxed());
        }
    }

    fn carry(&mut self, job: Job) {
        let (app, id) = (self.app, job.row.message_id);
        self.flying.insert(id, job.row.attempts);
        self.running.push(async move { Done::Carried(id, carry(app, &job).await) }.boxed());
    }

    /// Until the next message is due, but no longer than a look takes.
    fn pause(&self) -> Duration {
        self.next.map_or(LOOK, |at| at.since(self.app.clock.now()).clamp(Duration::from_millis(5), LOOK))
    }
}
