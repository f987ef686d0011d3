//! The facts of a stored message, as scripts see them.

use std::collections::BTreeMap;

use sea_orm::ActiveEnum;
use serde::Deserialize;
use serde_json::Value as Json;

use super::facts::{
    AccountFacts, AddressFacts, AttachmentFacts, ConversationFacts, Facts, ItemFacts, MessageFacts,
};
use super::library::Snapshot;
use crate::{
    accounts::entity::account,
    clock::Timestamp,
    conversations::entity::{conversation, message},
};

/// Most bytes of a message's text that scripts see.
const MAX_TEXT: usize = 64 * 1024;

/// The facts of one turn at `now`; `begins_conversation` says whether the message began its conversation.
///
/// Time is shown to expressions in UTC: accounts have no time zone, calendars have one of their own.
pub fn facts(
    account: &account::Model,
    conversation: &conversation::Model,
    begins_conversation: bool,
    message: &message::Model,
    item: ItemFacts,
    in_force: &Snapshot,
    now: Timestamp,
) -> Facts {
    Facts {
        message: message_facts(message),
        account: account_facts(account),
        conversation: ConversationFacts {
            id: conversation.id.uuid(),
            is_new: begins_conversation,
            message_count: u64::try_from(conversation.message_count).unwrap_or_default(),
            last_agent_id: conversation.last_agent_id.map(|agent| agent.uuid()),
        },
        item,
        globals: in_force.globals().clone(),
        at: now.to_chrono(),
        timezone: chrono_tz::UTC,
    }
}

fn message_facts(row: &message::Model) -> MessageFacts {
    let attachments = attachments(&row.attachments);
    MessageFacts {
        from: AddressFacts::new(
            row.from_address.clone().unwrap_or_default(),
            row.from_name.clone().unwrap_or_default(),
        ),
        to: addresses(&row.to_addresses),
        cc: addresses(&row.cc_addresses),
        subject: row.subject.clone(),
        text: row.new_text[..row.new_text.floor_char_boundary(MAX_TEXT)].to_owned(),
        headers: headers(&row.headers),
        class: row.classification.to_value(),
        has_attachments: !attachments.is_empty(),
        attachments,
        size_bytes: u64::try_from(row.size_bytes).unwrap_or_default(),
        received_at: row.received_at.unwrap_or(row.created_at).to_chrono(),
    }
}

fn account_facts(row: &account::Model) -> AccountFacts {
    AccountFacts {
        id: row.id.uuid(),
        channel: row.channel.to_value(),
        address: row.address.clone(),
        display_name: row.display_name.clone(),
        class_id: row.class_id.map(|class| class.uuid()),
        fallback_queue_id: row.fallback_queue_id.map(|queue| queue.uuid()),
        settings: BTreeMap::deserialize(&row.script_settings).unwrap_or_default(),
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn addresses(stored: &Json) -> Vec<AddressFacts> {
    let one = |value: &Json| AddressFacts::new(text(&value["address"]), text(&value["name"]));
    stored.as_array().into_iter().flatten().map(one).collect()
}

fn attachments(stored: &Json) -> Vec<AttachmentFacts> {
    let one = |value: &Json| AttachmentFacts {
        name: text(&value["filename"]),
        content_type: text(&value["content_type"]),
        size_bytes: value["size_bytes"].as_u64().unwrap_or_default(),
    };
    stored.as_array().into_iter().flatten().map(one).collect()
}

/// The first value of each field; a field is stored as its value, or as the list of its values.
fn headers(stored: &Json) -> BTreeMap<String, String> {
    let first = |value: &Json| match value {
        Json::Array(values) => values.first().map(text),
        value => value.as_str().map(str::to_owned),
    };
    let fields = stored.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), first(value)?))).collect()
}
