//! The sandbox's clock: what it shows, and moving it forward.

use std::time::Duration;

use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    app::App,
    clock::Timestamp,
    http::{Body, Problem, problem::ProblemBody},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(get_sandbox_clock).service(advance_sandbox_clock);
}

/// What the sandbox's clock shows.
#[derive(Debug, Serialize, ToSchema)]
pub struct SandboxClock {
    /// The present instant, as everything in the service sees it.
    now: Timestamp,
    /// How far it is ahead of the system's time, in seconds.
    #[schema(minimum = 0, examples(3600))]
    ahead_s: i64,
}

impl SandboxClock {
    fn of(app: &App) -> Self {
        Self { now: app.clock.now(), ahead_s: app.clock.offset_ms() / 1000 }
    }
}

/// How far to move the clock.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "seconds": 3600 }))]
pub struct SandboxClockAdvance {
    /// So many seconds forward; the clock never goes back.
    #[schema(minimum = 1, maximum = 31_536_000, examples(3600))]
    seconds: u64,
}

/// Read the sandbox's clock.
///
/// Outside the sandbox there is no such resource: 404.
#[utoipa::path(tag = "sandbox",
    responses((status = 200, description = "The clock.", body = SandboxClock),
        (status = 404, description = "This is no sandbox.", body = ProblemBody, content_type = "application/problem+json")))]
#[get("/sandbox/clock")]
pub async fn get_sandbox_clock(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    only_in_the_sandbox(&app)?;
    Ok(HttpResponse::Ok().json(SandboxClock::of(&app)))
}

/// Move the sandbox's clock forward.
///
/// Whatever was due in between happens at once: offers time out, waiting items age, tokens expire. An access
/// token lives up to 15 minutes on this clock too, so log in again after a longer way. Outside the sandbox: 404.
#[utoipa::path(tag = "sandbox", request_body = SandboxClockAdvance,
    responses((status = 200, description = "The clock after the move.", body = SandboxClock),
        (status = 404, description = "This is no sandbox.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/sandbox/clock/advance")]
pub async fn advance_sandbox_clock(
    app: web::Data<App>,
    body: Body<SandboxClockAdvance>,
) -> Result<HttpResponse, Problem> {
    only_in_the_sandbox(&app)?;
    app.clock.advance(Duration::from_secs(body.0.seconds));
    Ok(HttpResponse::Ok().json(SandboxClock::of(&app)))
}

fn only_in_the_sandbox(app: &App) -> Result<(), Problem> {
    if app.config.sandbox.enabled { Ok(()) } else { Err(Problem::not_found("sandbox")) }
}
