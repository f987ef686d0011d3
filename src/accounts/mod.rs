//! Accounts: mailboxes we receive at and send from.

pub mod entity;
