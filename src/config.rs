//! Settings: the commented `defaults.toml`, then a file, then `POSTROOM__…` variables; each error names key and origin.

mod network;

use std::path::PathBuf;

use figment::{
    Figment, Metadata,
    providers::{Env, Format, Toml},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use network::Network;

/// The documentation of all settings, and their defaults.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "postroom.toml";

/// What is wrong with the settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A key is unknown, missing or of the wrong type.
    #[error("{key}: {reason} (from {origin})")]
    Key {
        /// The setting, as `section.key`.
        key: String,
        /// What is wrong.
        reason: String,
        /// The file or variable it came from.
        origin: String,
    },
    /// The named file is not there.
    #[error("the configuration file {0} does not exist")]
    NoFile(PathBuf),
}

macro_rules! sections {
    ($($(#[$doc:meta])* $section:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $section { $($(#[$field_doc])* pub $field: $type,)+ }
    )+};
}

sections! {
    /// All settings; `defaults.toml` explains each.
    Config {
        /// The HTTP server.
        http: Http,
        /// The database.
        database: Database,
        /// Files.
        storage: Storage,
        /// The key for stored secrets.
        secrets: Secrets,
        /// Tokens and logins.
        auth: Auth,
        /// IMAP and SMTP.
        mail: Mail,
        /// Bounds.
        limits: Limits,
        /// Mail that comes back.
        bounces: Bounces,
        /// Logs.
        log: Log,
        /// The sandbox.
        sandbox: Sandbox,
    }
    /// The HTTP server.
    Http {
        /// Address and port.
        listen: String,
        /// Base address for clients; empty for the listening address.
        public_url: String,
        /// Allowed browser origins.
        cors_origins: Vec<String>,
        /// Proxies whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<Network>,
        /// Serving threads; 0 for one per core.
        workers: usize,
        /// Largest JSON body in bytes.
        max_body_bytes: usize,
    }
    /// The database.
    Database {
        /// Where it is; empty for SQLite in the data directory.
        url: String,
        /// Size of the pool.
        max_connections: u32,
        /// Wait for a connection, in seconds.
        acquire_timeout_s: u64,
        /// Apply migrations on start.
        migrate_on_start: bool,
    }
    /// Files.
    Storage {
        /// The data directory.
        data_dir: PathBuf,
        /// Largest raw mail kept in the database, in bytes.
        inline_max_bytes: usize,
        /// Where larger ones go; empty for the data directory.
        object_store_url: String,
        /// S3 endpoint.
        s3_endpoint: String,
        /// S3 region.
        s3_region: String,
        /// S3 key id.
        s3_access_key_id: String,
        /// S3 secret key.
        s3_secret_access_key: Secret,
    }
    /// The key for stored secrets.
    Secrets {
        /// The key in base64.
        key: Secret,
        /// The file that holds it.
        key_file: PathBuf,
    }
    /// Tokens and logins.
    Auth {
        /// Lifetime of access tokens in seconds.
        access_token_s: i64,
        /// Lifetime of refresh tokens in seconds.
        refresh_token_s: i64,
        /// Age at which the signing key is replaced, in seconds.
        signing_key_s: i64,
        /// Failed logins before throttling.
        max_failed_logins: u32,
        /// Window of the throttle in seconds.
        failed_login_window_s: i64,
        /// Name of the first administrator.
        first_admin: String,
    }
    /// IMAP and SMTP.
    Mail {
        /// Further trusted certificates, a PEM file.
        extra_ca_file: PathBuf,
        /// Largest message in bytes.
        max_message_bytes: usize,
        /// Unencrypted connections to other hosts.
        allow_plaintext: bool,
        /// Renewal of IDLE in seconds.
        idle_renew_s: u64,
        /// Full comparison of a mailbox, in seconds.
        reconcile_s: i64,
        /// Connecting, in seconds.
        connect_timeout_s: u64,
        /// One read, in seconds.
        read_timeout_s: u64,
        /// One answer of the outgoing server, in seconds.
        smtp_answer_timeout_s: u64,
        /// Its answer to a whole message, in seconds.
        smtp_dot_timeout_s: u64,
    }
    /// Bounds.
    Limits {
        /// Attachments of one answer in bytes.
        max_attachments_bytes: usize,
        /// Automatic answers of one account in a minute.
        auto_answers_per_minute: u64,
        /// Automatic answers of one account in an hour.
        auto_answers_per_hour: u64,
        /// Automatic answers of all accounts to one address in a day.
        auto_answers_per_address_day: u64,
    }
    /// Mail that comes back.
    Bounces {
        /// Soft bounces that suppress an address; 0 for never.
        soft_max: u64,
        /// Within what time, in seconds.
        soft_window_s: i64,
        /// For how long, in seconds.
        soft_suppressed_s: i64,
    }
    /// Logs.
    Log {
        /// Filter.
        level: String,
        /// `text` or `json`.
        format: LogFormat,
    }
    /// The sandbox.
    Sandbox {
        /// Whether this is the sandbox.
        enabled: bool,
    }
}

/// The form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A setting that is never shown.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"…\"" })
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "…" })
    }
}

