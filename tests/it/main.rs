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

mod architecture;
mod access;
mod access_matrix;
mod calendars;
mod answers;
mod classes;
mod conversations;
mod delivery;
mod events;
mod inbound;
mod mail_net;
mod migrations;
mod openapi;
mod process;
mod outgoing;
mod accounts;
mod poll;
mod poll_real;
mod queues;
mod scripts;
mod support;
mod templates;
