//! RFC 9457 problems: the closed table of everything that can go wrong, and the answer made from it.

use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError, body::BoxBody, http::StatusCode};
use sea_orm::{DbErr, SqlErr};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::is_transient;

macro_rules! problems {
    ($($variant:ident $status:literal $code:literal $title:literal;)+) => {
        /// Every problem the API can answer with; the one table of codes, statuses and titles.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $variant),+ }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The stable, snake_case name.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $code),+ }
            }

            /// The HTTP status it is answered with.
            pub const fn status(self) -> u16 {
                match self { $(Code::$variant => $status),+ }
            }

            /// The one-line summary, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),+ }
            }
        }
    };
}

problems! {
    MalformedJson 400 "malformed_json" "The body is not valid JSON";
    BodyBrokeOff 400 "body_broke_off" "The body ended before its end";
    InvalidParameter 400 "invalid_parameter" "A path or query parameter is not valid";
    UnknownParameter 400 "unknown_parameter" "The operation has no such query parameter";
    InvalidCursor 400 "invalid_cursor" "The cursor was not given out by this list";
    InvalidHeader 400 "invalid_header" "A request header is not valid";
    InvalidRequest 400 "invalid_request" "The token request is not valid";
    InvalidGrant 400 "invalid_grant" "The credentials or the refresh token are not valid";
    UnsupportedGrantType 400 "unsupported_grant_type" "The grant type is not supported";
    InvalidScope 400 "invalid_scope" "The scope is not available";
    InvalidClient 401 "invalid_client" "The client credentials are not valid";
    Unauthenticated 401 "unauthenticated" "A valid access token or API key is needed";
    TokenExpired 401 "token_expired" "The access token has expired";
    Forbidden 403 "forbidden" "The caller's role or scopes do not allow this operation";
    NotYours 403 "not_yours" "This belongs to another agent";
    PasswordChangeRequired 403 "password_change_required" "The caller must change the password first";
    NotFound 404 "not_found" "There is no such resource";
    RouteNotFound 404 "route_not_found" "There is no such path";
    MethodNotAllowed 405 "method_not_allowed" "The path does not support this method";
    NotAcceptable 406 "not_acceptable" "The answer is not available in an accepted media type";
    AlreadyExists 409 "already_exists" "A resource with this name or address already exists";
    InUse 409 "in_use" "Other resources still refer to this one";
    InvalidState 409 "invalid_state" "The resource's state does not allow this action";
    LastAdmin 409 "last_admin" "The last active administrator cannot be deleted, disabled or demoted";
    ConcurrentChange 409 "concurrent_change" "Somebody else changed the resource at the same moment";
    ConversationChanged 409 "conversation_changed" "The conversation has a newer message";
    OfferNotPending 409 "offer_not_pending" "The offer is no longer pending";
    NotAssigned 409 "not_assigned" "The work item is not assigned to the caller";
    NoCapacity 409 "no_capacity" "The agent has no free capacity";
    AgentNotReady 409 "agent_not_ready" "The agent is not ready";
    NothingToClaim 409 "nothing_to_claim" "No waiting work item can be claimed by the caller";
    QueueClosed 409 "queue_closed" "The queue does not take work";
    IdempotencyInProgress 409 "idempotency_in_progress" "A request with this Idempotency-Key is still running";
    VersionLocked 409 "version_locked" "The version is frozen and cannot be changed";
    AttemptRefReused 409 "attempt_ref_reused" "The attempt_ref was used for another report";
    Gone 410 "gone" "The resource existed but its content is gone";
    PreconditionFailed 412 "precondition_failed" "The resource was changed since the given ETag";
    PayloadTooLarge 413 "payload_too_large" "The body is larger than the limit";
    BatchTooLarge 413 "batch_too_large" "The batch is full: send this in another one";
    UnsupportedMediaType 415 "unsupported_media_type" "The body's media type is not supported";
    ValidationFailed 422 "validation_failed" "The body does not fit its schema or its rules";
    UnknownReference 422 "unknown_reference" "The body refers to a resource that does not exist";
    IdempotencyKeyReused 422 "idempotency_key_reused" "The Idempotency-Key was used with another body";
    InvalidScript 422 "invalid_script" "The script version cannot be activated as it stands";
    UnparsableMessage 422 "unparsable_message" "The raw message cannot be taken in";
    NotForTexts 409 "not_for_texts" "Texts (SMS) are not answered so";
    NumberStopped 409 "number_stopped" "The owner of the number wants no more texts";
    NoRecipients 422 "no_recipients" "The message has no recipient";
    LoginThrottled 429 "login_throttled" "Too many failed logins";
    Internal 500 "internal_error" "Something went wrong on our side";
    Unavailable 503 "unavailable" "The service cannot answer right now";
}

