//! What is handed to [`super::accept::accept`], and what it gives back.

use sea_orm::DbErr;
use thiserror::Error;
use tokio::task::JoinError;
use uuid::Uuid;

use crate::{
    accounts::entity::account,
    broadcasts::thread::AnswerError,
    clock::Timestamp,
    conversations::{entity::MessageState, source::raw_problem},
    http::Problem,
    id::{ConversationId, MessageId},
    raw::RawError,
};

/// Messages of one account that are taken in together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The messages, in the order of arrival.
    pub incoming: Vec<Incoming>,
    /// Messages that we have, and that are known by another UIDVALIDITY and UID now.
    pub rekeyed: Vec<Rekey>,
    /// How far the folder is read with this batch.
    pub cursor: Option<Cursor>,
    /// Whether something is still to be done with the messages on the server.
    pub after_fetch_due: bool,
    /// Under which lease and settings they were fetched; none for messages that were not.
    pub fence: Option<Fence>,
}

/// An account's lease and settings. When either has changed since messages were fetched, somebody else may have taken
/// them in, or their UIDs may be another server's by now: nothing of them is stored then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// How often the account had been leased.
    pub attempts: i64,
    /// The version of its settings.
    pub version: i64,
}

impl Fence {
    /// Whether the account is still under this lease and these settings.
    pub fn holds(self, row: &account::Model) -> bool {
        (row.attempts, row.version) == (self.attempts, self.version)
    }
}

/// One message as it came.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Where it was found.
    pub source: Source,
    /// What was fetched of it.
    pub content: Content,
}

/// The identity of a message in its mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The folder's name.
    pub folder: String,
    /// The folder's UIDVALIDITY.
    pub uid_validity: i64,
    /// The message's UID.
    pub uid: i64,
    /// The server's INTERNALDATE.
    pub internal_date: Timestamp,
}

/// What was fetched of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it, byte for byte.
    Raw(Vec<u8>),
    /// The same, of a message that the service ended of: nothing of it is read.
    Unread(Vec<u8>),
    /// It is too large to be fetched, or its server does not give it.
    Oversize {
        /// The size that the server says.
        size_bytes: i64,
        /// Its header section, when that was fetched.
        header: Option<Vec<u8>>,
    },
}

/// A message that we have got a new UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rekey {
    /// The row in `inbound_sources`, from [`super::source::already_has`].
    pub source_id: Uuid,
    /// The folder's UIDVALIDITY now.
    pub uid_validity: i64,
    /// The message's UID now.
    pub uid: i64,
}

/// How far a folder is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The folder's name.
    pub folder: String,
    /// The folder's UIDVALIDITY.
    pub uid_validity: i64,
    /// The highest UID that is taken in; it never goes back within one UIDVALIDITY.
    pub last_uid: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The messages that were stored, in the order of the batch.
    pub stored: Vec<Stored>,
    /// How many were there already.
    pub known: usize,
}

/// A message that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The new message.
    pub message_id: MessageId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// `parsed`, `unparsed` or `oversize`.
    pub state: MessageState,
}

/// Why a batch was not taken in; nothing of it was, and it can be tried again.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// The database failed.
    #[error("the database: {0}")]
    Db(#[from] DbErr),
    /// The raw bytes could not be stored.
    #[error(transparent)]
    Raw(#[from] RawError),
    /// What somebody answers to could not be found.
    #[error("a broadcast: {0}")]
    Broadcast(#[from] AnswerError),
    /// The process stops.
    #[error("parsing was interrupted: {0}")]
    Interrupted(#[from] JoinError),
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Db(error) | AcceptError::Broadcast(AnswerError::Db(error)) => error.into(),
            AcceptError::Raw(error) | AcceptError::Broadcast(AnswerError::Raw(error)) => raw_problem(error),
            other => Self::internal(other),
        }
    }
}
