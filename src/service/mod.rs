//! The service as such: is it alive, is it ready, what does it measure, what can go wrong.

pub mod api;