impl Code {
    /// Whether it is one of the token endpoint's error codes (RFC 6749 §5.2).
    const fn is_oauth(self) -> bool {
        use Code::{InvalidClient, InvalidGrant, InvalidRequest, InvalidScope, UnsupportedGrantType};
        matches!(self, InvalidRequest | InvalidClient | InvalidGrant | UnsupportedGrantType | InvalidScope)
    }
}

/// One reason why a body or parameter was refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901) into the body, or the parameter's name.
    #[schema(examples("/name"))]
    pub pointer: String,
    /// What kind of error, stable and in snake_case.
    #[schema(examples("too_long"))]
    pub code: String,
    /// What is wrong, for a person.
    #[schema(examples("must have at most 100 characters"))]
    pub detail: String,
}

impl FieldError {
    /// What is wrong with one member of a body.
    pub fn new(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.to_owned(), detail: detail.into() }
    }
}

/// An error answer, `application/problem+json` (RFC 9457 §3).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A URI reference that names the kind of problem: `/v1/problems#code`.
    #[schema(examples("/v1/problems#not_found"))]
    r#type: String,
    /// The one-line summary, the same for every occurrence.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, examples(404))]
    status: u16,
    /// What happened this time.
    detail: String,
    /// The path of the request.
    instance: String,
    /// The stable name of the problem; see `GET /v1/problems`.
    #[schema(examples("not_found"))]
    code: String,
    /// The single errors, for validation problems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
    /// The request's id, as in the `X-Request-Id` header and our logs.
    request_id: String,
    /// The token endpoint's word for the problem (RFC 6749 §5.2); absent elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("invalid_grant"))]
    error: Option<&'static str>,
    /// The same as `detail`, under the name that OAuth clients read (RFC 6749 §5.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<String>,
}

/// A problem on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which row of the table.
    pub code: Code,
    /// What happened this time.
    pub detail: String,
    /// The single errors, for validation problems.
    pub errors: Vec<FieldError>,
    /// When to try again, in seconds, as `Retry-After`.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of the given kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after_s: None }
    }

    /// 404 for a resource of this kind (`"queue"`).
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// 422 with one error at `pointer`.
    pub fn invalid(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self::validation(vec![FieldError::new(pointer, code, detail)])
    }

    /// 422 with all the errors found.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("the body has {} errors", many.len()),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// 422 because the body names a `what` that does not exist, at `pointer`.
    pub fn unknown_reference(pointer: &str, what: &str) -> Self {
        let detail = format!("there is no such {what}");
        let error =
            FieldError { pointer: pointer.into(), code: "unknown_reference".into(), detail: detail.clone() };
        Self { errors: vec![error], ..Self::new(Code::UnknownReference, format!("{pointer}: {detail}")) }
    }

    /// 500, with the cause in the log and not in the answer.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(Code::Internal, "the cause is in the log, under this request id")
    }

    /// Adds a `Retry-After` header.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The answer, for a request whose path and id are known.
    pub fn respond(&self, instance: &str, request_id: &str) -> HttpResponse {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = HttpResponse::build(status);
        if let Some(seconds) = self.retry_after_s {
            answer.insert_header(("Retry-After", seconds.to_string()));
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = if self.code == Code::InvalidClient { "Basic" } else { "Bearer" };
            answer.insert_header(("WWW-Authenticate", format!("{scheme} realm=\"postroom\"")));
        }
        let oauth = self.code.is_oauth();
        if oauth {
            answer.insert_header(("Cache-Control", "no-store"));
        }
        answer.content_type("application/problem+json").json(ProblemBody {
            r#type: format!("/v1/problems#{}", self.code.name()),
            title: self.code.title().into(),
            status: self.code.status(),
            detail: self.detail.clone(),
            instance: instance.into(),
            code: self.code.name().into(),
            errors: self.errors.clone(),
            request_id: request_id.into(),
            error: oauth.then(|| self.code.name()),
            error_description: oauth.then(|| self.detail.clone()),
        })
    }

    /// The answer to `request`.
    pub fn respond_to(&self, request: &HttpRequest) -> HttpResponse {
        let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        self.respond(request.path(), &id)
    }
}

