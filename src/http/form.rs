//! Form-encoded bodies of the OAuth2 endpoints, held against the OpenAPI document like JSON ones.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    body::collect_up_to,
    contract::Contract,
    problem::{Code, Problem},
};

const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";
/// Far more than the longest token request.
const MAX_BYTES: usize = 64 << 10;

/// A form that fits the schema of `T`, read as OAuth2 says (RFC 6749 §3.2): an empty parameter counts as left out, one
/// given twice is refused with `invalid_request`, and so is whatever does not fit; unknown ones are ignored.
#[derive(Debug)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned + ToSchema + 'static> FromRequest for Form<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            if !request.content_type().eq_ignore_ascii_case(MEDIA_TYPE) {
                return Err(Problem::new(Code::UnsupportedMediaType, format!("send {MEDIA_TYPE}")));
            }
            let bytes = collect_up_to(&request, payload, MAX_BYTES).await?;
            let contract = request.app_data::<web::Data<Contract>>();
            let contract = contract.ok_or_else(|| Problem::internal("the contract is not mounted"))?;
            let members = members(&bytes)?;
            contract
                .check(&T::name(), &members)
                .map_err(|problem| Problem { code: Code::InvalidRequest, ..problem })?;
            serde_json::from_value(members).map(Self).map_err(|error| refused(error.to_string()))
        })
    }
}

fn members(bytes: &[u8]) -> Result<Value, Problem> {
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_bytes(bytes).map_err(|error| refused(error.to_string()))?;
    let mut members = Map::new();
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        if value.contains('\0') || name.contains('\0') {
            return Err(refused("text must not hold U+0000"));
        }
        if members.contains_key(&name) {
            return Err(refused(format!("{name:?} is given twice")));
        }
        members.insert(name, value.into());
    }
    Ok(members.into())
}

fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_parameter_counts_as_left_out_and_a_repeated_one_is_refused() {
        let read = members(b"grant_type=password&scope=&username=a%20b").unwrap();
        assert_eq!(read, serde_json::json!({ "grant_type": "password", "username": "a b" }));
        assert_eq!(members(b"a=1&a=2").unwrap_err().code, Code::InvalidRequest);
        assert_eq!(members(b"a=%00").unwrap_err().code, Code::InvalidRequest);
    }
}
