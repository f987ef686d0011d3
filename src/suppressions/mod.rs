//! Addresses that we may not send to, and why. Asked when a send is made, and again right before it goes out.
//!
//! An agent's answer to somebody who wrote to us is never held back: only sends that we begin are.

pub mod api;
pub mod entity;

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use crate::{clock::Timestamp, conversations::messages::customer_key, db::among};
use entity::{Column, Entity, SuppressionReason};

/// Who of some recipients may not be written to.
#[derive(Clone, Debug, Default)]
pub struct Barred(HashMap<String, SuppressionReason>);

impl Barred {
    /// Asks for these addresses, in whatever case they are written.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn among(
        db: &impl ConnectionTrait,
        addresses: impl IntoIterator<Item = &str>,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let mut keys: Vec<String> = addresses.into_iter().map(customer_key).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let rows = Entity::find().filter(among(Column::Address, keys)).all(db).await?;
        let in_force = rows.into_iter().filter(|row| row.expires_at.is_none_or(|at| at > now));
        Ok(Self(in_force.map(|row| (row.address, row.reason)).collect()))
    }

    /// Why mail of this kind may not go to the address; none when it may.
    pub fn reason(&self, address: &str, marketing: bool) -> Option<SuppressionReason> {
        let reason = *self.0.get(&customer_key(address))?;
        // Who wants no advertising still gets the receipt for an order.
        (marketing || reason != SuppressionReason::Unsubscribed).then_some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_unsubscribed_still_gets_what_belongs_to_something_they_did() {
        let known = [("a@x.org", SuppressionReason::Unsubscribed), ("b@x.org", SuppressionReason::Bounced)];
        let barred = Barred(known.map(|(address, reason)| (address.to_owned(), reason)).into());
        assert_eq!(barred.reason("A@X.org", true), Some(SuppressionReason::Unsubscribed));
        assert_eq!(barred.reason("a@x.org", false), None);
        assert_eq!(barred.reason("b@x.org", false), Some(SuppressionReason::Bounced));
        assert_eq!(barred.reason("c@x.org", true), None);
    }
}
