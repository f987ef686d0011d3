//! Servers and fixtures that several tests share.

pub mod imap_server;
pub mod line_io;
pub mod smtp_sink;
pub mod tls_fixture;
