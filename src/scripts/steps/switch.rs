//! `switch`: several questions in order; the first that is true decides.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exit, StepKind};
use crate::scripts::definition::{MAX_NAME, StepId};
use crate::scripts::turn::{Next, StepError, Turn};
use crate::scripts::expression::Expr;
use crate::scripts::problem::{Report, token};
use crate::scripts::validate::References;

/// Most cases in one `switch`.
const MAX_CASES: usize = 50;
const OTHERWISE: &str = "otherwise";

/// Leaves by the label of the first case whose expression is true, else by `otherwise`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "switch",
    "cases": [
        {"when": "message.from.domain == 'partner.example'", "label": "partner"},
        {"when": "message.has_attachments", "label": "papers"}
    ],
    "next": {"partner": "to_partners", "papers": "to_back_office", "otherwise": "general"}
}))]
pub struct Switch {
    /// The questions, asked in this order until one is true.
    #[schema(min_items = 1, max_items = 50)]
    pub cases: Vec<Case>,
    /// Where each label leads, and `otherwise`.
    pub next: BTreeMap<String, StepId>,
}

/// One case of a `switch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SwitchCase)]
pub struct Case {
    /// The question.
    pub when: Expr,
    /// The outcome when it is true; `otherwise` is taken. Two cases may share a label.
    #[schema(min_length = 1, max_length = 64)]
    pub label: String,
}

impl StepKind for Switch {
    fn exits(&self) -> Vec<Exit<'_>> {
        let labels: BTreeSet<&str> = self.cases.iter().map(|case| case.label.as_str()).collect();
        let labels = labels.into_iter().filter(|label| *label != OTHERWISE);
        labels.chain([OTHERWISE]).map(|label| Exit::at_once(label, self.next.get(label))).collect()
    }

    fn expressions(&self) -> Vec<(String, &Expr)> {
        self.cases.iter().enumerate().map(|(i, case)| (format!("/cases/{i}/when"), &case.when)).collect()
    }

    fn check(&self, _known: &dyn References, report: &mut Report) {
        report.range("/cases", self.cases.len() as u64, 1, MAX_CASES as u64);
        for (i, case) in self.cases.iter().enumerate() {
            let pointer = format!("/cases/{i}/label");
            if case.label == OTHERWISE {
                report.add(&pointer, "reserved_label", "`otherwise` is taken when no case is true");
            } else if case.label.is_empty() || case.label.chars().count() > MAX_NAME {
                report.add(&pointer, "invalid_label", format!("a label has 1 to {MAX_NAME} characters"));
            }
        }
        let exits = self.exits();
        for outcome in self.next.keys().filter(|key| exits.iter().all(|exit| exit.outcome != key.as_str())) {
            let pointer = format!("/next/{}", token(outcome));
            report.add(&pointer, "unknown_outcome", format!("no case has the label `{outcome}`"));
        }
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        for case in &self.cases {
            if turn.holds(&case.when)? {
                return Ok(Next::by(case.label.as_str()));
            }
        }
        Ok(Next::by(OTHERWISE))
    }
}
