//! A logged-in connection: reaching the server, logging in, opening a folder, NOOP and LOGOUT.

use std::collections::HashSet;
use std::time::Duration;

use async_imap::imap_proto::{Response, ResponseCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::names::{folder_argument, quoted};
use super::wire::{Command, Done, Wire, capability_names};
use super::{Credentials, ImapError, Timeouts};
use crate::mail::check::{CheckLog, CheckName};
use crate::mail::oauth::xoauth2;
use crate::mail::tls::{self, Endpoint, Security};

pub(super) const LOGOUT: &str = "LOGOUT";

/// Whether a folder is opened so that flags can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `SELECT`: for accounts that mark, move or delete what was taken in.
    ReadWrite,
    /// `EXAMINE`: nothing in the mailbox changes, not even `\Recent`.
    ReadOnly,
}

/// An open folder, as the server described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// UIDs mean the same messages for as long as this number stays (RFC 3501 §2.3.1.1).
    pub uid_validity: u32,
}

/// One logged-in IMAP connection.
pub struct Session {
    pub(super) wire: Wire,
    pub(super) timeouts: Timeouts,
    capabilities: HashSet<String>,
}

impl Session {
    /// Reaches the server and logs in.
    ///
    /// # Errors
    /// Whichever stage failed: resolve, connect, TLS, greeting, login.
    pub async fn connect(
        endpoint: &Endpoint,
        credentials: &Credentials,
        timeouts: Timeouts,
    ) -> Result<Self, ImapError> {
        Self::connect_logged(endpoint, credentials, timeouts, &mut CheckLog::default()).await
    }

    pub(super) async fn connect_logged(
        endpoint: &Endpoint,
        credentials: &Credentials,
        timeouts: Timeouts,
        log: &mut CheckLog,
    ) -> Result<Self, ImapError> {
        let stream = tls::connect(endpoint, &timeouts.net, log).await?;
        let wire = Wire::new(stream, timeouts.stall);
        let (mut wire, greeted) = match endpoint.security {
            Security::Starttls => {
                let secured = log
                    .step(CheckName::Tls, starttls(wire, endpoint, &timeouts), |secured| secured.1.clone());
                (secured.await?.0, None)
            }
            Security::Tls | Security::None => (wire, Some(())),
        };
        let login = async {
            let offered = if greeted.is_some() { wire.greeting(timeouts.command).await? } else { None };
            login(&mut wire, credentials, offered, timeouts.command).await
        };
        let capabilities = log.step(CheckName::Login, login, |_| "logged in".to_owned()).await?;
        Ok(Self { wire, timeouts, capabilities })
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// [`ImapError::FolderMissing`] when the server says NO, unless it says that this will pass.
    pub async fn select(&mut self, folder: &str, access: Access) -> Result<Selected, ImapError> {
        let verb = if access == Access::ReadWrite { "SELECT" } else { "EXAMINE" };
        let line = format!("{verb} {}", folder_argument(folder)?);
        let mut uid_validity = None;
        self.wire.exists = 0;
        let command = Command::new(verb, &line, self.timeouts.command);
        let done = self.wire.run(command, |response| {
            if let Response::Data { outcome, .. } = response
                && let Some(ResponseCode::UidValidity(value)) = outcome.code
            {
                uid_validity = Some(value);
            }
        });
        let done = done.await?;
        if !done.ok && !is_passing(&done) {
            return Err(ImapError::FolderMissing { folder: folder.to_owned(), reason: done.text });
        }
        done.ok(verb)?;
        self.wire.grew = false;
        let missing = || ImapError::Protocol {
            during: verb,
            reason: "the folder has no UIDVALIDITY, so its messages cannot be told apart".to_owned(),
        };
        Ok(Selected { uid_validity: uid_validity.ok_or_else(missing)? })
    }

    /// Asks for news; true when messages arrived since the last look. One command, no new login.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn noop(&mut self) -> Result<bool, ImapError> {
        self.simple("NOOP").await?;
        Ok(self.wire.grew)
    }

