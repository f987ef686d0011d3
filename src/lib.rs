//! Postroom: the e-mail side of a contact centre, as a REST service.
//!
//! Calls go one way: `main → app → {api, workers} → features → {mail, http, db, lease, clock}`. Between features only
//! the edges in [`FEATURE_EDGES`] are allowed; a test reads the `use` lines and fails on any other.

pub mod access;
pub mod api;
pub mod app;
pub mod classes;
pub mod clock;
pub mod config;
pub mod db;
pub mod events;
pub mod http;
pub mod id;
pub mod lease;
pub mod mail;
pub mod scripts;
pub mod secret;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod workers;
