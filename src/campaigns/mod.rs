//! Campaigns: what is sent to a customer when something happens to them, and the attempts that diallers report.

pub mod entity;
