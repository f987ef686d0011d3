//! Judges a definition as a whole, and tells everything that is wrong with it at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::definition::{Definition, MAX_NAME, MAX_STEPS, MAX_VARIABLES, StepId};
use super::lint;
use super::problem::{Problem, Report, token};
use super::steps::{Exit, ReferenceKind, Step};
use super::turn::MAX_VARIABLE_BYTES;

/// What exists outside the script.
pub trait References {
    /// Whether the thing exists and may be referred to.
    fn exists(&self, kind: ReferenceKind, id: Uuid) -> bool;
    /// The names of a calendar's entries; `None` if there is no such calendar.
    fn calendar_entries(&self, id: Uuid) -> Option<HashSet<String>>;
}

/// References that were looked up beforehand; [`Definition::references`] says which to look up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownReferences {
    /// Everything that exists, except calendars.
    pub things: HashSet<(ReferenceKind, Uuid)>,
    /// The calendars that exist, each with the names of its entries.
    pub calendars: HashMap<Uuid, HashSet<String>>,
}

impl References for KnownReferences {
    fn exists(&self, kind: ReferenceKind, id: Uuid) -> bool {
        self.things.contains(&(kind, id))
            || (kind == ReferenceKind::Calendar && self.calendars.contains_key(&id))
    }

    fn calendar_entries(&self, id: Uuid) -> Option<HashSet<String>> {
        self.calendars.get(&id).cloned()
    }
}

/// Every problem of `definition`, in the order of its parts; an empty list means that it may be activated.
pub fn validate(definition: &Definition, known: &dyn References) -> Vec<Problem> {
    let mut problems = Report::default();
    check_frame(definition, &mut problems);
    let mut problems = problems.into_problems();
    for (id, step) in &definition.steps {
        problems.extend(check_step(definition, id, step, known));
    }
    let graph = Graph::of(definition);
    problems.extend(graph.unreachable(definition));
    problems.extend(graph.busy_cycles());
    problems
}

