//! The tables `outcomes`, `customer_lists`, `customers`, `imports` and `import_errors`.

use sea_orm::{DeriveActiveEnum, EnumIter};

/// What an outcome means for a customer.
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
pub enum OutcomeCategory {
    /// Somebody was reached.
    Contact,
    /// Nobody was reached: no answer, busy, a machine.
    NonContact,
    /// The customer is not to be tried again.
    DoNotContact,
    /// Something of ours went wrong.
    System,
}

/// Where a list stands.
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
pub enum ListState {
    /// Its customers are tried, and its rules fire.
    Active,
    /// Only customers with a call-back are tried.
    Passive,
    /// Begun customers are finished; unused ones are not begun.
    Finishing,
    /// Nobody is left to try.
    Exhausted,
    /// Nothing is done with it.
    Inactive,
}

/// Where a customer stands.
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
pub enum CustomerStatus {
    /// Not tried yet.
    Unused,
    /// Tried, and to be tried again.
    InProgress,
    /// To be tried again at a time that was agreed.
    Callback,
    /// Not tried any more.
    Terminated,
}

/// What separates the cells of a CSV file.
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
pub enum Delimiter {
    /// `,`
    Comma,
    /// `;`, as spreadsheets write it where the comma is the decimal sign.
    Semicolon,
    /// A tabulator.
    Tab,
}

/// Where an import stands.
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
pub enum ImportState {
    /// No rows came yet.
    Waiting,
    /// Rows are being read.
    Running,
    /// The connection or the process ended; it can be resumed.
    Interrupted,
    /// All rows were read; some may have failed.
    Completed,
    /// Called off; the rows taken so far stay.
    Cancelled,
}

/// What can come of an attempt.
pub mod outcome {
    use sea_orm::entity::prelude::*;

    use super::OutcomeCategory;
    use crate::{clock::Timestamp, id::OutcomeId};

    /// One outcome.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "outcomes")]
    pub struct Model {
        /// The outcome's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: OutcomeId,
        /// Its unique code, as the dialler reports it.
        pub code: String,
        /// What people call it.
        pub name: String,
        /// What it means.
        pub description: String,
        /// What it means for the customer.
        pub category: OutcomeCategory,
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

/// Lists of customers.
pub mod customer_list {
    use sea_orm::entity::prelude::*;

    use super::ListState;
    use crate::{
        clock::Timestamp,
        id::{CampaignId, ListId},
    };

    /// One list.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "customer_lists")]
    pub struct Model {
        /// The list's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: ListId,
        /// Its unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// The campaign that it belongs to.
        pub campaign_id: Option<CampaignId>,
        /// Where it stands.
        pub state: ListState,
        /// Rules that stand in for the campaign's.
        pub message_rules: Option<Json>,
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

/// Persons to contact.
pub mod customer {
    use sea_orm::entity::prelude::*;

    use super::{CustomerStatus, OutcomeCategory};
    use crate::{
        clock::Timestamp,
        id::{CustomerId, ListId},
    };

    /// One customer.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "customers")]
    pub struct Model {
        /// The customer's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: CustomerId,
        /// What other systems know them by; unique.
        #[sea_orm(column_name = "ref")]
        pub r#ref: String,
        /// The list that they are on.
        pub list_id: ListId,
        /// Their name.
        pub name: String,
        /// Their e-mail address.
        pub email: Option<String>,
        /// What suppressions know the address by.
        pub email_key: Option<String>,
        /// Their number for texts, as `+` and digits (E.164).
        pub sms_number: Option<String>,
        /// What suppressions know the number by.
        pub sms_key: Option<String>,
        /// Their telephone numbers.
        pub telephones: Json,
        /// Their language (BCP 47).
        pub locale: Option<String>,
        /// What else is known of them, by name.
        pub data: Json,
        /// Where they stand.
        pub status: CustomerStatus,
        /// When they are to be called back.
        pub callback_at: Option<Timestamp>,
        /// About the call-back.
        pub callback_note: Option<String>,
        /// The outcome with which they were given up.
        pub termination_code: Option<String>,
        /// What it meant.
        pub termination_category: Option<OutcomeCategory>,
        /// More about why they were given up.
        pub termination_note: Option<String>,
        /// When they were given up.
        pub terminated_at: Option<Timestamp>,
        /// How often they were tried.
        pub attempt_count: i64,
        /// When they were last tried.
        pub last_attempt_at: Option<Timestamp>,
        /// When what is known of them was erased.
        pub erased_at: Option<Timestamp>,
        /// When the messages that were exchanged with them were emptied, too.
        pub texts_erased_at: Option<Timestamp>,
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

/// Imports of customers.
pub mod import {
    use sea_orm::entity::prelude::*;

    use super::{Delimiter, ImportState};
    use crate::{
        clock::Timestamp,
        http::rows::RowFormat,
        id::{ImportId, ListId, UserId},
    };

    /// One import.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "imports")]
    pub struct Model {
        /// The import's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: ImportId,
        /// The list that the customers come onto.
        pub list_id: ListId,
        /// What it is written in.
        pub format: RowFormat,
        /// Where it stands.
        pub state: ImportState,
        /// Why.
        pub state_reason: Option<String>,
        /// What separates the cells of a row.
        pub delimiter: Delimiter,
        /// The length of the file, where the sender says it.
        pub size_bytes: Option<i64>,
        /// Rows that were read, good and bad.
        pub rows_read: i64,
        /// Bytes that these rows and the header take, from the beginning of the file.
        pub bytes_read: i64,
        /// SHA-256 of these bytes in hexadecimal: a file that is sent again must begin with them.
        pub digest: Option<String>,
        /// Customers made.
        pub created_count: i64,
        /// Customers changed.
        pub updated_count: i64,
        /// Rows that were left out.
        pub failed_count: i64,
        /// What was wrong with them, all counted.
        pub error_count: i64,
        /// How often rows were sent: the fence between one reader and the next.
        pub runs: i64,
        /// Until when the reader is taken to be alive.
        pub lease_until: Timestamp,
        /// Who imports.
        pub author_id: Option<UserId>,
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

/// Rows of an import that were left out.
pub mod import_error {
    use sea_orm::entity::prelude::*;

    use crate::id::ImportId;

    /// One row, or one member of it, that is wrong.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "import_errors")]
    pub struct Model {
        /// The row's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The import.
        pub import_id: ImportId,
        /// The line in the file, from 1.
        pub line: i64,
        /// The row's `ref`, where it could be read.
        pub customer_ref: Option<String>,
        /// The member that is wrong.
        pub member: Option<String>,
        /// What is wrong, for programs.
        pub code: String,
        /// What is wrong, in words.
        pub detail: String,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
