//! Attempts: what a dialler reports of one try at reaching a customer, and the messages that follow from it.
//!
//! A report is one transaction: the attempt, the customer's new status, and what the rules of the list or campaign send.
//! It begins with the customer's lock, so that the reports of one customer come one after the other; then the campaign's
//! is shared, so that it is not suspended meanwhile. What is sent is composed inside, as receipts are, and its bytes stay
//! in the database: nothing waits for the network or the object store.

pub mod api;
mod files;
mod fire;
mod report;
mod status;
