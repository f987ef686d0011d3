//! The machine that walks a script: no I/O, no clock of its own, and always an end.
//!
//! [`advance`] goes on until the run waits, finishes or fails. What the steps want done comes back as [`Effect`]s in
//! order, for the caller to apply in the transaction in which it stores the run.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use minijinja::value::Value;
use serde_json::Value as Json;
use uuid::Uuid;

use super::calendar::Calendar;
use super::definition::{Definition, StepId};
use super::expression::{Expr, ExpressionError, plain_at, shown};
use super::facts::{Facts, ItemFacts};
use super::problem::{Problem, token};
use super::run::{RequiredSkill, Run, RunResult, RunState, ScriptError, Seen, TraceEntry, Wait};
use super::scope::Scope;
use super::steps::{ReferenceKind, Step};

/// Most steps entered in one [`advance`].
pub const MAX_STEPS_PER_ADVANCE: u32 = 500;
/// Most steps entered in one run, however long it lives.
pub const MAX_STEPS_PER_RUN: u32 = 5_000;
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Where a turn of the machine came to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The run waits; come back with an outcome.
    Waiting(Wait),
    /// The run is over.
    Finished(RunResult),
    /// The run failed; the item belongs into the account's fallback queue with this error on it.
    Failed(ScriptError),
}

/// What one [`advance`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// What is to be done, in order, also when the run failed later in the same turn.
    pub effects: Vec<Effect>,
    /// Where the run came to rest.
    pub progress: Progress,
}

/// A definition made ready to run: expressions compiled, outcomes resolved. Made once for a version and shared.
#[derive(Debug)]
pub struct Compiled {
    definition: Definition,
    nodes: HashMap<StepId, HashMap<String, StepId>>,
}

impl Compiled {
    /// Compiles a definition; fails if its start is missing or an expression does not compile.
    pub fn new(definition: Definition) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if !definition.steps.contains_key(&definition.start) {
            problems.push(Problem::new("/start", "unknown_step", format!("no step `{}`", definition.start)));
        }
        let mut nodes = HashMap::new();
        for (id, step) in &definition.steps {
            for (pointer, expression) in step.kind().expressions() {
                if let Err(error) = expression.compile() {
                    let pointer = format!("/steps/{}{pointer}", token(id.as_str()));
                    problems.push(Problem::new(pointer, "invalid_expression", error.to_string()));
                }
            }
            let exits = step.kind().exits().into_iter();
            let wired = exits.filter_map(|exit| Some((exit.outcome.into_owned(), exit.target?.clone())));
            nodes.insert(id.clone(), wired.collect());
        }
        if problems.is_empty() { Ok(Self { definition, nodes }) } else { Err(problems) }
    }

    /// The definition it was made from.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The first step.
    pub fn start(&self) -> &StepId {
        &self.definition.start
    }

    /// The variables with their initial values.
    pub fn variables(&self) -> &BTreeMap<String, Json> {
        &self.definition.variables
    }

    fn step(&self, id: &StepId) -> Option<&Step> {
        self.definition.steps.get(id)
    }

    fn target(&self, from: &StepId, outcome: &str) -> Option<&StepId> {
        self.nodes.get(from)?.get(outcome)
    }
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

    fn at(self, step: &StepId) -> ScriptError {
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
    facts: &'a Arc<Facts>,
    host: &'a dyn Host,
    scope: Scope,
    root: Value,
    item: ItemFacts,
    vars: BTreeMap<String, Json>,
    effects: Vec<Effect>,
    saw: Vec<Seen>,
    note: Option<String>,
}

impl<'a> Turn<'a> {
    fn new(facts: &'a Arc<Facts>, host: &'a dyn Host, vars: BTreeMap<String, Json>) -> Self {
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

/// Goes on with a run until it waits, finishes or fails.
///
/// `outcome` is what a waiting run waited for; `None` starts a new run, or tells a waiting one's wait again. A run
/// that is over answers with an error and stays as it is.
pub fn advance(
    script: &Compiled,
    run: &mut Run,
    facts: &Arc<Facts>,
    host: &dyn Host,
    outcome: Option<&str>,
) -> Advance {
    let resting = |progress| Advance { effects: Vec::new(), progress };
    let refused = |run: &Run, code, detail: &str| {
        resting(Progress::Failed(StepError::new(code, detail).at(&run.position)))
    };
    match (&run.state, outcome) {
        (RunState::Finished { .. } | RunState::Failed, _) => refused(run, "run_is_over", "the run is over"),
        (RunState::Ready, Some(_)) => refused(run, "run_is_not_waiting", "the run waits for nothing"),
        (RunState::Waiting { wait }, None) => resting(Progress::Waiting(wait.clone())),
        (RunState::Ready, None) | (RunState::Waiting { .. }, Some(_)) => {
            Machine::new(script, run, facts, host).go(outcome)
        }
    }
}

struct Machine<'a> {
    script: &'a Compiled,
    run: &'a mut Run,
    turn: Turn<'a>,
}

impl<'a> Machine<'a> {
    fn new(script: &'a Compiled, run: &'a mut Run, facts: &'a Arc<Facts>, host: &'a dyn Host) -> Self {
        // The turn works on the variables; they go back into the run when it comes to rest.
        let vars = std::mem::take(&mut run.vars);
        let turn = Turn::new(facts, host, vars);
        Self { script, run, turn }
    }

