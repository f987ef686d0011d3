//! Queues: where work waits, and how it is distributed.

pub mod api;
pub mod entity;
