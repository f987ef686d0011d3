//! The gate that every request passes: which operation it is, who calls, whether the matrix allows it.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{ALLOW, AUTHORIZATION, HeaderValue},
    middleware::Next,
    web,
};

use super::{
    audit,
    authenticate::{Standing, authenticate, still_valid},
    matrix::Access,
    ticket,
};
use crate::{
    app::App,
    http::{
        caller::Role,
        contract::Contract,
        observe::route,
        problem::{Code, Problem},
    },
};

/// What a user whose password must be changed may call until it is.
const BEFORE_PASSWORD_CHANGE: &[&str] = &["get_me", "change_password"];

/// Authenticates and authorises a request and checks its headers and query, before any handler or body is touched; notes in
/// the audit log what was done or denied.
///
/// # Errors
/// `unauthenticated`, `token_expired`, `forbidden`, `password_change_required`, `method_not_allowed`, `unknown_parameter`, `invalid_parameter`,
/// `invalid_header`.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let (operation, refusal) = match operation_of(&request) {
        Ok(operation) => (operation, None),
        Err(problem) => (None, Some(problem)),
    };
    let refusal = match (&operation, refusal) {
        (Some(operation), None) => admit(&request, operation).await.err(),
        (_, refusal) => refusal,
    };
    let response = match refusal {
        None => {
            if operation.is_some() {
                request.extensions_mut().insert(Admitted);
            }
            next.call(request).await?.map_into_boxed_body()
        }
        Some(problem) => refuse(request, problem),
    };
    if let (Some(Operation { id, access, .. }), Some(app)) = (&operation, app_of(response.request())) {
        audit::note_answer(app, id, *access, &response).await;
    }
    Ok(response)
}

/// The guard let the request through.
struct Admitted;

/// The second lock: whatever of the API a request is routed to, it gets there only if the guard let it through. Without it,
/// a path that the guard took for none of the API's and the router for one would be open to everybody.
///
/// # Errors
/// None of its own: it answers 404.
pub async fn only_admitted(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if request.extensions().get::<Admitted>().is_some() {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    Ok(request.error_response(Problem::new(Code::RouteNotFound, "there is no such path")))
}

/// The operation of a request, and who may call it.
struct Operation {
    id: String,
    access: Access,
    pattern: String,
}

fn refuse(request: ServiceRequest, problem: Problem) -> ServiceResponse<BoxBody> {
    let allowed = (problem.code == Code::MethodNotAllowed).then(|| allowed_methods(&request));
    let mut response = request.error_response(problem);
    if let Some(Ok(value)) = allowed.map(|methods| HeaderValue::from_str(&methods)) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// The methods of the request's path, as an `Allow` header lists them; empty when the path is not of the API.
fn allowed_methods(request: &ServiceRequest) -> String {
    let contract = request.app_data::<web::Data<Contract>>();
    let methods = contract.zip(route(request)).map(|(contract, pattern)| contract.methods(&pattern));
    methods.unwrap_or_default().join(", ")
}

/// None when the path is not of the API: the router answers 404 or serves Swagger UI.
fn operation_of(request: &ServiceRequest) -> Result<Option<Operation>, Problem> {
    let Some(pattern) = route(request) else { return Ok(None) };
    let Some(operation) = contract(request)?.operation(request.method(), &pattern) else {
        let allowed = allowed_methods(request);
        if allowed.is_empty() {
            return Ok(None);
        }
        return Err(Problem::new(Code::MethodNotAllowed, format!("the path supports {allowed}")));
    };
    let id = operation.id.clone();
    let access =
        Access::of(&id).ok_or_else(|| Problem::internal(format!("{id} is missing in the matrix")))?;
    Ok(Some(Operation { id, access, pattern }))
}

fn contract(request: &ServiceRequest) -> Result<&Contract, Problem> {
    let contract = request.app_data::<web::Data<Contract>>().map(|data| data.get_ref());
    contract.ok_or_else(|| Problem::internal("the contract is not mounted"))
}

fn app_of(request: &HttpRequest) -> Option<&App> {
    request.app_data::<web::Data<App>>().map(|data| data.get_ref())
}

async fn admit(request: &ServiceRequest, operation: &Operation) -> Result<(), Problem> {
    let Operation { id, access, pattern } = operation;
    if *access != Access::Public {
        let standing = who(request, id).await?;
        let (caller, must_change) = (standing.caller, standing.must_change_password);
        let allowed = access.allows(&caller);
        let role = caller.role;
        request.extensions_mut().insert(caller);
        if !allowed {
            let refused = match (role, access.scope()) {
                (Role::Integration, Some(scope)) => format!("an API key without the scope {scope}"),
                _ => format!("the role {}", format!("{role:?}").to_lowercase()),
            };
            return Err(Problem::new(Code::Forbidden, format!("{refused} may not call {id}")));
        }
        if must_change && !BEFORE_PASSWORD_CHANGE.contains(&id.as_str()) {
            let detail = "change the password with POST /v1/auth/password first";
            return Err(Problem::new(Code::PasswordChangeRequired, detail));
        }
    }
    let contract = contract(request)?;
    let operation = contract.operation(request.method(), pattern);
    let Some(operation) = operation else { return Ok(()) };
    contract.check_headers(operation, request.headers())?;
    contract.check_query(operation, request.query_string())
}

async fn who(request: &ServiceRequest, operation: &str) -> Result<Standing, Problem> {
    let app = app_of(request.request()).ok_or_else(|| Problem::internal("the application is not mounted"))?;
    if let Some(ticket) = ticket_of(operation, request) {
        return still_valid(app, &ticket::redeem(app, &ticket).await?).await;
    }
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let missing =
        || Problem::new(Code::Unauthenticated, "send Authorization: Bearer with an access token or API key");
    authenticate(app, token.ok_or_else(missing)?).await
}

/// The event stream also takes a one-time ticket, for browsers whose `EventSource` cannot send headers.
fn ticket_of(operation: &str, request: &ServiceRequest) -> Option<String> {
    if operation != "stream_events" || request.headers().contains_key(AUTHORIZATION) {
        return None;
    }
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(request.query_string()).ok()?;
    pairs.into_iter().find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket)
}
