//! Waiting for mail with IDLE (RFC 2177).

use std::time::Duration;

use async_imap::imap_proto::Response;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::ImapError;
use super::guard::Budget;
use super::session::Session;
use super::wire::Done;

const DURING: &str = "IDLE";

/// What ended an IDLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdleEvent {
    /// Messages arrived, now or since the folder was last listed.
    NewMail,
    /// The time ran out; issue it again.
    Timeout,
    /// The caller's token was cancelled. The session is in order and can log out.
    Cancelled,
    /// The server said BYE or closed the connection: connect again.
    ServerBye {
        /// The server's words.
        reason: String,
    },
}

enum Wake {
    Grew,
    Timeout,
    Cancelled,
}

impl Session {
    /// Waits for mail until `wait` has passed or `cancel` fires, and ends the IDLE with DONE in every case.
    /// The caller issues it again at least every 10 minutes, so that no server ends it for idleness.
    ///
    /// # Errors
    /// When the server refuses IDLE, or does not end it when asked to.
    pub async fn idle(&mut self, wait: Duration, cancel: &CancellationToken) -> Result<IdleEvent, ImapError> {
        // Mail that came with the answer to an earlier command is not announced again.
        if self.wire.grew {
            return Ok(IdleEvent::NewMail);
        }
        if cancel.is_cancelled() {
            return Ok(IdleEvent::Cancelled);
        }
        match self.idle_once(Instant::now() + wait, cancel).await {
            Ok(Wake::Grew) => Ok(IdleEvent::NewMail),
            Ok(Wake::Timeout) => Ok(IdleEvent::Timeout),
            Ok(Wake::Cancelled) => Ok(IdleEvent::Cancelled),
            Err(ImapError::Closed { reason, .. }) => Ok(IdleEvent::ServerBye { reason }),
            Err(error) => Err(error),
        }
    }

    async fn idle_once(&mut self, until: Instant, cancel: &CancellationToken) -> Result<Wake, ImapError> {
        let limit = self.timeouts.command;
        let expired = Err(ImapError::Timeout { during: DURING });
        let tag = timeout(limit, self.begin_idle()).await.unwrap_or(expired.clone())?;
        self.wire.wait_without_limit(true);
        let wake = self.wait_for_mail(until, cancel).await;
        self.wire.wait_without_limit(false);
        let wake = wake?;
        let ended = timeout(limit, self.end_idle(&tag)).await.unwrap_or(expired.map(|_: String| ()));
        ended?;
        Ok(if self.wire.grew { Wake::Grew } else { wake })
    }

    async fn begin_idle(&mut self) -> Result<String, ImapError> {
        let tag = self.wire.send(DURING, "IDLE", Budget::SMALL).await?;
        loop {
            let answer = self.wire.next(DURING, |response| match response {
                Response::Continue(_) => Some(None),
                Response::Done { status, outcome, .. } => Some(Some(Done::new(status, outcome))),
                _ => None,
            });
            match answer.await? {
                Some(None) => return Ok(tag),
                Some(Some(done)) => {
                    self.wire.settle();
                    return Err(ImapError::Refused { during: DURING, reason: done.text });
                }
                None => {}
            }
        }
    }

    async fn wait_for_mail(&mut self, until: Instant, cancel: &CancellationToken) -> Result<Wake, ImapError> {
        while !self.wire.grew {
            // Other clients' flag changes and the server's keep-alives may come for hours.
            self.wire.allow(Budget::SMALL);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(Wake::Cancelled),
                seen = self.wire.next(DURING, |_| ()) => seen?,
                () = sleep_until(until) => return Ok(Wake::Timeout),
            }
        }
        Ok(Wake::Grew)
    }

    async fn end_idle(&mut self, tag: &str) -> Result<(), ImapError> {
        self.wire.write(DURING, "DONE").await?;
        while !self
            .wire
            .next(
                DURING,
                |response| matches!(response, Response::Done { tag: theirs, .. } if theirs.0 == tag),
            )
            .await?
        {}
        self.wire.settle();
        Ok(())
    }
}
