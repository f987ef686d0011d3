//! Who may do what: users, tokens, API keys, the role matrix and the audit log (DESIGN §3).

pub mod entity;
pub mod guard;
pub mod matrix;
pub mod ticket;
pub mod token;
