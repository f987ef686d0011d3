//! The poller against a mailbox that misbehaves on demand.

mod costs;
mod ends;
mod faults;
mod intake;
mod leases;
mod tokens;

/// Deadlines that are over soon, and a limit that a test can reach.
pub const SETTINGS: &str = "[mail]\nread_timeout_s = 2\nmax_message_bytes = 65536";

/// Like `on_both!`, with these settings and with the background loops running.
macro_rules! polled {
    ($(async fn $name:ident($app:ident) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($app: $crate::support::TestApp) $body

            async fn start(backend: $crate::support::Backend) -> $crate::support::TestApp {
                let clock = postroom::clock::Clock::system();
                let app = $crate::support::TestApp::with(backend, clock, $crate::poll::SETTINGS).await;
                app.start_workers();
                app
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(start($crate::support::Backend::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run(start($crate::support::Backend::Postgres).await).await;
            }
        }
    )+};
}
pub(crate) use polled;

/// A mail of its own.
pub fn mail(number: usize) -> Vec<u8> {
    format!("From: c{number}@example.org\r\nMessage-ID: <{number}@example.org>\r\nSubject: Order {number}\r\n\r\nHello {number}\r\n")
        .into_bytes()
}