    fn go(mut self, outcome: Option<&str>) -> Advance {
        let progress = self.walk(outcome);
        self.run.vars = self.turn.vars;
        Advance { effects: self.turn.effects, progress }
    }

    fn walk(&mut self, outcome: Option<&str>) -> Progress {
        if let Some(outcome) = outcome
            && let Some(progress) = self.resume(outcome)
        {
            return progress;
        }
        for _ in 0..MAX_STEPS_PER_ADVANCE {
            if self.run.steps_taken >= MAX_STEPS_PER_RUN {
                break;
            }
            if let Some(progress) = self.step() {
                return progress;
            }
        }
        let error = StepError::new("too_many_steps", "the script went on for too long without an end");
        self.give_up(error.at(&self.run.position))
    }

    fn resume(&mut self, outcome: &str) -> Option<Progress> {
        self.run.state = RunState::Ready;
        let began = Instant::now();
        let position = self.run.position.clone();
        let left = self.leave(&position, outcome);
        self.settle(&position, began, left)
    }

    fn step(&mut self) -> Option<Progress> {
        self.run.steps_taken += 1;
        let began = Instant::now();
        let position = self.run.position.clone();
        let script = self.script;
        let step =
            script.step(&position).ok_or_else(|| StepError::new("unknown_step", "there is no such step"));
        let entered = step.and_then(|step| step.kind().enter(&mut self.turn));
        let settled = entered.and_then(|next| match next {
            Next::Leave(outcome) => self.leave(&position, &outcome),
            Next::Wait(wait) => {
                self.run.state = RunState::Waiting { wait: wait.clone() };
                Ok(Rest::At(Progress::Waiting(wait)))
            }
            Next::Finish(result) => {
                self.run.state = RunState::Finished { result };
                Ok(Rest::At(Progress::Finished(result)))
            }
        });
        self.settle(&position, began, settled)
    }

    fn leave(&mut self, position: &StepId, outcome: &str) -> Result<Rest, StepError> {
        let target = self.script.target(position, outcome).ok_or_else(|| {
            StepError::new("outcome_not_wired", format!("the outcome `{outcome}` leads nowhere"))
        })?;
        self.run.position = target.clone();
        Ok(Rest::By(outcome.to_owned()))
    }

    /// Writes the visit into the trace, and decides where a failure leads.
    fn settle(&mut self, step: &StepId, began: Instant, rest: Result<Rest, StepError>) -> Option<Progress> {
        let (outcome, error, progress) = match rest {
            Ok(Rest::By(outcome)) => (Some(outcome), None, None),
            Ok(Rest::At(progress)) => (None, None, Some(progress)),
            Err(error) => (None, Some(error.at(step)), None),
        };
        self.run.record(TraceEntry {
            step: step.clone(),
            r#type: self.script.step(step).map_or("unknown", Step::type_name).to_owned(),
            at: self.turn.facts.at,
            saw: std::mem::take(&mut self.turn.saw),
            outcome,
            note: self.turn.note.take(),
            error: error.clone(),
            duration_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
        match error {
            Some(error) => self.recover(error),
            None => progress,
        }
    }

    fn recover(&mut self, error: ScriptError) -> Option<Progress> {
        match &self.script.definition.on_error {
            Some(on_error) if !self.run.recovered => {
                self.run.recovered = true;
                self.run.position = on_error.clone();
                self.run.error = Some(error);
                None
            }
            _ => Some(self.give_up(error)),
        }
    }

    fn give_up(&mut self, error: ScriptError) -> Progress {
        self.run.state = RunState::Failed;
        self.run.error = Some(error.clone());
        Progress::Failed(error)
    }
}

/// How a visit to a step ended, if it did not fail.
enum Rest {
    By(String),
    At(Progress),
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
