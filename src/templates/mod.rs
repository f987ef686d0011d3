//! Templates: the texts of receipts, sends and broadcasts, in the language that scripts use.
//!
//! [`render`] makes mail of a template, [`fields`] fills in its own values, [`context`] says what it may read, [`check`]
//! finds what would go wrong before it is published.

pub mod api;
mod bodies;
pub mod check;
pub mod context;
pub mod entity;
pub mod fields;
mod preview;
pub mod render;
mod words;
