//! The tables of agents, their skills, and their groups.

/// Whether an agent takes work.
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
pub enum AgentState {
    /// Not at the desk.
    LoggedOff,
    /// Takes work, up to the capacity.
    Ready,
    /// At the desk, takes no new work.
    NotReady,
}

/// What happens to an agent who misses an offer.
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
pub enum MissedOfferAction {
    /// Nothing.
    None,
    /// The agent becomes not ready, with the reason `missed_offer`.
    NotReady,
}

/// The agent side of users.
pub mod agent {
    use sea_orm::entity::prelude::*;

    use crate::{agents::entity::AgentState, clock::Timestamp, id::UserId};

    /// One agent.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "agents")]
    pub struct Model {
        /// The user's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: UserId,
        /// Whether the agent takes work.
        pub state: AgentState,
        /// Why not.
        pub reason: Option<String>,
        /// Since when.
        pub state_changed_at: Timestamp,
        /// When the agent last became ready or finished an item.
        pub idle_since: Timestamp,
        /// When the agent last got an offer.
        pub last_offered_at: Timestamp,
        /// E-mails at a time; none: the largest of the groups'.
        pub capacity_email: Option<i32>,
        /// Texts at a time; none: the largest of the groups'.
        pub capacity_sms: Option<i32>,
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

/// What agents can do, and how well.
pub mod agent_skill {
    use sea_orm::entity::prelude::*;

    use crate::id::{SkillId, UserId};

    /// One row.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "agent_skills")]
    pub struct Model {
        /// The agent.
        #[sea_orm(primary_key, auto_increment = false)]
        pub agent_id: UserId,
        /// The skill.
        #[sea_orm(primary_key, auto_increment = false)]
        pub skill_id: SkillId,
        /// 1 (a little) to 10.
        pub level: i32,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Skills.
pub mod skill {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::SkillId};

    /// One skill.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "skills")]
    pub struct Model {
        /// The skill's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: SkillId,
        /// Its unique name.
        pub name: String,
        /// What it means.
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

/// Groups of agents.
pub mod group {
    use sea_orm::entity::prelude::*;

    use crate::{agents::entity::MissedOfferAction, clock::Timestamp, id::GroupId};

    /// One group.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "agent_groups")]
    pub struct Model {
        /// The group's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: GroupId,
        /// Its unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// How long an offer is held out.
        pub offer_timeout_s: i64,
        /// How long an agent may finish an item after its completion; 0: not at all.
        pub wrap_up_s: i64,
        /// Whether an offer is taken as soon as it is made.
        pub auto_accept: bool,
        /// E-mails that a member may have at a time.
        pub capacity_email: i32,
        /// Texts that a member may have at a time.
        pub capacity_sms: i32,
        /// What happens to a member who misses an offer.
        pub missed_offer_action: MissedOfferAction,
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

/// Who belongs to which group.
pub mod group_member {
    use sea_orm::entity::prelude::*;

    use crate::id::{GroupId, UserId};

    /// One row.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "group_members")]
    pub struct Model {
        /// The group.
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: GroupId,
        /// The agent.
        #[sea_orm(primary_key, auto_increment = false)]
        pub agent_id: UserId,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
