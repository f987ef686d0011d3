//! Customers: the persons to contact, the lists that they are on, and what can come of trying to reach them.

pub mod actions;
pub mod api;
pub mod by_ref;
pub mod contact;
pub mod context;
pub mod entity;
pub mod erase;
pub mod export;
pub mod import;
pub mod lists;
pub mod outcomes;
pub mod rows;
pub mod state;

use utoipa_actix_web::service_config::ServiceConfig;

/// Adds the operations of the feature. `by-ref` goes before ids.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .configure(outcomes::mount)
        .configure(lists::mount)
        .configure(by_ref::mount)
        .configure(api::mount)
        .configure(actions::mount)
        .configure(erase::mount)
        .configure(import::mount)
        .configure(export::mount);
}
