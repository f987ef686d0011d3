//! What tests share: the service on a fresh database, clients that are logged in, and mail servers that misbehave.

pub mod app;
pub mod client;
pub mod customers;
pub mod dkim;
pub mod imap_reader;
pub mod imap_server;
pub mod line_io;
pub mod mailbox;
pub mod one_click;
pub mod outbound;
pub mod service;
pub mod smtp_sink;
pub mod stack;
pub mod stream;
pub mod tls_fixture;

pub use app::{Backend, TestApp};
pub use client::{Client, Reply};

/// Declares tests that run on both databases: `on_both! { async fn a_sentence(app) { … } }`.
#[macro_export]
macro_rules! on_both {
    ($(async fn $name:ident($app:ident) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($app: $crate::support::TestApp) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run($crate::support::TestApp::start($crate::support::Backend::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run($crate::support::TestApp::start($crate::support::Backend::Postgres).await).await;
            }
        }
    )+};
}
