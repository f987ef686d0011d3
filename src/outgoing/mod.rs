//! The outgoing server: the one SMTP server that all accounts share.

pub mod entity;
