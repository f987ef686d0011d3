//! Who makes a request; put into the request by the guard of the `access` feature.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::problem::{Code, Problem};
use crate::id::UserId;

/// What a caller may do in general; each operation says which roles may call it.
///
/// - `admin`: everything.
/// - `supervisor`: queues, agents and everybody's work; reads most settings.
/// - `agent`: its own offers, its own work items and its own state.
/// - `integration`: an API key, with the scopes that it was given.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Queues, agents, work, broadcasts and reports.
    Supervisor,
    /// Own offers, own work items, own state.
    Agent,
    /// An API key: the scopes it was given.
    Integration,
}

/// The authenticated caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Caller {
    /// The user's or API key's id.
    pub id: Uuid,
    /// The user name, or the key's name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The scopes of an API key; empty for users.
    pub scopes: Vec<String>,
}

impl Caller {
    /// The user behind the caller, when it is one: API keys are no users.
    pub fn user_id(&self) -> Option<UserId> {
        (self.role != Role::Integration).then_some(UserId(self.id))
    }

    /// The caller as an agent with a desk of its own.
    ///
    /// # Errors
    /// `forbidden` for API keys.
    pub fn agent_id(&self) -> Result<UserId, Problem> {
        self.user_id().ok_or_else(|| Problem::new(Code::Forbidden, "an API key has no agent's desk"))
    }

    /// Whether the caller sees everybody's work, not only its own.
    pub fn oversees(&self) -> bool {
        self.role != Role::Agent
    }

    /// A name for what belongs to this caller alone (idempotency keys, rate limits).
    pub fn key(&self) -> String {
        format!("{:?}:{}", self.role, self.id)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Problem::new(Code::Unauthenticated, "no access token was given")))
    }
}
