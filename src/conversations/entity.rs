//! The tables of conversations, their messages, uploads, notes, drafts and automatic answers.

pub use crate::raw::entity as raw_message;

/// Whose turn it is.
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
pub enum ConversationState {
    /// Ours: the customer wrote last, or somebody works on it.
    Open,
    /// The customer's: we answered.
    WaitingCustomer,
    /// Nobody's: it is done.
    Closed,
}

/// Which way a message goes.
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
pub enum Direction {
    /// To us.
    Inbound,
    /// From us.
    Outbound,
}

/// What kind of mail an inbound message is.
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
pub enum Classification {
    /// A person wrote it.
    Normal,
    /// A machine answered (RFC 3834).
    AutoReply,
    /// A delivery status notification (RFC 3464).
    Bounce,
    /// An abuse report (RFC 5965).
    Complaint,
    /// It came over a mailing list or in bulk.
    List,
    /// It is our own mail coming back.
    Loop,
}

/// What made a message.
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
pub enum MessageKind {
    /// It came in.
    Customer,
    /// An agent's answer.
    Reply,
    /// An agent passed a message on.
    Forward,
    /// An automatic answer of a script.
    Receipt,
    /// A send that the API was asked for.
    Direct,
    /// One of a broadcast.
    Broadcast,
}

/// Where a message stands.
///
/// - `received`: inbound, stored and not yet parsed.
/// - `parsed`: inbound, parsed.
/// - `unparsed`: inbound, it cannot be parsed; the raw source is kept.
/// - `oversize`: inbound, too large to fetch, or its server does not give it; a stub stands for it.
/// - `scheduled`: outbound, to be sent later.
/// - `held`: outbound, there is no outgoing server.
/// - `queued`: outbound, due to be sent.
/// - `sending`: outbound, being sent right now.
/// - `deferred`: outbound, refused for now and to be tried again.
/// - `sent`: outbound, the server took it.
/// - `delivered`: outbound, its delivery was reported.
/// - `bounced`: outbound, it came back.
/// - `complained`: outbound, its recipient complained.
/// - `failed`: outbound, refused for good.
/// - `uncertain`: outbound, the answer to the final dot was lost; it may have been sent.
/// - `expired`: outbound, deferred for too long.
/// - `suppressed`: outbound, not sent because its recipient is not to be written to.
/// - `cancelled`: outbound, taken back before it was sent.
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
pub enum MessageState {
    /// Inbound: stored, not yet parsed.
    Received,
    /// Inbound: parsed.
    Parsed,
    /// Inbound: it cannot be parsed; the raw source is kept.
    Unparsed,
    /// Inbound: too large to fetch, or its server does not give it; a stub stands for it.
    Oversize,
    /// Outbound: to be sent later.
    Scheduled,
    /// Outbound: there is no outgoing server.
    Held,
    /// Outbound: due.
    Queued,
    /// Outbound: being sent right now.
    Sending,
    /// Outbound: refused for now, to be tried again.
    Deferred,
    /// Outbound: the server took it.
    Sent,
    /// Outbound: its delivery was reported.
    Delivered,
    /// Outbound: it came back.
    Bounced,
    /// Outbound: its recipient complained.
    Complained,
    /// Outbound: refused for good.
    Failed,
    /// Outbound: the answer to the final dot was lost.
    Uncertain,
    /// Outbound: deferred for too long.
    Expired,
    /// Outbound: its recipient may not be written to.
    Suppressed,
    /// Outbound: called off before it was sent.
    Cancelled,
}

impl MessageState {
    /// Those in which a message is certainly unsent and nobody is sending it.
    pub const UNSENT: [Self; 4] = [Self::Scheduled, Self::Held, Self::Queued, Self::Deferred];
}

/// Threads of messages with customers.
pub mod conversation {
    use sea_orm::entity::prelude::*;

    use crate::{
        accounts::entity::Channel,
        clock::Timestamp,
        conversations::entity::ConversationState,
        id::{AccountId, ConversationId, MessageId, UserId},
    };

    /// One conversation.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "conversations")]
    pub struct Model {
        /// The conversation's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: ConversationId,
        /// The account it runs over.
        pub account_id: AccountId,
        /// E-mail or text.
        pub channel: Channel,
        /// Whose turn it is.
        pub state: ConversationState,
        /// The first message's subject.
        pub subject: String,
        /// The customer's name as last written.
        pub customer_name: Option<String>,
        /// The customer's address.
        pub customer_address: Option<String>,
        /// How many messages it has.
        pub message_count: i64,
        /// The newest message, inbound or outbound.
        pub last_message_id: Option<MessageId>,
        /// When that was.
        pub last_message_at: Timestamp,
        /// The agent who last had it.
        pub last_agent_id: Option<UserId>,
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

/// Messages of both directions.
pub mod message {
    use sea_orm::entity::prelude::*;

    use crate::{
        accounts::entity::Channel,
        clock::Timestamp,
        conversations::entity::{Classification, Direction, MessageKind, MessageState},
        id::{AccountId, CampaignId, ConversationId, CustomerId, MessageId, TemplateId, UserId, WorkItemId},
    };

