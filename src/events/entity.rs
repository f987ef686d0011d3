//! The table `events`.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    http::caller::{Caller, Role},
    id::{EventId, UserId},
};

/// Who may see an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Audience {
    /// Everybody who may read events.
    Everyone,
    /// Administrators and supervisors.
    Supervisors,
    /// Administrators.
    Admins,
    /// The named agent, administrators and supervisors.
    Agent,
}

/// One event.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    /// The order of writing.
    #[sea_orm(primary_key)]
    pub seq: i64,
    /// The place in the log; none until the event is known to be committed.
    #[sea_orm(ignore_insert)]
    pub position: Option<i64>,
    /// The event's id.
    pub id: EventId,
    /// `resource.what_happened`.
    #[sea_orm(column_name = "type")]
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// The resource it tells of.
    pub subject_id: Uuid,
    /// Who may see it.
    pub audience: Audience,
    /// The agent it is for.
    pub agent_id: Option<UserId>,
    /// What changed.
    pub data: Json,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Whether `caller` may see this event.
    pub fn is_visible_to(&self, caller: &Caller) -> bool {
        match (caller.role, self.audience) {
            (Role::Admin, _) | (_, Audience::Everyone) => true,
            (Role::Supervisor | Role::Integration, Audience::Supervisors | Audience::Agent) => true,
            (Role::Agent, Audience::Agent) => self.agent_id == caller.user_id(),
            _ => false,
        }
    }
}
