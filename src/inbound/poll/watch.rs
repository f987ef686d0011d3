//! What an account's task has to know while it waits: the stop of the process, changes and requests by the API.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{app::App, clock::Timestamp, events::entity::Model as Event, id::AccountId};

/// Bounds of one comparison of a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Bounds {
    /// Only messages that reached the mailbox at or after this moment.
    pub since: Option<Timestamp>,
    /// So many at most, the oldest first.
    pub limit: Option<u32>,
}

/// Something that happened while a task waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The process stops, or the account is set aside.
    Stop,
    /// The account was changed, or may have been.
    Changed,
    /// Somebody wants it to be polled now.
    Poll,
    /// Somebody wants the folder to be compared now.
    Backfill(Bounds),
}

/// Listens for one account. It begins with its making, so make it before the row is read.
pub(super) struct Watch {
    app: App,
    account: AccountId,
    events: Receiver<Arc<Event>>,
}

impl Watch {
    pub(super) fn new(app: &App, account: AccountId) -> Self {
        Self { app: app.clone(), account, events: app.tail.subscribe() }
    }

    /// The next signal; nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> Signal {
        let app = self.app.clone();
        loop {
            let event = tokio::select! {
                () = app.shutdown.stopping() => return Signal::Stop,
                event = self.events.recv() => event,
            };
            match event {
                Ok(event) if event.subject_id == self.account.uuid() => {
                    if let Some(signal) = signal(&event) {
                        return signal;
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Signal::Changed,
                // The tail lives as long as the application.
                Err(RecvError::Closed) => return Signal::Stop,
            }
        }
    }
}

/// The poller's own events are no news to it.
fn signal(event: &Event) -> Option<Signal> {
    match event.kind.as_str() {
        "account.poll_requested" => Some(Signal::Poll),
        "account.backfill_requested" => {
            Some(Signal::Backfill(serde_json::from_value(event.data.clone()).unwrap_or_default()))
        }
        // Even when it was resumed at once: whoever paused it wants the connection closed.
        "account.paused" | "account.disabled" | "account.deleted" => Some(Signal::Stop),
        "account.updated" | "account.activated" | "account.resumed" => Some(Signal::Changed),
        _ => None,
    }
}
