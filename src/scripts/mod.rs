//! Routing scripts.