impl Config {
    /// Reads the settings: defaults, the file (the named one must exist), the environment.
    ///
    /// # Errors
    /// The first wrong key, with where it came from.
    pub fn load(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        match file {
            Some(path) if !path.exists() => return Err(ConfigError::NoFile(path)),
            Some(path) => figment = figment.merge(Toml::file_exact(path)),
            None if PathBuf::from(DEFAULT_FILE).exists() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE))
            }
            None => {}
        }
        let url = Env::raw().only(&["DATABASE_URL"]).map(|_| "database.url".into());
        Self::extract(figment.merge(url).merge(Env::prefixed("POSTROOM__").split("__")))
    }

    /// The defaults with further settings in TOML on top: for tests and the sandbox.
    ///
    /// # Errors
    /// The first wrong key.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::extract(Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(text)))
    }

    fn extract(figment: Figment) -> Result<Self, ConfigError> {
        let mut config: Self = figment.extract().map_err(|error| explain(&error))?;
        config.check()?;
        if config.database.url.is_empty() {
            let path = config.storage.data_dir.join("postroom.db");
            config.database.url = format!("sqlite://{}?mode=rwc", path.display());
        }
        if config.secrets.key_file.as_os_str().is_empty() {
            config.secrets.key_file = config.storage.data_dir.join("secret.key");
        }
        Ok(config)
    }

    /// Rules that the types do not say.
    fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (
                self.http.listen.parse::<std::net::SocketAddr>().is_ok(),
                "http.listen",
                "is not an address and port",
            ),
            (
                (1..=900).contains(&self.auth.access_token_s),
                "auth.access_token_s",
                "is not between 1 and 900",
            ),
            (
                self.auth.refresh_token_s > self.auth.access_token_s,
                "auth.refresh_token_s",
                "is shorter than an access token's",
            ),
            (self.database.max_connections > 0, "database.max_connections", "must be at least 1"),
            (self.bounces.soft_window_s > 0, "bounces.soft_window_s", "must be at least 1"),
            (self.bounces.soft_suppressed_s > 0, "bounces.soft_suppressed_s", "must be at least 1"),
            (self.mail.max_message_bytes >= 65_536, "mail.max_message_bytes", "must be at least 65536"),
            (known_database(&self.database.url), "database.url", "must begin with postgres:// or sqlite://"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, key, reason)) => Err(ConfigError::Key {
                key: key.into(),
                reason: reason.into(),
                origin: "the settings together".into(),
            }),
        }
    }

    /// The base address that clients use, without a slash at its end.
    pub fn public_url(&self) -> String {
        if self.http.public_url.is_empty() {
            format!("http://{}", self.http.listen)
        } else {
            self.http.public_url.trim_end_matches('/').to_owned()
        }
    }
}

fn known_database(url: &str) -> bool {
    url.is_empty() || ["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| url.starts_with(scheme))
}

fn explain(error: &figment::Error) -> ConfigError {
    let origin = |metadata: &Metadata| match &metadata.source {
        Some(source) => source.to_string(),
        None => metadata.name.to_string(),
    };
    let mut key = error.path.join(".");
    if let figment::error::Kind::UnknownField(field, _)
    | figment::error::Kind::MissingField(std::borrow::Cow::Owned(field)) = &error.kind
        && !key.ends_with(field.as_str())
    {
        key = [key.as_str(), field]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(".");
    }
    ConfigError::Key {
        key,
        reason: error.kind.to_string(),
        origin: error.metadata.as_ref().map_or_else(|| "the settings".into(), origin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let config = Config::from_toml("").unwrap();
        assert_eq!(config.http.listen, "127.0.0.1:8080");
        assert!(config.database.url.starts_with("sqlite://data/postroom.db"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Config::from_toml("[http]\nport = 80").unwrap_err().to_string();
        assert!(error.contains("http.port"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = Config::from_toml("[database]\nmax_connections = \"many\"").unwrap_err().to_string();
        assert!(error.contains("database.max_connections"), "{error}");
    }

    #[test]
    fn a_rule_between_settings_is_checked() {
        let error = Config::from_toml("[auth]\naccess_token_s = 901").unwrap_err().to_string();
        assert!(error.contains("auth.access_token_s"), "{error}");
    }
}