/// The id of a request, kept in its extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl std::error::Error for Problem {}

/// The answer is completed with the path and request id by the `observe` middleware, which finds the `Problem` in it.
impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.respond("", "")
    }
}

impl From<DbErr> for Problem {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(constraint)) => {
                let pointer =
                    violated_column(&constraint).map(|column| format!("/{column}")).unwrap_or_default();
                let detail = "another resource already has this value";
                let error = FieldError { pointer, code: "already_exists".into(), detail: detail.into() };
                Self { errors: vec![error], ..Self::new(Code::AlreadyExists, detail) }
            }
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => {
                Self::new(Code::InUse, "the change would leave a reference to something that does not exist")
            }
            _ => match error {
                DbErr::RecordNotFound(_) => Self::new(Code::NotFound, "there is no such resource"),
                DbErr::RecordNotUpdated => {
                    Self::new(Code::ConcurrentChange, "somebody else changed the resource at the same moment")
                }
                DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => {
                    tracing::error!(%error, "database not reachable");
                    Self::new(Code::Unavailable, "the database is not reachable").retry_after(5)
                }
                other if is_transient(&other) => {
                    tracing::warn!(error = %other, "a request was given up for another one");
                    Self::new(
                        Code::ConcurrentChange,
                        "somebody else changed the same things at the same moment",
                    )
                }
                other => Self::internal(other),
            },
        }
    }
}

/// The member behind a violated constraint: SQLite says `queues.name`, of several columns all of them; PostgreSQL names ours
/// `uq_queues__name`. What is unique by its key is a member without it.
fn violated_column(message: &str) -> Option<&str> {
    let rest = match message.split_once("__") {
        Some((_, rest)) => rest,
        None => {
            let columns = || message.split(',').filter_map(|column| Some(column.rsplit_once('.')?.1));
            columns().find(|column| column.ends_with("_key")).or_else(|| columns().next_back())?
        }
    };
    let column = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next()?;
    Some(column.strip_suffix("_key").unwrap_or(column)).filter(|column| !column.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_violated_column_is_found_in_the_words_of_both_databases() {
        assert_eq!(violated_column("UNIQUE constraint failed: queues.name"), Some("name"));
        let postgres = "duplicate key value violates unique constraint \"uq_queues__name\"";
        assert_eq!(violated_column(postgres), Some("name"));
        let key = "UNIQUE constraint failed: suppressions.campaign_id, suppressions.address_key, suppressions.reason";
        assert_eq!(violated_column(key), Some("address"));
        let several = "UNIQUE constraint failed: captures.mailbox, captures.name";
        assert_eq!(violated_column(several), Some("name"));
    }

    #[test]
    fn every_code_is_snake_case_and_unique() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
