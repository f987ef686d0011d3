//! Who may do what: users, tokens, API keys, the role matrix and the audit log (DESIGN §3).

pub mod api;
pub mod api_keys;
pub mod audit;
pub mod authenticate;
pub mod bootstrap;
pub mod entity;
pub mod guard;
pub mod keys;
pub mod matrix;
pub mod password;
mod peer;
pub mod refresh;
mod throttle;
pub mod ticket;
pub mod token;
pub mod users;

/// What this feature keeps in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// Public keys of access tokens.
    pub known_keys: keys::KnownKeys,
    /// Verified tokens, and users and API keys as last read.
    pub remembered: authenticate::Remembered,
    /// Audit entries that wait to be written.
    pub audit: audit::Queue,
    /// Bounds how many passwords are hashed at a time.
    pub hashing: password::Pool,
}
