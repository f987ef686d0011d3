//! Single sends that another system asks for: one mail to one person, from a template or as it is given.
//!
//! A send begins a conversation of its own, so that the answer to it comes to an agent like any other mail. It is marked
//! `Auto-Submitted: auto-generated` (RFC 3834 §5), because no person wrote it to this recipient just now; what comes back
//! for it goes to the account all the same. What is reported of a customer sends the same way ([`begin`]).

pub mod api;
mod batch;
pub mod begin;
mod plan;
mod send;
mod test_send;
pub mod to;
mod write;
