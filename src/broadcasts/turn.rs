//! Whether somebody who was to get a broadcast when it was prepared still is.

use super::{
    entity::{broadcast, recipient},
    gather::reach,
};
use crate::customers::entity::{CustomerStatus, customer};

/// Why a recipient does not get it any more; none when they do.
pub fn absence(
    broadcast: &broadcast::Model,
    row: &recipient::Model,
    customer: Option<&customer::Model>,
) -> Option<&'static str> {
    let Some(customer) = customer.filter(|customer| customer.erased_at.is_none()) else {
        return Some("the customer is gone");
    };
    if reach(broadcast.channel, customer).1 != Some(&row.address_key) {
        return Some("the customer has another address now");
    }
    (!statuses(broadcast).contains(&customer.status)).then_some("the customer has another status now")
}

/// Customers of which statuses get a broadcast.
pub fn statuses(row: &broadcast::Model) -> Vec<CustomerStatus> {
    serde_json::from_value(row.statuses.clone()).unwrap_or_default()
}
