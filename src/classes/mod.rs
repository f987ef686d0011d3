//! Classes: what kind of contact something is. An account, a rule or a script sets them.

pub mod api;
pub mod entity;
