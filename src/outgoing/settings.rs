//! What an administrator sets and sees of the outgoing server, and the rules that the schema cannot say.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::entity::{OutgoingAuth, OutgoingSecurity, OutgoingState, Transport, outgoing_server};
use crate::{
    clock::Timestamp,
    http::{
        Problem,
        caller::{Caller, Role},
        problem::FieldError,
    },
};

/// When a message that the server refuses for now is tried again, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// The pause after the first try, in seconds; each further one is twice as long.
    #[serde(default = "first_s")]
    #[schema(minimum = 1, maximum = 86400, default = 60)]
    pub first_s: i64,
    /// The longest pause, in seconds.
    #[serde(default = "max_interval_s")]
    #[schema(minimum = 1, maximum = 86400, default = 3600)]
    pub max_interval_s: i64,
    /// How long a message is tried before it expires, in seconds.
    #[serde(default = "give_up_after_s")]
    #[schema(minimum = 60, maximum = 2592000, default = 432000)]
    pub give_up_after_s: i64,
}

const fn first_s() -> i64 {
    60
}

const fn max_interval_s() -> i64 {
    3600
}

const fn give_up_after_s() -> i64 {
    5 * 86_400
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first_s: first_s(), max_interval_s: max_interval_s(), give_up_after_s: give_up_after_s() }
    }
}

/// The outgoing server as it shall be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "transport": "smtp", "host": "smtp.example.com", "port": 587, "security": "starttls",
    "auth": "password", "username": "postroom", "password": "s3cret" })))]
pub struct OutgoingServerSettings {
    /// How mail leaves.
    pub transport: Transport,
    /// The server's name or address; needed for `smtp`.
    #[serde(default)]
    #[schema(max_length = 253, pattern = r"^[A-Za-z0-9.:_-]*$", default = "", examples("smtp.example.com"))]
    pub host: String,
    /// Its port.
    #[serde(default = "submission")]
    #[schema(minimum = 1, maximum = 65535, default = 587)]
    pub port: i32,
    /// How the connection is protected.
    #[serde(default = "starttls")]
    #[schema(default = "starttls")]
    pub security: OutgoingSecurity,
    /// How we log in.
    #[serde(default = "no_login")]
    #[schema(default = "none")]
    pub auth: OutgoingAuth,
    /// The login name; needed for the login.
    #[serde(default)]
    #[schema(max_length = 320, pattern = r"^[^\x00-\x1f\x7f]*$", default = "", examples("postroom"))]
    pub username: String,
    /// The password: left out it stays as it is, `null` removes it. It is never shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 1000, write_only)]
    pub password: Option<Option<String>>,
    /// Let mail and password cross the network unprotected when `security` is `none`.
    #[serde(default)]
    #[schema(default = false)]
    pub allow_plaintext: bool,
    /// The name that we give in EHLO; empty for this machine's own.
    #[serde(default)]
    #[schema(max_length = 253, pattern = r"^[A-Za-z0-9.:\[\]-]*$", default = "")]
    pub helo_name: String,
    /// How many connections at a time.
    #[serde(default = "connections")]
    #[schema(minimum = 1, maximum = 50, default = 5)]
    pub max_connections: i32,
    /// How many messages one connection carries.
    #[serde(default = "per_connection")]
    #[schema(minimum = 1, maximum = 10000, default = 100)]
    pub max_messages_per_connection: i32,
    /// How many messages a minute, over all replicas; none: as many as the server takes.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 60000)]
    pub rate_per_minute: Option<i32>,
    /// When a refused message is tried again.
    #[serde(default)]
    pub retry: RetryPolicy,
}

const fn submission() -> i32 {
    587
}

const fn starttls() -> OutgoingSecurity {
    OutgoingSecurity::Starttls
}

const fn no_login() -> OutgoingAuth {
    OutgoingAuth::None
}

const fn connections() -> i32 {
    5
}

const fn per_connection() -> i32 {
    100
}

