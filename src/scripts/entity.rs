//! The tables of scripts, their versions, calendars, global variables, and of the stamp that tells of their changes.

/// Where a version of a script stands.
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
pub enum ScriptVersionState {
    /// Being written; never run.
    Draft,
    /// In force: new work items begin with it.
    Active,
    /// It was in force; work that began with it stays on it.
    Retired,
}

/// What a global variable holds.
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
pub enum VariableType {
    /// True or false.
    Boolean,
    /// A number.
    Number,
    /// A text.
    String,
    /// Any JSON.
    Json,
}

/// Routing scripts.
pub mod script {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::{ScriptId, ScriptVersionId},
    };

    /// One script.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "scripts")]
    pub struct Model {
        /// The script's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: ScriptId,
        /// Its unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// The version in force.
        pub active_version_id: Option<ScriptVersionId>,
        /// Whether it serves accounts that name no script; one does.
        pub is_default: bool,
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

/// Versions of scripts.
pub mod version {
    use sea_orm::entity::prelude::*;

    use super::ScriptVersionState;
    use crate::{
        clock::Timestamp,
        id::{ScriptId, ScriptVersionId},
    };

    /// One version.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "script_versions")]
    pub struct Model {
        /// The version's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: ScriptVersionId,
        /// Its script.
        pub script_id: ScriptId,
        /// Its number in the script, from 1.
        pub number: i32,
        /// What is new in it.
        pub description: String,
        /// Where it stands.
        pub state: ScriptVersionState,
        /// Whether somebody keeps the draft from being changed.
        pub locked: bool,
        /// The name of the one who made it.
        pub author: String,
        /// The definition as it was given (`scripts::definition::Definition`).
        pub definition: Json,
        /// When it last came into force.
        pub activated_at: Option<Timestamp>,
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

/// Calendars of opening hours.
pub mod calendar {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::CalendarId};

    /// One calendar.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "calendars")]
    pub struct Model {
        /// The calendar's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: CalendarId,
        /// Its unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// The IANA time zone of its entries.
        pub timezone: String,
        /// What opens and closes it (`scripts::calendar::Entry`).
        pub entries: Json,
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

/// Global variables.
pub mod variable {
    use sea_orm::entity::prelude::*;

    use super::VariableType;
    use crate::{clock::Timestamp, id::VariableId};

    /// One variable.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "variables")]
    pub struct Model {
        /// The variable's id, for events and paging.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: VariableId,
        /// Its unique name: what scripts read as `globals.NAME`.
        pub name: String,
        /// What it holds.
        #[sea_orm(column_name = "type")]
        pub kind: VariableType,
        /// Its value.
        pub value: Json,
        /// What it is for.
        pub description: String,
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

/// The one row that every change of scripts, calendars and variables makes anew.
pub mod stamp {
    use sea_orm::entity::prelude::*;

    /// The stamp.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "routing_stamp")]
    pub struct Model {
        /// Always 1.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        /// A value that never comes twice.
        pub stamp: Uuid,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
