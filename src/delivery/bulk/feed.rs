//! Claims recipients and writes their mails, ahead of the connections that carry them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sea_orm::{DbErr, EntityTrait, QueryFilter};
use tokio::task::spawn_blocking;

use super::{Bulk, Ready, lock};
use crate::{
    broadcasts::{
        change,
        dispatch::{self, Lot, Turns},
        entity::{BroadcastRecipientState, broadcast, recipient},
        ledger::{self, Dropped, Held},
        print::Printer,
        turn::absence,
    },
    clock::Timestamp,
    customers::entity::customer,
    db::among,
    id::CustomerId,
    outgoing::{
        self,
        entity::{OutgoingState, outgoing_server},
        state,
    },
    raw::RawError,
};

/// How many recipients are claimed at once, for each connection and at most.
const PER_CONNECTION: usize = 32;
const LOT: usize = 512;

/// After how many seconds mails are written again that could not be, because a store did not answer.
const PAUSE_S: i64 = 15;

/// What a look for recipients found.
#[derive(Debug)]
pub(in super::super) enum Fed {
    /// Some are ready; this server takes them.
    Some(Arc<outgoing_server::Model>),
    /// Nobody before then.
    Wait(Timestamp),
    /// Nobody until something happens.
    Nothing,
}

/// Claims a lot of recipients, if any are due, and writes their mails.
pub(in super::super) async fn feed(bulk: Arc<Bulk>) -> anyhow::Result<Fed> {
    let app = &bulk.app;
    if dispatch::running(app.db.read()).await?.is_empty() {
        return Ok(Fed::Nothing);
    }
    let now = app.db.now(&app.clock).await?;
    let tx = app.db.begin().await?;
    let Some(server) = outgoing::find(&*tx).await? else { return Ok(Fed::Nothing) };
    let wanted = match (server.state, server.retry_at) {
        (OutgoingState::Paused, _) => return Ok(Fed::Nothing),
        (OutgoingState::Failing, Some(at)) if at > now => return Ok(Fed::Wait(at)),
        // One message asks whether the server is back.
        (OutgoingState::Failing, _) if !bulk.held().is_empty() => return Ok(Fed::Nothing),
        (OutgoingState::Failing, _) => 1,
        (OutgoingState::Running, _) => {
            let connections = usize::try_from(server.max_connections).unwrap_or(1);
            LOT.min(PER_CONNECTION * connections).min(bulk.room())
        }
    };
    if wanted == 0 {
        return Ok(Fed::Nothing);
    }
    bulk.lot.store(wanted, Ordering::Relaxed);
    let free = server.rate().free(now, u32::try_from(wanted).unwrap_or(u32::MAX));
    if free == 0 {
        return Ok(Fed::Wait(server.rate().opens_at()));
    }
    let Turns { lots, next } = dispatch::claim(app, &tx, now, free).await?;
    if lots.is_empty() {
        return Ok(next.map_or(Fed::Nothing, Fed::Wait));
    }
    let taken = lots.iter().map(|lot| lot.rows.len()).sum();
    if !state::take_slots(&tx, now, &server, taken).await? {
        return Ok(Fed::Wait(now));
    }
    tx.commit_untold().await?;
    let mut failed = None;
    for lot in lots {
        if let Err(error) = bulk.take_lot(now, lot).await {
            tracing::warn!(error = format!("{error:#}"), "the mails of a broadcast were not written");
            failed = Some(error);
        }
    }
    match failed {
        Some(error) if bulk.len() == 0 => Err(error),
        // One broadcast's trouble is not the others'.
        _ => Ok(Fed::Some(Arc::new(server))),
    }
}

/// Whether what keeps mails from being written passes; what they are made of does not come back by itself.
fn passes(error: &anyhow::Error) -> bool {
    let of_a_store = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<DbErr>() || cause.downcast_ref::<RawError>().is_some_and(RawError::passes)
    };
    error.chain().any(of_a_store)
}

