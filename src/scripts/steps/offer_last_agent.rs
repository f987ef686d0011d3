//! `offer_last_agent`: holds the item out to the agent who knows the customer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exit, StepKind};
use crate::scripts::turn::{Next, StepError, Turn};
use crate::scripts::problem::Report;
use crate::scripts::run::Wait;
use crate::scripts::validate::References;

/// Shortest and longest offer: five seconds and one hour.
const TIMEOUT_S: (u64, u64) = (5, 3_600);

/// Offers the item to the conversation's last agent, and to nobody else, for a limited time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "offer_last_agent", "timeout_s": 60,
    "next": {"accepted": "done", "not_available": "queue", "timeout": "queue"}
}))]
pub struct OfferLastAgent {
    /// How long the agent has to accept.
    #[schema(minimum = 5, maximum = 3600)]
    pub timeout_s: u32,
    /// Where each outcome leads.
    pub next: OfferLastAgentNext,
}

outcomes! {
    /// The outcomes of an `offer_last_agent`.
    pub struct OfferLastAgentNext {
        /// The agent has the item.
        accepted: after_wait,
        /// There is no last agent, they are not ready or have no room, or they rejected the offer.
        not_available: at_once,
        /// The agent did not answer in time.
        timeout: after_wait,
    }
}

impl StepKind for OfferLastAgent {
    fn exits(&self) -> Vec<Exit<'_>> {
        self.next.exits()
    }

    fn check(&self, _known: &dyn References, report: &mut Report) {
        report.range("/timeout_s", u64::from(self.timeout_s), TIMEOUT_S.0, TIMEOUT_S.1);
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        let Some(agent_id) = turn.facts().conversation.last_agent_id else {
            turn.note("the conversation has no last agent");
            return Ok(Next::by("not_available"));
        };
        if !turn.host().agent_available(agent_id) {
            turn.note("the last agent cannot be offered work now");
            return Ok(Next::by("not_available"));
        }
        Ok(Next::Wait(Wait::OfferLastAgent { agent_id, timeout_s: self.timeout_s }))
    }
}
