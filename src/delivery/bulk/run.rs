//! Carries recipients of broadcasts over one connection, one after the other.

use std::sync::Arc;

use super::{Bulk, Ready};
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
    mail::smtp::{Connection, Outcome, Reply},
    outgoing::{
        entity::{OutgoingState, Transport, outgoing_server},
        state,
    },
};

/// How a run ended.
#[derive(Debug)]
pub(in super::super) struct Ran {
    /// How many recipients were tried.
    pub tried: usize,
    /// Whether the server takes no more for now.
    pub stopped: bool,
}

/// Carries what is ready, until nothing is, the run is asked to end, or the server wants a pause.
pub(in super::super) async fn run(bulk: Arc<Bulk>, server: Arc<outgoing_server::Model>) -> Ran {
    let mut run = Run { bulk: &bulk, server: &server, connection: None, stopped: false };
    let (mut tried, mut settled) = (0, None);
    while !run.stopped {
        let Some(ready) = bulk.next() else { break };
        // Nobody is begun for whom there is no connection.
        if let Err(unreached) = run.connect().await {
            bulk.put_back(ready);
            run.affect(unreached.effect).await;
            break;
        }
        let begin = Begin {
            held: ready.held(),
            server: (server.version, server.created_at),
            expires_at: first_expiry(&bulk, &server),
        };
        if bulk.turn(settled.take(), Some(begin)).await {
            tried += 1;
            settled = Some(run.carry(&ready).await);
        }
    }
    bulk.turn(settled, None).await;
    let Run { connection, stopped, .. } = run;
    if let Some(used_up) = connection.and_then(|connection| bulk.app.connections.put(&server, connection)) {
        end(used_up).await;
    }
    Ran { tried, stopped }
}

struct Run<'a> {
    bulk: &'a Bulk,
    server: &'a Arc<outgoing_server::Model>,
    connection: Option<Connection>,
    stopped: bool,
}

impl Run<'_> {
    /// Makes sure that there is a connection which takes another message.
    async fn connect(&mut self) -> Result<(), Unreached> {
        let limit = u32::try_from(self.server.max_messages_per_connection).unwrap_or(1);
        let is_done = |connection: &mut Connection| !connection.is_usable() || connection.messages() >= limit;
        if let Some(done) = self.connection.take_if(is_done) {
            end(done).await;
        }
        if self.connection.is_none() && self.server.transport == Transport::Smtp {
            self.connection = Some(reach(&self.bulk.app, self.server).await?.0);
        }
        Ok(())
    }

    /// What became of a recipient who was begun.
    async fn carry(&mut self, ready: &Ready) -> Settled {
        if self.server.transport == Transport::Capture {
            return self.keep(ready).await;
        }
        loop {
            let verdict = match self.connect().await {
                Err(unreached) => {
                    let untouched =
                        case(self.bulk, ready, self.server).untouched(unreached.reason, due_at(ready));
                    Verdict { effect: unreached.effect, ..untouched }
                }
                Ok(()) => {
                    let Some(connection) = self.connection.as_mut() else { continue };
                    let report = connection.hand_over(&ready.printed.envelope, &ready.printed.raw).await;
                    // The kept connection had ended in the meantime, which says nothing of the message.
                    if report.outcome == Outcome::Stale {
                        continue;
                    }
                    let now = self.bulk.app.clock.now();
                    case(self.bulk, ready, self.server).judge(&report.outcome, &report.recipients, now)
                }
            };
            self.affect(verdict.effect.clone()).await;
            return settled(ready, verdict);
        }
    }

    /// Keeps the mail instead of sending it.
    async fn keep(&self, ready: &Ready) -> Settled {
        let app = &self.bulk.app;
        let verdict = match capture::keep(app, &ready.printer, &ready.row, &ready.printed).await {
            Ok(()) => {
                let reply = Reply { code: 250, enhanced: None, text: "captured, not sent".into() };
                let outcome = Outcome::Accepted { reply, queue_id: None };
                let verdict = case(self.bulk, ready, self.server).judge(&outcome, &[], app.clock.now());
                Verdict { reason: "captured, not sent".into(), reply: None, ..verdict }
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a mail of a broadcast was not captured");
                case(self.bulk, ready, self.server).put_off("it could not be kept".into(), app.clock.now())
            }
        };
        settled(ready, verdict)
    }

    /// Notes what a try means for the server as a whole.
    async fn affect(&mut self, effect: Effect) {
        let app = &self.bulk.app;
        self.stopped = matches!(effect, Effect::Slow(_) | Effect::Pause(_));
        let recovers = effect == Effect::Fine && self.server.state == OutgoingState::Failing;
        if !self.stopped && !recovers {
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
        }
    }
}

/// When a recipient is given up who is tried for the first time now.
fn first_expiry(bulk: &Bulk, server: &outgoing_server::Model) -> Timestamp {
    bulk.app.clock.now().plus_s(server.retry_policy().give_up_after_s)
}

fn case<'a>(bulk: &Bulk, ready: &'a Ready, server: &outgoing_server::Model) -> Case<'a> {
    let (row, first_expiry) = (&ready.row, first_expiry(bulk, server));
    Case {
        recipients: &ready.recipients,
        tries: row.tries,
        repeatable: false,
        due_at: due_at(ready),
        expires_at: if row.tries == 0 { first_expiry } else { row.expires_at },
        last_code: row.last_code,
        retry: server.retry_policy(),
        jitter: rand::random(),
    }
}

fn due_at(ready: &Ready) -> Timestamp {
    ready.row.due_at.unwrap_or(ready.row.updated_at)
}

fn settled(ready: &Ready, verdict: Verdict) -> Settled {
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
        code: reply.map(|reply| i32::from(reply.code)),
        text: reply.map(words),
    }
}
