//! `set`: gives variables new values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exit, StepKind};
use crate::scripts::turn::{Next, StepError, Turn};
use crate::scripts::expression::Expr;
use crate::scripts::problem::{Report, token};
use crate::scripts::validate::References;

/// Most variables that one `set` changes.
const MAX_ASSIGNMENTS: u64 = 50;

/// Gives each named variable the value of its expression.
///
/// All expressions are evaluated before any variable changes, so their order does not matter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "set", "assign": {"tries": "vars.tries + 1"}, "next": {"done": "again"}
}))]
pub struct Set {
    /// Variable name → expression; every variable is declared in the script's `variables`; 1 to 50.
    pub assign: BTreeMap<String, Expr>,
    /// Where each outcome leads.
    pub next: SetNext,
}

outcomes! {
    /// The outcomes of a `set`.
    pub struct SetNext {
        /// The variables have their new values.
        done: at_once,
    }
}

impl StepKind for Set {
    fn exits(&self) -> Vec<Exit<'_>> {
        self.next.exits()
    }

    fn expressions(&self) -> Vec<(String, &Expr)> {
        self.assign.iter().map(|(name, value)| (format!("/assign/{}", token(name)), value)).collect()
    }

    fn assigns(&self) -> Vec<(String, &str)> {
        self.assign.keys().map(|name| (format!("/assign/{}", token(name)), name.as_str())).collect()
    }

    fn check(&self, _known: &dyn References, report: &mut Report) {
        report.range("/assign", self.assign.len() as u64, 1, MAX_ASSIGNMENTS);
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        let mut values = Vec::with_capacity(self.assign.len());
        for (name, value) in &self.assign {
            values.push((name.as_str(), turn.eval(value)?));
        }
        turn.assign(values)?;
        Ok(Next::by("done"))
    }
}
