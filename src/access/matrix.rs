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
    // events
    ("list_events", Roles(STAFF, "events:read")),
    ("create_event_ticket", Roles(STAFF, "events:read")),
    ("stream_events", Roles(STAFF, "events:read")),
    // skills, agent groups, agents, queues
    ("list_skills", Roles(STAFF, "routing:read")),
    ("get_skill", Roles(STAFF, "routing:read")),
    ("create_skill", Roles(SUPERVISOR, "routing:write")),
    ("update_skill", Roles(SUPERVISOR, "routing:write")),
    ("delete_skill", Roles(SUPERVISOR, "routing:write")),
    ("list_agent_groups", Roles(STAFF, "routing:read")),
    ("get_agent_group", Roles(STAFF, "routing:read")),
    ("create_agent_group", Roles(SUPERVISOR, "routing:write")),
    ("update_agent_group", Roles(SUPERVISOR, "routing:write")),
    ("delete_agent_group", Roles(SUPERVISOR, "routing:write")),
    ("list_agents", Roles(SUPERVISOR, "agents:read")),
    ("get_agent", Roles(STAFF, "agents:read")),
    ("update_agent", Roles(SUPERVISOR, "agents:write")),
    ("set_agent_state", Roles(STAFF, "agents:write")),
    ("list_queues", Roles(STAFF, "routing:read")),
    ("get_queue", Roles(STAFF, "routing:read")),
    ("create_queue", Roles(SUPERVISOR, "routing:write")),
    ("update_queue", Roles(SUPERVISOR, "routing:write")),
    ("delete_queue", Roles(SUPERVISOR, "routing:write")),
    // accounts
    ("list_accounts", Roles(SUPERVISOR, "accounts:read")),
    ("get_account", Roles(SUPERVISOR, "accounts:read")),
    ("create_account", Roles(ADMIN, "accounts:write")),
    ("update_account", Roles(ADMIN, "accounts:write")),
    ("delete_account", Roles(ADMIN, "accounts:write")),
    ("check_account", Roles(ADMIN, "accounts:write")),
    ("activate_account", Roles(ADMIN, "accounts:write")),
    ("pause_account", Roles(ADMIN, "accounts:write")),
    ("resume_account", Roles(ADMIN, "accounts:write")),
    ("disable_account", Roles(ADMIN, "accounts:write")),
    ("poll_account", Roles(SUPERVISOR, "accounts:write")),
    ("backfill_account", Roles(ADMIN, "accounts:write")),
    // classes
    ("list_classes", Roles(STAFF, "routing:read")),
    ("get_class", Roles(STAFF, "routing:read")),
    ("create_class", Roles(ADMIN, "routing:write")),
    ("update_class", Roles(ADMIN, "routing:write")),
    ("delete_class", Roles(ADMIN, "routing:write")),
    // inbound
    ("push_message", Roles(ADMIN, "inbound:write")),
    // conversations: agents only those that they have or had work in
    ("list_conversations", Roles(STAFF, "conversations:read")),
    ("get_conversation", Roles(STAFF, "conversations:read")),
    ("list_conversation_messages", Roles(STAFF, "conversations:read")),
    ("close_conversation", Roles(STAFF, "conversations:write")),
    ("reopen_conversation", Roles(STAFF, "conversations:write")),
    ("list_messages", Roles(STAFF, "conversations:read")),
    ("get_message", Roles(STAFF, "conversations:read")),
    ("get_message_raw", Roles(STAFF, "conversations:read")),
    ("get_message_attachment", Roles(STAFF, "conversations:read")),
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
