//! `on_date`: asks a calendar whether it is open now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Exit, Reference, ReferenceKind, StepKind};
use crate::scripts::definition::StepId;
use crate::scripts::turn::{Next, StepError, Turn};
use crate::scripts::problem::{Report, token};
use crate::scripts::validate::References;

const OPEN: &str = "open";
const CLOSED: &str = "closed";

/// Leaves by `open` or `closed` as the calendar says; an entry of the calendar that is wired by its name comes first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "type": "on_date", "calendar_id": "01900000-0000-7000-8000-00000000ca1e",
    "next": {"open": "queue", "closed": "after_hours", "Christmas": "greetings"}
}))]
pub struct OnDate {
    /// The calendar to ask.
    pub calendar_id: Uuid,
    /// `open`, `closed`, and the name of any entry of the calendar that deserves a way of its own.
    pub next: BTreeMap<String, StepId>,
}

impl StepKind for OnDate {
    fn exits(&self) -> Vec<Exit<'_>> {
        let fixed = [OPEN, CLOSED].map(|outcome| Exit::at_once(outcome, self.next.get(outcome)));
        let named = self.next.iter().filter(|(outcome, _)| *outcome != OPEN && *outcome != CLOSED);
        let named = named.map(|(outcome, target)| Exit::at_once(outcome.as_str(), Some(target)));
        fixed.into_iter().chain(named).collect()
    }

    fn references(&self) -> Vec<(String, Reference)> {
        vec![("/calendar_id".to_owned(), Reference { kind: ReferenceKind::Calendar, id: self.calendar_id })]
    }

    fn check(&self, known: &dyn References, report: &mut Report) {
        // A calendar that is not there is a problem of its own, told with the other references.
        let Some(entries) = known.calendar_entries(self.calendar_id) else { return };
        for outcome in self.next.keys().filter(|key| *key != OPEN && *key != CLOSED) {
            if !entries.contains(outcome) {
                let pointer = format!("/next/{}", token(outcome));
                report.add(&pointer, "unknown_outcome", format!("the calendar has no entry `{outcome}`"));
            }
        }
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        let calendar = turn.host().calendar(self.calendar_id);
        let calendar = calendar.ok_or_else(|| StepError::missing(ReferenceKind::Calendar, self.calendar_id))?;
        let verdict = calendar.verdict(turn.facts().at);
        if let Some(entry) = verdict.entry {
            turn.note(format!("decided by the entry `{entry}`"));
            if self.next.contains_key(entry) {
                return Ok(Next::by(entry));
            }
        }
        Ok(Next::by(if verdict.open { OPEN } else { CLOSED }))
    }
}
