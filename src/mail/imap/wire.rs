//! Commands and their responses on one connection: tags, deadlines, and what may go wrong in between.

use std::collections::HashSet;
use std::io;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_imap::Client;
use async_imap::imap_proto::{Capability, MailboxDatum, Outcome, Response, ResponseCode, Status};
use futures::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::ImapError;
use super::guard::{Budget, Guard, GuardError};
use crate::mail::tls::Stream;

/// A command and what it is allowed.
#[derive(Clone, Copy)]
pub(super) struct Command<'a> {
    /// The word for it in errors.
    pub name: &'static str,
    /// The line without tag and CRLF.
    pub line: &'a str,
    /// The answer to the server's first `+`, already in base64; an empty line answers any other.
    pub answer: Option<&'a str>,
    /// The deadline of the whole command.
    pub limit: Duration,
    /// What it may bring.
    pub budget: Budget,
}

impl<'a> Command<'a> {
    pub fn new(name: &'static str, line: &'a str, limit: Duration) -> Self {
        Self { name, line, answer: None, limit, budget: Budget::SMALL }
    }
}

/// The tagged end of a command.
#[derive(Debug)]
pub(super) struct Done {
    /// Whether the status is OK.
    pub ok: bool,
    /// Whether the status is BAD: the server did not understand.
    pub bad: bool,
    /// The server's words, response code included where the parser does not know it.
    pub text: String,
    /// The capabilities that came with it.
    pub capabilities: Option<HashSet<String>>,
    /// `TRYCREATE`: the folder named in the command does not exist.
    pub try_create: bool,
}

enum Event {
    Done(Done),
    Continue,
    Data,
}

impl Done {
    pub fn new(status: &Status, outcome: &Outcome<'_>) -> Self {
        Self {
            ok: matches!(status, Status::Ok),
            bad: matches!(status, Status::Bad),
            text: words(outcome.information.as_deref()),
            capabilities: capabilities(outcome.code.as_ref()),
            try_create: matches!(outcome.code, Some(ResponseCode::TryCreate)),
        }
    }

    /// NO and BAD as an error.
    pub fn ok(self, during: &'static str) -> Result<Self, ImapError> {
        if self.ok { Ok(self) } else { Err(ImapError::Refused { during, reason: self.text }) }
    }
}

pub(super) struct Wire {
    client: Client<Guard>,
    tags: u32,
    stall: Duration,
    bye: Option<String>,
    /// Set while a command is under way, so that one abandoned half-way is noticed.
    unsettled: bool,
    /// The number of messages that the server reported last, and whether it grew since anyone looked.
    pub exists: u32,
    pub grew: bool,
}

impl Wire {
    pub fn new(stream: Stream, stall: Duration) -> Self {
        let client = Client::new(Guard::new(stream, stall));
        Self { client, tags: 0, stall, bye: None, unsettled: false, exists: 0, grew: false }
    }

    /// The socket, for STARTTLS; what was read ahead in clear is dropped (RFC 3501 §6.2.1).
    pub fn into_stream(self) -> Stream {
        self.client.into_inner().into_stream()
    }

    pub fn is_broken(&self) -> bool {
        self.unsettled || self.bye.is_some()
    }

    /// Reads the server's greeting and gives the capabilities that it lists.
    pub async fn greeting(&mut self, limit: Duration) -> Result<Option<HashSet<String>>, ImapError> {
        const DURING: &str = "the greeting";
        self.unsettled = true;
        let read = self.next(DURING, |response| match response {
            Response::Data { status: Status::Ok | Status::PreAuth, outcome } => {
                Some(capabilities(outcome.code.as_ref()))
            }
            _ => None,
        });
        let greeting = timeout(limit, read).await.unwrap_or(Err(ImapError::Timeout { during: DURING }))?;
        self.unsettled = false;
        let reason = "it is no greeting".to_owned();
        greeting.ok_or(ImapError::Protocol { during: DURING, reason })
    }

