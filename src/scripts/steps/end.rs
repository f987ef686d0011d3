//! `end`: the run is over.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exit, StepKind};
use crate::scripts::turn::{Next, StepError, Turn};
use crate::scripts::run::RunResult;

/// Ends the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"type": "end", "result": "done"}))]
pub struct End {
    /// What the end means for the work item.
    pub result: RunResult,
}

impl StepKind for End {
    fn exits(&self) -> Vec<Exit<'_>> {
        Vec::new()
    }

    fn ends(&self) -> bool {
        true
    }

    fn enter(&self, _turn: &mut Turn<'_>) -> Result<Next, StepError> {
        Ok(Next::Finish(self.result))
    }
}
