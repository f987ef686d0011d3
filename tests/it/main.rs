//! Tests of the whole service through its API, on SQLite and on PostgreSQL.
//!
//! PostgreSQL and the mail servers come from `tests/stack/`: run `make test-fast`, which starts them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod answers;
mod classes;
mod conversations;
mod events;
mod inbound;
mod mail_net;
mod queues;
mod receipts;
mod support;
