//! What an administrator sets and sees of an account.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    entity::{AccountState, Channel, account},
    health::Health,
    mailbox::Secrets,
    sms::SmsSettings,
    state::{AccountAction, allowed_actions},
};
use crate::{
    clock::Timestamp,
    http::{Caller, Problem},
    id::{AccountId, ClassId, QueueId, ScriptId, TemplateId},
};

/// How mail comes in.
///
/// - `imap`: we read a mailbox.
/// - `push`: somebody hands the messages to the API (`push_message`).
/// - `none`: it does not; the account only sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// We read a mailbox.
    Imap,
    /// Somebody hands the messages to the API.
    Push,
    /// It does not: the account only sends.
    #[default]
    None,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InboundSecurity {
    /// TLS from the first byte (RFC 8314 §3).
    #[default]
    Tls,
    /// TLS after STARTTLS.
    Starttls,
    /// Not at all.
    None,
}

/// How we log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InboundAuth {
    /// With user name and password.
    #[default]
    Password,
    /// With user name and an OAuth 2.0 access token.
    Xoauth2,
}

/// What is done on the server with a message that was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterFetchAction {
    /// Nothing: the mailbox is only read.
    #[default]
    Leave,
    /// It is marked as read.
    MarkSeen,
    /// It is moved to another folder.
    Move,
    /// It is deleted.
    Delete,
}

/// What is done on the server with messages that were taken in. One that is too large to be fetched stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AfterFetch {
    /// What is done.
    #[serde(default)]
    pub action: AfterFetchAction,
    /// Where messages are moved to; only for `move`.
    #[serde(default)]
    #[schema(max_length = 500, pattern = r"^[^\x00-\x1f\x7f]*$", default = "", examples("Archive"))]
    pub folder: String,
}

/// How mail comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// The way.
    #[serde(default)]
    pub protocol: Protocol,
    /// The server's name or address.
    #[serde(default)]
    #[schema(max_length = 253, pattern = r"^[A-Za-z0-9.:_-]*$", default = "", examples("imap.example.com"))]
    pub host: String,
    /// Its port.
    #[serde(default = "imaps")]
    #[schema(minimum = 1, maximum = 65535, default = 993)]
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub security: InboundSecurity,
    /// How we log in.
    #[serde(default)]
    pub auth: InboundAuth,
    /// The folder that is read.
    #[serde(default = "inbox")]
    #[schema(min_length = 1, max_length = 500, pattern = r"^[^\x00-\x1f\x7f]*$", default = "INBOX")]
    pub folder: String,
    /// How often a server without IDLE is asked, in seconds.
    #[serde(default = "poll_interval_s")]
    #[schema(minimum = 1, maximum = 86400, default = 60)]
    pub poll_interval_s: u32,
    /// What is done on the server with messages that were taken in.
    #[serde(default)]
    pub after_fetch: AfterFetch,
    /// Let mail and password cross the network unprotected when `security` is `none`.
    #[serde(default)]
    #[schema(default = false)]
    pub allow_plaintext: bool,
    /// Send with an address of our own for each mail (`support+prb.…@example.com`) as envelope sender, so that a bounce is
    /// known even when it returns nothing of the mail (VERP). The mailbox must take such plus-addresses, and what is before
    /// the `@` must not be longer than 20 characters.
    #[serde(default)]
    #[schema(default = false)]
    pub tagged_bounces: bool,
    /// Ask for answers at a plus-address that names the conversation; the mailbox must take those.
    #[serde(default)]
    #[schema(default = false)]
    pub tagged_reply_to: bool,
}

const fn imaps() -> u16 {
    993
}

fn inbox() -> String {
    "INBOX".into()
}

const fn poll_interval_s() -> u32 {
    60
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            protocol: Protocol::None,
            host: String::new(),
            port: imaps(),
            security: InboundSecurity::Tls,
            auth: InboundAuth::Password,
            folder: inbox(),
            poll_interval_s: poll_interval_s(),
            after_fetch: AfterFetch::default(),
            allow_plaintext: false,
            tagged_bounces: false,
            tagged_reply_to: false,
        }
    }
}

