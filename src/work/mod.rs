//! Work items and offers: from a queue to an agent's desk.
//!
//! [`arrive`] makes items of inbound mail and [`routing`] runs their scripts; [`distribute`] holds what waits out to
//! agents by the pure [`rules`]; [`timers`] ends what nobody ends. Every change of an item is a guarded write, and locks
//! are taken in one order everywhere: conversation, agent, offer, item (see [`state`]).

pub mod act;
mod actions_api;
pub mod allowed;
pub mod api;
pub mod arrive;
pub mod claim;
mod claimable;
pub mod claims;
pub mod decline;
pub mod distribute;
pub mod entity;
pub mod erase;
mod explain_api;
pub mod journal;
pub mod lane;
pub mod leave;
pub mod offer;
mod offers_api;
mod queue_api;
mod rank;
mod receipts;
pub mod roster;
mod routing;
pub mod rules;
pub mod show;
pub mod state;
pub mod stats;
pub mod timers;
mod waiting;
mod world;

pub use leave::{agent_left, agent_paused};
pub use rank::rank;
