//! `send_template`: answers the customer automatically, where that is allowed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Exit, Reference, ReferenceKind, StepKind};
use crate::scripts::turn::{Effect, Next, SendAnswer, StepError, Turn};

/// Sends a template to the message's sender, unless an automatic answer would be wrong (RFC 3834).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "send_template", "template_id": "01900000-0000-7000-8000-0000000007e1",
    "next": {"sent": "queue", "not_sent": "queue"}
}))]
pub struct SendTemplate {
    /// The template.
    pub template_id: Uuid,
    /// Where each outcome leads.
    pub next: SendTemplateNext,
}

outcomes! {
    /// The outcomes of a `send_template`.
    pub struct SendTemplateNext {
        /// The message is on its way.
        sent: at_once,
        /// Nothing is sent; the trace says why.
        not_sent: at_once,
    }
}

impl StepKind for SendTemplate {
    fn exits(&self) -> Vec<Exit<'_>> {
        self.next.exits()
    }

    fn references(&self) -> Vec<(String, Reference)> {
        vec![("/template_id".to_owned(), Reference { kind: ReferenceKind::Template, id: self.template_id })]
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        let effect = Effect::SendTemplate { template_id: self.template_id };
        // The host sees only what is stored, and an effect of this very turn is not stored yet.
        if turn.effects().contains(&effect) {
            turn.note("this template is already being sent");
            return Ok(Next::by("not_sent"));
        }
        match turn.host().may_send_template(self.template_id) {
            SendAnswer::Send => {
                turn.effect(effect);
                Ok(Next::by("sent"))
            }
            SendAnswer::Refuse(reason) => {
                turn.note(reason);
                Ok(Next::by("not_sent"))
            }
        }
    }
}
