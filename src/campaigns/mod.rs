//! Campaigns: which accounts send for them, and what is sent to a customer when something happens to them.
//!
//! A campaign's rules fire while it is active. While it is suspended no rule fires, and what its rules made and nobody has
//! sent yet is held back; when it is resumed that goes out at its time, or at once when its time is past. When it stops, that
//! is cancelled. A list's own rules stand in for its campaign's.

pub mod actions;
pub mod api;
pub mod entity;
pub mod lists;
pub mod references;
pub mod rules;
pub mod scheduled;
