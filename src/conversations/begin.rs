//! A conversation that a message of ours begins.

use serde_json::json;

use super::{
    entity::{ConversationState, conversation},
    messages::customer_key,
    recipient::Recipient,
};
use crate::{accounts::entity::account, clock::Timestamp, events::NewEvent, id::ConversationId};

/// The conversation over the account with the recipient; its message is noted on it when it is filed.
pub fn with(
    id: ConversationId,
    account: &account::Model,
    to: &Recipient,
    subject: &str,
    now: Timestamp,
) -> conversation::Model {
    conversation::Model {
        id,
        account_id: account.id,
        channel: account.channel,
        state: ConversationState::WaitingCustomer,
        subject: subject.to_owned(),
        customer_name: to.name.clone(),
        customer_address: Some(customer_key(&to.address)),
        message_count: 0,
        last_message_id: None,
        last_message_at: now,
        last_agent_id: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// What the event log tells of a new conversation.
pub fn event(row: &conversation::Model) -> NewEvent {
    let data = json!({
        "account_id": row.account_id, "state": row.state, "message_count": row.message_count,
        "last_message_id": row.last_message_id,
    });
    NewEvent::new("conversation.created", row.id.uuid(), &data).for_supervisors()
}
