//! One message: MAIL, RCPT, DATA, the text, and at last the dot that hands it over.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use super::SmtpError;
use super::connection::{Connection, State};
use super::dots;
use super::envelope::Envelope;
use super::reply::Reply;
use super::transcript::{Step, Verb};

/// A message is written in blocks of this many bytes, each with its own deadline.
const BLOCK: usize = 32 * 1024;
/// How long a relay that hung up in the middle is given to show its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What became of one try to send a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The relay took it.
    Accepted {
        /// Its words.
        reply: Reply,
    },
    /// Refused for now (4yz): try again later.
    Deferred {
        /// Where.
        at: Verb,
        /// Its words.
        reply: Reply,
    },
    /// Refused for good (5yz).
    Failed {
        /// Where.
        at: Verb,
        /// Its words.
        reply: Reply,
    },
    /// 421: the relay is closing or wants less; nothing was taken, and everybody should slow down.
    ServiceClosing {
        /// Where.
        at: Verb,
        /// Its words.
        reply: Reply,
    },
    /// The connection was lost before the final dot: certainly not taken, try again later.
    Interrupted {
        /// Where.
        at: Verb,
        /// How.
        how: Interruption,
    },
    /// A connection that had been used before was already over when the message began, by 421 or without a
    /// word. It says nothing about the message or the relay: connect again and send at once.
    Stale,
    /// The answer to the final dot was lost: taken or not, nobody knows.
    Uncertain {
        /// How.
        how: Interruption,
    },
    /// The message is larger than the relay takes (RFC 1870); it was not offered.
    TooLarge {
        /// The relay's limit, in bytes.
        limit_bytes: u64,
    },
    /// The message needs what the relay does not offer; it was not offered.
    NotOffered(Missing),
    /// The caller's own step before the final dot failed, so the dot was not sent: certainly not taken.
    Withheld {
        /// The caller's words.
        reason: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { reply } => write!(f, "the server took the message: {reply}"),
            Self::Deferred { at, reply } => write!(f, "the server refuses it for now, at {at}: {reply}"),
            Self::Failed { at, reply } => write!(f, "the server refuses it, at {at}: {reply}"),
            Self::ServiceClosing { at, reply } => {
                write!(f, "the server is busy or closing, at {at}: {reply}")
            }
            Self::Interrupted { at, how } => write!(f, "not sent: {how} at {at}"),
            Self::Stale => f.write_str("the server had closed the connection"),
            Self::Uncertain { how } => {
                write!(f, "the message was handed over, but {how} before the server said whether it took it")
            }
            Self::TooLarge { limit_bytes } => {
                write!(f, "the message is larger than the {limit_bytes} bytes that the server takes")
            }
            Self::NotOffered(Missing::SmtpUtf8) => {
                f.write_str("an address is not ASCII, and the server does not offer SMTPUTF8")
            }
            Self::NotOffered(Missing::EightBitMime) => {
                f.write_str("the message has 8-bit text, and the server does not offer 8BITMIME")
            }
            Self::Withheld { reason } => write!(f, "the message was not handed over: {reason}"),
        }
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer came in time"),
            Self::Closed(reason) => write!(f, "the connection ended ({reason})"),
            Self::Garbled => f.write_str("the answer was not SMTP"),
        }
    }
}

/// How a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interruption {
    /// No answer in time.
    Timeout,
    /// The connection ended.
    Closed(String),
    /// The answer was not SMTP.
    Garbled,
}

/// An extension that a message needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// An address is not ASCII (RFC 6531).
    SmtpUtf8,
    /// The message has 8-bit characters (RFC 6152).
    EightBitMime,
}

/// What the relay said about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientReply {
    /// The address as it was given.
    pub address: String,
    /// The answer to its RCPT; positive when accepted.
    pub reply: Reply,
}

/// A try from beginning to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendReport {
    /// What became of it. `Accepted` holds for the recipients that were accepted.
    pub outcome: Outcome,
    /// The answer for each recipient, as far as the conversation came.
    pub recipients: Vec<RecipientReply>,
    /// The conversation, for the message's timeline.
    pub steps: Vec<Step>,
}

/// A transaction in which the relay has accepted at least one recipient.
pub struct Transaction<'a> {
    connection: &'a mut Connection,
    recipients: Vec<RecipientReply>,
}

/// The whole message is with the relay, except the dot that makes it responsible (RFC 5321 §4.1.1.4).
/// Dropping this instead of finishing it leaves the message unsent and the connection unusable.
pub struct FinalDot<'a> {
    connection: &'a mut Connection,
}

