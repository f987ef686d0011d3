//! Addresses that we may not send to, and why. Asked when a send is made, and again right before it goes out.
//!
//! An agent's answer to somebody who wrote to us is never held back: only sends that we begin are. A text to a number whose
//! owner sent a stop word is held back whoever writes it.

pub mod api;
pub mod bar;
pub mod enter;
pub mod entity;
mod entry;
pub mod erase;
pub mod export;
pub mod import;
pub mod link;
pub mod soft;

use std::collections::HashMap;

use hmac::{Hmac, Mac};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use sha2::Sha256;

use crate::{app::App, clock::Timestamp, conversations::messages::customer_key, db::among, id::CampaignId};
use entity::{Column, Entity, SuppressionReason};

/// Adds the operations of the feature. `export` goes before ids.
pub fn mount(config: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    config.configure(export::mount).configure(import::mount).configure(api::mount);
}

/// Bytes kept of an address's HMAC: 128 bits.
const KEY_BYTES: usize = 16;

/// Makes what suppressions know addresses by: a keyed hash (HMAC-SHA256), so that one can be kept for somebody whose
/// address was erased.
#[derive(Clone)]
pub struct AddressKeys(Hmac<Sha256>);

impl std::fmt::Debug for AddressKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AddressKeys(..)")
    }
}

impl AddressKeys {
    /// Those of this installation.
    pub fn of(app: &App) -> Self {
        Self::new(&app.sealer.derive("suppression-address"))
    }

    fn new(key: &[u8; 32]) -> Self {
        // 32 bytes fit SHA-256's block of 64, so the key needs no hashing and `Hmac::new` cannot fail.
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(key);
        Self(<Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into()))
    }

    /// The key of an address or number, in whatever case it is written: 32 hexadecimal digits.
    pub fn key(&self, address: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(customer_key(address).as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..KEY_BYTES])
    }
}

/// Who of some recipients may not be written to.
#[derive(Clone, Debug)]
pub struct Barred {
    keys: AddressKeys,
    known: HashMap<String, Vec<(Option<CampaignId>, SuppressionReason)>>,
}

impl Barred {
    /// Asks for these addresses, in whatever case they are written.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn among(
        db: &impl ConnectionTrait,
        keys: AddressKeys,
        addresses: impl IntoIterator<Item = &str>,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let mut asked: Vec<String> = addresses.into_iter().map(|address| keys.key(address)).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut known: HashMap<String, Vec<_>> = HashMap::new();
        if !asked.is_empty() {
            let rows = Entity::find().filter(among(Column::AddressKey, asked)).all(db).await?;
            for row in rows.into_iter().filter(|row| row.expires_at.is_none_or(|at| at > now)) {
                known.entry(row.address_key).or_default().push((row.campaign_id, row.reason));
            }
        }
        Ok(Self { keys, known })
    }

    /// Whether the owner of a number wants no more texts at all: then an agent's answer is held back, too. What holds for one
    /// campaign is nothing that an agent answers for.
    pub fn has_stopped(&self, number: &str) -> bool {
        let known = self.known.get(&self.keys.key(number));
        known.is_some_and(|known| known.contains(&(None, SuppressionReason::Stopped)))
    }

    /// Why mail of this kind may not go to the address; none when it may. What is sent for a campaign is also held back
    /// by what holds for that campaign alone.
    pub fn reason(
        &self,
        address: &str,
        marketing: bool,
        campaign: Option<CampaignId>,
    ) -> Option<SuppressionReason> {
        let known = self.known.get(&self.keys.key(address))?;
        let holds = known.iter().filter(|(only, _)| only.is_none() || *only == campaign);
        // Who wants no advertising still gets the receipt for an order.
        let holds = holds.filter(|(_, reason)| marketing || *reason != SuppressionReason::Unsubscribed);
        holds.map(|(_, reason)| *reason).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::new_uuid;

    #[test]
    fn who_unsubscribed_still_gets_what_belongs_to_something_they_did() {
        let keys = AddressKeys::new(&[7; 32]);
        let campaign = CampaignId(new_uuid(Timestamp::ZERO));
        let known = [
            ("a@x.org", None, SuppressionReason::Unsubscribed),
            ("b@x.org", None, SuppressionReason::Bounced),
            ("c@x.org", Some(campaign), SuppressionReason::Manual),
            ("+447700900123", None, SuppressionReason::Stopped),
            ("+447700900124", Some(campaign), SuppressionReason::Stopped),
        ];
        let known = known.map(|(address, only, reason)| (keys.key(address), vec![(only, reason)])).into();
        let barred = Barred { keys, known };
        assert_eq!(barred.reason("A@X.org", true, None), Some(SuppressionReason::Unsubscribed));
        assert_eq!(barred.reason("a@x.org", false, None), None);
        assert_eq!(barred.reason("b@x.org", false, None), Some(SuppressionReason::Bounced));
        assert_eq!(barred.reason("c@x.org", false, None), None, "it holds for one campaign");
        assert_eq!(barred.reason("c@x.org", false, Some(campaign)), Some(SuppressionReason::Manual));
        assert_eq!(barred.reason("d@x.org", false, None), None);
        assert_eq!(barred.reason("+447700900123", false, None), Some(SuppressionReason::Stopped));
        assert!(barred.has_stopped("+447700900123") && !barred.has_stopped("b@x.org"));
        assert!(!barred.has_stopped("+447700900124"), "only one campaign is stopped");
    }
}
