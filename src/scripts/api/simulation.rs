//! Trying a version out: a dry run that changes nothing.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, post, web};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{field_errors, versions};
use crate::{
    app::App,
    clock::Timestamp,
    http::{Body, Code, Path, Problem},
    id::{MessageId, ScriptId},
    scripts::{
        calendar::Timezone,
        evaluate::{Compiled, Progress, advance},
        library,
        run::{Run, RunResult, ScriptError, TraceEntry, Wait},
        simulate::{self, SimulationFacts},
        turn::{Effect, QueueState},
    },
};

/// Adds the operations.
pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config.service(simulate_script_version);
}

/// What to try a version with. Without a message and facts, it is an empty mail that has just come.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "facts": {"message": {"from": {"address": "kim@example.com"}, "subject": "Where is my order?"}},
    "at": "2026-03-02T19:30:00Z", "outcomes": ["timeout"]
}))]
pub struct SimulationRequest {
    /// An inbound message whose facts are taken.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// Facts to take instead of the message's, or of none.
    #[serde(default)]
    pub facts: SimulationFacts,
    /// The moment to try it at; now when it is left out.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// The time zone in which expressions see the moment; UTC when it is left out.
    #[serde(default)]
    pub timezone: Option<Timezone>,
    /// What every queue says to the item; when it is left out, what the queue's state says.
    #[serde(default)]
    pub queue_state: Option<SimulatedQueueState>,
    /// Whether agents are ready and have room.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub agents_available: bool,
    /// How each wait ends, in order; the run rests at the first wait for which there is none.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub outcomes: Vec<SimulatedOutcome>,
}

/// The outcome of a wait, such as `assigned`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(min_length = 1, max_length = 64, examples("timeout"))]
pub struct SimulatedOutcome(String);

/// What a queue says to an item.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedQueueState {
    /// It takes it.
    Accepting,
    /// It takes it, but nobody who could serve it is logged on.
    NoAgents,
    /// It has as many items as it may.
    Full,
    /// It is closed or draining.
    Closed,
}

/// Where a run came to rest.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedState {
    /// It waits for something to happen.
    Waiting,
    /// It is over.
    Finished,
    /// It failed: the item would go to the account's fallback queue.
    Failed,
}

/// What a version did when it was tried out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Simulation {
    /// Where the run came to rest.
    pub state: SimulatedState,
    /// The step it stands at.
    #[schema(examples("queue"))]
    pub position: String,
    /// What it waits for.
    pub waits_for: Option<Wait>,
    /// What its end means for the item.
    pub result: Option<RunResult>,
    /// The last failure, also one that `on_error` has taken care of.
    pub error: Option<ScriptError>,
    /// What it would have done, in order.
    pub effects: Vec<Effect>,
    /// Its variables at the end.
    pub variables: BTreeMap<String, Json>,
    /// What it did, step by step.
    pub trace: Vec<TraceEntry>,
    /// How many older entries of the trace are left out.
    pub trace_dropped: u32,
}

const fn yes() -> bool {
    true
}

impl From<SimulatedQueueState> for QueueState {
    fn from(state: SimulatedQueueState) -> Self {
        match state {
            SimulatedQueueState::Accepting => Self::Accepting,
            SimulatedQueueState::NoAgents => Self::NoAgents,
            SimulatedQueueState::Full => Self::Full,
            SimulatedQueueState::Closed => Self::Closed,
        }
    }
}

impl Simulation {
    fn new(run: Run, effects: Vec<Effect>, progress: Progress) -> Self {
        let (state, waits_for, result) = match progress {
            Progress::Waiting(wait) => (SimulatedState::Waiting, Some(wait), None),
            Progress::Finished(result) => (SimulatedState::Finished, None, Some(result)),
            Progress::Failed(_) => (SimulatedState::Failed, None, None),
        };
        Self {
            state,
            position: run.position.to_string(),
            waits_for,
            result,
            error: run.error,
            effects,
            variables: run.vars,
            trace: run.trace,
            trace_dropped: run.trace_dropped,
        }
    }
}

/// Try a version out with the facts of a message, or with given ones. Changes nothing and sends nothing.
#[utoipa::path(tag = "scripts", params(("id" = ScriptId, Path), ("number" = i32, Path, minimum = 1)),
    request_body = SimulationRequest,
    responses((status = 200, description = "What it did.", body = Simulation)))]
#[post("/scripts/{id}/versions/{number}/simulate")]
pub async fn simulate_script_version(
    app: web::Data<App>,
    path: Path<(ScriptId, i32)>,
    body: Body<SimulationRequest>,
) -> Result<HttpResponse, Problem> {
    let (script, number) = path.into_inner();
    let row = versions::find(app.db.read(), script, number).await?;
    let compiled = library::compile(&row.definition).map_err(|findings| {
        let errors = field_errors("/definition", findings);
        Problem { errors, ..Problem::new(Code::InvalidScript, "the version cannot be run as it stands") }
    })?;
    let request = body.0;
    let mut facts = match request.message_id {
        Some(message) => simulate::facts_of_message(&app, message).await?,
        None => simulate::no_facts(&app).await?,
    };
    facts.at = request.at.unwrap_or_else(|| app.clock.now()).to_chrono();
    facts.timezone = request.timezone.map_or(chrono_tz::UTC, |timezone| timezone.0);
    let facts = request.facts.over(facts);
    let queue_state = request.queue_state.map(QueueState::from);
    let host =
        simulate::SimulatedHost::look(&app, &compiled, &facts, queue_state, request.agents_available).await?;
    let run = Run::start(row.id.uuid(), &compiled);
    let trial = web::block(move || walk(&compiled, run, facts, &host, &request.outcomes));
    Ok(HttpResponse::Ok().json(trial.await.map_err(Problem::internal)?))
}

fn walk(
    compiled: &Compiled,
    mut run: Run,
    facts: crate::scripts::facts::Facts,
    host: &simulate::SimulatedHost,
    outcomes: &[SimulatedOutcome],
) -> Simulation {
    let facts = std::sync::Arc::new(facts);
    let mut turn = advance(compiled, &mut run, &facts, host, None);
    let mut effects = std::mem::take(&mut turn.effects);
    for outcome in outcomes {
        if !matches!(turn.progress, Progress::Waiting(_)) {
            break;
        }
        turn = advance(compiled, &mut run, &facts, host, Some(&outcome.0));
        effects.append(&mut turn.effects);
    }
    Simulation::new(run, effects, turn.progress)
}
