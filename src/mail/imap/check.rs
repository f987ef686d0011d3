//! The step-by-step check of a mailbox.

use super::session::{Access, Session};
use super::{Credentials, Timeouts};
use crate::mail::check::{CheckLog, CheckName, CheckStep};
use crate::mail::tls::Endpoint;

/// Tries everything that reading a mailbox needs and reports each step; the first failure ends the list.
pub async fn check(
    endpoint: &Endpoint,
    credentials: &Credentials,
    folder: &str,
    timeouts: Timeouts,
) -> Vec<CheckStep> {
    let mut log = CheckLog::default();
    let connected = Session::connect_logged(endpoint, credentials, timeouts, &mut log).await;
    if let Ok(mut session) = connected {
        look_inside(&mut session, folder, &mut log).await;
        // The report is complete; how the server takes leave does not matter.
        let _ = session.logout().await;
    }
    log.into_steps()
}

async fn look_inside(session: &mut Session, folder: &str, log: &mut CheckLog) {
    let opened = log.step(CheckName::Select, session.select(folder, Access::ReadOnly), |selected| {
        format!("{folder} opened, UIDVALIDITY {}", selected.uid_validity)
    });
    if opened.await.is_err() {
        return;
    }
    let how = if session.supports_idle() { "reports new mail by itself (IDLE)" } else { "must be polled" };
    // The step is in the log either way.
    let _ = log
        .step(CheckName::Count, session.count(), |count| format!("{count} messages; the server {how}"))
        .await;
}
