//! Operations on scripts, their versions, calendars and global variables.

mod activation;
mod calendars;
mod scripts;
mod simulation;
mod variables;
mod versions;

use serde_json::Value as Json;
use utoipa_actix_web::service_config::ServiceConfig;

use super::problem::Problem as Finding;
use crate::http::{Problem, problem::FieldError};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .configure(scripts::mount)
        .configure(versions::mount)
        .configure(activation::mount)
        .configure(simulation::mount)
        .configure(calendars::mount)
        .configure(variables::mount);
}

/// Most bytes of JSON in one definition.
const MAX_DEFINITION_BYTES: usize = 512 * 1024;

/// Findings as the API tells them, in a document in which what was judged sits at `prefix`.
fn field_errors(prefix: &str, findings: Vec<Finding>) -> Vec<FieldError> {
    let error = |finding: Finding| {
        let Finding { pointer, code, detail } = finding.under(prefix);
        FieldError { pointer, code: code.to_owned(), detail }
    };
    findings.into_iter().map(error).collect()
}

/// Refuses a definition that cannot be stored: too large, or not readable as one.
fn check_storable(definition: &Json) -> Result<(), Problem> {
    if definition.to_string().len() > MAX_DEFINITION_BYTES {
        let detail = format!("a definition has at most {MAX_DEFINITION_BYTES} bytes");
        return Err(Problem::invalid("/definition", "too_long", detail));
    }
    super::definition::Definition::parse(definition)
        .map(|_| ())
        .map_err(|findings| Problem::validation(field_errors("/definition", findings)))
}
