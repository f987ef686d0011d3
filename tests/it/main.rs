//! The integration tests: one binary, one file per feature.
#![allow(clippy::disallowed_methods)]

mod mail_net;
mod support;
