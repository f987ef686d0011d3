//! Customers: the persons to contact, the lists that they are on, and what can come of trying to reach them.

pub mod context;
pub mod entity;
