//! The stored form of a script: what `definition` holds in the API.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::problem::{Problem, token};
use super::steps::{Reference, Step};

/// Most steps in one definition.
pub const MAX_STEPS: usize = 500;
/// Most variables in one definition.
pub const MAX_VARIABLES: usize = 100;
/// Most characters in a step id, and in a variable's name.
pub const MAX_NAME: usize = 64;

/// The name of a step within its definition: 1–64 characters of `A–Z a–z 0–9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$", example = "to_sales")]
pub struct StepId(String);

impl StepId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the id has a legal length and only legal characters.
    pub fn is_legal(&self) -> bool {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (1..=MAX_NAME).contains(&self.0.len()) && self.0.bytes().all(legal)
    }
}

impl From<&str> for StepId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A routing script: typed steps joined by named outcomes, entered at `start`.
///
/// A definition may be stored half drawn; it is judged as a whole before it is activated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "start": "queue",
    "steps": {
        "queue": {"type": "enqueue", "next": {"assigned": "done"}},
        "done": {"type": "end", "result": "done"}
    }
}))]
pub struct Definition {
    /// The step that runs first.
    pub start: StepId,
    /// Every variable of the script with its initial value, at most 100; expressions read them as `vars.NAME`.
    #[serde(default)]
    #[schema(example = json!({"vip": false}))]
    pub variables: BTreeMap<String, Json>,
    /// The steps by id, 1 to 500 of them.
    pub steps: BTreeMap<StepId, Step>,
    /// Where the run goes, once, when a step fails; without it a failing step fails the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<StepId>,
}

impl Definition {
    /// Reads a definition from JSON; a wrong shape gives one problem for each step that has one.
    pub fn parse(document: &Json) -> Result<Self, Vec<Problem>> {
        let steps = document.get("steps").and_then(Json::as_object);
        let problems: Vec<Problem> =
            steps.into_iter().flatten().filter_map(|(id, step)| step_problem(id, step)).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        serde_path_to_error::deserialize(document).map_err(|error| {
            let pointer = pointer_of(error.path());
            vec![Problem::new(pointer, "invalid_definition", error.into_inner().to_string())]
        })
    }

    /// Everything outside the script that its steps refer to, with the JSON pointer of each mention.
    pub fn references(&self) -> Vec<(String, Reference)> {
        let mut found = Vec::new();
        for (id, step) in &self.steps {
            for (pointer, reference) in step.kind().references() {
                found.push((format!("/steps/{}{pointer}", token(id.as_str())), reference));
            }
        }
        found
    }
}

fn step_problem(id: &str, step: &Json) -> Option<Problem> {
    let error = serde_path_to_error::deserialize::<_, Step>(step).err()?;
    let pointer = format!("/steps/{}{}", token(id), pointer_of(error.path()));
    Some(Problem::new(pointer, "invalid_step", error.into_inner().to_string()))
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", token(key))),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(segment).collect()
}
