//! The tables `broadcasts` and `broadcast_recipients`.

use sea_orm::{DeriveActiveEnum, EnumIter};

/// Where a broadcast stands.
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
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum BroadcastState {
    /// Being written.
    Draft,
    /// It begins by itself at its time.
    Scheduled,
    /// Its recipients are being gathered.
    Preparing,
    /// It is being sent.
    Running,
    /// It is not sent for now.
    Paused,
    /// Everybody got it or was left out for a reason.
    Completed,
    /// It is over, and some did not get it.
    CompletedWithFailures,
    /// It was called off.
    Cancelled,
    /// It could not be sent at all.
    Failed,
}

/// Where a recipient of a broadcast stands.
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
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum BroadcastRecipientState {
    /// To be sent.
    Queued,
    /// Being sent; in the database this is told by the phase.
    Sending,
    /// Refused for now, to be tried again.
    Deferred,
    /// The server took it.
    Sent,
    /// A report says that it arrived.
    Delivered,
    /// It came back.
    Bounced,
    /// The recipient reported it as spam.
    Complained,
    /// Refused for good, or it could not be made.
    Failed,
    /// Tried for too long and given up.
    Expired,
    /// The answer to the final dot was lost; it is not sent again.
    Uncertain,
    /// The recipient may not be written to.
    Suppressed,
    /// No longer among those who are to get it when its turn came.
    Skipped,
    /// The broadcast was called off before it went out.
    Cancelled,
}

/// How far the try has come.
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
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RecipientPhase {
    /// Not being sent.
    Idle,
    /// A process holds it; certainly not sent.
    Claimed,
    /// Being handed over; from here on it may have been sent.
    Begun,
}

/// Bulk sends.
pub mod broadcast {
    use sea_orm::entity::prelude::*;

    use super::BroadcastState;
    use crate::{
        accounts::entity::Channel,
        clock::Timestamp,
        id::{AccountId, BroadcastId, CalendarId, CampaignId, CustomerId, ListId, TemplateId, UserId},
    };

    /// One broadcast.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "broadcasts")]
    pub struct Model {
        /// The broadcast's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: BroadcastId,
        /// What people call it.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// Where it stands.
        pub state: BroadcastState,
        /// Why.
        pub state_reason: Option<String>,
        /// What it is sent over.
        pub channel: Channel,
        /// The campaign whose customers get it.
        pub campaign_id: Option<CampaignId>,
        /// The list whose customers get it.
        pub list_id: Option<ListId>,
        /// The template.
        pub template_id: TemplateId,
        /// What the template included when it began; 0 before.
        pub template_revision: i64,
        /// How many bytes of files go out with each mail; 0 before it began.
        pub attachments_bytes: i64,
        /// The account that it is sent from.
        pub account_id: AccountId,
        /// Customers of these statuses get it.
        pub statuses: Json,
        /// And of them those for whom this holds.
        pub expression: Option<String>,
        /// When it begins by itself.
        pub scheduled_at: Option<Timestamp>,
        /// It is sent only while this calendar is open.
        pub window_calendar_id: Option<CalendarId>,
        /// The most messages a minute.
        pub rate_per_minute: Option<i32>,
        /// It pauses when more than this part fails.
        pub max_fail_percent: Option<i32>,
        /// It pauses when more than this part bounces.
        pub max_bounce_percent: Option<i32>,
        /// The counts when it was resumed last: what its guard leaves out.
        pub judged_from: Option<Json>,
        /// The counts that were told last.
        pub told_counts: Option<Json>,
        /// When the rate allows the next message, or what its mails are made of is looked for again, in microseconds since
        /// the Unix epoch.
        pub next_slot_us: i64,
        /// The last customer who was looked at.
        pub prepared_to: Option<CustomerId>,
        /// How many customers were looked at.
        pub found_count: i64,
        /// How many were left out, by reason.
        pub excluded: Json,
        /// Whether it advertises, so that who unsubscribed is left out.
        pub marketing: bool,
        /// Who made it.
        pub author_id: Option<UserId>,
        /// When something is to be done for it.
        pub due_at: Option<Timestamp>,
        /// Until when a process does it.
        pub lease_until: Timestamp,
        /// How often it was leased.
        pub attempts: i64,
        /// When all its recipients were gathered.
        pub prepared_at: Option<Timestamp>,
        /// When it was begun.
        pub started_at: Option<Timestamp>,
        /// When it was over.
        pub ended_at: Option<Timestamp>,
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

/// Who gets a broadcast.
pub mod recipient {
    use sea_orm::entity::prelude::*;

    use super::{BroadcastRecipientState, RecipientPhase};
    use crate::{
        clock::Timestamp,
        id::{BroadcastId, CustomerId, MessageId},
    };

    /// One recipient; the row is the message until somebody answers to it.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "broadcast_recipients")]
    pub struct Model {
        /// The message's id, which its Message-ID tells.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: MessageId,
        /// The broadcast.
        pub broadcast_id: BroadcastId,
        /// The customer.
        pub customer_id: CustomerId,
        /// The address.
        pub address: String,
        /// What suppressions know it by; unique in the broadcast.
        pub address_key: String,
        /// The customer's name.
        pub name: String,
        /// Where it stands.
        pub state: BroadcastRecipientState,
        /// Why.
        pub reason: Option<String>,
        /// How far the try has come.
        pub phase: RecipientPhase,
        /// When it is to be tried; never when it is settled.
        pub due_at: Option<Timestamp>,
        /// Until when a process holds it.
        pub lease_until: Timestamp,
        /// How often it was claimed: the fence.
        pub attempts: i64,
        /// How many tries were used up.
        pub tries: i64,
        /// When it is given up.
        pub expires_at: Timestamp,
        /// The server's last reply code.
        pub last_code: Option<i32>,
        /// The server's last words.
        pub last_text: Option<String>,
        /// When the server took it.
        pub sent_at: Option<Timestamp>,
        /// When it was last changed.
        pub updated_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
