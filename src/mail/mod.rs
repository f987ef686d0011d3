//! E-mail as a protocol and a format: no database and no HTTP API in here.

pub mod address;
pub(crate) mod base32;
pub mod check;
pub mod classify;
pub mod compose;
pub mod dkim;
pub mod imap;
pub mod number;
pub mod oauth;
pub mod parse;
pub mod quote;
pub mod report;
pub mod sanitise;
pub mod sms;
pub mod smtp;
pub mod tls;
pub mod token;
pub mod unsubscribe;
