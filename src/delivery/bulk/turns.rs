//! Begins and settles recipients, many in one transaction.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;

use super::Bulk;
use crate::{
    broadcasts::ledger::{self, Begin, Held, Settled},
    clock::Timestamp,
    db::Script,
    delivery::settle::insist,
    together::Asked,
};

/// The most that one transaction begins and settles.
const MOST: usize = 256;
/// How long a transaction waits for the other connections, so that they share it: no longer than the one that it saves takes.
const PATIENCE: Duration = Duration::from_millis(1);

/// A connection's turn: what became of its last recipients, and which one is next.
#[derive(Debug)]
pub(super) struct Turn {
    settled: Vec<Settled>,
    next: Option<Begin>,
}

impl Bulk {
    /// Writes down what became of recipients and that the next one may be sent; false when it may not.
    pub(super) async fn turn(self: &Arc<Self>, settled: Vec<Settled>, next: Option<Begin>) -> bool {
        if settled.is_empty() && next.is_none() {
            return false;
        }
        let over: Vec<_> = settled.iter().map(|settled| settled.held.0).collect();
        let (answer, is_first) = self.turns.enter(Turn { settled, next });
        if is_first {
            let bulk = Arc::clone(self);
            self.app.tasks.clone().spawn("broadcast turns", async move {
                loop {
                    bulk.turns.gather(bulk.runs().min(MOST), PATIENCE).await;
                    let Some(asked) = bulk.turns.leave(MOST) else { return Ok(()) };
                    bulk.serve(asked).await;
                }
            });
        }
        let begun = answer.await.unwrap_or(false);
        self.forget(over);
        if let Some(next) = next.filter(|_| !begun) {
            self.forget([next.held.0]);
        }
        begun
    }

    async fn serve(&self, asked: Vec<Asked<Turn, bool>>) {
        let (mut settled, mut next) = (Vec::with_capacity(asked.len()), Vec::with_capacity(asked.len()));
        let mut answers = Vec::with_capacity(asked.len());
        for (turn, sender) in asked {
            settled.extend(turn.settled);
            next.extend(turn.next);
            answers.push((turn.next, sender));
        }
        let begun = self.write(&settled, &next).await;
        for (next, sender) in answers {
            let may = next.is_some_and(|next| begun.contains(&next.held.0));
            // A run that ended does not listen any more.
            let _ = sender.send(may);
        }
    }

    /// Gives those that may be sent; none when the database cannot be written.
    async fn write(&self, settled: &[Settled], next: &[Begin]) -> Vec<crate::id::MessageId> {
        match insist(|| self.try_write(settled, next)).await {
            Ok(begun) => begun,
            Err(error) => {
                // Their leases run out, and then they are uncertain, which is the truth.
                tracing::error!(%error, count = settled.len(), "recipients of broadcasts were not settled");
                metrics::counter!("postroom_worker_failures_total", "worker" => "delivery").increment(1);
                Vec::new()
            }
        }
    }

    async fn try_write(
        &self,
        settled: &[Settled],
        next: &[Begin],
    ) -> Result<Vec<crate::id::MessageId>, DbErr> {
        let app = &self.app;
        let now = app.db.now(&app.clock).await?;
        let mut script = Script::default();
        let settling = ledger::settle(&mut script, now, settled);
        let beginning = ledger::begin(&mut script, now, next);
        let done = app.db.run(script).await?;
        let written = settling.map_or(0, |step| done.affected(step));
        let late = (settled.len() as u64).saturating_sub(written);
        if late > 0 {
            tracing::warn!(late, "late results were dropped: another process has the recipients");
        }
        let begun = ledger::begun(&done, beginning)?;
        if begun.len() < next.len() {
            let held = next.iter().map(|next| next.held);
            let away: Vec<Held> = held.filter(|(id, _)| !begun.contains(id)).collect();
            if let Err(error) = self.turn_away(now, &away).await {
                tracing::warn!(%error, "recipients who were not begun wait until their leases run out");
            }
        }
        Ok(begun)
    }

    async fn turn_away(&self, now: Timestamp, rows: &[Held]) -> Result<(), DbErr> {
        let tx = self.app.db.begin().await?;
        ledger::turn_away(&tx, now, self.keys.clone(), rows).await?;
        tx.commit_untold().await
    }

    /// Lets recipients go that were claimed and not begun.
    pub(super) async fn let_go(&self, rows: &[Held]) -> Result<(), DbErr> {
        if rows.is_empty() {
            return Ok(());
        }
        let tx = self.app.db.begin().await?;
        ledger::give_back(&tx, rows).await?;
        tx.commit_untold().await
    }
}