impl Connection {
    /// Sends a whole message. `before_dot` is awaited when everything but the final dot is written: it makes
    /// the message's phase durable, and if it fails the dot is not sent.
    pub async fn send<E: ToString>(
        &mut self,
        envelope: &Envelope,
        raw: &[u8],
        before_dot: impl Future<Output = Result<(), E>>,
    ) -> SendReport {
        let (outcome, recipients) = self.send_through(envelope, raw, before_dot).await;
        SendReport { outcome, recipients, steps: self.take_steps() }
    }

    async fn send_through<E: ToString>(
        &mut self,
        envelope: &Envelope,
        raw: &[u8],
        before_dot: impl Future<Output = Result<(), E>>,
    ) -> (Outcome, Vec<RecipientReply>) {
        let mut transaction = match self.begin(envelope, raw).await {
            Ok(transaction) => transaction,
            Err(refused) => return *refused,
        };
        let recipients = std::mem::take(&mut transaction.recipients);
        let dot = match transaction.transmit(raw).await {
            Ok(dot) => dot,
            Err(outcome) => return (outcome, recipients),
        };
        if let Err(error) = before_dot.await {
            return (Outcome::Withheld { reason: error.to_string() }, recipients);
        }
        (dot.finish().await, recipients)
    }

    /// Names sender and recipients. A transaction that an earlier message left open is given up first.
    ///
    /// # Errors
    /// The outcome, and what was said about each recipient, when the message goes no further.
    pub async fn begin(
        &mut self,
        envelope: &Envelope,
        raw: &[u8],
    ) -> Result<Transaction<'_>, Box<(Outcome, Vec<RecipientReply>)>> {
        let stop = |outcome| Box::new((outcome, Vec::new()));
        let line = self.mail_line(envelope, raw).map_err(stop)?;
        self.mail(&line).await.map_err(stop)?;
        let mut recipients = Vec::with_capacity(envelope.to().len());
        for address in envelope.to() {
            let limit = self.timeouts.rcpt;
            match self.exchange(Verb::Rcpt, &format!("RCPT TO:<{address}>"), limit).await {
                Ok(reply) if reply.is_closing() => {
                    return Err(Box::new((Outcome::ServiceClosing { at: Verb::Rcpt, reply }, recipients)));
                }
                Ok(reply) => recipients.push(RecipientReply { address: address.clone(), reply }),
                Err(error) => return Err(Box::new((interrupted(Verb::Rcpt, error), recipients))),
            }
        }
        match all_refused(&recipients) {
            Some(outcome) => Err(Box::new((outcome, recipients))),
            None => Ok(Transaction { connection: self, recipients }),
        }
    }

    /// MAIL with its parameters, or why the relay cannot take this message at all.
    pub(super) fn mail_line(&self, envelope: &Envelope, raw: &[u8]) -> Result<String, Outcome> {
        let offered = &self.extensions;
        if let Some(limit_bytes) = offered.size_limit.filter(|limit| raw.len() as u64 > *limit) {
            return Err(Outcome::TooLarge { limit_bytes });
        }
        let mut line = format!("MAIL FROM:<{}>", envelope.from());
        if offered.size {
            line.push_str(&format!(" SIZE={}", raw.len()));
        }
        if !raw.is_ascii() {
            if !offered.eight_bit_mime {
                return Err(Outcome::NotOffered(Missing::EightBitMime));
            }
            line.push_str(" BODY=8BITMIME");
        }
        if envelope.needs_smtputf8() {
            if !offered.smtputf8 {
                return Err(Outcome::NotOffered(Missing::SmtpUtf8));
            }
            line.push_str(" SMTPUTF8");
        }
        Ok(line)
    }

    async fn mail(&mut self, line: &str) -> Result<(), Outcome> {
        let outcome = match self.first_words(line).await {
            Ok(reply) if reply.is_positive() => Ok(()),
            Ok(reply) => Err(self.refused_at_once(reply)),
            Err(error) => Err(self.unheard(error)),
        };
        self.messages += 1;
        outcome
    }

    async fn first_words(&mut self, line: &str) -> Result<Reply, SmtpError> {
        self.make_ready().await?;
        let limit = self.timeouts.mail;
        let reply = self.exchange(Verb::Mail, line, limit).await?;
        if reply.is_positive() {
            self.state = State::Begun;
        }
        Ok(reply)
    }

    /// Gives up what an earlier message left open. A relay that does not answer as it must (RFC 5321 §4.1.1.5) has mostly
    /// hung up on an idle client: the connection is over.
    pub(super) async fn make_ready(&mut self) -> Result<(), SmtpError> {
        let over = |reason: String| SmtpError::Closed { at: Verb::Mail, reason };
        if !self.is_usable() {
            return Err(over("it was not usable any more".to_owned()));
        }
        if self.state == State::Begun
            && let Err(error) = self.reset().await
        {
            self.state = State::Unusable;
            return Err(over(error.to_string()));
        }
        Ok(())
    }

    /// What a refusal of MAIL means: on a used connection, 421 is about the connection.
    pub(super) fn refused_at_once(&self, reply: Reply) -> Outcome {
        match reply.is_closing() && self.messages > 0 {
            true => Outcome::Stale,
            false => refusal(Verb::Mail, reply),
        }
    }

    /// What it means that MAIL was not answered: a used connection that ended before says nothing of the message.
    pub(super) fn unheard(&self, error: SmtpError) -> Outcome {
        match error {
            SmtpError::Closed { .. } if self.messages > 0 => Outcome::Stale,
            error => interrupted(Verb::Mail, error),
        }
    }
}

