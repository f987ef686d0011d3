//! The conventions of the API (DESIGN §2), free of any feature.

pub mod body;
pub mod caller;
pub mod contract;
pub mod etag;
pub mod form;
pub mod idempotency;
pub mod observe;
pub mod page;
pub mod problem;
pub mod query;
pub mod rows;

pub use body::{Body, Patch};
pub use caller::Caller;
pub use etag::IfMatch;
pub use form::Form;
pub use idempotency::{Answer, Idempotency};
pub use page::{Page, PageQuery};
pub use problem::{Code, Problem};
pub use query::{Path, Query};
