//! The role × operation matrix: every operation of the API, and who may call it. Written once, tested whole.

use std::collections::BTreeSet;

use crate::http::caller::{Caller, Role};

/// Who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Public,
    /// Every authenticated caller.
    Anyone,
    /// Every user, whatever the role; no API key.
    Users,
    /// Users of these roles (administrators always), and API keys with this scope.
    Roles(&'static [Role], &'static str),
}

use Access::{Anyone, Public, Roles, Users};
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
    ("list_agents", Roles(STAFF, "agents:read")),
    ("get_agent", Roles(STAFF, "agents:read")),
    ("update_agent", Roles(SUPERVISOR, "agents:write")),
    ("set_agent_state", Roles(STAFF, "agents:write")),
    ("list_queues", Roles(STAFF, "routing:read")),
    ("get_queue", Roles(STAFF, "routing:read")),
    ("list_queue_items", Roles(SUPERVISOR, "work:read")),
    ("get_queue_stats", Roles(STAFF, "routing:read")),
    ("create_queue", Roles(SUPERVISOR, "routing:write")),
    ("update_queue", Roles(SUPERVISOR, "routing:write")),
    ("delete_queue", Roles(SUPERVISOR, "routing:write")),
    // access; the scope access:write lets a key make administrators, so it is worth as much as that role
    ("issue_token", Public),
    ("revoke_token", Public),
    ("get_jwks", Public),
    ("get_me", Anyone),
    ("change_password", Users),
    ("rotate_signing_key", Roles(ADMIN, "access:write")),
    ("list_users", Roles(SUPERVISOR, "access:read")),
    ("get_user", Roles(SUPERVISOR, "access:read")),
    ("create_user", Roles(ADMIN, "access:write")),
    ("update_user", Roles(ADMIN, "access:write")),
    ("delete_user", Roles(ADMIN, "access:write")),
    ("reset_user_password", Roles(ADMIN, "access:write")),
    ("list_api_keys", Roles(ADMIN, "access:read")),
    ("get_api_key", Roles(ADMIN, "access:read")),
    ("create_api_key", Roles(ADMIN, "access:write")),
    ("update_api_key", Roles(ADMIN, "access:write")),
    ("revoke_api_key", Roles(ADMIN, "access:write")),
    ("list_audit_entries", Roles(ADMIN, "audit:read")),
    // accounts
    ("list_accounts", Roles(SUPERVISOR, "accounts:read")),
    ("get_account", Roles(SUPERVISOR, "accounts:read")),
    ("create_account", Roles(ADMIN, "accounts:write")),
    ("update_account", Roles(ADMIN, "accounts:write")),
    ("delete_account", Roles(ADMIN, "accounts:write")),
    ("check_account", Roles(ADMIN, "accounts:write")),
    ("preview_text", Roles(ADMIN, "accounts:write")),
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
    ("revise_template", Roles(ADMIN, "routing:write")),
    ("archive_template", Roles(ADMIN, "routing:write")),
    ("preview_template", Roles(SUPERVISOR, "routing:read")),
    ("create_template_attachment", Roles(ADMIN, "routing:write")),
    ("get_template_attachment", Roles(SUPERVISOR, "routing:read")),
    ("delete_template_attachment", Roles(ADMIN, "routing:write")),
    ("list_template_partials", Roles(SUPERVISOR, "routing:read")),
    ("get_template_partial", Roles(SUPERVISOR, "routing:read")),
    ("create_template_partial", Roles(ADMIN, "routing:write")),
    ("update_template_partial", Roles(ADMIN, "routing:write")),
    ("delete_template_partial", Roles(ADMIN, "routing:write")),
    ("test_send_template", Roles(SUPERVISOR, "messages:send")),
    // campaigns
    ("list_campaigns", Roles(SUPERVISOR, "campaigns:read")),
    ("get_campaign", Roles(SUPERVISOR, "campaigns:read")),
    ("create_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("update_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("delete_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("start_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("suspend_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("resume_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("stop_campaign", Roles(SUPERVISOR, "campaigns:write")),
    ("get_list_message_rules", Roles(SUPERVISOR, "campaigns:read")),
    ("replace_list_message_rules", Roles(SUPERVISOR, "campaigns:write")),
    ("delete_list_message_rules", Roles(SUPERVISOR, "campaigns:write")),
    // attempts: what diallers report
    ("create_attempt", Roles(SUPERVISOR, "attempts:write")),
    ("create_attempt_by_ref", Roles(SUPERVISOR, "attempts:write")),
    ("list_attempts", Roles(SUPERVISOR, "attempts:read")),
    // outgoing server
    ("get_outgoing_server", Roles(SUPERVISOR, "outgoing:read")),
    ("replace_outgoing_server", Roles(ADMIN, "outgoing:write")),
    ("delete_outgoing_server", Roles(ADMIN, "outgoing:write")),
    ("check_outgoing_server", Roles(ADMIN, "outgoing:write")),
    ("send_test_message", Roles(ADMIN, "outgoing:write")),
    ("pause_outgoing_server", Roles(ADMIN, "outgoing:write")),
    ("resume_outgoing_server", Roles(ADMIN, "outgoing:write")),
    ("list_captured_messages", Roles(SUPERVISOR, "outgoing:read")),
    ("get_captured_message", Roles(SUPERVISOR, "outgoing:read")),
    ("get_captured_message_raw", Roles(SUPERVISOR, "outgoing:read")),
    ("delete_captured_messages", Roles(ADMIN, "outgoing:write")),
    // DKIM keys
    ("list_dkim_keys", Roles(SUPERVISOR, "outgoing:read")),
    ("get_dkim_key", Roles(SUPERVISOR, "outgoing:read")),
    ("check_dkim_key", Roles(SUPERVISOR, "outgoing:read")),
    ("create_dkim_key", Roles(ADMIN, "outgoing:write")),
    ("delete_dkim_key", Roles(ADMIN, "outgoing:write")),
    ("activate_dkim_key", Roles(ADMIN, "outgoing:write")),
    ("retire_dkim_key", Roles(ADMIN, "outgoing:write")),
    // delivery of messages
    ("get_message_delivery", Roles(STAFF, "conversations:read")),
    ("get_message_timeline", Roles(STAFF, "conversations:read")),
    ("create_message", Roles(SUPERVISOR, "messages:send")),
    ("create_message_batch", Roles(SUPERVISOR, "messages:send")),
    ("cancel_message", Roles(STAFF, "messages:send")),
    ("retry_message", Roles(STAFF, "messages:send")),
    // the link in a mail
    ("get_unsubscribe_page", Public),
    ("create_unsubscribe", Public),
    // broadcasts
    ("list_broadcasts", Roles(SUPERVISOR, "broadcasts:read")),
    ("get_broadcast", Roles(SUPERVISOR, "broadcasts:read")),
    ("list_broadcast_recipients", Roles(SUPERVISOR, "broadcasts:read")),
    ("preflight_broadcast", Roles(SUPERVISOR, "broadcasts:read")),
    ("test_send_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("create_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("update_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("delete_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("start_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("pause_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("resume_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("cancel_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("retry_failed_broadcast", Roles(SUPERVISOR, "broadcasts:write")),
    ("list_suppressions", Roles(SUPERVISOR, "suppressions:read")),
    ("get_suppression", Roles(SUPERVISOR, "suppressions:read")),
    ("export_suppressions", Roles(SUPERVISOR, "suppressions:read")),
    ("import_suppressions", Roles(SUPERVISOR, "suppressions:write")),
    ("create_suppression", Roles(SUPERVISOR, "suppressions:write")),
    ("delete_suppression", Roles(SUPERVISOR, "suppressions:write")),
    // outcomes, lists, customers
    ("list_outcomes", Roles(SUPERVISOR, "customers:read")),
    ("get_outcome", Roles(SUPERVISOR, "customers:read")),
    ("create_outcome", Roles(SUPERVISOR, "customers:write")),
    ("update_outcome", Roles(SUPERVISOR, "customers:write")),
    ("delete_outcome", Roles(SUPERVISOR, "customers:write")),
    ("list_lists", Roles(SUPERVISOR, "customers:read")),
    ("get_list", Roles(SUPERVISOR, "customers:read")),
    ("get_list_stats", Roles(SUPERVISOR, "customers:read")),
    ("create_list", Roles(SUPERVISOR, "customers:write")),
    ("update_list", Roles(SUPERVISOR, "customers:write")),
    ("delete_list", Roles(SUPERVISOR, "customers:write")),
    ("list_customers", Roles(SUPERVISOR, "customers:read")),
    ("get_customer", Roles(SUPERVISOR, "customers:read")),
    ("get_customer_by_ref", Roles(SUPERVISOR, "customers:read")),
    ("create_customer", Roles(SUPERVISOR, "customers:write")),
    ("put_customer_by_ref", Roles(SUPERVISOR, "customers:write")),
    ("update_customer", Roles(SUPERVISOR, "customers:write")),
    ("delete_customer", Roles(SUPERVISOR, "customers:write")),
    ("terminate_customer", Roles(SUPERVISOR, "customers:write")),
    ("redial_customer", Roles(SUPERVISOR, "customers:write")),
    ("set_customer_callback", Roles(SUPERVISOR, "customers:write")),
    ("clear_customer_callback", Roles(SUPERVISOR, "customers:write")),
    ("erase_customer", Roles(SUPERVISOR, "customers:write")),
    ("list_imports", Roles(SUPERVISOR, "customers:read")),
    ("get_import", Roles(SUPERVISOR, "customers:read")),
    ("list_import_errors", Roles(SUPERVISOR, "customers:read")),
    ("create_import", Roles(SUPERVISOR, "customers:write")),
    ("put_import_rows", Roles(SUPERVISOR, "customers:write")),
    ("cancel_import", Roles(SUPERVISOR, "customers:write")),
    ("export_customers", Roles(SUPERVISOR, "customers:read")),
    // answering: only the agent who has the item
    ("reply_work_item", Roles(STAFF, "work:write")),
    ("reply_all_work_item", Roles(STAFF, "work:write")),
    ("forward_work_item", Roles(STAFF, "work:write")),
    ("get_reply_template", Roles(STAFF, "work:read")),
    ("get_draft", Roles(STAFF, "work:read")),
    ("replace_draft", Roles(STAFF, "work:write")),
    ("delete_draft", Roles(STAFF, "work:write")),
    ("create_upload", Roles(STAFF, "work:write")),
    ("get_upload", Roles(STAFF, "work:write")),
    ("delete_upload", Roles(STAFF, "work:write")),
    // notes: whoever sees the conversation
    ("list_conversation_notes", Roles(STAFF, "conversations:read")),
    ("create_conversation_note", Roles(STAFF, "conversations:write")),
    ("create_work_item_note", Roles(STAFF, "conversations:write")),
    // inbound
    ("push_message", Roles(ADMIN, "inbound:write")),
    // conversations: agents only those that they have or had work in
    ("list_conversations", Roles(STAFF, "conversations:read")),
    ("get_conversation", Roles(STAFF, "conversations:read")),
    ("list_conversation_messages", Roles(STAFF, "conversations:read")),
    ("close_conversation", Roles(STAFF, "conversations:write")),
    ("list_messages", Roles(STAFF, "conversations:read")),
    ("get_message", Roles(STAFF, "conversations:read")),
    ("get_message_raw", Roles(STAFF, "conversations:read")),
    ("get_message_attachment", Roles(STAFF, "conversations:read")),
    // sandbox
    ("get_sandbox_clock", Roles(STAFF, "sandbox:read")),
    ("advance_sandbox_clock", Roles(ADMIN, "sandbox:write")),
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
            (Users, role) => role != Role::Integration,
            (Roles(_, scope), Role::Integration) => caller.scopes.iter().any(|given| given == scope),
            (Roles(roles, _), role) => roles.contains(&role),
        }
    }

    /// Every scope, in alphabetical order.
    pub fn scopes() -> BTreeSet<&'static str> {
        MATRIX.iter().filter_map(|(_, access)| access.scope()).collect()
    }

    /// The scopes of which `caller` may call at least one operation.
    pub fn scopes_of(caller: &Caller) -> BTreeSet<&'static str> {
        let allowed = MATRIX.iter().filter(|(_, access)| access.allows(caller));
        allowed.filter_map(|(_, access)| access.scope()).collect()
    }

    /// The roles that may call the operation, administrators first; none when nobody needs one. An API key needs the scope
    /// instead, where there is one.
    pub fn roles(self) -> Vec<&'static str> {
        match self {
            Public => Vec::new(),
            Anyone => vec!["admin", "supervisor", "agent", "integration"],
            Users => vec!["admin", "supervisor", "agent"],
            Roles(roles, _) => [("admin", Role::Admin), ("supervisor", Supervisor), ("agent", Agent)]
                .into_iter()
                .filter(|(_, role)| *role == Role::Admin || roles.contains(role))
                .map(|(name, _)| name)
                .collect(),
        }
    }

    /// The scope that an API key needs.
    pub fn scope(self) -> Option<&'static str> {
        if let Roles(_, scope) = self { Some(scope) } else { None }
    }
}
