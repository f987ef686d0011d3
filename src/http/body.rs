//! JSON bodies, held against the OpenAPI document itself: what the document allows is what is accepted.

use std::{future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::{Method, header},
    web::{self, BytesMut},
};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    contract::Contract,
    problem::{Code, Problem},
};

/// The largest JSON body, in bytes; kept in the application's data.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

/// SHA-256 of the body, kept in the request's extensions for the idempotency check.
#[derive(Clone, Copy, Debug)]
pub struct BodyHash(pub [u8; 32]);

/// A JSON body that fits the schema of `T`.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON merge patch (RFC 7396) of a resource whose writable form is `T`.
#[derive(Debug)]
pub struct Patch<T> {
    patch: Value,
    contract: Arc<Contract>,
    resource: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned + ToSchema> Patch<T> {
    /// The writable form of the resource after the patch.
    ///
    /// # Errors
    /// `validation_failed` when the patch or its result does not fit the schema.
    pub fn apply(&self, current: &T) -> Result<T, Problem> {
        let name = T::name();
        let patch_schema = name.strip_suffix("Create").map(|stem| format!("{stem}Patch"));
        if let Some(schema) = patch_schema.filter(|schema| self.contract.has_schema(schema)) {
            self.contract.check(&schema, &self.patch)?;
        }
        let mut whole = serde_json::to_value(current).map_err(Problem::internal)?;
        json_patch::merge(&mut whole, &self.patch);
        read(&self.contract, whole)
    }

    /// Whether the patch says anything of this top-level member, also `null`.
    pub fn mentions(&self, member: &str) -> bool {
        self.patch.get(member).is_some()
    }

    /// Whether the patch removes what is at this JSON pointer, by `null`.
    pub fn removes(&self, pointer: &str) -> bool {
        self.patch.pointer(pointer).is_some_and(Value::is_null)
    }
}

fn read<T: DeserializeOwned + ToSchema>(contract: &Contract, value: Value) -> Result<T, Problem> {
    contract.check(&T::name(), &value)?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let pointer = if path == "." {
            String::new()
        } else {
            format!("/{}", path.replace(['.', '['], "/").replace(']', ""))
        };
        Problem::invalid(pointer, "invalid", error.into_inner().to_string())
    })
}

impl<T: DeserializeOwned + ToSchema + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let (contract, types) = (contract(&request)?, ["application/json"]);
            let unnamed = !request.headers().contains_key(header::CONTENT_TYPE);
            if unnamed && request.method() == Method::POST && contract.may_be_left_out(&T::name()) {
                if !collect(&request, payload).await?.is_empty() {
                    return Err(unsupported(&types));
                }
                return Ok(Self(read(&contract, Value::Object(Map::new()))?));
            }
            let value = json(&request, payload, &types).await?;
            Ok(Self(read(&contract, value)?))
        })
    }
}

impl<T: 'static> FromRequest for Patch<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let types = ["application/merge-patch+json", "application/json"];
            let patch = json(&request, payload, &types).await?;
            if !patch.is_object() {
                return Err(Problem::invalid("", "type", "a merge patch is an object"));
            }
            Ok(Self { patch, contract: contract(&request)?, resource: PhantomData })
        })
    }
}

fn contract(request: &HttpRequest) -> Result<Arc<Contract>, Problem> {
    let contract = request.app_data::<web::Data<Contract>>();
    contract.map(|data| Arc::clone(data)).ok_or_else(|| Problem::internal("the contract is not mounted"))
}

fn unsupported(types: &[&str]) -> Problem {
    Problem::new(Code::UnsupportedMediaType, format!("send {}", types.join(" or ")))
}

async fn json(request: &HttpRequest, payload: Payload, types: &[&str]) -> Result<Value, Problem> {
    let given = request.content_type();
    if !types.contains(&given.to_ascii_lowercase().as_str()) {
        return Err(unsupported(types));
    }
    let bytes = collect(request, payload).await?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    if holds_nul(&value) {
        return Err(Problem::invalid("", "nul_character", "text must not hold U+0000"));
    }
    Ok(value)
}

/// Reads a whole body into memory, up to the configured limit, and notes its hash for the idempotency check.
///
/// # Errors
/// `payload_too_large`, or `malformed_json` when the connection ends early.
pub async fn collect(request: &HttpRequest, payload: Payload) -> Result<web::Bytes, Problem> {
    let limit = request.app_data::<BodyLimit>().map_or(1 << 20, |limit| limit.0);
    collect_up_to(request, payload, limit).await
}

/// Reads a whole body of at most `limit` bytes, and notes its hash for the idempotency check.
///
/// # Errors
/// `payload_too_large`, or `malformed_json` when the connection ends early.
pub async fn collect_up_to(
    request: &HttpRequest,
    mut payload: Payload,
    limit: usize,
) -> Result<web::Bytes, Problem> {
    let too_large = || Problem::new(Code::PayloadTooLarge, format!("the limit is {limit} bytes"));
    let announced =
        request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(1024));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|error| Problem::new(Code::MalformedJson, format!("the body broke off: {error}")))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    request.extensions_mut().insert(BodyHash(Sha256::digest(&bytes).into()));
    Ok(bytes.freeze())
}

/// PostgreSQL's text cannot hold U+0000, so no text of ours does.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}
