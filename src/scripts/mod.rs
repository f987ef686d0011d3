//! Routing scripts: graphs of typed steps that decide what becomes of an inbound message.
//!
//! Everything here is pure: [`definition`] is the stored form, [`validate`] judges it as a whole, [`evaluate`] walks
//! it and says what to do, and the caller does it. [`calendar`] knows opening hours and nothing of scripts.

pub mod calendar;
pub mod default;
pub mod definition;
pub mod evaluate;
pub mod expression;
pub mod facts;
mod language;
mod lint;
pub mod problem;
pub mod run;
mod scope;
pub mod steps;
pub mod turn;
pub mod validate;
