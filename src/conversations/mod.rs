//! Conversations and their messages: reading, threading, answering.

pub mod api;
pub mod begin;
pub mod disposition;
pub mod drafts;
pub mod entity;
pub mod erase;
pub mod lock;
pub mod messages;
pub mod notes;
pub mod outbound;
pub mod parsed;
pub mod recipient;
pub mod source;
pub mod texts;
pub mod visibility;
