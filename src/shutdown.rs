//! The two stops: a soft one that lets work end, and a hard one that does not wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Shared by everything that runs.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Shutdown {
    /// Asks everybody to end what they do and begin nothing new.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Ends everything at once.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Stops because a part crashed: the process ends with a non-zero code.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.soft.cancel();
    }

    /// Whether a part crashed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether the soft stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Returns when the soft stop is asked for.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// Returns when the hard stop is asked for.
    pub async fn aborting(&self) {
        self.hard.cancelled().await;
    }

    /// A token that is cancelled by the soft stop, for code that knows no `Shutdown`.
    pub fn token(&self) -> CancellationToken {
        self.soft.child_token()
    }
}
