//! What every request gets: an id, a log line, a metric, and a complete problem when it fails.

use std::time::Instant;

use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
    web,
};
use uuid::Uuid;

use super::{
    contract::Contract,
    problem::{Code, Problem, RequestId},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost middleware.
///
/// # Errors
/// None of its own: inner services turn their errors into answers, which are completed here.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let pattern = route(&request).unwrap_or_else(|| "unmatched".into());
    let mut response = complete(next.call(request).await?, &path, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    let labels = [("method", method.to_string()), ("route", pattern.clone()), ("status", status.to_string())];
    metrics::histogram!("postroom_http_request_seconds", &labels).record(elapsed.as_secs_f64());
    tracing::info!(%method, route = %pattern, status, ms = elapsed.as_millis(), request_id = %id, "request");
    Ok(response)
}

/// The path of the document that a request means, by the same text by which it is routed: with `%71` read as `q`.
pub fn route(request: &ServiceRequest) -> Option<String> {
    let contract = request.app_data::<web::Data<Contract>>()?;
    contract.pattern(request.match_info().as_str()).map(str::to_owned)
}

/// A client may bring an id of its own; anything that could disturb a log is replaced.
fn request_id(request: &ServiceRequest) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let fits = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    given.filter(fits).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Makes a complete problem of every error answer, also of those that the framework gave.
fn complete(
    response: ServiceResponse<impl MessageBody + 'static>,
    path: &str,
    id: &str,
) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response.map_into_boxed_body();
    }
    let problem = match response.response().error() {
        Some(error) => problem_of(error, status.as_u16()),
        None if is_problem(&response) => return response.map_into_boxed_body(),
        None => of_status(status.as_u16(), status.canonical_reason().unwrap_or("error")),
    };
    let mut answer = problem.respond(path, id);
    // What was said beside the body, to browsers of other origins above all, holds for the problem, too.
    let own: Vec<HeaderName> = answer.headers().keys().cloned().collect();
    for (name, value) in response.headers().iter().filter(|(name, _)| !own.contains(name)) {
        answer.headers_mut().append(name.clone(), value.clone());
    }
    response.into_response(answer)
}

fn is_problem(response: &ServiceResponse<impl MessageBody>) -> bool {
    let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/problem+json"))
}

fn problem_of(error: &Error, status: u16) -> Problem {
    match error.as_error::<Problem>() {
        Some(problem) => Problem {
            code: problem.code,
            detail: problem.detail.clone(),
            errors: problem.errors.clone(),
            retry_after_s: problem.retry_after_s,
        },
        None => of_status(status, &error.to_string()),
    }
}

fn of_status(status: u16, detail: &str) -> Problem {
    let code = match status {
        401 => Code::Unauthenticated,
        403 => Code::Forbidden,
        404 => Code::RouteNotFound,
        405 => Code::MethodNotAllowed,
        406 => Code::NotAcceptable,
        413 => Code::PayloadTooLarge,
        415 => Code::UnsupportedMediaType,
        400..=499 => Code::InvalidParameter,
        503 => Code::Unavailable,
        _ => return Problem::internal(detail),
    };
    Problem::new(code, detail)
}
