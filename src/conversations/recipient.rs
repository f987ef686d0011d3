//! Somebody who gets a message of ours.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    http::problem::FieldError,
    mail::{
        address::{Address, Mailbox, comparable},
        classify::is_same_or_tagged,
    },
};

/// Somebody who gets a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MessageRecipient)]
pub struct Recipient {
    /// The name.
    #[serde(default)]
    #[schema(max_length = 200, examples("Anna Smith"))]
    pub name: Option<String>,
    /// The address; of a text the number.
    #[schema(min_length = 3, max_length = 320, examples("anna@example.org"))]
    pub address: String,
}

impl From<Recipient> for Mailbox {
    fn from(recipient: Recipient) -> Self {
        Self::new(recipient.name.as_deref(), recipient.address.trim())
    }
}

impl From<Mailbox> for Recipient {
    fn from(mailbox: Mailbox) -> Self {
        Self { name: mailbox.name, address: mailbox.address }
    }
}

impl Recipient {
    /// What keeps it from being written to; `own` are the addresses of our accounts, `pointer` is its place in the body.
    pub fn wrong(&self, pointer: &str, own: &[String]) -> Option<FieldError> {
        let error = |member: &str, code: &str, detail: String| {
            Some(FieldError::new(format!("{pointer}/{member}"), code, detail))
        };
        if self.name.as_deref().is_some_and(breaks_lines) {
            return error("name", "header_injection", "a name has no line breaks".into());
        }
        if breaks_lines(&self.address) {
            return error("address", "header_injection", "an address has no line breaks".into());
        }
        match Address::parse(comparable(&self.address).trim()) {
            Err(wrong) => error("address", "invalid_address", wrong.to_string()),
            // It would come back marked as our own mail, and no agent would see it.
            Ok(address) if own.iter().any(|own| is_same_or_tagged(own, address.as_str())) => {
                let detail = "this is an account of ours: transfer the work item instead";
                error("address", "own_address", detail.into())
            }
            Ok(_) => None,
        }
    }
}

/// Whether a text would end the header line that it is put into.
pub fn breaks_lines(text: &str) -> bool {
    text.contains(['\r', '\n', '\0'])
}
