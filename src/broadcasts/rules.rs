//! What may be done with a broadcast in which state.

use serde::Serialize;
use utoipa::ToSchema;

use super::entity::BroadcastState::{self, *};
use crate::{access::matrix::Access, http::Caller};

/// What can be done with a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BroadcastAction {
    /// Change it; when it is begun, its guard only.
    Update,
    /// Delete it.
    Delete,
    /// See who would get it.
    Preflight,
    /// Send it to somebody who looks at it.
    TestSend,
    /// Begin it, at once or at its time.
    Start,
    /// Send nothing for now.
    Pause,
    /// Go on.
    Resume,
    /// Call it off.
    Cancel,
    /// Try those again whom it did not reach.
    RetryFailed,
}

const ACTIONS: [(BroadcastAction, &str); 9] = [
    (BroadcastAction::Update, "update_broadcast"),
    (BroadcastAction::Delete, "delete_broadcast"),
    (BroadcastAction::Preflight, "preflight_broadcast"),
    (BroadcastAction::TestSend, "test_send_broadcast"),
    (BroadcastAction::Start, "start_broadcast"),
    (BroadcastAction::Pause, "pause_broadcast"),
    (BroadcastAction::Resume, "resume_broadcast"),
    (BroadcastAction::Cancel, "cancel_broadcast"),
    (BroadcastAction::RetryFailed, "retry_failed_broadcast"),
];

impl BroadcastAction {
    /// Whether it can be done in this state.
    pub fn fits(self, state: BroadcastState) -> bool {
        match self {
            // Of one that is begun the guard is what can be changed.
            Self::Update => matches!(state, Draft | Scheduled | Preparing | Running | Paused),
            Self::Start | Self::Delete => state == Draft,
            Self::Preflight | Self::TestSend => matches!(state, Draft | Scheduled),
            Self::Pause => state == Running,
            Self::Resume => state == Paused,
            Self::Cancel => matches!(state, Scheduled | Preparing | Running | Paused),
            Self::RetryFailed => state == CompletedWithFailures,
        }
    }
}

/// What the caller may do with it now.
pub fn allowed(state: BroadcastState, caller: &Caller) -> Vec<BroadcastAction> {
    let may = |operation: &str| Access::of(operation).is_some_and(|access| access.allows(caller));
    let allowed = ACTIONS.into_iter().filter(|(action, operation)| action.fits(state) && may(operation));
    allowed.map(|(action, _)| action).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_over() {
        for state in [Completed, Cancelled, Failed] {
            assert!(ACTIONS.iter().all(|(action, _)| !action.fits(state)), "{state:?}");
        }
    }
}
