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

mod access;
mod access_matrix;
mod accounts;
mod answers;
mod architecture;
mod bounce_corpus;
mod bounces;
mod broadcast_crash;
mod broadcast_trouble;
mod broadcasts;
mod calendars;
mod campaigns;
mod classes;
mod contract;
mod conversations;
mod crash;
mod customers;
mod delivery;
mod desks;
mod dkim;
mod events;
mod floor;
mod full_loop;
mod idempotency;
mod inbound;
mod lock_order;
mod mail_net;
mod marketing;
mod migrations;
mod mutual_answers;
mod not_yours;
mod object_store;
mod openapi;
mod outbound_crash;
mod outgoing;
mod poll;
mod poll_real;
mod process;
mod queues;
mod receipts;
mod sandbox;
mod scripted;
mod scripts;
mod seed;
mod sends;
mod support;
mod suppressions;
mod template_parts;
mod template_revisions;
mod templates;
mod texts;
mod work;
mod work_races;
mod work_scripts;
