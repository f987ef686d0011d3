//! Campaigns: their rules, what is reported of customers, and what is sent for it.

mod attempts;
mod crowd;
mod races;
mod rules;
mod waiting;

pub use crowd::{Crowd, Desk, said, template};