fn check_frame(definition: &Definition, report: &mut Report) {
    report.range("/steps", definition.steps.len() as u64, 1, MAX_STEPS as u64);
    report.range("/variables", definition.variables.len() as u64, 0, MAX_VARIABLES as u64);
    if !definition.steps.contains_key(&definition.start) {
        report.add("/start", "unknown_step", format!("there is no step `{}`", definition.start));
    }
    if let Some(step) = definition.on_error.as_ref().filter(|step| !definition.steps.contains_key(*step)) {
        report.add("/on_error", "unknown_step", format!("there is no step `{step}`"));
    }
    if !definition.steps.values().any(|step| step.kind().ends()) {
        report.add("/steps", "no_end", "no step ends the run");
    }
    for (name, value) in &definition.variables {
        let pointer = format!("/variables/{}", token(name));
        if !is_variable_name(name) {
            let detail =
                format!("a variable's name has 1 to {MAX_NAME} of a-z, 0-9 and _, and no digit in front");
            report.add(&pointer, "invalid_name", detail);
        }
        if value.to_string().len() > MAX_VARIABLE_BYTES {
            report.add(
                &pointer,
                "value_too_large",
                format!("a variable holds at most {MAX_VARIABLE_BYTES} bytes"),
            );
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(legal)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn check_step(definition: &Definition, id: &StepId, step: &Step, known: &dyn References) -> Vec<Problem> {
    let mut report = Report::at(format!("/steps/{}", token(id.as_str())));
    let kind = step.kind();
    if !id.is_legal() {
        report.add("", "invalid_name", format!("a step's id has 1 to {MAX_NAME} of A-Z, a-z, 0-9, _ and -"));
    }
    kind.check(known, &mut report);
    for exit in kind.exits() {
        check_exit(definition, &exit, &mut report);
    }
    for (pointer, expression) in kind.expressions() {
        for (code, detail) in lint::findings(expression, &definition.variables) {
            report.add(&pointer, code, format!("step `{id}`: {detail}"));
        }
    }
    for (pointer, name) in kind.assigns() {
        if !definition.variables.contains_key(name) {
            report.add(&pointer, "unknown_variable", format!("the script declares no variable `{name}`"));
        }
    }
    for (pointer, reference) in kind.references() {
        if !known.exists(reference.kind, reference.id) {
            let word = reference.kind.word();
            report.add(&pointer, "unknown_reference", format!("there is no {word} {}", reference.id));
        }
    }
    report.into_problems()
}

fn check_exit(definition: &Definition, exit: &Exit<'_>, report: &mut Report) {
    let pointer = format!("/next/{}", token(&exit.outcome));
    match exit.target {
        Some(target) if definition.steps.contains_key(target) => {}
        Some(target) => report.add(&pointer, "unknown_step", format!("there is no step `{target}`")),
        None if exit.required => {
            report.add(
                &pointer,
                "outcome_not_wired",
                format!("the outcome `{}` leads nowhere", exit.outcome),
            );
        }
        None => {}
    }
}

/// The wired outcomes between existing steps.
struct Graph<'a> {
    edges: BTreeMap<&'a StepId, Vec<Edge<'a>>>,
}

struct Edge<'a> {
    outcome: String,
    target: &'a StepId,
    after_wait: bool,
}

impl<'a> Graph<'a> {
    fn of(definition: &'a Definition) -> Self {
        let edge = |exit: Exit<'a>| {
            let (target, _) = definition.steps.get_key_value(exit.target?)?;
            Some(Edge { outcome: exit.outcome.into_owned(), target, after_wait: exit.after_wait })
        };
        let steps = definition.steps.iter();
        let edges = steps.map(|(id, step)| (id, step.kind().exits().into_iter().filter_map(edge).collect()));
        Self { edges: edges.collect() }
    }

    fn from(&self, step: &StepId) -> &[Edge<'a>] {
        self.edges.get(step).map_or(&[], Vec::as_slice)
    }

    fn unreachable(&self, definition: &'a Definition) -> Vec<Problem> {
        let mut to_visit: Vec<&StepId> = definition.on_error.iter().chain([&definition.start]).collect();
        let mut seen: BTreeSet<&StepId> = BTreeSet::new();
        while let Some(step) = to_visit.pop() {
            if seen.insert(step) {
                to_visit.extend(self.from(step).iter().map(|edge| edge.target));
            }
        }
        let lost = self.edges.keys().filter(|step| !seen.contains(*step));
        let problem = |step: &&StepId| {
            let pointer = format!("/steps/{}", token(step.as_str()));
            Problem::new(pointer, "unreachable_step", format!("no way leads to the step `{step}`"))
        };
        lost.map(problem).collect()
    }

    /// Cycles that a run could go round without ever waiting, told at the outcome that closes them.
    fn busy_cycles(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut done: BTreeSet<&StepId> = BTreeSet::new();
        for &root in self.edges.keys() {
            if done.contains(root) {
                continue;
            }
            // Depth first with a stack of our own: (step, how many of its edges were followed).
            let mut path: Vec<(&StepId, usize)> = vec![(root, 0)];
            while let Some((step, followed)) = path.last_mut() {
                let step = *step;
                let Some(edge) = self.from(step).get(*followed) else {
                    done.insert(step);
                    path.pop();
                    continue;
                };
                *followed += 1;
                if edge.after_wait || done.contains(edge.target) {
                    continue;
                }
                match path.iter().position(|(on_path, _)| *on_path == edge.target) {
                    Some(first) => problems.push(busy_cycle(step, edge, &path[first..])),
                    None => path.push((edge.target, 0)),
                }
            }
        }
        problems
    }
}

fn busy_cycle(step: &StepId, edge: &Edge<'_>, cycle: &[(&StepId, usize)]) -> Problem {
    let mut way: Vec<&str> = cycle.iter().map(|(step, _)| step.as_str()).collect();
    way.push(edge.target.as_str());
    let pointer = format!("/steps/{}/next/{}", token(step.as_str()), token(&edge.outcome));
    let detail = format!("a run could go round without waiting: {}", way.join(" → "));
    Problem::new(pointer, "cycle_without_wait", detail)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