impl Bulk {
    /// Holds a lot whose mails it writes; when they cannot be written, it is let go.
    async fn take_lot(&self, now: Timestamp, lot: Lot) -> anyhow::Result<()> {
        let rows: Vec<Held> = lot.rows.iter().map(|row| (row.id, row.attempts)).collect();
        lock(&self.held).extend(rows.iter().copied());
        let broadcast = lot.broadcast.id;
        let printer = self.printer(&lot.broadcast).await;
        let is_unprintable = printer.as_ref().is_err_and(|error| !passes(error));
        let written = match printer {
            Ok(printer) => self.write_lot(now, lot, printer).await,
            Err(error) => Err(error),
        };
        let Err(error) = written else { return Ok(()) };
        self.forget(rows.iter().map(|(id, _)| *id));
        self.let_go(&rows).await?;
        if is_unprintable {
            let reason = format!("its mails cannot be written: {error:#}");
            return Ok(change::halt(&self.app, broadcast, reason).await?);
        }
        tracing::warn!(%broadcast, error = format!("{error:#}"), "the mails of a broadcast are written later");
        Ok(dispatch::put_off(&self.app, broadcast, now.plus_s(PAUSE_S)).await?)
    }

    /// Writes the mails of a lot; who is not to get one any more is settled.
    async fn write_lot(&self, now: Timestamp, lot: Lot, printer: Arc<Printer>) -> anyhow::Result<()> {
        let customers = self.customers(&lot.rows).await?;
        let (broadcast, until, held) = (Arc::clone(&lot.broadcast), lot.until, Arc::clone(&self.bytes));
        let written = spawn_blocking(move || write(&broadcast, &printer, lot.rows, &customers, now, &held));
        let (mut ready, left) = written.await?;
        for one in &mut ready {
            one.until = until;
        }
        let largest = ready.iter().map(|ready| ready.printed.raw.len()).max();
        self.largest.store(largest.unwrap_or_default(), Ordering::Relaxed);
        lock(&self.ready).extend(ready);
        if left.is_empty() {
            return Ok(());
        }
        let tx = self.app.db.begin().await?;
        ledger::drop_claimed(&tx, now, &left).await?;
        tx.commit_untold().await?;
        self.forget(left.into_iter().map(|row| row.held.0));
        Ok(())
    }

    async fn printer(&self, row: &broadcast::Model) -> anyhow::Result<Arc<Printer>> {
        let known = lock(&self.printers).get(&row.id).cloned();
        if let Some((_, printer)) =
            known.filter(|(version, printer)| *version == row.version && printer.is_current())
        {
            return Ok(printer);
        }
        let printer = Arc::new(Printer::of(&self.app, row).await?);
        lock(&self.printers).insert(row.id, (row.version, Arc::clone(&printer)));
        Ok(printer)
    }

    async fn customers(
        &self,
        rows: &[recipient::Model],
    ) -> anyhow::Result<HashMap<CustomerId, customer::Model>> {
        let ids = rows.iter().map(|row| row.customer_id);
        let found = customer::Entity::find().filter(among(customer::Column::Id, ids)).all(self.app.db.read());
        Ok(found.await?.into_iter().map(|row| (row.id, row)).collect())
    }
}

fn write(
    broadcast: &broadcast::Model,
    printer: &Arc<Printer>,
    rows: Vec<recipient::Model>,
    customers: &HashMap<CustomerId, customer::Model>,
    now: Timestamp,
    held: &Arc<AtomicUsize>,
) -> (Vec<Ready>, Vec<Dropped>) {
    let (mut ready, mut left) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let held_row = (row.id, row.attempts);
        let mut drop = |state, reason| left.push(Dropped { held: held_row, state, reason });
        let customer = customers.get(&row.customer_id);
        if let Some(reason) = absence(broadcast, &row, customer) {
            drop(BroadcastRecipientState::Skipped, reason.to_owned());
            continue;
        }
        match customer.map(|customer| printer.print(&row, customer, now)) {
            Some(Ok(printed)) => ready.push(Ready::new(row, printed, Arc::clone(printer), held)),
            Some(Err(reason)) => drop(BroadcastRecipientState::Failed, reason),
            None => {}
        }
    }
    (ready, left)
}
