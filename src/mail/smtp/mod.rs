//! Handing mail to a relay over SMTP (RFC 5321), step by step.
//!
//! lettre's connection sends the final dot in the same call as the message, but a message's phase must be
//! durable before that dot goes out and a lost answer to it must be told from every other failure. So the
//! conversation is driven here: [`Connection::begin`], then [`Transaction::transmit`], then
//! [`FinalDot::finish`]; or all three by [`Connection::send`]. Many messages whose phase is durable before their text
//! begins go out by [`Connection::offer`] and [`Connection::text`].

mod check;
mod connection;
mod dots;
mod envelope;
mod login;
mod pipeline;
mod reply;
mod send;
mod transcript;

use std::fmt;
use std::time::Duration;

pub use check::check;
pub use connection::{ConnectFailed, Connection};
pub use envelope::{BadAddress, Envelope};
pub use pipeline::{Letter, Offer};
pub use reply::Reply;
pub use send::{FinalDot, Interruption, Missing, Outcome, RecipientReply, SendReport, Transaction};
pub use transcript::{Step, Verb};

use super::tls::{Deadlines, NetError};

/// How we log in to the relay.
#[derive(Clone)]
pub enum Auth {
    /// No login.
    None,
    /// AUTH PLAIN, or LOGIN where that is all there is (RFC 4954).
    Password {
        /// The user name.
        user: String,
        /// The password.
        pass: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
        })
    }
}

/// The longest wait in each part of the conversation; the defaults are those of RFC 5321 §4.5.3.2.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Reaching the relay.
    pub net: Deadlines,
    /// The greeting.
    pub greeting: Duration,
    /// The answers to EHLO, STARTTLS, AUTH, RSET and QUIT.
    pub command: Duration,
    /// The answer to MAIL.
    pub mail: Duration,
    /// The answer to each RCPT.
    pub rcpt: Duration,
    /// The answer to DATA.
    pub data: Duration,
    /// Each block of the message to be taken.
    pub block: Duration,
    /// The answer to the final dot.
    pub dot: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            net: Deadlines::default(),
            greeting: minutes(5),
            command: minutes(1),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            dot: minutes(10),
        }
    }
}

/// Why there is no usable connection to the relay; the text is for an administrator and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmtpError {
    /// The relay could not be reached: resolve, connect, TLS, or plain text refused.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The relay has no STARTTLS.
    #[error("the server does not offer STARTTLS")]
    StarttlsNotOffered,
    /// The relay offers no way to log in that we know.
    #[error("the server offers no login that fits (it offers: {offered})")]
    AuthNotOffered {
        /// The mechanisms it offers.
        offered: String,
    },
    /// The relay refuses the credentials (5xx).
    #[error("the server refuses the login: {0}")]
    AuthRejected(Reply),
    /// The relay cannot log in at the moment (4xx).
    #[error("the server cannot log in at the moment: {0}")]
    AuthUnavailable(Reply),
    /// The relay refuses at some other step.
    #[error("the server refuses at {at}: {reply}")]
    Refused {
        /// The step.
        at: Verb,
        /// Its words.
        reply: Reply,
    },
    /// The relay did not answer in time.
    #[error("the server did not answer to {at} in time")]
    Timeout {
        /// The step.
        at: Verb,
    },
    /// The connection ended.
    #[error("the connection ended at {at}: {reason}")]
    Closed {
        /// The step.
        at: Verb,
        /// What happened to it.
        reason: String,
    },
    /// What the relay sent is not SMTP.
    #[error("the server's answer to {at} cannot be understood")]
    Protocol {
        /// The step.
        at: Verb,
    },
}

impl SmtpError {
    /// A stable word for the kind of error, such as `auth_rejected`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Net(NetError::Resolve { .. }) => "resolve",
            Self::Net(NetError::Connect { .. }) => "connect",
            Self::Net(NetError::Tls { .. }) | Self::StarttlsNotOffered => "tls",
            Self::Net(NetError::PlaintextRefused { .. }) => "plaintext_refused",
            Self::AuthNotOffered { .. } | Self::AuthRejected(_) => "auth_rejected",
            Self::AuthUnavailable(_) => "auth_unavailable",
            Self::Refused { reply, .. } if reply.code == 421 => "service_closing",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Closed { .. } => "closed",
            Self::Protocol { .. } => "protocol",
        }
    }

    /// Whether the relay should be paused until somebody changes the configuration.
    #[must_use]
    pub fn needs_administrator(&self) -> bool {
        matches!(
            self,
            Self::Net(NetError::Tls { .. } | NetError::PlaintextRefused { .. })
                | Self::StarttlsNotOffered
                | Self::AuthNotOffered { .. }
                | Self::AuthRejected(_)
        )
    }
}
