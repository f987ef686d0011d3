//! The tables of accounts, of how far their folders are read, and of where inbound messages came from.

/// What kind of messages an account carries.
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
pub enum Channel {
    /// E-mail.
    Email,
    /// Texts, through a mail gateway.
    Sms,
}

/// Where an account stands.
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
pub enum AccountState {
    /// Being set up; nothing is fetched or sent.
    Draft,
    /// In use.
    Active,
    /// In use, but its mailbox cannot be read at present.
    Failing,
    /// Set aside by an administrator.
    Paused,
    /// Out of use for good.
    Disabled,
}

/// Mailboxes we receive at and send from.
pub mod account {
    use sea_orm::entity::prelude::*;

    use crate::{
        accounts::entity::{AccountState, Channel},
        clock::Timestamp,
        id::{AccountId, ClassId, QueueId, ScriptId, TemplateId},
    };

    /// One account.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts")]
    pub struct Model {
        /// The account's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: AccountId,
        /// What it carries.
        pub channel: Channel,
        /// Its address, unique, with the domain in lower case.
        pub address: String,
        /// The name in `From`.
        pub display_name: String,
        /// What it is for.
        pub description: String,
        /// The mailbox's login name.
        pub username: String,
        /// The mailbox's password, sealed for `account:{id}:password`.
        pub password_sealed: Option<Vec<u8>>,
        /// The OAuth2 settings without secrets.
        pub oauth: Option<Json>,
        /// The OAuth2 secrets, sealed for `account:{id}:oauth`.
        pub oauth_sealed: Option<Vec<u8>>,
        /// How mail comes in (`accounts::Inbound`).
        pub inbound: Json,
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
        pub script_settings: Json,
        /// The receipt answer.
        pub receipt_template_id: Option<TemplateId>,
        /// Gateway settings of an SMS account.
        pub sms: Option<Json>,
        /// Where it stands.
        pub state: AccountState,
        /// Why, in plain words.
        pub state_reason: Option<String>,
        /// What the poller saw (`accounts::Health`).
        pub health: Json,
        /// When it is polled next; none when it is not polled.
        pub due_at: Option<Timestamp>,
        /// Until when a process holds it.
        pub lease_until: Timestamp,
        /// How often it was leased.
        pub attempts: i64,
        /// Failed polls in a row.
        pub failures: i32,
        /// Whether somebody asked for a poll.
        pub poll_requested: bool,
        /// The row's ETag.
        pub version: i64,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it was last changed.
        pub updated_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// How far each folder of an account has been read.
pub mod folder {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::AccountId};

    /// The cursor of one folder.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "account_folders")]
    pub struct Model {
        /// The account.
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        /// The folder's name.
        #[sea_orm(primary_key, auto_increment = false)]
        pub folder: String,
        /// The UIDVALIDITY that the UIDs belong to (RFC 9051 §2.3.1.1).
        pub uid_validity: i64,
        /// The highest UID that is taken in.
        pub last_uid: i64,
        /// When the whole folder was last compared.
        pub reconciled_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Where every inbound message came from: its identity is (account, folder, UIDVALIDITY, UID).
pub mod source {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::{AccountId, MessageId},
    };

    /// The origin of one message.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "inbound_sources")]
    pub struct Model {
        /// The row's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The account.
        pub account_id: AccountId,
        /// The folder; `push` for pushed messages.
        pub folder: String,
        /// The folder's UIDVALIDITY then.
        pub uid_validity: i64,
        /// The message's UID; a running number for pushed messages.
        pub uid: i64,
        /// The message made from it.
        pub message_id: MessageId,
        /// Its size.
        pub size_bytes: i64,
        /// The server's INTERNALDATE.
        pub internal_date: Timestamp,
        /// SHA-256 of its bytes; none when it was too large to fetch.
        pub raw_sha256: Option<Vec<u8>>,
        /// Whether `after_fetch` is still to be done on the server.
        pub after_fetch_due: bool,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
