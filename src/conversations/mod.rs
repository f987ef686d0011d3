//! Conversations and their messages: reading, threading, answering.

pub mod drafts;
pub mod entity;
pub mod notes;
pub mod outbound;
pub mod parsed;
