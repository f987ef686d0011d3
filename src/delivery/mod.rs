//! Delivery: messages on their way out.

pub mod entity;
