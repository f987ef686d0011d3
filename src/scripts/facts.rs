//! What expressions may read: everything a script knows of the world, brought by the caller.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

/// The facts of one turn of one run. Fields are what expressions see, except `at` and `timezone`, which make `now`
/// (`iso`, `date`, `time`, `year`, `month`, `day`, `hour`, `minute`, `weekday` such as `monday`, `unix`, `timezone`).
/// `vars` comes from the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The message that made the work item.
    pub message: MessageFacts,
    /// The account that received it.
    pub account: AccountFacts,
    /// The conversation it belongs to.
    pub conversation: ConversationFacts,
    /// The work item.
    pub item: ItemFacts,
    /// The global variables by name.
    pub globals: BTreeMap<String, Json>,
    /// The moment of the turn.
    pub at: DateTime<Utc>,
    /// The time zone in which expressions see that moment.
    pub timezone: Tz,
}

/// `message` in expressions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageFacts {
    /// The sender as the message names them.
    pub from: AddressFacts,
    /// The recipients.
    pub to: Vec<AddressFacts>,
    /// The recipients of copies.
    pub cc: Vec<AddressFacts>,
    /// The subject, decoded; empty if there is none.
    pub subject: String,
    /// The new text, without quotes and signature; the caller cuts it at a length that suits (64 KiB is plenty).
    pub text: String,
    /// The header fields that are kept (`mail::parse::KEPT`): lower-case name → decoded value, the first where a name
    /// comes more than once.
    pub headers: BTreeMap<String, String>,
    /// `normal`, `auto_reply`, `bounce`, `complaint`, `list` or `loop`.
    pub class: String,
    /// Whether there are attachments.
    pub has_attachments: bool,
    /// The attachments.
    pub attachments: Vec<AttachmentFacts>,
    /// The size of the raw message.
    pub size_bytes: u64,
    /// When we received it.
    pub received_at: DateTime<Utc>,
}

/// A person in a message's header.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AddressFacts {
    /// The address.
    pub address: String,
    /// The display name; empty if there is none.
    pub name: String,
    /// The part after the last `@`, in lower case.
    pub domain: String,
}

impl AddressFacts {
    /// Takes the domain from the address.
    pub fn new(address: impl Into<String>, name: impl Into<String>) -> Self {
        let address = address.into();
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain).to_lowercase();
        Self { address, name: name.into(), domain }
    }
}

/// One attachment of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AttachmentFacts {
    /// The file name; empty if there is none.
    pub name: String,
    /// The media type, such as `application/pdf`.
    pub content_type: String,
    /// The decoded size.
    pub size_bytes: u64,
}

/// `account` in expressions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// The account.
    pub id: Uuid,
    /// `email` or `sms`.
    pub channel: String,
    /// The address we receive at.
    pub address: String,
    /// The name that goes with it.
    pub display_name: String,
    /// The class that the account gives its items.
    pub class_id: Option<Uuid>,
    /// Where items go that a script does not place.
    pub fallback_queue_id: Option<Uuid>,
    /// The account's `script_settings`.
    pub settings: BTreeMap<String, Json>,
}

/// `conversation` in expressions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConversationFacts {
    /// The conversation.
    pub id: Uuid,
    /// Whether this message began it.
    pub is_new: bool,
    /// How many messages it has, this one among them.
    pub message_count: u64,
    /// The agent who worked on it last.
    pub last_agent_id: Option<Uuid>,
}

/// `item` in expressions; `set_class` and `set_priority` show here at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemFacts {
    /// The work item.
    pub id: Uuid,
    /// The priority, 1–10, if it has one of its own.
    pub priority: Option<u8>,
    /// The class.
    pub class_id: Option<Uuid>,
    /// The queue it is or was in.
    pub queue_id: Option<Uuid>,
}

impl Facts {
    /// Facts about nothing at one moment: every field is there, and empty.
    pub fn empty(at: DateTime<Utc>, timezone: Tz) -> Self {
        Self {
            message: MessageFacts { class: "normal".to_owned(), received_at: at, ..MessageFacts::default() },
            account: AccountFacts::default(),
            conversation: ConversationFacts::default(),
            item: ItemFacts::default(),
            globals: BTreeMap::new(),
            at,
            timezone,
        }
    }
}
