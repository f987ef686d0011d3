//! The tables of queues and of the groups that serve them.

/// Which of the free agents gets the next item.
///
/// - `longest_idle`: the one idle for the longest time.
/// - `round_robin`: the one whose last offer is the longest ago.
/// - `most_spare`: the one with the most free capacity.
/// - `best_skill`: the one with the highest levels of the required skills.
/// - `manual`: nobody; agents claim what they take.
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
pub enum Distribution {
    /// The one idle for the longest time.
    LongestIdle,
    /// The one whose last offer is the longest ago.
    RoundRobin,
    /// The one with the most free capacity.
    MostSpare,
    /// The one with the highest levels of the required skills.
    BestSkill,
    /// Nobody: agents claim what they take.
    Manual,
}

/// Whether a queue takes and gives work.
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
pub enum QueueState {
    /// Both.
    Open,
    /// It gives what it has and takes nothing new.
    Draining,
    /// Neither.
    Closed,
}

/// Where work waits.
pub mod queue {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::QueueId,
        queues::entity::{Distribution, QueueState},
    };

    /// One queue.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "queues")]
    pub struct Model {
        /// The queue's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: QueueId,
        /// Its unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// Which agent gets the next item.
        pub distribution: Distribution,
        /// Whether the agent who last had the conversation is asked first.
        pub last_agent_first: bool,
        /// The priority of items whose script sets none, 1 (first) to 10.
        pub default_priority: i32,
        /// Waiting for so many seconds counts as much as one step of priority; none: priority is strict.
        pub aging_s: Option<i64>,
        /// How many items may wait.
        pub max_length: Option<i64>,
        /// How long an item may wait.
        pub max_wait_s: Option<i64>,
        /// Items are to be taken within so many seconds.
        pub service_level_target_s: Option<i64>,
        /// How many of a hundred are.
        pub service_level_percent: Option<i32>,
        /// Whether it takes and gives work.
        pub state: QueueState,
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

/// Which groups serve which queues.
pub mod queue_group {
    use sea_orm::entity::prelude::*;

    use crate::id::{GroupId, QueueId};

    /// One row.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "queue_groups")]
    pub struct Model {
        /// The queue.
        #[sea_orm(primary_key, auto_increment = false)]
        pub queue_id: QueueId,
        /// The group.
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: GroupId,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
