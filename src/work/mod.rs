//! Work items and offers: from a queue to an agent's desk.

pub mod arrive;
pub mod entity;
pub mod leave;
