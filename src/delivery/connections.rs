//! Open connections to the outgoing server, kept for the next message.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::rules::{Effect, cut};
use crate::{
    app::App,
    clock::Timestamp,
    mail::smtp::{ConnectFailed, Connection, Step},
    outgoing::{entity::outgoing_server, relay::Relay},
};

/// Servers hang up on a client that is silent for longer, and a connection costs little to make anew.
const IDLE: Duration = Duration::from_secs(30);

/// A server that does not answer to QUIT is left without an answer.
const FAREWELL: Duration = Duration::from_secs(2);

/// The connections that nobody uses at the moment. Cheap to clone.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Vec<Kept>>>);

struct Kept {
    settings: Settings,
    connection: Connection,
}

/// Which settings a connection was made with.
type Settings = (i64, Timestamp);

impl Connections {
    /// A connection to this very server that can carry another message.
    pub(super) fn take(&self, server: &outgoing_server::Model) -> Option<Connection> {
        let mut kept = self.kept();
        // The youngest first: old ones are left to grow idle and close.
        let found = kept.iter().rposition(|one| {
            one.settings == settings(server)
                && one.connection.is_usable()
                && !one.connection.is_idle_too_long(IDLE)
        })?;
        Some(kept.remove(found).connection)
    }

    /// Keeps a connection for the next message, or gives it back when it has carried enough.
    pub(super) fn put(&self, server: &outgoing_server::Model, connection: Connection) -> Option<Connection> {
        let limit = u32::try_from(server.max_messages_per_connection).unwrap_or(1);
        if !connection.is_usable() || connection.messages() >= limit {
            return Some(connection);
        }
        self.kept().push(Kept { settings: settings(server), connection });
        None
    }

    /// Ends the connections that were idle for too long, or are of other settings.
    pub(super) async fn close_idle(&self, server: Option<&outgoing_server::Model>) {
        let wanted = server.map(settings);
        let is_done = |one: &mut Kept| Some(one.settings) != wanted || one.connection.is_idle_too_long(IDLE);
        let done: Vec<Kept> = self.kept().extract_if(.., is_done).collect();
        futures::future::join_all(done.into_iter().map(|one| end(one.connection))).await;
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no connection, and what that means for the server.
#[derive(Debug)]
pub(super) struct Unreached {
    /// In plain words.
    pub reason: String,
    /// What follows for the server.
    pub effect: Effect,
    /// When the try began, and what was said.
    pub began: Timestamp,
    /// What was said.
    pub steps: Vec<Step>,
}

/// A kept connection to the server, or a new one with what was said while it was made.
pub(super) async fn reach(
    app: &App,
    server: &outgoing_server::Model,
) -> Result<(Connection, Timestamp, Vec<Step>), Unreached> {
    let began = app.clock.now();
    if let Some(mut connection) = app.connections.take(server) {
        // What was said before belongs to other messages.
        connection.take_steps();
        return Ok((connection, began, Vec::new()));
    }
    let relay = match Relay::of(app, server) {
        Ok(relay) => relay,
        Err(error) => {
            let reason = cut(&format!("{error:#}"));
            return Err(Unreached {
                effect: Effect::Pause(reason.clone()),
                reason,
                began,
                steps: Vec::new(),
            });
        }
    };
    match Connection::connect(&relay.endpoint, &relay.auth, &relay.helo_name, relay.timeouts).await {
        Ok(mut connection) => {
            let steps = connection.take_steps();
            Ok((connection, began, steps))
        }
        Err(ConnectFailed { error, steps }) => {
            let reason = cut(&error.to_string());
            let effect = if error.needs_administrator() { Effect::Pause } else { Effect::Slow };
            Err(Unreached { effect: effect(reason.clone()), reason, began, steps })
        }
    }
}

/// Says QUIT and ends the connection.
pub(super) async fn end(connection: Connection) {
    // Whether the server says goodbye or not, the connection is over.
    let _ = tokio::time::timeout(FAREWELL, connection.quit()).await;
}

fn settings(server: &outgoing_server::Model) -> Settings {
    (server.version, server.created_at)
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connections").field(&self.kept().len()).finish()
    }
}