    /// One message.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "messages")]
    pub struct Model {
        /// The message's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: MessageId,
        /// Its conversation.
        pub conversation_id: ConversationId,
        /// The account that received or sends it.
        pub account_id: AccountId,
        /// The work item it belongs to.
        pub work_item_id: Option<WorkItemId>,
        /// Which way it goes.
        pub direction: Direction,
        /// E-mail or text.
        pub channel: Channel,
        /// What made it.
        pub kind: MessageKind,
        /// Where it stands.
        pub state: MessageState,
        /// Why, in plain words.
        pub state_reason: Option<String>,
        /// What kind of mail it is.
        pub classification: Classification,
        /// Its Message-ID, without angle brackets.
        pub message_id_header: Option<String>,
        /// Message-IDs it answers.
        pub in_reply_to: Json,
        /// Message-IDs of its thread, oldest first.
        pub reference_ids: Json,
        /// The sender's name.
        pub from_name: Option<String>,
        /// The sender's address.
        pub from_address: Option<String>,
        /// Where answers go, as `[{name, address}]`.
        pub reply_to: Json,
        /// `To`, as `[{name, address}]`.
        pub to_addresses: Json,
        /// `Cc`, as `[{name, address}]`.
        pub cc_addresses: Json,
        /// `Bcc` of what we send, as `[{name, address}]`.
        pub bcc_addresses: Json,
        /// The subject, decoded.
        pub subject: String,
        /// The whole text.
        pub text: String,
        /// The text without quotes and signature.
        pub new_text: String,
        /// What it quotes.
        pub quoted_text: String,
        /// Its signature.
        pub signature: String,
        /// The HTML part as it came: never shown unsanitised.
        pub html: Option<String>,
        /// The attachments' names, types and sizes (`mail::parse::Attachment`).
        pub attachments: Json,
        /// Headers that routing looks at.
        pub headers: Json,
        /// The size of the raw source.
        pub size_bytes: i64,
        /// The agent who wrote it.
        pub author_id: Option<UserId>,
        /// `auto-replied` or `auto-generated` (RFC 3834 §5) when no person sent it.
        pub auto_submitted: Option<String>,
        /// `transactional` or `marketing`.
        pub category: Option<String>,
        /// A reference of the system that asked for it.
        pub external_ref: Option<String>,
        /// The message that this one tries again.
        pub retry_of: Option<MessageId>,
        /// The template that it was made from.
        pub template_id: Option<TemplateId>,
        /// The customer whom it is for, or whose mail it reports on.
        pub customer_id: Option<CustomerId>,
        /// The campaign that it is sent for.
        pub campaign_id: Option<CampaignId>,
        /// When it was to be sent, if not at once.
        pub send_at: Option<Timestamp>,
        /// Its Date header.
        pub dated_at: Option<Timestamp>,
        /// When it was taken in.
        pub received_at: Option<Timestamp>,
        /// When a server took it.
        pub sent_at: Option<Timestamp>,
        /// When its content was erased with what was known of the customer.
        pub erased_at: Option<Timestamp>,
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

/// Files waiting to be attached to an answer.
pub mod upload {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::UploadId};

    /// One file.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "uploads")]
    pub struct Model {
        /// The upload's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: UploadId,
        /// Who uploaded it.
        pub owner_id: Uuid,
        /// Its name.
        pub filename: String,
        /// Its media type.
        pub content_type: String,
        /// Its size.
        pub size_bytes: i64,
        /// Its bytes.
        pub data: Vec<u8>,
        /// When it was uploaded.
        pub created_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Internal notes on conversations.
pub mod note {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::{ConversationId, NoteId, WorkItemId},
    };

    /// One note.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "notes")]
    pub struct Model {
        /// The note's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: NoteId,
        /// The conversation.
        pub conversation_id: ConversationId,
        /// The work item it was written on.
        pub work_item_id: Option<WorkItemId>,
        /// Who wrote it.
        pub author_id: Uuid,
        /// The author's name then.
        pub author_name: String,
        /// The note.
        pub text: String,
        /// When it was written.
        pub created_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Answers being written, one per work item.
pub mod draft {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::{UserId, WorkItemId},
    };

    /// One draft.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "drafts")]
    pub struct Model {
        /// The work item.
        #[sea_orm(primary_key, auto_increment = false)]
        pub work_item_id: WorkItemId,
        /// Who writes it.
        pub author_id: UserId,
        /// The answer so far.
        pub content: Json,
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

/// Who got which automatic answer when (RFC 3834 §2).
pub mod auto_answer {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::AccountId};

    /// The last automatic answer of one rule to one address.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "auto_answers")]
    pub struct Model {
        /// The account that answered.
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        /// Who was answered.
        #[sea_orm(primary_key, auto_increment = false)]
        pub address: String,
        /// Which rule answered.
        #[sea_orm(primary_key, auto_increment = false)]
        pub rule: String,
        /// When.
        pub answered_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