    /// Runs one command to its tagged end, handing every untagged response to `on`.
    pub async fn run(
        &mut self,
        command: Command<'_>,
        on: impl FnMut(&Response<'_>),
    ) -> Result<Done, ImapError> {
        let during = command.name;
        timeout(command.limit, self.converse(command, on)).await.unwrap_or(Err(ImapError::Timeout { during }))
    }

    async fn converse(
        &mut self,
        command: Command<'_>,
        mut on: impl FnMut(&Response<'_>),
    ) -> Result<Done, ImapError> {
        let during = command.name;
        let tag = self.send(during, command.line, command.budget).await?;
        let mut answer = command.answer;
        loop {
            let event = self.next(during, |response| match response {
                Response::Done { tag: theirs, status, outcome } if theirs.0 == tag => {
                    Event::Done(Done::new(status, outcome))
                }
                Response::Continue(_) => Event::Continue,
                other => {
                    on(other);
                    Event::Data
                }
            });
            match event.await? {
                Event::Done(done) => {
                    self.unsettled = false;
                    return Ok(done);
                }
                Event::Continue => self.write(during, answer.take().unwrap_or_default()).await?,
                Event::Data => {}
            }
        }
    }

    /// Sends a tagged line and gives its tag. The connection counts as broken until it is settled.
    pub async fn send(
        &mut self,
        during: &'static str,
        line: &str,
        budget: Budget,
    ) -> Result<String, ImapError> {
        if self.is_broken() {
            let reason = self.bye.clone().unwrap_or_else(|| "an earlier command was given up".to_owned());
            return Err(ImapError::Closed { during, reason });
        }
        self.unsettled = true;
        self.client.get_mut().allow(budget);
        self.tags = self.tags.wrapping_add(1);
        let tag = format!("P{}", self.tags);
        self.write(during, &format!("{tag} {line}")).await?;
        Ok(tag)
    }

    /// Sends a line as it is. Written here and not through async-imap, which would put it in the trace log.
    pub async fn write(&mut self, during: &'static str, line: &str) -> Result<(), ImapError> {
        let guard = self.client.get_mut();
        let sent = async {
            guard.write_all(format!("{line}\r\n").as_bytes()).await?;
            guard.flush().await
        };
        sent.await.map_err(|error| from_io(during, &error))
    }

    /// Shows `see` the next response, keeping count of what it says about the folder.
    /// Safe to give up and call again.
    pub async fn next<R>(
        &mut self,
        during: &'static str,
        see: impl FnOnce(&Response<'_>) -> R,
    ) -> Result<R, ImapError> {
        // The parser may panic on a response made to make it so.
        let read = AssertUnwindSafe(self.client.read_response()).catch_unwind().await;
        let data = match read {
            Err(_) => {
                let reason = "the response cannot be parsed".to_owned();
                return Err(ImapError::Protocol { during, reason });
            }
            Ok(Err(error)) => return Err(self.failed(during, &error)),
            Ok(Ok(None)) => return Err(self.closed(during, "the connection ended".to_owned())),
            Ok(Ok(Some(data))) => data,
        };
        match data.parsed() {
            Response::MailboxData(MailboxDatum::Exists(count)) => {
                self.grew |= *count > self.exists;
                self.exists = *count;
            }
            Response::Expunge(_) => self.exists = self.exists.saturating_sub(1),
            Response::Data { status: Status::Bye, outcome } => {
                self.bye = Some(words(outcome.information.as_deref()));
                if during != super::session::LOGOUT {
                    return Err(self.closed(during, String::new()));
                }
            }
            _ => {}
        }
        Ok(see(data.parsed()))
    }

    /// Marks a command that was run by [`send`](Self::send) and [`next`](Self::next) as ended.
    pub fn settle(&mut self) {
        self.unsettled = false;
    }

    /// Lets reads wait for as long as the caller does, or puts the deadline back.
    pub fn wait_without_limit(&mut self, without: bool) {
        let stall = (!without).then_some(self.stall);
        self.client.get_mut().set_stall(stall);
    }

    /// Begins a new allowance in the middle of a command that has no end of its own.
    pub fn allow(&mut self, budget: Budget) {
        self.client.get_mut().allow(budget);
    }

    fn failed(&self, during: &'static str, error: &io::Error) -> ImapError {
        match from_io(during, error) {
            ImapError::Closed { reason, .. } => self.closed(during, reason),
            other => other,
        }
    }

    fn closed(&self, during: &'static str, reason: String) -> ImapError {
        ImapError::Closed { during, reason: self.bye.clone().unwrap_or(reason) }
    }
}

fn from_io(during: &'static str, error: &io::Error) -> ImapError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<GuardError>()) {
        Some(GuardError::Stalled(_)) => return ImapError::Timeout { during },
        Some(guard @ GuardError::Line) => {
            return ImapError::Protocol { during, reason: guard.to_string() };
        }
        Some(guard) => return ImapError::TooLarge { during, reason: guard.to_string() },
        None => {}
    }
    match error.kind() {
        // The parser's errors quote what was parsed, which may be a customer's mail: not repeated here.
        io::ErrorKind::Other => {
            ImapError::Protocol { during, reason: "the response cannot be parsed".to_owned() }
        }
        io::ErrorKind::UnexpectedEof => ImapError::Closed {
            during,
            reason: "the connection ended in the middle of a response".to_owned(),
        },
        _ => ImapError::Closed { during, reason: error.to_string() },
    }
}

/// The names in a list of capabilities, in upper case, `AUTH=` included.
pub(super) fn capability_names(list: &[Capability<'_>]) -> HashSet<String> {
    list.iter()
        .map(|capability| match capability {
            Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
            Capability::Auth(mechanism) => format!("AUTH={}", mechanism.to_ascii_uppercase()),
            Capability::Atom(name) => name.to_ascii_uppercase(),
        })
        .collect()
}

fn capabilities(code: Option<&ResponseCode<'_>>) -> Option<HashSet<String>> {
    match code {
        Some(ResponseCode::Capabilities(list)) => Some(capability_names(list)),
        _ => None,
    }
}

fn words(text: Option<&str>) -> String {
    let text = text.unwrap_or("no reason given");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
