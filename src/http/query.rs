//! Path and query parameters; the query as a whole is held against the document by the guard before a handler runs.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};

/// Path parameters; a value that does not parse is a 400 `invalid_parameter`.
pub type Path<T> = web::Path<T>;

/// The members of `T` taken from the query string; others are left to other extractors of the same handler.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parsed = serde_urlencoded::from_str(request.query_string());
        ready(parsed.map(Self).map_err(|error| Problem::new(Code::InvalidParameter, error.to_string())))
    }
}
