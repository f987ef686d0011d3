//! Receipts: automatic answers of scripts, under rule 5 of the design and RFC 3834.
//!
//! Intake works in batches: [`Answered::load`] reads once what was answered before, [`Answered::may_send`] decides
//! without I/O, and [`send`] files all of a batch's receipts in the transaction that took the messages in.

mod rules;
mod send;
mod words;

pub use rules::{Answered, Limits, ONCE_IN_S, Reason};
pub use send::{Receipt, Unsent, forget, published, send};
pub use words::{WordReply, may_reply_to_words, reply_to_words};
