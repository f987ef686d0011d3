//! One connection to a relay: reaching it, EHLO, STARTTLS, login, and keeping it for many messages.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::time::{Instant, timeout};

use super::login::log_in;
use super::reply::{RawReply, Reply, read_reply};
use super::transcript::{Step, Transcript, Verb};
use super::{Auth, SmtpError, Timeouts};
use crate::mail::check::{CheckLog, CheckName};
use crate::mail::tls::{self, Endpoint, Security, Stream};

/// What the relay offers in its EHLO answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extensions {
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// SIZE (RFC 1870): the largest message in bytes, where the relay names one.
    pub size_limit: Option<u64>,
    /// SIZE is offered, with or without a limit.
    pub size: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// The AUTH mechanisms (RFC 4954), in upper case.
    pub auth: Vec<String>,
}

impl Extensions {
    fn parse(lines: &[String]) -> Self {
        let mut found = Self::default();
        // The first line is the server's name.
        for line in lines.iter().skip(1) {
            let mut words = line.split([' ', '=']).map(str::to_ascii_uppercase);
            match words.next().as_deref() {
                Some("STARTTLS") => found.starttls = true,
                Some("SIZE") => {
                    found.size = true;
                    found.size_limit = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                Some("8BITMIME") => found.eight_bit_mime = true,
                Some("SMTPUTF8") => found.smtputf8 = true,
                Some("PIPELINING") => found.pipelining = true,
                Some("AUTH") => found.auth.extend(words.filter(|word| !word.is_empty())),
                _ => {}
            }
        }
        found
    }
}

/// How far the present transaction has come, which decides what the next one must do first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is under way.
    Clean,
    /// MAIL was given; RSET is needed before another message.
    Begun,
    /// In the middle of a message, or the connection failed: it cannot be used again.
    Unusable,
}

/// A connection to a relay, usable for many messages one after another.
pub struct Connection {
    io: BufReader<Stream>,
    pub(super) timeouts: Timeouts,
    pub(super) extensions: Extensions,
    pub(super) transcript: Transcript,
    pub(super) state: State,
    pub(super) messages: u32,
    /// A reply is still to come. It stays set when the caller drops a call half-way: the next reply would then
    /// belong to another command.
    in_flight: bool,
    used: Instant,
}

/// The relay could not be reached or refused us, with what happened until then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ConnectFailed {
    /// Why.
    pub error: SmtpError,
    /// The conversation so far.
    pub steps: Vec<Step>,
}

impl Connection {
    /// Reaches the relay, says EHLO as `helo_name`, and logs in.
    ///
    /// # Errors
    /// [`ConnectFailed`] with the stage that failed and the conversation so far.
    pub async fn connect(
        endpoint: &Endpoint,
        auth: &Auth,
        helo_name: &str,
        timeouts: Timeouts,
    ) -> Result<Self, ConnectFailed> {
        Self::connect_logged(endpoint, auth, helo_name, timeouts, &mut CheckLog::default()).await
    }

    pub(super) async fn connect_logged(
        endpoint: &Endpoint,
        auth: &Auth,
        helo_name: &str,
        timeouts: Timeouts,
        log: &mut CheckLog,
    ) -> Result<Self, ConnectFailed> {
        let mut transcript = Transcript::new();
        let stream = match tls::connect(endpoint, &timeouts.net, log).await {
            Ok(stream) => stream,
            Err(error) => {
                transcript.note(Verb::Connect, error.to_string());
                return Err(ConnectFailed { error: error.into(), steps: transcript.take() });
            }
        };
        let mut connection = Self {
            io: BufReader::new(stream),
            timeouts,
            extensions: Extensions::default(),
            transcript,
            state: State::Clean,
            messages: 0,
            in_flight: false,
            used: Instant::now(),
        };
        if endpoint.security == Security::Starttls {
            connection = connection.starttls(endpoint, helo_name, log).await?;
        }
        match connection.introduce(endpoint.security, auth, helo_name, log).await {
            Ok(()) => Ok(connection),
            Err(error) => Err(connection.failed(error)),
        }
    }

