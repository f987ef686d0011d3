//! The step-by-step check of a relay.

use super::connection::Connection;
use super::{Auth, Timeouts};
use crate::mail::check::{CheckLog, CheckStep};
use crate::mail::tls::Endpoint;

/// Tries everything that sending needs, short of a message, and reports each step; the first failure ends the
/// list.
pub async fn check(endpoint: &Endpoint, auth: &Auth, helo_name: &str, timeouts: Timeouts) -> Vec<CheckStep> {
    let mut log = CheckLog::default();
    let connected = Connection::connect_logged(endpoint, auth, helo_name, timeouts, &mut log).await;
    if let Ok(connection) = connected {
        connection.quit().await;
    }
    log.into_steps()
}