/// Tells a member that is `null` from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl OutgoingServerSettings {
    /// The rules between members; `has_password` says whether one is stored already.
    ///
    /// # Errors
    /// `validation_failed` with every broken rule.
    pub fn check(&self, has_password: bool, plaintext_allowed: bool) -> Result<(), Problem> {
        let will_have_password = match &self.password {
            None => has_password,
            Some(given) => given.is_some(),
        };
        let smtp = self.transport == Transport::Smtp;
        let logs_in = smtp && self.auth == OutgoingAuth::Password;
        let in_clear = smtp && self.security == OutgoingSecurity::None && !is_loopback(&self.host);
        let retry = self.retry;
        let rules = [
            (smtp && self.host.is_empty(), "/host", "required", "an SMTP server has a host"),
            (logs_in && self.username.is_empty(), "/username", "required", "a login needs a user name"),
            (logs_in && !will_have_password, "/password", "required", "a login needs a password"),
            (
                in_clear && !self.host.is_empty() && !self.allow_plaintext && !plaintext_allowed,
                "/security",
                "plaintext_refused",
                "the host is another machine: choose tls or starttls, or set allow_plaintext",
            ),
            (
                retry.max_interval_s < retry.first_s,
                "/retry/max_interval_s",
                "too_small",
                "the longest pause is shorter than the first",
            ),
            (
                retry.give_up_after_s < retry.first_s,
                "/retry/give_up_after_s",
                "too_small",
                "a message would expire before its second try",
            ),
        ];
        let errors: Vec<FieldError> = rules
            .into_iter()
            .filter(|(broken, ..)| *broken)
            .map(|(_, pointer, code, detail)| FieldError {
                pointer: pointer.into(),
                code: code.into(),
                detail: detail.into(),
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What the caller may do with the outgoing server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutgoingServerAction {
    /// Try everything that sending needs.
    Check,
    /// Send one mail and see each step.
    SendTest,
    /// Stop sending.
    Pause,
    /// Send again, at once.
    Resume,
}

/// The one SMTP server that all accounts share.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutgoingServer {
    /// How mail leaves.
    pub transport: Transport,
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// How the connection is protected.
    pub security: OutgoingSecurity,
    /// How we log in.
    pub auth: OutgoingAuth,
    /// The login name.
    pub username: String,
    /// Whether a password is stored.
    pub has_password: bool,
    /// Whether an unprotected connection to another machine is allowed.
    pub allow_plaintext: bool,
    /// The name that we give in EHLO; empty for this machine's own.
    pub helo_name: String,
    /// How many connections at a time.
    pub max_connections: i32,
    /// How many messages one connection carries.
    pub max_messages_per_connection: i32,
    /// How many messages a minute.
    pub rate_per_minute: Option<i32>,
    /// When a refused message is tried again.
    pub retry: RetryPolicy,
    /// Whether mail is sent.
    pub state: OutgoingState,
    /// Why not, in plain words.
    pub state_reason: Option<String>,
    /// When a failing server is asked again.
    pub retry_at: Option<Timestamp>,
    /// What the caller may do now.
    pub allowed_actions: Vec<OutgoingServerAction>,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
}

impl OutgoingServer {
    /// The server as `caller` sees it.
    pub fn of(row: outgoing_server::Model, caller: &Caller) -> Self {
        Self {
            retry: row.retry_policy(),
            allowed_actions: allowed(row.state, caller),
            transport: row.transport,
            host: row.host,
            port: row.port,
            security: row.security,
            auth: row.auth,
            username: row.username,
            has_password: row.password_sealed.is_some(),
            allow_plaintext: row.allow_plaintext,
            helo_name: row.helo_name,
            max_connections: row.max_connections,
            max_messages_per_connection: row.max_messages_per_connection,
            rate_per_minute: row.rate_per_minute,
            state: row.state,
            state_reason: row.state_reason,
            retry_at: row.retry_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn allowed(state: OutgoingState, caller: &Caller) -> Vec<OutgoingServerAction> {
    use OutgoingServerAction::{Check, Pause, Resume, SendTest};
    let may_write = caller.role == Role::Admin || caller.scopes.iter().any(|scope| scope == "outgoing:write");
    if !may_write {
        return Vec::new();
    }
    match state {
        OutgoingState::Running => vec![Check, SendTest, Pause],
        OutgoingState::Paused => vec![Check, SendTest, Resume],
        OutgoingState::Failing => vec![Check, SendTest, Pause, Resume],
    }
}

impl outgoing_server::Model {
    /// When a refused message is tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        serde_json::from_value(self.retry.clone()).unwrap_or_default()
    }
}
