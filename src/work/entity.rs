//! The tables of work items, of what their scripts did, and of offers.

/// Where a work item stands.
///
/// - `new`: just made.
/// - `routing`: its script runs.
/// - `queued`: it waits in a queue.
/// - `offered`: it is held out to an agent.
/// - `assigned`: an agent works on it.
/// - `waiting`: snoozed, until its time or the customer's next message.
/// - `wrapping`: the agent finishes it.
/// - `completed`: done.
/// - `discarded`: its script ended it without an agent.
/// - `failed`: it could not be routed, and there is no fallback queue.
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
pub enum WorkState {
    /// Just made.
    New,
    /// Its script runs.
    Routing,
    /// It waits in a queue.
    Queued,
    /// It is held out to an agent.
    Offered,
    /// An agent works on it.
    Assigned,
    /// It sleeps until its timer or the customer's next message.
    Waiting,
    /// The agent finishes it.
    Wrapping,
    /// Done.
    Completed,
    /// Its script ended it without an agent.
    Discarded,
    /// Routing failed and there is no fallback queue.
    Failed,
}

impl WorkState {
    /// Those of items that are done, and that nothing brings back.
    pub const DONE: [Self; 2] = [Self::Completed, Self::Discarded];
}

/// Where an offer stands.
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
pub enum OfferState {
    /// The agent may take it.
    Pending,
    /// The agent took it.
    Accepted,
    /// The agent refused it.
    Rejected,
    /// The agent did not answer in time.
    TimedOut,
    /// It was taken back.
    Rescinded,
}

/// What a work item's timer is for.
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
pub enum Timer {
    /// The script's time in this queue is over.
    QueueTimeout,
    /// It wakes up.
    Snooze,
    /// Wrap-up time is over.
    WrapUp,
    /// Its script is to be run, again after a crash.
    Route,
    /// The queue's own limit is over.
    MaxWait,
}

/// Pieces of work for agents.
pub mod work_item {
    use sea_orm::entity::prelude::*;

    use crate::{
        accounts::entity::Channel,
        clock::Timestamp,
        id::{
            AccountId, ClassId, ConversationId, GroupId, MessageId, QueueId, ScriptVersionId, UserId,
            WorkItemId,
        },
        work::entity::{Timer, WorkState},
    };

    /// One work item.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "work_items")]
    pub struct Model {
        /// The item's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: WorkItemId,
        /// Its conversation; at most one item per conversation is open.
        pub conversation_id: ConversationId,
        /// The account that received it.
        pub account_id: AccountId,
        /// E-mail or text.
        pub channel: Channel,
        /// Where it stands.
        pub state: WorkState,
        /// The subject, for lists.
        pub subject: String,
        /// The customer's name, for lists.
        pub customer_name: Option<String>,
        /// The customer's address, for lists.
        pub customer_address: Option<String>,
        /// The message that made it.
        pub first_message_id: MessageId,
        /// The newest inbound message on it.
        pub last_message_id: MessageId,
        /// How many inbound messages it covers.
        pub message_count: i64,
        /// What kind of contact it is.
        pub class_id: Option<ClassId>,
        /// 1 (first) to 10.
        pub priority: i32,
        /// The queue it waits in, or was taken from.
        pub queue_id: Option<QueueId>,
        /// Only for this group, after a transfer.
        pub group_id: Option<GroupId>,
        /// Only for this agent, after a transfer or for the last agent.
        pub target_agent_id: Option<UserId>,
        /// Skills an agent needs, as `[{skill_id, min_level}]`.
        pub required_skills: Json,
        /// Group and skills in one word (`work::lane`): items of one queue and lane can go to the same agents.
        pub lane: String,
        /// When it took its place in the queue; kept when an offer fails.
        pub queued_at: Option<Timestamp>,
        /// Its order in the queue, smallest first: see `work::rank`.
        pub rank: i64,
        /// Who has it (assigned and wrapping), or had it last.
        pub assigned_agent_id: Option<UserId>,
        /// The agent who had the conversation before.
        pub last_agent_id: Option<UserId>,
        /// Agents who rejected or missed it, with when, as `[{agent_id, at}]`.
        pub declined_by: Json,
        /// The script version it began with and stays on.
        pub script_version_id: Option<ScriptVersionId>,
        /// Where its script stands (`work::routing::Standing`); none when the script has done its part.
        pub run: Option<Json>,
        /// Whether the script has more to do once an agent has the item.
        pub run_continues: bool,
        /// What went wrong in routing.
        pub error: Option<Json>,
        /// How it ended.
        pub result: Option<String>,
        /// The outcome that the agent set.
        pub outcome_code: Option<String>,
        /// What `due_at` is for.
        pub timer: Option<Timer>,
        /// When its timer goes off.
        pub due_at: Option<Timestamp>,
        /// Until when a process holds its timer.
        pub lease_until: Timestamp,
        /// How often its timer was leased.
        pub attempts: i64,
        /// When it was first queued, for the service level.
        pub first_queued_at: Option<Timestamp>,
        /// When it was last assigned.
        pub assigned_at: Option<Timestamp>,
        /// When it was first assigned, for the service level.
        pub first_assigned_at: Option<Timestamp>,
        /// When it was first answered.
        pub first_answered_at: Option<Timestamp>,
        /// When it ended.
        pub completed_at: Option<Timestamp>,
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

    /// Items in this state, as the indexes on states need it.
    pub fn is(state: super::WorkState) -> Expr {
        crate::db::literally(Column::State, state)
    }
}

/// What happened to an item and why, step by step.
pub mod trace {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::WorkItemId};

    /// One entry.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "work_trace")]
    pub struct Model {
        /// The row's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// The item.
        pub work_item_id: WorkItemId,
        /// When.
        pub at: Timestamp,
        /// `script_step`, `state`, `offer` or `note`.
        pub kind: String,
        /// The details, with the values that were seen.
        pub data: Json,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Work held out to agents.
pub mod offer {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::{OfferId, QueueId, UserId, WorkItemId},
        work::entity::OfferState,
    };

    /// One offer.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "offers")]
    pub struct Model {
        /// The offer's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: OfferId,
        /// The item.
        pub work_item_id: WorkItemId,
        /// The agent.
        pub agent_id: UserId,
        /// The queue it came from.
        pub queue_id: Option<QueueId>,
        /// Where it stands.
        pub state: OfferState,
        /// Why it ended so.
        pub reason: Option<String>,
        /// When it was made.
        pub created_at: Timestamp,
        /// Until when it can be accepted.
        pub expires_at: Timestamp,
        /// When it ended.
        pub settled_at: Option<Timestamp>,
    }

    /// What an offer refers to.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        /// The item that is held out.
        #[sea_orm(
            belongs_to = "super::work_item::Entity",
            from = "Column::WorkItemId",
            to = "super::work_item::Column::Id"
        )]
        Item,
    }

    impl Related<super::work_item::Entity> for Entity {
        fn to() -> RelationDef {
            Relation::Item.def()
        }
    }

    impl ActiveModelBehavior for ActiveModel {}

    /// Offers in this state, as the indexes on states need it.
    pub fn is(state: super::OfferState) -> Expr {
        crate::db::literally(Column::State, state)
    }
}
