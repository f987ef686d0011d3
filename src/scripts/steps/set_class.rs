//! `set_class`: says what kind of contact this is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Exit, Reference, ReferenceKind, StepKind};
use crate::scripts::turn::{Effect, Next, StepError, Turn};

/// Gives the work item a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "set_class", "class_id": "01900000-0000-7000-8000-00000000c1a5", "next": {"done": "queue"}
}))]
pub struct SetClass {
    /// The class.
    pub class_id: Uuid,
    /// Where each outcome leads.
    pub next: SetClassNext,
}

outcomes! {
    /// The outcomes of a `set_class`.
    pub struct SetClassNext {
        /// The item has the class.
        done: at_once,
    }
}

impl StepKind for SetClass {
    fn exits(&self) -> Vec<Exit<'_>> {
        self.next.exits()
    }

    fn references(&self) -> Vec<(String, Reference)> {
        vec![("/class_id".to_owned(), Reference { kind: ReferenceKind::Class, id: self.class_id })]
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        turn.effect(Effect::SetClass { class_id: self.class_id });
        Ok(Next::by("done"))
    }
}
