//! Carries recipients of broadcasts over one connection, one after the other.

use std::sync::Arc;

use super::{Bulk, Busy, Ready};
use crate::{
    broadcasts::{
        capture,
        entity::BroadcastRecipientState,
        ledger::{Begin, Settled},
    },
    clock::Timestamp,
    conversations::entity::MessageState,
    delivery::{
        connections::{Unreached, end, reach},
        rules::{Case, Effect, Verdict, words},
    },
    mail::smtp::{Connection, Outcome, RecipientReply, Reply},
    outgoing::{
        self,
        entity::{OutgoingState, Transport, outgoing_server},
        state,
    },
};

/// How a run ended.
#[derive(Debug)]
pub(in super::super) struct Ran {
    /// How many recipients were tried.
    pub tried: usize,
    /// Whether the server takes no more for now, or has other settings than the run began with.
    pub stopped: bool,
}

/// Carries what is ready, until nothing is, the run is asked to end, or the server wants a pause.
pub(in super::super) async fn run(bulk: Arc<Bulk>, server: Arc<outgoing_server::Model>) -> Ran {
    let busy = Busy::new(&bulk);
    let mut run = Run {
        bulk: &bulk,
        server: &server,
        connection: None,
        settled: Vec::new(),
        over: false,
        stopped: false,
        recovered: false,
    };
    let (mut tried, mut offered) = (0, None);
    loop {
        let is_offered = offered.is_some();
        let Some(ready) = run.take(offered.take()).await else { break };
        let server = (server.version, server.created_at);
        let begin = Begin { held: ready.held(), server, until: ready.until };
        if !bulk.turn(std::mem::take(&mut run.settled), Some(begin)).await {
            if is_offered {
                // To hang up is the one way to take an offer back.
                run.connection = None;
            }
            run.stopped |= !is_served(&bulk, server).await;
            continue;
        }
        tried += 1;
        if is_offered || run.offer(&ready).await {
            offered = run.carry(ready).await;
        }
    }
    bulk.turn(run.settled, None).await;
    drop(busy);
    let Run { connection, stopped, .. } = run;
    if let Some(used_up) = connection.and_then(|connection| bulk.app.connections.put(&server, connection)) {
        end(used_up).await;
    }
    Ran { tried, stopped }
}

struct Run<'a> {
    bulk: &'a Arc<Bulk>,
    server: &'a Arc<outgoing_server::Model>,
    connection: Option<Connection>,
    /// What became of recipients, not written down yet.
    settled: Vec<Settled>,
    /// Nobody else is taken.
    over: bool,
    /// The server wants a pause, or is another one.
    stopped: bool,
    /// That a server which had failed is back was noted.
    recovered: bool,
}