    /// How many messages were tried on this connection.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether another message can be tried on this connection.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.state != State::Unusable && !self.in_flight
    }

    /// Whether nothing was said for longer than `limit`, so that the relay has probably hung up.
    #[must_use]
    pub fn is_idle_too_long(&self, limit: Duration) -> bool {
        self.used.elapsed() > limit
    }

    /// Gives up a transaction that was begun (RSET).
    ///
    /// # Errors
    /// When the connection is gone or the relay refuses.
    pub async fn reset(&mut self) -> Result<(), SmtpError> {
        let limit = self.timeouts.command;
        let reply = self.exchange(Verb::Rset, "RSET", limit).await?;
        expect_positive(Verb::Rset, reply)?;
        self.state = State::Clean;
        Ok(())
    }

    /// Says QUIT and ends the connection; how the relay answers does not matter.
    pub async fn quit(mut self) {
        if self.is_usable() {
            // The conversation is over whatever comes, and nobody should wait long for a goodbye.
            let limit = self.timeouts.command.min(Duration::from_secs(5));
            let _ = self.exchange(Verb::Quit, "QUIT", limit).await;
        }
    }

    /// The conversation since the last take; the clock of the next steps starts at zero.
    pub fn take_steps(&mut self) -> Vec<Step> {
        self.transcript.take()
    }

    /// Greeting, EHLO and STARTTLS in clear, then the handshake; nothing said in clear is believed afterwards.
    async fn starttls(
        mut self,
        endpoint: &Endpoint,
        helo_name: &str,
        log: &mut CheckLog,
    ) -> Result<Self, ConnectFailed> {
        let began = Instant::now();
        let asked = self.ask_starttls(helo_name).await;
        let Self { io, timeouts, mut transcript, .. } = self;
        let secured = match asked {
            Ok(()) => tls::secure(endpoint, io.into_inner(), &timeouts.net).await.map_err(SmtpError::from),
            Err(error) => Err(error),
        };
        let words = secured.as_ref().map_or_else(ToString::to_string, tls::describe_tls);
        log.push(CheckName::Tls, secured.is_ok(), words.clone(), began.elapsed());
        transcript.note(Verb::Tls, words);
        let io = match secured {
            Ok(stream) => BufReader::new(stream),
            Err(error) => return Err(ConnectFailed { error, steps: transcript.take() }),
        };
        Ok(Self {
            io,
            timeouts,
            extensions: Extensions::default(),
            transcript,
            state: State::Clean,
            messages: 0,
            in_flight: false,
            used: Instant::now(),
        })
    }

    async fn ask_starttls(&mut self, helo_name: &str) -> Result<(), SmtpError> {
        self.greeting().await?;
        self.ehlo(helo_name).await?;
        if !self.extensions.starttls {
            return Err(SmtpError::StarttlsNotOffered);
        }
        let limit = self.timeouts.command;
        let reply = self.exchange(Verb::Tls, "STARTTLS", limit).await?;
        expect_positive(Verb::Tls, reply)
    }

    /// What is left once the stream is as it should be: greeting, EHLO, login.
    async fn introduce(
        &mut self,
        security: Security,
        auth: &Auth,
        helo_name: &str,
        log: &mut CheckLog,
    ) -> Result<(), SmtpError> {
        let greet = async {
            if security != Security::Starttls {
                self.greeting().await?;
            }
            self.ehlo(helo_name).await
        };
        log.step(CheckName::Ehlo, greet, |name: &String| format!("the server calls itself {name}")).await?;
        if matches!(auth, Auth::None) {
            return Ok(());
        }
        log.step(CheckName::Login, log_in(self, auth), |()| "logged in".to_owned()).await
    }

    async fn greeting(&mut self) -> Result<(), SmtpError> {
        let limit = self.timeouts.greeting;
        let reply = self.answer(Verb::Connect, limit).await?;
        expect_positive(Verb::Connect, reply)
    }

    /// Says EHLO, or HELO to a server that does not know it (RFC 5321 §3.2), and gives the server's name.
    async fn ehlo(&mut self, helo_name: &str) -> Result<String, SmtpError> {
        let limit = self.timeouts.command;
        let name = if is_helo_name(helo_name) { helo_name } else { "localhost" };
        self.write(Verb::Ehlo, format!("EHLO {name}\r\n").as_bytes(), limit).await?;
        let raw = self.raw_answer(Verb::Ehlo, limit).await?;
        if matches!(raw.code, 500 | 502 | 504) {
            self.note(Verb::Ehlo, &raw.into_reply());
            let reply = self.exchange(Verb::Ehlo, &format!("HELO {name}"), limit).await?;
            let server = reply.text.clone();
            expect_positive(Verb::Ehlo, reply)?;
            self.extensions = Extensions::default();
            return Ok(server);
        }
        self.extensions = Extensions::parse(&raw.lines);
        let server = raw.lines.first().cloned().unwrap_or_default();
        let reply = Reply { code: raw.code, enhanced: None, text: server.clone() };
        self.note(Verb::Ehlo, &reply);
        expect_positive(Verb::Ehlo, reply)?;
        Ok(server)
    }

    /// Sends one command and reads its reply, both within `limit` and both in the transcript.
    pub(super) async fn exchange(
        &mut self,
        verb: Verb,
        line: &str,
        limit: Duration,
    ) -> Result<Reply, SmtpError> {
        self.write(verb, format!("{line}\r\n").as_bytes(), limit).await?;
        self.answer(verb, limit).await
    }

    /// Reads a reply and puts it into the transcript.
    pub(super) async fn answer(&mut self, verb: Verb, limit: Duration) -> Result<Reply, SmtpError> {
        let reply = self.raw_answer(verb, limit).await?.into_reply();
        self.note(verb, &reply);
        Ok(reply)
    }

    /// Reads a reply that the caller puts into the transcript itself.
    pub(super) async fn raw_answer(&mut self, verb: Verb, limit: Duration) -> Result<RawReply, SmtpError> {
        self.in_flight = true;
        let read = timeout(limit, read_reply(&mut self.io)).await;
        self.in_flight = read.as_ref().map_or(true, Result::is_err);
        self.used = Instant::now();
        match read {
            Ok(Ok(raw)) => Ok(raw),
            Ok(Err(error)) => Err(self.lost(verb, &error)),
            Err(_) => Err(self.too_slow(verb)),
        }
    }

    /// Writes and flushes, within `limit`.
    pub(super) async fn write(&mut self, verb: Verb, bytes: &[u8], limit: Duration) -> Result<(), SmtpError> {
        self.in_flight = true;
        let sent = timeout(limit, async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(verb, &error)),
            Err(_) => Err(self.too_slow(verb)),
        }
    }

    /// Puts a reply into the transcript; 421 also ends the connection.
    pub(super) fn note(&mut self, verb: Verb, reply: &Reply) {
        if reply.is_closing() {
            self.state = State::Unusable;
        }
        self.transcript.reply(verb, reply);
    }

    fn failed(mut self, error: SmtpError) -> ConnectFailed {
        ConnectFailed { error, steps: self.transcript.take() }
    }

    fn lost(&mut self, at: Verb, error: &io::Error) -> SmtpError {
        self.state = State::Unusable;
        if error.kind() == io::ErrorKind::InvalidData {
            self.transcript.note(at, "the server's answer is not SMTP");
            return SmtpError::Protocol { at };
        }
        let reason = error.to_string();
        self.transcript.note(at, format!("the connection ended: {reason}"));
        SmtpError::Closed { at, reason }
    }

    fn too_slow(&mut self, at: Verb) -> SmtpError {
        self.state = State::Unusable;
        self.transcript.note(at, "no answer in time");
        SmtpError::Timeout { at }
    }
}

/// A negative reply as an error.
fn expect_positive(at: Verb, reply: Reply) -> Result<(), SmtpError> {
    if reply.is_positive() { Ok(()) } else { Err(SmtpError::Refused { at, reply }) }
}

fn is_helo_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    !name.is_empty() && name.len() <= 255 && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ehlo_answer_is_read_whatever_its_case() {
        let lines = ["mx.example", "size 1000", "STARTTLS", "8BITMIME", "AUTH=LOGIN", "AUTH plain XOAUTH2"];
        let found = Extensions::parse(&lines.map(str::to_owned));
        assert_eq!(found.size_limit, Some(1000));
        assert!(found.starttls && found.eight_bit_mime && !found.smtputf8 && !found.pipelining);
        assert_eq!(found.auth, vec!["LOGIN", "PLAIN", "XOAUTH2"]);
        let unlimited = Extensions::parse(&["x", "SIZE 0"].map(str::to_owned));
        assert!(unlimited.size && unlimited.size_limit.is_none());
    }
}
