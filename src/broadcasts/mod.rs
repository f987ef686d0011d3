//! Broadcasts: one template to all customers of a campaign or list, with a ledger of what became of each.

pub mod actions_api;
pub mod api;
pub mod capture;
pub mod change;
pub mod counts;
pub mod dispatch;
pub mod entity;
mod gather;
pub mod ledger;
mod pace;
mod preflight;
pub mod prepare;
pub mod print;
pub mod recipients_api;
mod rules;
mod settings;
mod test_send;
pub mod thread;
pub mod turn;
pub mod watch;
mod window;
