//! Broadcasts: one template to all customers of a campaign or list, with a ledger of what became of each.

pub mod entity;
