//! The rules of an account's settings that the schema cannot say.

use std::net::IpAddr;

use super::{
    entity::{AccountState, Channel, account},
    settings::{AccountCreate, AfterFetchAction, InboundAuth, InboundSecurity, OauthGrant, Protocol},
};
use crate::{
    http::{Problem, problem::FieldError},
    mail::address::Address,
};

/// The longest settings for scripts, in bytes of JSON.
const SCRIPT_SETTINGS_MAX: usize = 32 * 1024;

/// Which secrets are stored once the change is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// The password.
    pub password: bool,
    /// The refresh token.
    pub refresh_token: bool,
}

#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, pointer: &str, code: &str, detail: impl Into<String>) {
        self.0.push(FieldError::new(pointer, code, detail));
    }

    fn end(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::validation(self.0)) }
    }
}

/// Holds settings against the rules that always hold; the address comes back in the form that is stored.
///
/// # Errors
/// `validation_failed` with every broken rule.
pub fn check(wanted: &mut AccountCreate, plaintext_allowed: bool) -> Result<(), Problem> {
    let mut errors = Errors::default();
    match Address::parse(&wanted.address) {
        Ok(address) => wanted.address = address.to_string(),
        Err(error) => errors.add("/address", "address", error.to_string()),
    }
    let size = serde_json::to_vec(&wanted.script_settings).map_or(0, |json| json.len());
    if size > SCRIPT_SETTINGS_MAX {
        errors.add(
            "/script_settings",
            "too_long",
            format!("{size} bytes are more than {SCRIPT_SETTINGS_MAX}"),
        );
    }
    let inbound = &wanted.inbound;
    let in_clear = inbound.protocol == Protocol::Imap && inbound.security == InboundSecurity::None;
    if in_clear && !inbound.allow_plaintext && !plaintext_allowed && !is_local(&inbound.host) {
        let detail = "the connection to another machine would not be encrypted";
        errors.add("/inbound/allow_plaintext", "plaintext_refused", detail);
    }
    if inbound.after_fetch.action == AfterFetchAction::Move {
        match inbound.after_fetch.folder.as_str() {
            "" => errors.add("/inbound/after_fetch/folder", "required", "say where messages are moved to"),
            folder if folder.eq_ignore_ascii_case(&inbound.folder) => {
                errors.add("/inbound/after_fetch/folder", "invalid", "it is the folder that is read");
            }
            _ => {}
        }
    }
    // Not required by the schema, so that a patch may name one member alone.
    if let Some(oauth) = &wanted.oauth {
        if oauth.token_url.is_empty() {
            errors.add("/oauth/token_url", "required", "say where access tokens come from");
        }
        if oauth.client_id.is_empty() {
            errors.add("/oauth/client_id", "required", "say who asks for access tokens");
        }
    }
    match (wanted.channel, &wanted.sms) {
        (Channel::Email, Some(_)) => errors.add("/sms", "not_allowed", "only an SMS account has a gateway"),
        (Channel::Sms, None) => errors.add("/sms", "required", "an SMS account needs a gateway"),
        (Channel::Sms, Some(sms)) => errors.0.extend(sms.wrong()),
        (Channel::Email, None) => {}
    }
    errors.end()
}

/// Holds settings against what an account in use needs.
///
/// # Errors
/// `validation_failed` with everything that is missing.
pub fn check_complete(wanted: &AccountCreate, stored: Stored) -> Result<(), Problem> {
    let mut errors = Errors::default();
    let mut missing = |is: bool, pointer: &str, what: &str| {
        if is {
            errors.add(pointer, "required", format!("an account in use needs {what}"));
        }
    };
    missing(wanted.fallback_queue_id.is_none(), "/fallback_queue_id", "a queue for what no script places");
    let inbound = &wanted.inbound;
    if inbound.protocol == Protocol::Imap {
        missing(inbound.host.is_empty(), "/inbound/host", "the mail server's name");
        missing(wanted.username.is_empty(), "/username", "the mailbox's login name");
        match inbound.auth {
            InboundAuth::Password => missing(!stored.password, "/password", "the mailbox's password"),
            InboundAuth::Xoauth2 => {
                missing(wanted.oauth.is_none(), "/oauth", "to know where access tokens come from");
                let by_token = wanted.oauth.as_ref().is_some_and(|o| o.grant == OauthGrant::RefreshToken);
                missing(by_token && !stored.refresh_token, "/oauth/refresh_token", "a refresh token");
            }
        }
    }
    errors.end()
}

/// What may no longer change once an account has been in use.
///
/// # Errors
/// `validation_failed`.
pub fn check_unchanged(row: &account::Model, wanted: &AccountCreate) -> Result<(), Problem> {
    if row.state != AccountState::Draft && row.channel != wanted.channel {
        return Err(Problem::invalid(
            "/channel",
            "immutable",
            "the channel is fixed once an account is in use",
        ));
    }
    Ok(())
}

/// Whether a host name can only mean this machine. The addresses it really has are looked at before connecting.
fn is_local(host: &str) -> bool {
    host.is_empty()
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
