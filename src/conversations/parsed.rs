//! A stored message as the mail that it was, for the rules of `mail` that ask for one.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::entity::{Classification, message};
use crate::{
    clock::Timestamp,
    mail::{
        address::Mailbox,
        classify,
        parse::{Parsed, Truncated},
    },
};

/// What the row says of the mail; what the row does not keep (`Sender`, the content type) is empty.
pub fn parsed(row: &message::Model) -> Parsed {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Parsed {
        message_id: row.message_id_header.clone(),
        in_reply_to: read(&row.in_reply_to),
        references: read(&row.reference_ids),
        from: row.from_address.as_ref().map(|address| Mailbox::new(row.from_name.as_deref(), address)),
        sender: None,
        reply_to: read(&row.reply_to),
        to: read(&row.to_addresses),
        cc: read(&row.cc_addresses),
        subject: text(&row.subject),
        sent_at: row.dated_at.or(row.received_at).map(Timestamp::as_millis),
        text: text(&row.text),
        new_text: text(&row.new_text),
        quoted_text: text(&row.quoted_text),
        signature: text(&row.signature),
        html: row.html.clone(),
        attachments: read(&row.attachments),
        headers: read(&row.headers),
        content_type: String::new(),
        truncated: Truncated::default(),
        class: row.classification.into(),
    }
}

fn read<T: DeserializeOwned + Default>(column: &Value) -> T {
    T::deserialize(column).unwrap_or_default()
}

impl From<Classification> for classify::Classification {
    fn from(class: Classification) -> Self {
        match class {
            Classification::Normal => Self::Normal,
            Classification::AutoReply => Self::AutoReply,
            Classification::Bounce => Self::Bounce,
            Classification::Complaint => Self::Complaint,
            Classification::List => Self::List,
            Classification::Loop => Self::Loop,
        }
    }
}
