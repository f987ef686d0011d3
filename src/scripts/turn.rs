//! What a step sees of the world while it runs, and what it may do to it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::Value;
use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::calendar::Calendar;
use super::definition::StepId;
use super::expression::{Expr, ExpressionError, plain_at, shown};
use super::facts::{Facts, ItemFacts};
use super::run::{RequiredSkill, RunResult, ScriptError, Seen, Wait};
use super::scope::Scope;
use super::steps::ReferenceKind;

/// Most bytes of JSON that one variable may hold.
pub const MAX_VARIABLE_BYTES: usize = 16 * 1024;

/// What a step may ask of the world outside while it runs; all answers come from memory or the caller's transaction.
pub trait Host {
    /// The calendar as it is now; `None` if there is none.
    fn calendar(&self, id: Uuid) -> Option<Arc<Calendar>>;
    /// Whether the queue can take an item that needs `skills` now.
    fn queue_state(&self, id: Uuid, skills: &[RequiredSkill]) -> QueueState;
    /// Whether the agent is ready and has room for the item.
    fn agent_available(&self, id: Uuid) -> bool;
    /// Whether the template may go to the message's sender (RFC 3834, suppressions, once per sender and rule).
    fn may_send_template(&self, id: Uuid) -> SendAnswer;
}

/// What a queue says to one more item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    /// It takes it.
    Accepting,
    /// It takes it, but nobody who could serve it is logged on.
    NoAgents,
    /// It has as many items as it may.
    Full,
    /// It is closed or draining.
    Closed,
    /// There is no such queue.
    Missing,
}

/// Whether an automatic answer may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendAnswer {
    /// It may.
    Send,
    /// It may not, for this reason.
    Refuse(String),
}

/// Something that a step wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = ScriptEffect)]
pub enum Effect {
    /// Give the item this class.
    SetClass {
        /// The class.
        class_id: Uuid,
    },
    /// Give the item this priority.
    SetPriority {
        /// 1–10.
        priority: u8,
    },
    /// Send this template to the message's sender; [`Host::may_send_template`] has said yes.
    SendTemplate {
        /// The template.
        template_id: Uuid,
    },
}

/// What a step decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Leave by this outcome.
    Leave(Cow<'static, str>),
    /// Stay until something happens.
    Wait(Wait),
    /// The run is over.
    Finish(RunResult),
}

impl Next {
    /// Leave by `outcome`.
    pub fn by(outcome: impl Into<String>) -> Self {
        Self::Leave(Cow::Owned(outcome.into()))
    }
}

/// Why a step failed, before the machine adds which step it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    code: &'static str,
    detail: String,
    place: Option<(String, u32, u32)>,
}

impl StepError {
    /// A failure with a stable code and a sentence.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), place: None }
    }

    /// Something that the step refers to has gone since the version was activated.
    pub fn missing(kind: ReferenceKind, id: Uuid) -> Self {
        Self::new("reference_missing", format!("the {} {id} does not exist", kind.word()))
    }

    fn in_expression(source: &str, error: ExpressionError) -> Self {
        let place = Some((source.to_owned(), error.line, error.column));
        Self { code: "expression_failed", detail: error.detail, place }
    }

    pub(super) fn at(self, step: &StepId) -> ScriptError {
        let (expression, line, column) = match self.place {
            Some((expression, line, column)) => (Some(expression), Some(line), Some(column)),
            None => (None, None, None),
        };
        let code = self.code.to_owned();
        ScriptError { step: step.clone(), code, detail: self.detail, expression, line, column }
    }
}

/// What a step sees and changes while it runs.
pub struct Turn<'a> {
    pub(super) facts: &'a Arc<Facts>,
    host: &'a dyn Host,
    scope: Scope,
    root: Value,
    item: ItemFacts,
    pub(super) vars: BTreeMap<String, Json>,
    pub(super) effects: Vec<Effect>,
    pub(super) saw: Vec<Seen>,
    pub(super) note: Option<String>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(facts: &'a Arc<Facts>, host: &'a dyn Host, vars: BTreeMap<String, Json>) -> Self {
        let scope = Scope::new(facts, &vars);
        let root = scope.value();
        let item = facts.item.clone();
        Self { facts, host, scope, root, item, vars, effects: Vec::new(), saw: Vec::new(), note: None }
    }

    /// The facts that the caller brought.
    pub fn facts(&self) -> &Facts {
        self.facts
    }

    /// The world outside.
    pub fn host(&self) -> &dyn Host {
        self.host
    }

    /// What this turn wants done so far.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Evaluates an expression, and keeps for the trace what it saw.
    pub fn eval(&mut self, expression: &Expr) -> Result<Value, StepError> {
        let result = expression.eval(&self.root);
        let inputs = expression.paths().iter();
        let inputs = inputs.filter_map(|path| Some((path.clone(), plain_at(&self.root, path)?))).collect();
        let value = result.as_ref().map_or(Json::Null, shown);
        self.saw.push(Seen { expression: expression.source().to_owned(), value, inputs });
        result.map_err(|error| StepError::in_expression(expression.source(), error))
    }

    /// Evaluates an expression as a yes or no.
    pub fn holds(&mut self, expression: &Expr) -> Result<bool, StepError> {
        self.eval(expression).map(|value| value.is_true())
    }

    /// Says in the trace why the step decided as it did.
    pub fn note(&mut self, note: impl Into<String>) {
        self.note = Some(note.into());
    }

    /// Wants something done; later expressions see it as done.
    pub fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::SetClass { class_id } => self.item.class_id = Some(class_id),
            Effect::SetPriority { priority } => self.item.priority = Some(priority),
            Effect::SendTemplate { .. } => {}
        }
        self.scope.set_item(&self.item);
        self.root = self.scope.value();
        self.effects.push(effect);
    }

    /// Gives variables new values, all or none of them.
    pub fn assign(&mut self, values: Vec<(&str, Value)>) -> Result<(), StepError> {
        let mut stored = Vec::with_capacity(values.len());
        for (name, value) in values {
            let json = serde_json::to_value(&value).map_err(|error| {
                StepError::new("invalid_value", format!("`{name}` cannot hold this value: {error}"))
            })?;
            if json.to_string().len() > MAX_VARIABLE_BYTES {
                let detail = format!("`{name}` would hold more than {MAX_VARIABLE_BYTES} bytes");
                return Err(StepError::new("value_too_large", detail));
            }
            stored.push((name.to_owned(), json));
        }
        self.vars.extend(stored);
        self.scope.set_vars(&self.vars);
        self.root = self.scope.value();
        Ok(())
    }
}
