//! The gate that every request passes: which operation it is, who calls, whether the matrix allows it.

use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{ALLOW, AUTHORIZATION, HeaderValue},
    middleware::Next,
    web,
};

use super::{matrix::Access, ticket, token};
use crate::{
    app::App,
    http::{
        caller::Caller,
        contract::Contract,
        problem::{Code, Problem},
    },
};

/// Authenticates and authorises a request and checks its query, before any handler or body is touched.
///
/// # Errors
/// `unauthenticated`, `token_expired`, `forbidden`, `unknown_parameter`, `invalid_parameter`.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match admit(&request).await {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_boxed_body),
        Err(problem) => {
            let allowed = (problem.code == Code::MethodNotAllowed).then(|| allowed_methods(&request));
            let mut response = request.error_response(problem);
            if let Some(Ok(value)) = allowed.map(|methods| HeaderValue::from_str(&methods)) {
                response.headers_mut().insert(ALLOW, value);
            }
            Ok(response)
        }
    }
}

/// The methods of the request's path, as an `Allow` header lists them; empty when the path is not of the API.
fn allowed_methods(request: &ServiceRequest) -> String {
    let contract = request.app_data::<web::Data<Contract>>();
    let methods = contract.zip(request.match_pattern()).map(|(contract, pattern)| contract.methods(&pattern));
    methods.unwrap_or_default().join(", ")
}

async fn admit(request: &ServiceRequest) -> Result<(), Problem> {
    let contract = request.app_data::<web::Data<Contract>>();
    let contract = contract.ok_or_else(|| Problem::internal("the contract is not mounted"))?;
    let pattern = request.match_pattern();
    let Some(operation) =
        pattern.as_deref().and_then(|pattern| contract.operation(request.method(), pattern))
    else {
        let allowed = allowed_methods(request);
        if allowed.is_empty() {
            // Not a path of the API: the router answers 404 or serves Swagger UI.
            return Ok(());
        }
        return Err(Problem::new(Code::MethodNotAllowed, format!("the path supports {allowed}")));
    };
    let access = Access::of(&operation.id)
        .ok_or_else(|| Problem::internal(format!("{} is missing in the matrix", operation.id)))?;
    if access != Access::Public {
        let caller = match ticket_of(&operation.id, request) {
            Some(ticket) => ticket::redeem(app_of(request)?, &ticket).await?,
            None => authenticate(request).await?,
        };
        if !access.allows(&caller) {
            let detail = format!("the role {:?} may not call {}", caller.role, operation.id);
            return Err(Problem::new(Code::Forbidden, detail.to_lowercase()));
        }
        request.extensions_mut().insert(caller);
    }
    contract.check_query(operation, request.query_string())
}

async fn authenticate(request: &ServiceRequest) -> Result<Caller, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let missing =
        || Problem::new(Code::Unauthenticated, "send Authorization: Bearer with an access token or API key");
    token::verify(app_of(request)?, token.ok_or_else(missing)?).await
}

fn app_of(request: &ServiceRequest) -> Result<&App, Problem> {
    let app = request.app_data::<web::Data<App>>();
    app.map(|app| app.get_ref()).ok_or_else(|| Problem::internal("the application is not mounted"))
}

/// The event stream also takes a one-time ticket, for browsers whose `EventSource` cannot send headers.
fn ticket_of(operation: &str, request: &ServiceRequest) -> Option<String> {
    if operation != "stream_events" || request.headers().contains_key(AUTHORIZATION) {
        return None;
    }
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(request.query_string()).ok()?;
    pairs.into_iter().find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket)
}
