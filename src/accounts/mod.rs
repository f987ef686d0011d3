//! Accounts: mailboxes we receive at and send from.

pub mod addresses;
pub mod entity;
