//! Campaigns: their rules, what is reported of customers, and what is sent for it.

mod crowd;

pub use crowd::Crowd;
