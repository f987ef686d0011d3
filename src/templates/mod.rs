//! Templates: the texts of receipts, sends and broadcasts, in the language that scripts use.
//!
//! [`compiled`] makes mail of a template in the language of who gets it, [`fields`] fills in its own values, [`context`]
//! says what it may read, [`partials`] is what several of them include, [`files`] go out with them, [`check`] finds what
//! would go wrong before it is published.

pub mod api;
mod bodies;
pub mod check;
pub mod compiled;
pub mod context;
pub mod entity;
pub mod fields;
pub mod files;
mod included;
pub mod locale;
pub mod partials;
mod preview;
mod publish;
pub mod render;
mod revise;
pub mod variants;
mod words;
