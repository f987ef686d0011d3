//! Routing scripts: graphs of typed steps that decide what becomes of an inbound message.
//!
//! The language is pure: [`definition`] is the stored form, [`validate`] judges it as a whole, [`evaluate`] walks
//! it and says what to do, and the caller does it. [`calendar`] knows opening hours and nothing of scripts.
//!
//! Around it: [`entity`] has the tables, [`library`] what is in force, ready to run, [`gather`] the facts of a stored
//! message, [`api`] the operations.

pub mod api;
pub mod bootstrap;
pub mod calendar;
pub mod default;
pub mod definition;
pub mod entity;
pub mod evaluate;
pub mod expression;
pub mod facts;
pub mod gather;
pub mod known;
pub mod library;
mod lint;
pub mod problem;
pub mod run;
mod scope;
pub mod simulate;
pub mod steps;
pub mod turn;
pub mod validate;
