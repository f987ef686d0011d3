//! Accounts: mailboxes we receive at and send from.
//!
//! `draft → active ⇄ paused`, `active → failing → active`, any `→ disabled`. The ETag is that of the settings: the state
//! and the health move without it, so that a poller never makes an administrator's change stale.

pub mod actions;
pub mod addresses;
pub mod api;
pub mod check;
pub mod entity;
pub mod health;
pub mod mailbox;
pub mod preview_text;
mod references;
mod rules;
pub mod settings;
pub mod sms;
pub mod state;

pub use health::Health;
pub use settings::{AfterFetchAction, Inbound, Protocol};
