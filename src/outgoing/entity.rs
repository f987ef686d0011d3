//! The table of the one outgoing server.

/// How mail leaves.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// To an SMTP server.
    Smtp,
    /// Not at all: it is kept and readable through the API.
    Capture,
}

/// Whether mail is sent.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OutgoingState {
    /// It is.
    Running,
    /// An administrator, or a refused login or certificate, stopped it.
    Paused,
    /// The server cannot be reached or is busy; it is tried again at `retry_at`.
    Failing,
}

/// How the connection to the server is protected.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OutgoingSecurity {
    /// TLS from the first byte (RFC 8314 §3), usually on port 465.
    Tls,
    /// TLS after STARTTLS (RFC 3207), usually on port 587; a server without it is refused.
    Starttls,
    /// None.
    None,
}

/// How we log in to the server.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OutgoingAuth {
    /// Not at all.
    None,
    /// With user name and password (RFC 4954).
    Password,
}

/// The one SMTP server that all accounts share.
pub mod outgoing_server {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        outgoing::{
            entity::{OutgoingAuth, OutgoingSecurity, OutgoingState, Transport},
            rate::Rate,
        },
    };

    /// The row.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "outgoing_server")]
    pub struct Model {
        /// Always 1.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        /// How mail leaves.
        pub transport: Transport,
        /// The server's name.
        pub host: String,
        /// Its port.
        pub port: i32,
        /// How the connection is protected.
        pub security: OutgoingSecurity,
        /// How we log in.
        pub auth: OutgoingAuth,
        /// The login name.
        pub username: String,
        /// The password, sealed for `outgoing_server:password`.
        pub password_sealed: Option<Vec<u8>>,
        /// Whether an unencrypted connection to a host that is not loopback is allowed.
        pub allow_plaintext: bool,
        /// The name in EHLO; empty for the host's own.
        pub helo_name: String,
        /// How many connections at a time.
        pub max_connections: i32,
        /// How many messages a connection carries.
        pub max_messages_per_connection: i32,
        /// How many messages a minute; none: as many as it takes.
        pub rate_per_minute: Option<i32>,
        /// `{first_s, max_interval_s, give_up_after_s}`.
        pub retry: Json,
        /// Whether mail is sent.
        pub state: OutgoingState,
        /// Why not, in plain words.
        pub state_reason: Option<String>,
        /// When a failing server is tried again.
        pub retry_at: Option<Timestamp>,
        /// How often it failed in a row.
        pub failures: i32,
        /// When the rate lets the next message go, in microseconds since the Unix epoch.
        pub next_slot_us: i64,
        /// The settings' ETag; the state moves without it.
        pub version: i64,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it was last changed.
        pub updated_at: Timestamp,
    }

    impl Model {
        /// The places under its rate.
        pub fn rate(&self) -> Rate {
            Rate::new(self.rate_per_minute, self.next_slot_us)
        }
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
