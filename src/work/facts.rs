//! What a script may know of a message, its account, conversation and item.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde_json::Value;

use super::entity::work_item;
use crate::{
    accounts::entity::account,
    clock::Timestamp,
    conversations::entity::{conversation, message},
    scripts::facts::{
        AccountFacts, AddressFacts, AttachmentFacts, ConversationFacts, Facts, ItemFacts, MessageFacts,
    },
};

/// Scripts see this much of a message's text.
const MAX_TEXT: usize = 64 * 1024;

/// Everything that a script's expressions may read.
pub fn facts(
    account: &account::Model,
    conversation: &conversation::Model,
    message: &message::Model,
    item: &work_item::Model,
    globals: BTreeMap<String, Value>,
    now: Timestamp,
) -> Facts {
    Facts {
        message: message_facts(message, now),
        account: AccountFacts {
            id: account.id.uuid(),
            channel: word(&account.channel),
            address: account.address.clone(),
            display_name: account.display_name.clone(),
            class_id: account.class_id.map(|id| id.uuid()),
            fallback_queue_id: account.fallback_queue_id.map(|id| id.uuid()),
            settings: object(&account.script_settings),
        },
        conversation: ConversationFacts {
            id: conversation.id.uuid(),
            is_new: conversation.message_count <= 1,
            message_count: u64::try_from(conversation.message_count).unwrap_or(0),
            last_agent_id: item.last_agent_id.or(conversation.last_agent_id).map(|id| id.uuid()),
        },
        item: ItemFacts {
            id: item.id.uuid(),
            priority: u8::try_from(item.priority).ok().filter(|priority| (1..=10).contains(priority)),
            class_id: item.class_id.map(|id| id.uuid()),
            queue_id: item.queue_id.map(|id| id.uuid()),
        },
        globals,
        at: now.to_chrono(),
        timezone: Tz::UTC,
    }
}

fn message_facts(message: &message::Model, now: Timestamp) -> MessageFacts {
    let attachments = attachments(&message.attachments);
    let text: String = message.new_text.chars().take(MAX_TEXT).collect();
    MessageFacts {
        from: AddressFacts::new(
            message.from_address.clone().unwrap_or_default(),
            message.from_name.clone().unwrap_or_default(),
        ),
        to: addresses(&message.to_addresses),
        cc: addresses(&message.cc_addresses),
        subject: message.subject.clone(),
        text,
        headers: headers(&message.headers),
        class: word(&message.classification),
        has_attachments: !attachments.is_empty(),
        attachments,
        size_bytes: u64::try_from(message.size_bytes).unwrap_or(0),
        received_at: message.received_at.unwrap_or(now).to_chrono(),
    }
}

fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn text(value: &Value, member: &str) -> String {
    value.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn addresses(list: &Value) -> Vec<AddressFacts> {
    let list = list.as_array().into_iter().flatten();
    list.map(|one| AddressFacts::new(text(one, "address"), text(one, "name"))).collect()
}

fn attachments(list: &Value) -> Vec<AttachmentFacts> {
    let list = list.as_array().into_iter().flatten();
    list.map(|one| AttachmentFacts {
        name: text(one, "filename"),
        content_type: text(one, "content_type"),
        size_bytes: one.get("size_bytes").and_then(Value::as_u64).unwrap_or(0),
    })
    .collect()
}

/// Headers as an object, or as a list of pairs: the first value of each name, under its name in lower case.
fn headers(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let first = |value: &Value| match value {
        Value::Array(values) => values.first().and_then(Value::as_str).map(str::to_owned),
        other => other.as_str().map(str::to_owned),
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if let Some(value) = first(value) {
                    found.entry(name.to_lowercase()).or_insert(value);
                }
            }
        }
        Value::Array(pairs) => {
            for pair in pairs {
                let name = pair.get(0).or_else(|| pair.get("name")).and_then(Value::as_str);
                let value = pair.get(1).or_else(|| pair.get("value")).and_then(Value::as_str);
                if let (Some(name), Some(value)) = (name, value) {
                    found.entry(name.to_lowercase()).or_insert_with(|| value.to_owned());
                }
            }
        }
        _ => {}
    }
    found
}

fn object(value: &Value) -> BTreeMap<String, Value> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value.clone())).collect()
}
