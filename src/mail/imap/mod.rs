//! Reading a mailbox over IMAP (RFC 3501) with async-imap's parser, defensively.
//!
//! [`Session`] is one logged-in connection. Every command has a deadline, every read has one, and no literal
//! larger than what was asked for is taken in. A session that met an error is [`broken`](Session::is_broken)
//! and is thrown away: the caller connects again.

mod change;
mod check;
mod fetch;
mod guard;
mod idle;
mod names;
mod session;
mod uid_set;
mod wire;

use std::fmt;
use std::time::Duration;

pub use check::check;
pub use fetch::{Batches, FetchLimits, Fetched, Listed};
pub use idle::IdleEvent;
pub use session::{Access, Selected, Session};

use super::tls::{Deadlines, NetError};

/// Who logs in, and how.
#[derive(Clone)]
pub enum Credentials {
    /// User name and password: LOGIN, or AUTHENTICATE PLAIN where LOGIN cannot carry them.
    Login {
        /// The user name.
        user: String,
        /// The password.
        pass: String,
    },
    /// User name and an OAuth 2.0 access token: AUTHENTICATE XOAUTH2.
    XOauth2 {
        /// The user name.
        user: String,
        /// The access token.
        token: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login { .. } => "Login",
            Self::XOauth2 { .. } => "XOauth2",
        })
    }
}

/// The longest that each part of a session may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Reaching the server.
    pub net: Deadlines,
    /// A read during which not one byte arrives.
    pub stall: Duration,
    /// A whole command other than a fetch or a list.
    pub command: Duration,
    /// A whole fetch or list command.
    pub transfer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            net: Deadlines::default(),
            stall: Duration::from_secs(60),
            command: Duration::from_secs(60),
            transfer: Duration::from_secs(600),
        }
    }
}

/// Why an IMAP session did not do what was asked; the text is for an administrator and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImapError {
    /// The server could not be reached: resolve, connect, TLS, or plain text refused.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The server has no STARTTLS.
    #[error("the server does not offer STARTTLS")]
    StarttlsNotOffered,
    /// The server refuses the credentials; trying again cannot help until they change.
    #[error("the server refuses the login: {reason}")]
    AuthRejected {
        /// The server's words.
        reason: String,
    },
    /// The server cannot log anybody in at the moment, or this user has too many sessions.
    #[error("the server cannot log in at the moment: {reason}")]
    AuthUnavailable {
        /// The server's words.
        reason: String,
    },
    /// The folder does not exist, or may not be opened.
    #[error("the folder {folder} cannot be opened: {reason}")]
    FolderMissing {
        /// The folder.
        folder: String,
        /// The server's words.
        reason: String,
    },
    /// The server said NO or BAD to a command.
    #[error("the server refuses {during}: {reason}")]
    Refused {
        /// The command.
        during: &'static str,
        /// The server's words.
        reason: String,
    },
    /// The server fell silent or was too slow.
    #[error("the server did not finish {during} in time")]
    Timeout {
        /// The command.
        during: &'static str,
    },
    /// What the server sent is not IMAP as we know it.
    #[error("the server's answer to {during} cannot be understood: {reason}")]
    Protocol {
        /// The command.
        during: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server sends more than was asked for, such as a literal of 2 GB.
    #[error("the answer to {during} is too large: {reason}")]
    TooLarge {
        /// The command.
        during: &'static str,
        /// What was announced and what was expected.
        reason: String,
    },
    /// The server said BYE or closed the connection.
    #[error("the server closed the connection during {during}: {reason}")]
    Closed {
        /// The command.
        during: &'static str,
        /// The server's BYE, or what happened to the connection.
        reason: String,
    },
    /// A folder or user name that no IMAP command can carry.
    #[error("the {what} holds a character that cannot be sent")]
    BadInput {
        /// What holds it.
        what: &'static str,
    },
}

impl ImapError {
    /// A stable word for the kind of error, such as `auth_rejected`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Net(NetError::Resolve { .. }) => "resolve",
            Self::Net(NetError::Connect { .. }) => "connect",
            Self::Net(NetError::Tls { .. }) | Self::StarttlsNotOffered => "tls",
            Self::Net(NetError::PlaintextRefused { .. }) => "plaintext_refused",
            Self::AuthRejected { .. } => "auth_rejected",
            Self::AuthUnavailable { .. } => "auth_unavailable",
            Self::FolderMissing { .. } => "folder_missing",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Protocol { .. } => "protocol",
            Self::TooLarge { .. } => "too_large",
            Self::Closed { .. } => "closed",
            Self::BadInput { .. } => "bad_input",
        }
    }

    /// Whether only a change of the configuration or the mailbox can help, so that trying soon is pointless.
    #[must_use]
    pub fn needs_administrator(&self) -> bool {
        matches!(
            self,
            Self::AuthRejected { .. }
                | Self::FolderMissing { .. }
                | Self::BadInput { .. }
                | Self::StarttlsNotOffered
                | Self::Net(NetError::PlaintextRefused { .. } | NetError::Tls { .. })
        )
    }
}
