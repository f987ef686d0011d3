//! DKIM keys: with which private keys the mail of which domains is signed (RFC 6376, RFC 8463).
//!
//! A key is made (or given) as a draft, so that its public half can be published before the first mail is signed with it.
//! Every mail is signed when it is composed, with all active keys of the domain in its From, or else of the nearest domain
//! above that has some. Two active keys of one domain sign twice: RSA for every receiver, Ed25519 for those that know it.

pub mod actions;
pub mod api;
mod bodies;
mod check;
pub mod entity;
pub mod signers;

/// What a key's private half is sealed for.
fn purpose(id: crate::id::DkimKeyId) -> String {
    format!("dkim_key:{id}")
}
