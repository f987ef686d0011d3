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
    // classes
    ("list_classes", Roles(STAFF, "routing:read")),
    ("get_class", Roles(STAFF, "routing:read")),
    ("create_class", Roles(ADMIN, "routing:write")),
    ("update_class", Roles(ADMIN, "routing:write")),
    ("delete_class", Roles(ADMIN, "routing:write")),
    // scripts
    ("list_scripts", Roles(SUPERVISOR, "routing:read")),
    ("get_script", Roles(SUPERVISOR, "routing:read")),
    ("create_script", Roles(ADMIN, "routing:write")),
    ("update_script", Roles(ADMIN, "routing:write")),
    ("delete_script", Roles(ADMIN, "routing:write")),
    ("list_script_versions", Roles(SUPERVISOR, "routing:read")),
    ("get_script_version", Roles(SUPERVISOR, "routing:read")),
    ("create_script_version", Roles(ADMIN, "routing:write")),
    ("replace_script_version", Roles(ADMIN, "routing:write")),
    ("update_script_version", Roles(ADMIN, "routing:write")),
    ("delete_script_version", Roles(ADMIN, "routing:write")),
    ("validate_script_version", Roles(SUPERVISOR, "routing:read")),
    ("simulate_script_version", Roles(SUPERVISOR, "routing:read")),
    ("activate_script_version", Roles(ADMIN, "routing:write")),
    ("lock_script_version", Roles(ADMIN, "routing:write")),
    ("unlock_script_version", Roles(ADMIN, "routing:write")),
    ("list_calendars", Roles(SUPERVISOR, "routing:read")),
    ("get_calendar", Roles(SUPERVISOR, "routing:read")),
    ("get_calendar_status", Roles(SUPERVISOR, "routing:read")),
    ("create_calendar", Roles(ADMIN, "routing:write")),
    ("update_calendar", Roles(ADMIN, "routing:write")),
    ("delete_calendar", Roles(ADMIN, "routing:write")),
    ("list_variables", Roles(SUPERVISOR, "routing:read")),
    ("get_variable", Roles(SUPERVISOR, "routing:read")),
    ("put_variable", Roles(SUPERVISOR, "routing:write")),
    ("delete_variable", Roles(SUPERVISOR, "routing:write")),
    // templates
    ("list_templates", Roles(SUPERVISOR, "routing:read")),
    ("get_template", Roles(SUPERVISOR, "routing:read")),
    ("create_template", Roles(ADMIN, "routing:write")),
    ("update_template", Roles(ADMIN, "routing:write")),
    ("delete_template", Roles(ADMIN, "routing:write")),
    ("publish_template", Roles(ADMIN, "routing:write")),
    ("archive_template", Roles(ADMIN, "routing:write")),
    ("preview_template", Roles(SUPERVISOR, "routing:read")),
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
