//! The tables `suppressions` and `soft_bounces`.

use sea_orm::entity::prelude::*;

use crate::{
    accounts::entity::Channel,
    clock::Timestamp,
    id::{CampaignId, SuppressionId},
};

/// Why an address may not be written to; what weighs most comes first.
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
pub enum SuppressionReason {
    /// Mail to it came back for good.
    Bounced,
    /// Its owner reported our mail as spam.
    Complained,
    /// Somebody here decided so.
    Manual,
    /// Its owner sent a stop word: no more texts, until a start word lifts it.
    Stopped,
    /// Its owner wants no marketing; other mail may go there.
    Unsubscribed,
    /// Mail to it came back again and again for something that may pass; ends by itself.
    SoftBounced,
}

impl SuppressionReason {
    /// What is said of a message that is held back for it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Bounced => "mail to the address came back for good",
            Self::Complained => "the recipient reported our mail as spam",
            Self::SoftBounced => "mail to the address came back again and again",
            Self::Unsubscribed => "the recipient unsubscribed",
            Self::Manual => "the address is not to be written to",
            Self::Stopped => "the recipient sent a stop word and gets no more texts",
        }
    }
}

/// One address.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "suppressions")]
pub struct Model {
    /// The suppression's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SuppressionId,
    /// What the address is known by: see [`super::AddressKeys`].
    pub address_key: String,
    /// The address in lower case, or the number; none when it was erased.
    pub address: Option<String>,
    /// What the address is for.
    pub channel: Channel,
    /// The campaign that it holds for; for everything when there is none.
    pub campaign_id: Option<CampaignId>,
    /// Why.
    pub reason: SuppressionReason,
    /// More about why.
    pub note: Option<String>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Mail that came back and may get there another time: each message counts once.
pub mod soft_bounce {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::MessageId};

    /// The row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "soft_bounces")]
    pub struct Model {
        /// The message that came back.
        #[sea_orm(primary_key, auto_increment = false)]
        pub message_id: MessageId,
        /// What the address is known by: see [`super::super::AddressKeys`].
        #[sea_orm(primary_key, auto_increment = false)]
        pub address_key: String,
        /// When we heard of it.
        pub at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
