//! Who gets a message that was asked for: an address for e-mail, a number for a text.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    accounts::entity::Channel,
    conversations::recipient::{Recipient, breaks_lines},
    http::problem::FieldError,
    mail::number::Number,
};

/// Somebody who gets a message: at an address by e-mail, or at a number as a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Anna Smith", "address": "anna@example.org" }))]
pub struct MessageTo {
    /// The name.
    #[serde(default)]
    #[schema(max_length = 200, examples("Anna Smith"))]
    pub name: Option<String>,
    /// The address, for e-mail.
    #[serde(default)]
    #[schema(min_length = 3, max_length = 320, examples("anna@example.org"))]
    pub address: Option<String>,
    /// The number, for a text, with its country code.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 40, examples("+44 7700 900123"))]
    pub number: Option<String>,
}

impl MessageTo {
    /// Which channel it is for, as it looks.
    pub fn channel(&self) -> Option<Channel> {
        match (&self.address, &self.number) {
            (None, Some(_)) => Some(Channel::Sms),
            (Some(_), None) => Some(Channel::Email),
            _ => None,
        }
    }

    /// The recipient over the channel; `own` are the addresses of our accounts, `pointer` is its place in the body.
    ///
    /// # Errors
    /// What keeps it from being written to.
    pub fn recipient(
        &self,
        channel: Channel,
        pointer: &str,
        own: &[String],
    ) -> Result<Recipient, FieldError> {
        let error = |member: &str, code: &str, detail: &str| {
            Err(FieldError::new(format!("{pointer}/{member}"), code, detail))
        };
        match (channel, &self.address, &self.number) {
            (_, Some(_), Some(_)) => {
                error("number", "not_both", "give either an address or a number, not both")
            }
            (Channel::Email, None, None) => error("address", "required", "say at which address"),
            (Channel::Sms, None, None) => error("number", "required", "say at which number"),
            (Channel::Email, None, Some(_)) => {
                error("number", "wrong_channel", "a number is for texts, and this is e-mail")
            }
            (Channel::Sms, Some(_), None) => {
                error("address", "wrong_channel", "an address is for e-mail, and this is a text")
            }
            (Channel::Email, Some(address), None) => {
                let to = Recipient { name: self.name.clone(), address: address.clone() };
                to.wrong(pointer, own).map_or(Ok(to), Err)
            }
            (Channel::Sms, None, Some(_)) if self.name.as_deref().is_some_and(breaks_lines) => {
                error("name", "header_injection", "a name has no line breaks")
            }
            (Channel::Sms, None, Some(number)) => match Number::parse(number) {
                Ok(number) => Ok(Recipient { name: self.name.clone(), address: number.to_string() }),
                Err(wrong) => error("number", "invalid_number", &wrong.to_string()),
            },
        }
    }
}