impl<'a> Transaction<'a> {
    /// What the relay said about each recipient; at least one is accepted.
    #[must_use]
    pub fn recipients(&self) -> &[RecipientReply] {
        &self.recipients
    }

    /// Sends DATA and the message, all but the final dot.
    ///
    /// # Errors
    /// The outcome when the relay refuses or the connection is lost; the message was certainly not taken.
    pub async fn transmit(mut self, raw: &[u8]) -> Result<FinalDot<'a>, Outcome> {
        self.ask().await?;
        let Self { connection, .. } = self;
        // From here to the dot's answer, the connection is good for nothing else.
        connection.state = State::Unusable;
        let block = connection.timeouts.block;
        for part in dots::encode(raw).chunks(BLOCK) {
            if let Err(error) = connection.write(Verb::Data, part, block).await {
                return Err(last_words(connection, error).await);
            }
        }
        Ok(FinalDot { connection })
    }

    /// Says DATA, and is told to go on.
    pub(super) async fn ask(&mut self) -> Result<(), Outcome> {
        let limit = self.connection.timeouts.data;
        match self.connection.exchange(Verb::Data, "DATA", limit).await {
            Ok(reply) if reply.code == 354 => Ok(()),
            Ok(reply) => Err(refusal(Verb::Data, reply)),
            Err(error) => Err(interrupted(Verb::Data, error)),
        }
    }
}

impl FinalDot<'_> {
    /// Sends the dot and waits for the answer, which decides.
    pub async fn finish(self) -> Outcome {
        let connection = self.connection;
        let block = connection.timeouts.block;
        match connection.write(Verb::Dot, b".\r\n", block).await {
            Ok(()) => connection.decision().await,
            // Even a failed write may have carried the dot to the relay.
            Err(error) => Outcome::Uncertain { how: how(error) },
        }
    }
}

impl Connection {
    /// The answer to the dot, which decides.
    pub(super) async fn decision(&mut self) -> Outcome {
        let limit = self.timeouts.dot;
        match self.answer(Verb::Dot, limit).await {
            // Out of step: what this answers is anybody's guess.
            Ok(reply) if (300..400).contains(&reply.code) => {
                Outcome::Uncertain { how: Interruption::Garbled }
            }
            Ok(reply) => {
                if !reply.is_closing() {
                    self.state = State::Clean;
                }
                if reply.is_positive() {
                    return Outcome::Accepted { reply };
                }
                refusal(Verb::Dot, reply)
            }
            Err(error) => Outcome::Uncertain { how: how(error) },
        }
    }
}

/// A relay that refuses in the middle of a message may have said why before it hung up.
pub(super) async fn last_words(connection: &mut Connection, error: SmtpError) -> Outcome {
    match connection.answer(Verb::Data, LAST_WORDS).await {
        Ok(reply) if reply.code >= 400 => refusal(Verb::Data, reply),
        _ => interrupted(Verb::Data, error),
    }
}

pub(super) fn all_refused(recipients: &[RecipientReply]) -> Option<Outcome> {
    if recipients.iter().any(|recipient| recipient.reply.is_positive()) {
        return None;
    }
    // One that may be accepted later keeps the message alive.
    let telling = recipients.iter().find(|r| r.reply.is_transient()).or_else(|| recipients.first())?;
    Some(refusal(Verb::Rcpt, telling.reply.clone()))
}

pub(super) fn refusal(at: Verb, reply: Reply) -> Outcome {
    match reply.code {
        421 => Outcome::ServiceClosing { at, reply },
        500..=599 => Outcome::Failed { at, reply },
        // 4yz, and a 2yz or 3yz where it makes no sense.
        _ => Outcome::Deferred { at, reply },
    }
}

pub(super) fn interrupted(at: Verb, error: SmtpError) -> Outcome {
    Outcome::Interrupted { at, how: how(error) }
}

pub(super) fn how(error: SmtpError) -> Interruption {
    match error {
        SmtpError::Timeout { .. } => Interruption::Timeout,
        SmtpError::Protocol { .. } => Interruption::Garbled,
        SmtpError::Closed { reason, .. } => Interruption::Closed(reason),
        other => Interruption::Closed(other.to_string()),
    }
}
