//! What is wrong with a document, and where: the unit of every validation report.

use serde::Serialize;

/// One problem in a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the document that was judged; empty for the document itself.
    pub pointer: String,
    /// Stable, snake_case word for the kind of problem.
    pub code: &'static str,
    /// A sentence for a person.
    pub detail: String,
}

impl Problem {
    /// Makes a problem at `pointer`.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }

    /// The same problem seen from a document in which the judged one sits at `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

/// Gathers problems whose pointers all begin with one prefix.
#[derive(Debug, Default)]
pub struct Report {
    prefix: String,
    problems: Vec<Problem>,
}

impl Report {
    /// A report on the part of a document at `prefix`.
    pub fn at(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), problems: Vec::new() }
    }

    /// Adds a problem at `pointer`, which is relative to the report's prefix.
    pub fn add(&mut self, pointer: &str, code: &'static str, detail: impl Into<String>) {
        self.problems.push(Problem::new(format!("{}{pointer}", self.prefix), code, detail));
    }

    /// Adds `out_of_range` unless `value` lies between `least` and `most`, both included.
    pub fn range(&mut self, pointer: &str, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            self.add(pointer, "out_of_range", format!("{value} is not between {least} and {most}"));
        }
    }

    /// The problems in the order in which they were found.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// One reference token of a JSON pointer, escaped (RFC 6901 §3).
pub fn token(raw: &str) -> String {
    raw.replace('~', "~0").replace('/', "~1")
}
