//! Entity tags of configuration resources: the row's version, compared by `If-Match` (RFC 9110 §13.1.1).

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header};

use super::problem::{Code, Problem};

/// The entity tag of a row's version.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// The `If-Match` header: any version, or one of those named.
#[derive(Clone, Debug)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// Passes when the header is absent, `*`, or names `version`.
    ///
    /// # Errors
    /// `precondition_failed` when it names only other versions.
    pub fn check(&self, version: i64) -> Result<(), Problem> {
        let current = etag(version);
        match &self.0 {
            Some(tags) if !tags.contains(&current) => {
                let bare = tags.iter().any(|tag| !tag.ends_with('"'));
                let hint = if bare { "; an ETag has quotes, which belong to it" } else { "" };
                let detail = format!("the current ETag is {current}{hint}");
                Err(Problem::new(Code::PreconditionFailed, detail))
            }
            _ => Ok(()),
        }
    }

    /// Passes when the header is absent: a resource that is not there has no version.
    ///
    /// # Errors
    /// `precondition_failed`.
    pub fn check_absent(&self) -> Result<(), Problem> {
        match &self.0 {
            Some(_) => Err(Problem::new(Code::PreconditionFailed, "there is no such resource yet")),
            None => Ok(()),
        }
    }
}

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(value) = request.headers().get(header::IF_MATCH) else { return ready(Ok(Self(None))) };
        let parsed = value
            .to_str()
            .map_err(|_| Problem::new(Code::InvalidHeader, "If-Match is not text"))
            .map(|text| match text.trim() {
                "*" => Self(None),
                tags => Self(Some(tags.split(',').map(|tag| tag.trim().to_owned()).collect())),
            });
        ready(parsed)
    }
}
