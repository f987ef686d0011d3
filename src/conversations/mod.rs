//! Conversations and their messages: reading, threading, answering.

pub mod api;
mod disposition;
pub mod entity;
pub mod messages;
pub mod source;
pub mod visibility;