impl Inbound {
    /// Reads the column; what cannot be read means that nothing comes in.
    pub fn of(column: &Value) -> Self {
        serde_json::from_value(column.clone()).unwrap_or_default()
    }
}

/// How an access token is obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OauthGrant {
    /// The client speaks for itself (RFC 6749 §4.4).
    ClientCredentials,
    /// A refresh token is handed in (RFC 6749 §6).
    #[default]
    RefreshToken,
}

/// Where access tokens for the mailbox come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthSettings {
    /// The token endpoint; https, or http on this machine.
    #[serde(default)]
    #[schema(max_length = 1000, default = "", examples("https://login.example.com/token"))]
    pub token_url: String,
    /// The client's id.
    #[serde(default)]
    #[schema(max_length = 500, default = "")]
    pub client_id: String,
    /// The client's secret: left out it stays as it is, `null` removes it. It is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 4000, write_only)]
    pub client_secret: Option<String>,
    /// The refresh token: left out it stays as it is, `null` removes it. It is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 8000, write_only)]
    pub refresh_token: Option<String>,
    /// Space-separated scopes.
    #[serde(default)]
    #[schema(max_length = 2000, default = "")]
    pub scope: String,
    /// Which grant.
    #[serde(default)]
    pub grant: OauthGrant,
}

/// An account to be made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "address": "help@example.com", "display_name": "Example Help", "username": "help@example.com",
    "password": "s3cret", "inbound": { "protocol": "imap", "host": "imap.example.com", "port": 993, "security": "tls" } })))]
pub struct AccountCreate {
    /// What it carries.
    #[serde(default = "email")]
    pub channel: Channel,
    /// Its address, unique whatever its case.
    #[schema(min_length = 3, max_length = 254, examples("help@example.com"))]
    pub address: String,
    /// The name in `From`.
    #[serde(default)]
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f]*$", default = "", examples("Example Help"))]
    pub display_name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, default = "")]
    pub description: String,
    /// The mailbox's login name.
    #[serde(default)]
    #[schema(max_length = 320, pattern = r"^[^\x00-\x1f\x7f]*$", default = "")]
    pub username: String,
    /// The mailbox's password: left out it stays as it is, `null` removes it. It is never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1000, write_only)]
    pub password: Option<String>,
    /// How mail comes in.
    #[serde(default)]
    pub inbound: Inbound,
    /// Where access tokens for the mailbox come from; for `xoauth2`.
    #[serde(default)]
    pub oauth: Option<OauthSettings>,
    /// Put under answers.
    #[serde(default)]
    #[schema(max_length = 10000, default = "")]
    pub signature_text: String,
    /// Put under answers in HTML.
    #[serde(default)]
    #[schema(max_length = 50000, default = "")]
    pub signature_html: String,
    /// The routing script; none for the default one.
    #[serde(default)]
    pub script_id: Option<ScriptId>,
    /// Where items go when the script says nothing or fails; needed before the account can be active.
    #[serde(default)]
    pub fallback_queue_id: Option<QueueId>,
    /// The class of new items.
    #[serde(default)]
    pub class_id: Option<ClassId>,
    /// Values that scripts read as `account.settings`; up to 32 KiB in all.
    #[serde(default)]
    #[schema(value_type = Object, default = json!({}), examples(json!({ "language": "en" })))]
    pub script_settings: Map<String, Value>,
    /// A published template that answers a message which makes new work, once for each sender in 7 days and never to a
    /// machine; not when the script has sent one, or has thrown the message away.
    #[serde(default)]
    pub receipt_template_id: Option<TemplateId>,
    /// The gateway; needed for, and only for, the channel `sms`.
    #[serde(default)]
    pub sms: Option<SmsSettings>,
}

const fn email() -> Channel {
    Channel::Email
}

/// Where access tokens for the mailbox come from, without secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountOauth {
    /// The token endpoint.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// Space-separated scopes.
    pub scope: String,
    /// Which grant.
    pub grant: OauthGrant,
    /// Whether a client secret is stored.
    pub has_client_secret: bool,
    /// Whether a refresh token is stored.
    pub has_refresh_token: bool,
}

