//! From the stored settings to a connection: address, login, name and deadlines.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;

use super::entity::{OutgoingAuth, OutgoingSecurity, outgoing_server};
use crate::{
    app::App,
    mail::{
        smtp::{Auth, Timeouts},
        tls::{Deadlines, Endpoint, Security, Trust},
    },
};

/// What the stored password is sealed for.
pub const PASSWORD: &str = "outgoing_server:password";

/// The certificate authorities that the outgoing server is believed by, read once.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Arc<OnceLock<Trust>>);

impl Authorities {
    fn get(&self, extra_ca_file: &Path) -> anyhow::Result<Trust> {
        if let Some(trust) = self.0.get() {
            return Ok(trust.clone());
        }
        let extra = if extra_ca_file.as_os_str().is_empty() {
            None
        } else {
            Some(std::fs::read_to_string(extra_ca_file).context("mail.extra_ca_file")?)
        };
        let trust = Trust::new(extra.as_deref()).context("mail.extra_ca_file")?;
        Ok(self.0.get_or_init(|| trust).clone())
    }
}

/// Everything that a connection needs.
#[derive(Debug)]
pub struct Relay {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// How we log in.
    pub auth: Auth,
    /// The name in EHLO.
    pub helo_name: String,
    /// The longest waits.
    pub timeouts: Timeouts,
}

impl Relay {
    /// Reads the settings and opens the sealed password.
    ///
    /// # Errors
    /// When the password was sealed under another key, or the extra certificate authorities cannot be read.
    pub fn of(app: &App, row: &outgoing_server::Model) -> anyhow::Result<Self> {
        let auth = match (row.auth, &row.password_sealed) {
            (OutgoingAuth::Password, Some(sealed)) => {
                let pass = app.sealer.open_text(PASSWORD, sealed).context("the stored password")?;
                Auth::Password { user: row.username.clone(), pass: pass.to_string() }
            }
            _ => Auth::None,
        };
        let endpoint = Endpoint {
            host: row.host.clone(),
            port: u16::try_from(row.port).unwrap_or_default(),
            security: match row.security {
                OutgoingSecurity::Tls => Security::Tls,
                OutgoingSecurity::Starttls => Security::Starttls,
                OutgoingSecurity::None => Security::None,
            },
            allow_plaintext: row.allow_plaintext || app.config.mail.allow_plaintext,
            trust: app.authorities.get(&app.config.mail.extra_ca_file)?,
        };
        Ok(Self { endpoint, auth, helo_name: helo_name(&row.helo_name), timeouts: timeouts(app) })
    }
}

/// The configured name, or this machine's own.
fn helo_name(configured: &str) -> String {
    if configured.is_empty() {
        lettre::transport::smtp::extension::ClientId::default().to_string()
    } else {
        configured.to_owned()
    }
}

/// RFC 5321 §4.5.3.2 asks for minutes; the settings may ask for less.
fn timeouts(app: &App) -> Timeouts {
    let settings = &app.config.mail;
    let answer = Duration::from_secs(settings.smtp_answer_timeout_s);
    let connect = Duration::from_secs(settings.connect_timeout_s);
    Timeouts {
        net: Deadlines { resolve: connect, connect, handshake: connect },
        greeting: answer,
        command: answer,
        mail: answer,
        rcpt: answer,
        data: answer,
        block: answer,
        dot: Duration::from_secs(settings.smtp_dot_timeout_s),
    }
}