    /// Counts the messages of the open folder, by a fresh look.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn count(&mut self) -> Result<u32, ImapError> {
        self.simple("NOOP").await?;
        Ok(self.wire.exists)
    }

    /// Says goodbye; the connection is over either way.
    ///
    /// # Errors
    /// When the server did not answer properly, which may be ignored.
    pub async fn logout(mut self) -> Result<(), ImapError> {
        // Nobody should wait long for a goodbye.
        self.timeouts.command = self.timeouts.command.min(Duration::from_secs(5));
        self.simple(LOGOUT).await
    }

    /// Whether the server offers a capability, such as `MOVE`.
    #[must_use]
    pub fn offers(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether the server can report new mail by itself (RFC 2177).
    #[must_use]
    pub fn supports_idle(&self) -> bool {
        self.offers("IDLE")
    }

    /// Whether an error or a command given up half-way has made this connection useless.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.wire.is_broken()
    }

    async fn simple(&mut self, verb: &'static str) -> Result<(), ImapError> {
        let command = Command::new(verb, verb, self.timeouts.command);
        self.wire.run(command, |_| {}).await?.ok(verb).map(drop)
    }
}

async fn starttls(
    mut wire: Wire,
    endpoint: &Endpoint,
    timeouts: &Timeouts,
) -> Result<(Wire, String), ImapError> {
    let offered = match wire.greeting(timeouts.command).await? {
        Some(offered) => offered,
        None => ask_capabilities(&mut wire, timeouts.command).await?,
    };
    if !offered.contains("STARTTLS") {
        return Err(ImapError::StarttlsNotOffered);
    }
    let command = Command::new("STARTTLS", "STARTTLS", timeouts.command);
    wire.run(command, |_| {}).await?.ok("STARTTLS")?;
    let stream = tls::secure(endpoint, wire.into_stream(), &timeouts.net).await?;
    let words = tls::describe_tls(&stream);
    Ok((Wire::new(stream, timeouts.stall), words))
}

async fn ask_capabilities(wire: &mut Wire, limit: Duration) -> Result<HashSet<String>, ImapError> {
    const DURING: &str = "CAPABILITY";
    let mut found = HashSet::new();
    let done = wire.run(Command::new(DURING, DURING, limit), |response| {
        if let Response::Capabilities(list) = response {
            found = capability_names(list);
        }
    });
    done.await?.ok(DURING)?;
    Ok(found)
}

/// Logs in and gives the capabilities that hold afterwards.
async fn login(
    wire: &mut Wire,
    credentials: &Credentials,
    offered: Option<HashSet<String>>,
    limit: Duration,
) -> Result<HashSet<String>, ImapError> {
    let offered = match offered {
        Some(offered) => offered,
        None => ask_capabilities(wire, limit).await?,
    };
    let done = authenticate(wire, credentials, &offered, limit).await?;
    if !done.ok {
        return Err(refused(done));
    }
    match done.capabilities {
        Some(capabilities) => Ok(capabilities),
        None => ask_capabilities(wire, limit).await,
    }
}

async fn authenticate(
    wire: &mut Wire,
    credentials: &Credentials,
    offered: &HashSet<String>,
    limit: Duration,
) -> Result<Done, ImapError> {
    let (mechanism, response) = match credentials {
        Credentials::Login { user, pass } => {
            if let (Some(user), Some(pass), false) =
                (quoted(user), quoted(pass), offered.contains("LOGINDISABLED"))
            {
                let line = format!("LOGIN {user} {pass}");
                return wire.run(Command::new("LOGIN", &line, limit), |_| {}).await;
            }
            if user.contains('\0') || pass.contains('\0') {
                return Err(ImapError::BadInput { what: "user name or password" });
            }
            ("PLAIN", format!("\0{user}\0{pass}"))
        }
        Credentials::XOauth2 { user, token } => ("XOAUTH2", xoauth2(user, token)),
    };
    if !offered.contains(&format!("AUTH={mechanism}")) {
        let reason = format!("it does not offer {mechanism}, which these credentials need");
        return Err(ImapError::AuthRejected { reason });
    }
    let response = STANDARD.encode(response);
    // With SASL-IR (RFC 4959) the response goes along and saves a round trip.
    let at_once = offered.contains("SASL-IR");
    let line = if at_once {
        format!("AUTHENTICATE {mechanism} {response}")
    } else {
        format!("AUTHENTICATE {mechanism}")
    };
    let answer = (!at_once).then_some(response.as_str());
    let command = Command { answer, ..Command::new("AUTHENTICATE", &line, limit) };
    wire.run(command, |_| {}).await
}

fn refused(done: Done) -> ImapError {
    if is_passing(&done) {
        ImapError::AuthUnavailable { reason: done.text }
    } else {
        ImapError::AuthRejected { reason: done.text }
    }
}

/// Whether a refusal is the server's trouble and not the account's (RFC 5530), so that time may cure it.
fn is_passing(done: &Done) -> bool {
    let passing = ["[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]"];
    let text = done.text.to_ascii_uppercase();
    done.bad || passing.iter().any(|code| text.contains(code))
}
