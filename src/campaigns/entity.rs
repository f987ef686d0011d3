//! The tables `campaigns`, `attempts` and `rule_sends`.

use sea_orm::{DeriveActiveEnum, EnumIter};

/// Where a campaign stands.
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
pub enum CampaignState {
    /// Being prepared.
    Draft,
    /// Its rules fire.
    Active,
    /// Its rules do not fire for now.
    Suspended,
    /// It is over.
    Stopped,
}

/// Campaigns.
pub mod campaign {
    use sea_orm::entity::prelude::*;

    use super::CampaignState;
    use crate::{
        accounts::entity::Channel,
        clock::Timestamp,
        id::{AccountId, CampaignId},
    };

    /// One campaign.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "campaigns")]
    pub struct Model {
        /// The campaign's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: CampaignId,
        /// Its unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// Where it stands.
        pub state: CampaignState,
        /// The account that its e-mail is sent from.
        pub email_account_id: Option<AccountId>,
        /// The account that its texts are sent from.
        pub sms_account_id: Option<AccountId>,
        /// When something happens to a customer, which template is sent.
        pub message_rules: Json,
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

    impl Model {
        /// The account that it sends from over the channel: one at most.
        pub fn sender(&self, channel: Channel) -> Option<AccountId> {
            match channel {
                Channel::Email => self.email_account_id,
                Channel::Sms => self.sms_account_id,
            }
        }
    }
}

/// What was tried with a customer.
pub mod attempt {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        customers::entity::OutcomeCategory,
        id::{AttemptId, CampaignId, CustomerId},
    };

    /// One attempt.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "attempts")]
    pub struct Model {
        /// The attempt's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: AttemptId,
        /// The customer.
        pub customer_id: CustomerId,
        /// The campaign that it was made for.
        pub campaign_id: Option<CampaignId>,
        /// What the dialler knows it by; unique for the customer.
        pub attempt_ref: String,
        /// Which one of the customer's, from 1.
        pub number: i64,
        /// What came of it.
        pub outcome_code: Option<String>,
        /// What that meant.
        pub outcome_category: Option<OutcomeCategory>,
        /// What was reported, to know a repetition from another report.
        pub request_hash: String,
        /// What was answered, for repetitions.
        pub answer: Json,
        /// When it was made.
        pub attempted_at: Timestamp,
        /// When it was reported.
        pub created_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What rules have sent.
pub mod rule_send {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::{CustomerId, MessageId, RuleId},
    };

    /// One message that a rule sent.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "rule_sends")]
    pub struct Model {
        /// The row's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The customer.
        pub customer_id: CustomerId,
        /// The rule.
        pub rule_id: RuleId,
        /// The message.
        pub message_id: MessageId,
        /// When.
        pub created_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
