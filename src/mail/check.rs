//! The step-by-step report that an administrator reads when an account or a relay does not work.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// One thing that a check tries, in the order it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckName {
    /// The host name is looked up.
    Resolve,
    /// A TCP connection is opened.
    Connect,
    /// The TLS handshake, STARTTLS included.
    Tls,
    /// The SMTP greeting and EHLO.
    Ehlo,
    /// The login.
    Login,
    /// The folder is opened.
    Select,
    /// The messages in the folder are counted.
    Count,
}

impl CheckName {
    /// The word for this step in the API, such as `resolve`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Ehlo => "ehlo",
            Self::Login => "login",
            Self::Select => "select",
            Self::Count => "count",
        }
    }
}

/// What one step of a check gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStep {
    /// Which step.
    pub name: CheckName,
    /// Whether it worked; steps after the first failure are not tried and not listed.
    pub ok: bool,
    /// A sentence for an administrator: what was found, or why it failed. Never holds a secret.
    pub detail: String,
    /// How long the step took, in milliseconds.
    pub duration_ms: u64,
}

/// Collects the steps of one attempt to reach a server.
#[derive(Debug, Default)]
pub struct CheckLog {
    steps: Vec<CheckStep>,
}

impl CheckLog {
    /// Runs `work` as the step `name`; `describe` words its success, the error's text its failure.
    ///
    /// # Errors
    /// Hands on the error of `work`.
    pub async fn step<T, E: Display>(
        &mut self,
        name: CheckName,
        work: impl Future<Output = Result<T, E>>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let began = Instant::now();
        let result = work.await;
        let detail = match &result {
            Ok(value) => describe(value),
            Err(error) => error.to_string(),
        };
        self.push(name, result.is_ok(), detail, began.elapsed());
        result
    }

    /// Adds a step whose result is already known.
    pub fn push(&mut self, name: CheckName, ok: bool, detail: String, took: Duration) {
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.steps.push(CheckStep { name, ok, detail, duration_ms });
    }

    /// The steps so far, in order.
    #[must_use]
    pub fn into_steps(self) -> Vec<CheckStep> {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_step_carries_the_reason_and_ends_the_chain() {
        let mut log = CheckLog::default();
        let found: Result<u8, String> =
            log.step(CheckName::Resolve, async { Ok(7) }, |n| format!("{n} addresses")).await;
        let refused: Result<u8, String> =
            log.step(CheckName::Connect, async { Err("refused".into()) }, |_| String::new()).await;
        assert_eq!(found, Ok(7));
        assert!(refused.is_err());
        let seen: Vec<_> = log.into_steps().into_iter().map(|s| (s.name.as_str(), s.ok, s.detail)).collect();
        assert_eq!(
            seen,
            vec![("resolve", true, "7 addresses".to_owned()), ("connect", false, "refused".to_owned())]
        );
    }
}
