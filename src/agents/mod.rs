//! Agents, their skills and their groups.

pub mod entity;
