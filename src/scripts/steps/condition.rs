//! `condition`: one question, two ways on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exit, StepKind};
use crate::scripts::turn::{Next, StepError, Turn};
use crate::scripts::expression::Expr;

/// Leaves by `yes` when the expression is true, else by `no`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "condition", "when": "message.subject|contains('invoice')", "next": {"yes": "billing", "no": "general"}
}))]
pub struct Condition {
    /// The question; empty text, 0, an empty list and `none` count as false.
    pub when: Expr,
    /// Where each outcome leads.
    pub next: ConditionNext,
}

outcomes! {
    /// The outcomes of a `condition`.
    pub struct ConditionNext {
        /// The expression was true.
        yes: at_once,
        /// The expression was false.
        no: at_once,
    }
}

impl StepKind for Condition {
    fn exits(&self) -> Vec<Exit<'_>> {
        self.next.exits()
    }

    fn expressions(&self) -> Vec<(String, &Expr)> {
        vec![("/when".to_owned(), &self.when)]
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        Ok(Next::by(if turn.holds(&self.when)? { "yes" } else { "no" }))
    }
}
