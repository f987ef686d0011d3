//! `set_priority`: says how urgent the work item is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{Exit, StepKind};
use crate::scripts::turn::{Effect, Next, StepError, Turn};
use crate::scripts::expression::Expr;
use crate::scripts::problem::Report;
use crate::scripts::validate::References;

const FIRST: u8 = 1;
const LAST: u8 = 10;

/// A priority from 1 (first) to 10 (last), or an expression that gives one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number from 1 to 10 or an expression")]
pub enum Priority {
    /// The number itself.
    Fixed(u8),
    /// An expression that gives a whole number from 1 to 10.
    Computed(Expr),
}

impl PartialSchema for Priority {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let number = number.minimum(Some(FIRST)).maximum(Some(LAST)).examples([3]);
        let about = "A priority from 1 (first) to 10 (last), or an expression that gives one.";
        OneOfBuilder::new().description(Some(about)).item(number).item(Ref::from_schema_name(Expr::name())).into()
    }
}

impl ToSchema for Priority {
    fn name() -> Cow<'static, str> {
        "PrioritySource".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Expr::name().into(), Expr::schema()));
    }
}

impl Priority {
    pub(super) fn expression(&self, pointer: &str) -> Vec<(String, &Expr)> {
        match self {
            Self::Fixed(_) => Vec::new(),
            Self::Computed(expression) => vec![(pointer.to_owned(), expression)],
        }
    }

    pub(super) fn check(&self, pointer: &str, report: &mut Report) {
        if let Self::Fixed(value) = self {
            report.range(pointer, u64::from(*value), u64::from(FIRST), u64::from(LAST));
        }
    }

    pub(super) fn value(&self, turn: &mut Turn<'_>) -> Result<u8, StepError> {
        let value = match self {
            Self::Fixed(value) => return Ok(*value),
            Self::Computed(expression) => turn.eval(expression)?,
        };
        let number = value.as_i64().and_then(|n| u8::try_from(n).ok());
        number.filter(|n| (FIRST..=LAST).contains(n)).ok_or_else(|| {
            StepError::new("invalid_priority", format!("{value} is not a whole number from {FIRST} to {LAST}"))
        })
    }
}

/// Gives the work item a priority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"type": "set_priority", "priority": 2, "next": {"done": "queue"}}))]
pub struct SetPriority {
    /// The priority, or how to work it out.
    pub priority: Priority,
    /// Where each outcome leads.
    pub next: SetPriorityNext,
}

outcomes! {
    /// The outcomes of a `set_priority`.
    pub struct SetPriorityNext {
        /// The item has the priority.
        done: at_once,
    }
}

impl StepKind for SetPriority {
    fn exits(&self) -> Vec<Exit<'_>> {
        self.next.exits()
    }

    fn expressions(&self) -> Vec<(String, &Expr)> {
        self.priority.expression("/priority")
    }

    fn check(&self, _known: &dyn References, report: &mut Report) {
        self.priority.check("/priority", report);
    }

    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError> {
        let priority = self.priority.value(turn)?;
        turn.effect(Effect::SetPriority { priority });
        Ok(Next::by("done"))
    }
}
