//! Conversations and their messages: reading, threading, answering.

pub mod entity;