/// A mailbox we receive at and send from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// What it carries.
    pub channel: Channel,
    /// Its address.
    #[schema(examples("help@example.com"))]
    pub address: String,
    /// The name in `From`.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// The mailbox's login name.
    pub username: String,
    /// Whether a password is stored.
    pub has_password: bool,
    /// How mail comes in.
    pub inbound: Inbound,
    /// Where access tokens for the mailbox come from.
    pub oauth: Option<AccountOauth>,
    /// Put under answers.
    pub signature_text: String,
    /// Put under answers in HTML.
    pub signature_html: String,
    /// The routing script; none for the default one.
    pub script_id: Option<ScriptId>,
    /// Where items go when the script says nothing or fails.
    pub fallback_queue_id: Option<QueueId>,
    /// The class of new items.
    pub class_id: Option<ClassId>,
    /// Values that scripts read as `account.settings`.
    #[schema(value_type = Object)]
    pub script_settings: Value,
    /// The receipt answer.
    pub receipt_template_id: Option<TemplateId>,
    /// The gateway of an SMS account.
    pub sms: Option<SmsSettings>,
    /// Where it stands.
    pub state: AccountState,
    /// Why, in plain words.
    pub state_reason: Option<String>,
    /// What the caller can do with it now.
    pub allowed_actions: Vec<AccountAction>,
    /// What the poller saw.
    pub health: Health,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
}

impl Account {
    /// The account as this caller sees it.
    ///
    /// # Errors
    /// `internal_error` when the stored OAuth secrets cannot be opened.
    pub fn of(sealer: &crate::secret::Sealer, row: account::Model, caller: &Caller) -> Result<Self, Problem> {
        let allowed_actions = allowed_actions(&row, caller);
        let secrets = Secrets::open(sealer, &row).map_err(Problem::internal)?;
        let oauth = oauth_of(&row).map(|oauth| AccountOauth {
            token_url: oauth.token_url,
            client_id: oauth.client_id,
            scope: oauth.scope,
            grant: oauth.grant,
            has_client_secret: secrets.client_secret.is_some(),
            has_refresh_token: secrets.refresh_token.is_some(),
        });
        Ok(Self {
            id: row.id,
            channel: row.channel,
            address: row.address,
            display_name: row.display_name,
            description: row.description,
            username: row.username,
            has_password: row.password_sealed.is_some(),
            inbound: Inbound::of(&row.inbound),
            oauth,
            signature_text: row.signature_text,
            signature_html: row.signature_html,
            script_id: row.script_id,
            fallback_queue_id: row.fallback_queue_id,
            class_id: row.class_id,
            script_settings: row.script_settings,
            receipt_template_id: row.receipt_template_id,
            sms: row.sms.and_then(|sms| serde_json::from_value(sms).ok()),
            state: row.state,
            state_reason: row.state_reason,
            allowed_actions,
            health: Health::of(&row.health),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The stored OAuth settings, without secrets.
pub(super) fn oauth_of(row: &account::Model) -> Option<OauthSettings> {
    row.oauth.clone().and_then(|oauth| serde_json::from_value(oauth).ok())
}

impl From<&account::Model> for AccountCreate {
    /// The writable form, without secrets.
    fn from(row: &account::Model) -> Self {
        Self {
            channel: row.channel,
            address: row.address.clone(),
            display_name: row.display_name.clone(),
            description: row.description.clone(),
            username: row.username.clone(),
            password: None,
            inbound: Inbound::of(&row.inbound),
            oauth: oauth_of(row),
            signature_text: row.signature_text.clone(),
            signature_html: row.signature_html.clone(),
            script_id: row.script_id,
            fallback_queue_id: row.fallback_queue_id,
            class_id: row.class_id,
            script_settings: row.script_settings.as_object().cloned().unwrap_or_default(),
            receipt_template_id: row.receipt_template_id,
            sms: row.sms.clone().and_then(|sms| serde_json::from_value(sms).ok()),
        }
    }
}
