//! The machine that walks a script: no I/O, no clock of its own, and always an end.
//!
//! [`advance`] goes on until the run waits, finishes or fails. What the steps want done comes back as [`Effect`]s in
//! order, for the caller to apply in the transaction in which it stores the run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value as Json;

use super::definition::{Definition, StepId};
use super::facts::Facts;
use super::problem::{Problem, token};
use super::run::{Run, RunResult, RunState, ScriptError, TraceEntry, Wait};
use super::steps::Step;
use super::turn::{Effect, Host, Next, StepError, Turn};

/// Most steps entered in one [`advance`].
pub const MAX_STEPS_PER_ADVANCE: u32 = 500;
/// Most steps entered in one run, however long it lives.
pub const MAX_STEPS_PER_RUN: u32 = 5_000;
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
