//! What is to be suppressed, checked. No I/O.

use super::{AddressKeys, api::SuppressionCreate, entity::Model};
use crate::{
    accounts::entity::Channel,
    clock::Timestamp,
    conversations::messages::customer_key,
    http::problem::FieldError,
    id::SuppressionId,
    mail::{
        address::{Address, comparable},
        number::Number,
    },
};

/// Which channel an address is for, as it looks.
pub fn channel_of(address: &str) -> Channel {
    if address.contains('@') { Channel::Email } else { Channel::Sms }
}

/// The form in which an address or number that is looked for may be stored.
pub fn asked(address: &str) -> String {
    match channel_of(address) {
        Channel::Email => address.to_owned(),
        Channel::Sms => {
            Number::parse(address).map_or_else(|_| address.to_owned(), |number| number.to_string())
        }
    }
}

/// Brings what is wanted into a row.
///
/// # Errors
/// All that is wrong, each with its pointer.
pub fn row(wanted: SuppressionCreate, keys: &AddressKeys, now: Timestamp) -> Result<Model, Vec<FieldError>> {
    let mut wrong = Vec::new();
    let channel = wanted.channel.unwrap_or_else(|| channel_of(&wanted.address));
    let address = match channel {
        Channel::Email => Address::parse(comparable(&wanted.address).trim())
            .map(|_| customer_key(&wanted.address))
            .map_err(|error| FieldError::new("/address", "invalid_address", error.to_string())),
        Channel::Sms => Number::parse(&wanted.address)
            .map(|number| number.to_string())
            .map_err(|error| FieldError::new("/address", "invalid_number", error.to_string())),
    };
    if wanted.expires_at.is_some_and(|at| at <= now) {
        wrong.push(FieldError::new("/expires_at", "past", "it would be over already"));
    }
    match address {
        Ok(address) if wrong.is_empty() => Ok(Model {
            id: SuppressionId::new(now),
            address_key: keys.key(&address),
            address: Some(address),
            channel,
            campaign_id: wanted.campaign_id,
            reason: wanted.reason,
            note: wanted.note,
            expires_at: wanted.expires_at,
            created_at: now,
        }),
        address => {
            wrong.splice(0..0, address.err());
            Err(wrong)
        }
    }
}
