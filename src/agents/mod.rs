//! Agents, their skills and their groups.

pub mod api;
pub mod entity;
pub mod groups;
pub mod skills;
