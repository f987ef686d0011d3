//! The integration tests: one binary, one file per feature.
// Clippy's own exemption for tests does not reach the support modules.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)]

mod mail_net;
mod support;
