//! Broadcasts on their way out: recipients are claimed and written in lots, carried by runs of one connection each, and
//! begun and settled in transactions that all connections share.
//!
//! A run takes one recipient after the other and ends when a message of more weight needs its connection.

mod feed;
mod run;
mod turns;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::rules::Recipient;
use crate::{
    app::App,
    broadcasts::{
        entity::recipient,
        ledger::Held,
        print::{Printed, Printer},
    },
    clock::Timestamp,
    id::{BroadcastId, MessageId},
    mail::smtp::Letter,
    suppressions::AddressKeys,
    together::Batch,
};
pub(super) use feed::{Fed, feed};
pub(super) use run::{Ran, run};
use turns::Turn;

/// How many bytes of written mails are held, about; a larger mail is held alone.
const MOST_BYTES: usize = 16 << 20;
/// How many mails are written while it is not known how large they are.
const FIRST: usize = 16;

/// A recipient whose mail is written.
#[derive(Debug)]
struct Ready {
    row: recipient::Model,
    /// The one recipient, as the rules of delivery know it.
    recipients: [Recipient; 1],
    printed: Printed,
    /// What its mail was written by, for those who keep it.
    printer: Arc<Printer>,
    /// Until when it may be begun, as far as is known.
    until: Option<Timestamp>,
    _weight: Weight,
}

/// The bytes of a mail, counted as long as it is held.
#[derive(Debug)]
struct Weight {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Weight {
    fn new(bytes: usize, of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, of: Arc::clone(of) }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Ready {
    fn new(row: recipient::Model, printed: Printed, printer: Arc<Printer>, held: &Arc<AtomicUsize>) -> Self {
        let recipients = [Recipient::new(row.address.clone())];
        let weight = Weight::new(printed.raw.len(), held);
        Self { row, recipients, printed, printer, until: None, _weight: weight }
    }

    fn held(&self) -> Held {
        (self.row.id, self.row.attempts)
    }

    fn letter(&self) -> Letter<'_> {
        (&self.printed.envelope, &self.printed.raw)
    }
}

/// What one process holds of the running broadcasts.
#[derive(Debug)]
pub(super) struct Bulk {
    app: App,
    keys: AddressKeys,
    ready: Mutex<VecDeque<Ready>>,
    /// Everything that was claimed and is not settled, to renew its leases.
    held: Mutex<HashMap<MessageId, i64>>,
    /// The bytes of the mails that are written and not carried yet.
    bytes: Arc<AtomicUsize>,
    /// The bytes of the largest mail of the last lot.
    largest: AtomicUsize,
    /// How many recipients were asked for last.
    lot: AtomicUsize,
    /// Called when few recipients are ready.
    low: Notify,
    /// How many runs are to end for messages that go first.
    yields: AtomicUsize,
    /// How many runs there are: each has one turn at a time.
    runs: AtomicUsize,
    turns: Batch<Turn, bool>,
    printers: Mutex<HashMap<BroadcastId, (i64, Arc<Printer>)>>,
}

impl Bulk {
    pub(super) fn new(app: &App) -> Arc<Self> {
        Arc::new(Self {
            app: app.clone(),
            keys: AddressKeys::of(app),
            ready: Mutex::default(),
            held: Mutex::default(),
            bytes: Arc::default(),
            largest: AtomicUsize::new(0),
            lot: AtomicUsize::new(0),
            low: Notify::new(),
            yields: AtomicUsize::new(0),
            runs: AtomicUsize::new(0),
            turns: Batch::default(),
            printers: Mutex::default(),
        })
    }

    /// How many recipients are ready to be sent.
    pub(super) fn len(&self) -> usize {
        lock(&self.ready).len()
    }

    /// Whether more recipients are to be claimed, so that no connection waits for them.
    pub(super) fn is_low(&self) -> bool {
        self.len() <= self.lot.load(Ordering::Relaxed) / 2
    }

    /// For how many more recipients there is room.
    fn room(&self) -> usize {
        let (held, each) = (self.bytes.load(Ordering::Relaxed), self.largest.load(Ordering::Relaxed));
        match each {
            // How large the mails are is not known yet.
            0 => FIRST,
            _ => (MOST_BYTES.saturating_sub(held) / each).max(usize::from(held == 0)),
        }
    }

    /// Waits until few recipients are ready.
    pub(super) async fn low(&self) {
        self.low.notified().await;
    }

    /// Asks this many runs to end after the message that they carry.
    pub(super) fn ask_to_yield(&self, runs: usize) {
        self.yields.store(runs, Ordering::Relaxed);
    }

    /// How many runs there are.
    fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }

    /// Everything that this process holds.
    pub(super) fn held(&self) -> Vec<Held> {
        lock(&self.held).iter().map(|(id, attempts)| (*id, *attempts)).collect()
    }

    /// The next recipient, unless the run is to end.
    fn next(&self) -> Option<Ready> {
        let yielded =
            self.yields.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |asked| asked.checked_sub(1));
        if yielded.is_ok() || self.app.shutdown.is_stopping() {
            return None;
        }
        let mut ready = lock(&self.ready);
        let next = ready.pop_front();
        if ready.len() == self.lot.load(Ordering::Relaxed) / 2 {
            self.low.notify_one();
        }
        next
    }

    /// Gives back what is not sent after all, first in line.
    fn put_back(&self, ready: Ready) {
        lock(&self.ready).push_front(ready);
    }

    fn forget(&self, rows: impl IntoIterator<Item = MessageId>) {
        let mut held = lock(&self.held);
        for id in rows {
            held.remove(&id);
        }
    }

    /// Lets go of everything that is ready and not begun: others may send it.
    pub(super) async fn empty(&self) {
        let rows: Vec<Held> = lock(&self.ready).drain(..).map(|ready| ready.held()).collect();
        if let Err(error) = self.let_go(&rows).await {
            tracing::warn!(%error, "recipients of broadcasts are let go when their leases run out");
        }
        self.forget(rows.into_iter().map(|(id, _)| id));
    }
}

/// A run, counted as long as it goes on.
#[derive(Debug)]
struct Busy(Arc<Bulk>);

impl Busy {
    fn new(bulk: &Arc<Bulk>) -> Self {
        bulk.runs.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(bulk))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.runs.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
