//! Partials: what several templates include. A published template keeps those that it includes as they were, so that a
//! change reaches it only when it is published again.

pub mod api;
mod bodies;
pub mod entity;
pub mod freeze;
pub(super) mod uses;
