//! Queues: where work waits, and how it is distributed.

pub mod entity;
