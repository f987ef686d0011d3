//! The delivery worker's step: sends what is due, over as many connections as the server allows.

use std::{collections::HashMap, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    carry::carry,
    claim::{Claim, Job, LEASE_S, claim, renew},
    recover::tend,
};
use crate::{app::App, clock::Timestamp, id::MessageId, outgoing, workers::Step};

/// How often new work is looked for while messages are being sent, should no one call.
const LOOK: Duration = Duration::from_secs(1);
/// Leases are renewed well before they run out.
const RENEW: Duration = Duration::from_secs(LEASE_S as u64 / 3);

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

/// Something that the round waits for.
enum Done {
    Tended(anyhow::Result<usize>),
    Claimed(anyhow::Result<Claim>),
    Carried(MessageId, anyhow::Result<()>),
    Renewed(anyhow::Result<()>),
}

/// One step's messages. Everything that touches the database runs beside the connections, so that none waits for another.
struct Round<'a> {
    app: &'a App,
    running: FuturesUnordered<BoxFuture<'a, Done>>,
    /// The messages that are being sent, with the fence of each.
    flying: HashMap<MessageId, i64>,
    is_claiming: bool,
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
                () = tokio::time::sleep(pause) => self.look(),
            }
        }
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
        let (app, flying) = (self.app, self.flying.len());
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
        let (app, held) = (self.app, self.flying.iter().map(|(id, attempts)| (*id, *attempts)).collect());
        self.running.push(async move { Done::Renewed(renew(app, held).await.map_err(Into::into)) }.boxed());
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
                    Claim::Jobs(jobs) => jobs.into_iter().for_each(|job| self.carry(job)),
                    Claim::Wait(at) => self.next = Some(at),
                    Claim::Nothing => {}
                }
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
            }
            Done::Renewed(Ok(())) => {}
            Done::Renewed(Err(error)) => tracing::warn!(%error, "leases of messages were not renewed"),
            Done::Tended(Err(error)) | Done::Claimed(Err(error)) => self.fail(error),
        }
    }

    /// A look failed: the messages that are being sent go on, and after a pause there is another look.
    fn fail(&mut self, error: anyhow::Error) {
        self.is_claiming = false;
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + Duration::from_millis(100 << self.failures.min(7));
        tracing::warn!(error = format!("{error:#}"), failures = self.failures, "due messages were not found");
        self.failure = Some(error);
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
