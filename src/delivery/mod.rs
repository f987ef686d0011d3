//! Delivery: messages on their way out.
//!
//! A row of `deliveries` is claimed (`begun`), its message handed over except for the final dot, its phase made durable
//! (`dot`), the dot sent, and the row settled. Each settling is guarded by `attempts`, so that a process which lost its
//! lease changes nothing. A process that dies leaves its row to [`recover`]: before the dot the message was certainly
//! not taken; after it nobody knows, and it is tried again only where a second copy does no harm.

pub mod api;
mod bulk;
pub mod call_off;
pub mod captured;
mod carry;
mod claim;
mod connections;
pub mod enqueue;
pub mod entity;
pub mod erase;
mod recover;
mod report;
pub mod retry;
pub mod rules;
pub mod send;
mod settle;
mod timeline;
mod window;

pub use call_off::call_off;
pub use connections::Connections;
pub use enqueue::{Outbound, enqueue};
pub use report::{lock, note_report};
