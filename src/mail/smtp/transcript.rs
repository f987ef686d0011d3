//! What was said to a relay and answered, for a message's timeline.

use std::fmt;

use tokio::time::Instant;

use super::reply::Reply;

/// A step of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The name was resolved and the connection opened; the greeting.
    Connect,
    /// STARTTLS and the TLS handshake.
    Tls,
    /// EHLO or HELO.
    Ehlo,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, and the message without its final dot.
    Data,
    /// The final dot.
    Dot,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

impl Verb {
    /// The word for this step in the API, such as `rcpt`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Ehlo => "ehlo",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Dot => "dot",
            Self::Rset => "rset",
            Self::Quit => "quit",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of a message's timeline. It never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds since the transcript began.
    pub at_ms: u64,
    /// Which step.
    pub verb: Verb,
    /// The reply's code; none when there was no reply.
    pub code: Option<u16>,
    /// The reply's enhanced status code (RFC 3463).
    pub enhanced: Option<String>,
    /// The server's words, or what happened instead of them.
    pub text: String,
}

#[derive(Debug)]
pub(super) struct Transcript {
    began: Instant,
    steps: Vec<Step>,
}

impl Transcript {
    pub fn new() -> Self {
        Self { began: Instant::now(), steps: Vec::new() }
    }

    pub fn reply(&mut self, verb: Verb, reply: &Reply) {
        self.add(verb, Some(reply.code), reply.enhanced.clone(), reply.text.clone());
    }

    pub fn note(&mut self, verb: Verb, text: impl Into<String>) {
        self.add(verb, None, None, text.into());
    }

    /// The steps so far; the clock starts again.
    pub fn take(&mut self) -> Vec<Step> {
        std::mem::replace(self, Self::new()).steps
    }

    fn add(&mut self, verb: Verb, code: Option<u16>, enhanced: Option<String>, text: String) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.steps.push(Step { at_ms, verb, code, enhanced, text });
    }
}
