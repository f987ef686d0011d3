//! Templates: the texts of automatic answers, in the language that scripts use.
//!
//! [`render`] makes mail of a template, [`check`] finds what would go wrong before it is published.

pub mod api;
pub mod check;
pub mod entity;
pub mod render;
