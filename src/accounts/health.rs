//! What the poller saw of a mailbox.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;

/// How new mail is learned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PollMode {
    /// The server reports it (RFC 2177).
    Idle,
    /// The server is asked at intervals.
    Poll,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthError {
    /// A stable word, such as `auth_rejected`.
    #[schema(examples("auth_rejected"))]
    pub code: String,
    /// What happened, for an administrator.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// A message that could not be fetched so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suspect {
    /// The folder's UIDVALIDITY.
    #[schema(minimum = 0)]
    pub uid_validity: u32,
    /// Its UID.
    #[schema(minimum = 0)]
    pub uid: u32,
    /// How often fetching it alone failed by its own fault.
    #[schema(minimum = 0)]
    pub failures: u32,
    /// How often the service ended while it read this message alone. After the second time it is taken in unread.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub ended: u32,
    /// Since when it cannot be fetched.
    pub since: Timestamp,
}

/// What the poller saw of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = MailboxHealth)]
pub struct Health {
    /// When the mailbox was last looked at.
    pub last_poll_at: Option<Timestamp>,
    /// When that last went well.
    pub last_success_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<HealthError>,
    /// How new mail is learned of; none without a connection.
    pub mode: Option<PollMode>,
    /// Since when there is a connection.
    pub connected_since: Option<Timestamp>,
    /// How many messages were taken in by polling.
    #[schema(minimum = 0)]
    pub messages_taken: i64,
    /// How many bytes of messages were fetched.
    #[schema(minimum = 0)]
    pub bytes_fetched: i64,
    /// How often we logged in.
    #[schema(minimum = 0)]
    pub logins: i64,
    /// Messages that could not be fetched so far and are tried again.
    pub suspects: Vec<Suspect>,
}

impl Health {
    /// Reads the column; what cannot be read counts as nothing seen.
    pub fn of(column: &serde_json::Value) -> Self {
        serde_json::from_value(column.clone()).unwrap_or_default()
    }

    /// The column's value.
    pub fn column(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