impl Run<'_> {
    /// Who is to be begun next: the one whose mail the server waits for, or another for whom there is a connection.
    async fn take(&mut self, offered: Option<Ready>) -> Option<Ready> {
        if let Some(ready) = offered {
            if !self.stopped && !self.bulk.app.shutdown.is_stopping() {
                return Some(ready);
            }
            self.connection = None;
            self.bulk.put_back(ready);
        }
        let ready = self.next()?;
        if let Err(unreached) = self.connect().await {
            self.bulk.put_back(ready);
            self.affect(unreached.effect).await;
            return None;
        }
        Some(ready)
    }

    fn next(&mut self) -> Option<Ready> {
        let next = if self.over || self.stopped { None } else { self.bulk.next() };
        self.over |= next.is_none();
        next
    }

    /// Makes sure that there is a connection which takes another message.
    async fn connect(&mut self) -> Result<(), Unreached> {
        let server = self.server;
        if let Some(done) = self.connection.take_if(|one| !one.is_usable() || is_full(one, server)) {
            end(done).await;
        }
        if self.connection.is_none() && server.transport == Transport::Smtp {
            self.connection = Some(reach(&self.bulk.app, server).await?.0);
        }
        Ok(())
    }

    /// Offers the mail of a recipient who was begun; false when that was all that could be done for them.
    async fn offer(&mut self, ready: &Ready) -> bool {
        if self.server.transport == Transport::Capture {
            return true;
        }
        loop {
            if let Err(unreached) = self.connect().await {
                let untouched =
                    case(self.bulk, ready, self.server).untouched(unreached.reason, due_at(ready));
                self.note(ready, Verdict { effect: unreached.effect, ..untouched }).await;
                return false;
            }
            let Some(connection) = self.connection.as_mut() else { continue };
            let offer = connection.offer(ready.letter()).await;
            match offer.outcome {
                None => return true,
                // The kept connection had ended in the meantime, which says nothing of the message.
                Some(Outcome::Stale) => {}
                Some(outcome) => {
                    self.settle(ready, &outcome, &offer.recipients).await;
                    return false;
                }
            }
        }
    }

    /// Sends the mail that the server waits for; gives the recipient whose mail it waits for next. That one is not begun yet:
    /// what the server refuses with its answer to an offer was certainly not sent.
    async fn carry(&mut self, ready: Ready) -> Option<Ready> {
        if self.server.transport == Transport::Capture {
            let verdict = self.keep(&ready).await;
            self.note(&ready, verdict).await;
            return None;
        }
        let mut connection = self.connection.take()?;
        let next = if is_full(&connection, self.server) { None } else { self.next() };
        let (outcome, offer) = connection.text(&ready.printed.raw, next.as_ref().map(Ready::letter)).await;
        self.connection = Some(connection);
        self.settle(&ready, &outcome, &[]).await;
        let (next, offer) = (next?, offer?);
        match offer.outcome {
            None => return Some(next),
            Some(Outcome::Stale) => self.bulk.put_back(next),
            Some(outcome) => self.settle(&next, &outcome, &offer.recipients).await,
        }
        None
    }

    async fn settle(&mut self, ready: &Ready, outcome: &Outcome, replies: &[RecipientReply]) {
        let now = self.bulk.app.clock.now();
        let verdict = case(self.bulk, ready, self.server).judge(outcome, replies, now);
        self.note(ready, verdict).await;
    }

    async fn note(&mut self, ready: &Ready, verdict: Verdict) {
        self.affect(verdict.effect.clone()).await;
        let expires_at = case(self.bulk, ready, self.server).expires_at;
        self.settled.push(settled(ready, verdict, expires_at));
    }

    /// Keeps the mail instead of sending it.
    async fn keep(&self, ready: &Ready) -> Verdict {
        let app = &self.bulk.app;
        match capture::keep(app, &ready.printer, &ready.row, &ready.printed).await {
            Ok(()) => {
                let reply = Reply { code: 250, enhanced: None, text: "captured, not sent".into() };
                let outcome = Outcome::Accepted { reply };
                let verdict = case(self.bulk, ready, self.server).judge(&outcome, &[], app.clock.now());
                Verdict { reason: "captured, not sent".into(), reply: None, ..verdict }
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a mail of a broadcast was not captured");
                case(self.bulk, ready, self.server).put_off("it could not be kept".into(), app.clock.now())
            }
        }
    }

    /// Notes what a try means for the server as a whole.
    async fn affect(&mut self, effect: Effect) {
        let app = &self.bulk.app;
        let stops = matches!(effect, Effect::Slow(_) | Effect::Pause(_));
        self.stopped |= stops;
        let recovers =
            effect == Effect::Fine && self.server.state == OutgoingState::Failing && !self.recovered;
        if !stops && !recovers {
            return;
        }
        let noted = async {
            let now = app.db.now(&app.clock).await?;
            let tx = app.db.begin().await?;
            match &effect {
                Effect::Slow(reason) => state::fail(&tx, now, self.server, reason).await?,
                Effect::Pause(reason) => state::pause(&tx, now, self.server, reason).await?,
                Effect::Fine | Effect::None => state::recover(&tx, now).await?,
            };
            tx.commit().await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the outgoing server's state was not noted");
            return;
        }
        self.recovered |= recovers;
    }
}

/// Whether the outgoing server still has the settings that a run was begun with, and takes mail; a database that cannot
/// say does not end the run.
async fn is_served(bulk: &Bulk, settings: (i64, Timestamp)) -> bool {
    let app = &bulk.app;
    let Ok(found) = outgoing::find(app.db.read()).await else { return true };
    found.is_some_and(|found| {
        (found.version, found.created_at) == settings
            && found.state != OutgoingState::Paused
            && found.retry_at.is_none_or(|at| at <= app.clock.now())
    })
}

/// Whether a connection has carried as many messages as one may.
fn is_full(connection: &Connection, server: &outgoing_server::Model) -> bool {
    connection.messages() >= u32::try_from(server.max_messages_per_connection).unwrap_or(1)
}

fn case<'a>(bulk: &Bulk, ready: &'a Ready, server: &outgoing_server::Model) -> Case<'a> {
    let (row, retry) = (&ready.row, server.retry_policy());
    // The time in which a recipient is given up runs from the first try.
    let first_expiry = bulk.app.clock.now().plus_s(retry.give_up_after_s);
    Case {
        recipients: &ready.recipients,
        tries: row.tries,
        repeatable: false,
        due_at: due_at(ready),
        expires_at: if row.tries == 0 { first_expiry } else { row.expires_at },
        last_code: row.last_code,
        retry,
        jitter: rand::random(),
    }
}

fn due_at(ready: &Ready) -> Timestamp {
    ready.row.due_at.unwrap_or(ready.row.updated_at)
}

fn settled(ready: &Ready, verdict: Verdict, expires_at: Timestamp) -> Settled {
    use BroadcastRecipientState as To;
    let state = match verdict.state {
        Some(MessageState::Sent) => To::Sent,
        Some(MessageState::Deferred) => To::Deferred,
        Some(MessageState::Uncertain) => To::Uncertain,
        Some(MessageState::Expired) => To::Expired,
        // Back to where it was.
        None => ready.row.state,
        Some(_) => To::Failed,
    };
    let reply = verdict.reply.as_ref();
    Settled {
        held: ready.held(),
        state,
        reason: verdict.reason,
        due_at: verdict.due_at,
        tries: ready.row.tries + i64::from(verdict.counts),
        expires_at,
        code: reply.map(|reply| i32::from(reply.code)),
        text: reply.map(words),
    }
}
