//! The role × operation matrix: every operation of the API, and who may call it. Written once, tested whole.

use crate::http::caller::{Caller, Role};

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Public,
    /// Every authenticated caller.
    Anyone,
    /// Users of these roles (administrators always), and API keys with this scope.
    Roles(&'static [Role], &'static str),
}

use Access::{Anyone, Public, Roles};
use Role::{Agent, Supervisor};

const ADMIN: &[Role] = &[];
const SUPERVISOR: &[Role] = &[Supervisor];
const STAFF: &[Role] = &[Supervisor, Agent];

/// Every operation, by its `operationId`, grouped by feature.
pub const MATRIX: &[(&str, Access)] = &[
    // service
    ("get_health", Public),
    ("get_readiness", Public),
    ("get_metrics", Public),
    ("list_problems", Public),
    // work items and offers
    ("list_work_items", Roles(STAFF, "work:read")),
    ("get_work_item", Roles(STAFF, "work:read")),
    ("get_work_item_trace", Roles(STAFF, "work:read")),
    ("explain_work_item", Roles(STAFF, "work:read")),
    ("claim_next_work_item", Roles(STAFF, "work:write")),
    ("claim_work_item", Roles(STAFF, "work:write")),
    ("release_work_item", Roles(STAFF, "work:write")),
    ("transfer_work_item", Roles(STAFF, "work:write")),
    ("snooze_work_item", Roles(STAFF, "work:write")),
    ("set_work_item_outcome", Roles(STAFF, "work:write")),
    ("set_work_item_priority", Roles(SUPERVISOR, "work:write")),
    ("set_work_item_class", Roles(SUPERVISOR, "work:write")),
    ("complete_work_item", Roles(STAFF, "work:write")),
    ("finish_work_item_wrap_up", Roles(STAFF, "work:write")),
    ("list_offers", Roles(STAFF, "work:read")),
    ("get_offer", Roles(STAFF, "work:read")),
    ("accept_offer", Roles(STAFF, "work:write")),
    ("reject_offer", Roles(STAFF, "work:write")),
    // events
    ("list_events", Roles(STAFF, "events:read")),
    ("create_event_ticket", Roles(STAFF, "events:read")),
    ("stream_events", Roles(STAFF, "events:read")),
    // classes
    ("list_classes", Roles(STAFF, "routing:read")),
    ("get_class", Roles(STAFF, "routing:read")),
    ("create_class", Roles(ADMIN, "routing:write")),
    ("update_class", Roles(ADMIN, "routing:write")),
    ("delete_class", Roles(ADMIN, "routing:write")),
];

impl Access {
    /// The row of the matrix for an operation.
    pub fn of(operation: &str) -> Option<Self> {
        MATRIX.iter().find(|(id, _)| *id == operation).map(|(_, access)| *access)
    }

    /// Whether `caller` may call the operation.
    pub fn allows(self, caller: &Caller) -> bool {
        match (self, caller.role) {
            (Public | Anyone, _) | (Roles(..), Role::Admin) => true,
            (Roles(_, scope), Role::Integration) => caller.scopes.iter().any(|given| given == scope),
            (Roles(roles, _), role) => roles.contains(&role),
        }
    }

    /// The scope that an API key needs.
    pub fn scope(self) -> Option<&'static str> {
        if let Roles(_, scope) = self { Some(scope) } else { None }
    }
}
