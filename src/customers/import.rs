//! Imports: customers read from a file of any length while it comes in.
//!
//! A file is sent to an import that was made before, so that its id is known: it can be watched and cancelled while it
//! runs, and sent again when the connection broke. Rows are written in batches, each in a transaction that also moves the
//! import on; the hash of all that was read tells the same file from another one.

pub mod api;
pub mod errors;
mod row;
mod run;
mod write;

use utoipa_actix_web::service_config::ServiceConfig;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.configure(api::mount).configure(errors::mount);
}
