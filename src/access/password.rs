//! Passwords: argon2id in PHC form, computed on a bounded pool so that a storm of logins cannot take all memory.

use std::time::Duration;

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{Encoding, Salt, SaltString},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::Semaphore;

use crate::{
    http::problem::{Code, Problem},
    secret::random_bytes,
};

/// The shortest password, in characters.
pub const MIN_LENGTH: usize = 12;
/// The longest password, in characters.
pub const MAX_LENGTH: usize = 200;
/// How many passwords are hashed at a time, each in 19 MiB.
const AT_A_TIME: usize = 2;
/// How long a login waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is checked for unknown users, so that they take as long as known ones. No password gives it.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cG9zdHJvb20tbm9ib2R5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Bounds how many passwords are hashed at a time.
#[derive(Debug)]
pub struct Pool(Semaphore);

impl Default for Pool {
    fn default() -> Self {
        Self(Semaphore::new(AT_A_TIME))
    }
}

impl Pool {
    /// Hashes a new password.
    ///
    /// # Errors
    /// `unavailable` when too many wait.
    pub async fn hash(&self, password: &str) -> Result<String, Problem> {
        let password = password.to_owned();
        self.run(move || hash(&password)).await?
    }

    /// Whether the password is the one behind `stored`; takes as long when there is none.
    ///
    /// # Errors
    /// `unavailable` when too many wait.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, Problem> {
        let (password, stored) = (password.to_owned(), stored.unwrap_or(NOBODY).to_owned());
        self.run(move || verify(&password, &stored)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let turn = tokio::time::timeout(PATIENCE, self.0.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Problem::new(Code::Unavailable, "too many logins at the same time").retry_after(5));
        };
        tokio::task::spawn_blocking(work).await.map_err(Problem::internal)
    }
}

fn hash(password: &str) -> Result<String, Problem> {
    let salt =
        SaltString::encode_b64(&random_bytes::<{ Salt::RECOMMENDED_LENGTH }>()).map_err(Problem::internal)?;
    let hashed = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(Problem::internal)?;
    Ok(hashed.to_string())
}

fn verify(password: &str, stored: &str) -> bool {
    let parsed = PasswordHash::parse(stored, Encoding::B64).ok();
    let known = parsed.is_some();
    let Some(against) = parsed.or_else(|| PasswordHash::new(NOBODY).ok()) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &against).is_ok() && known
}

/// A random password of 20 characters (120 bits), to be used once.
pub fn one_time() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<15>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_only() {
        let stored = hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("correct horse battery", &stored));
        assert!(!verify("correct horse batterz", &stored));
        assert!(!verify("", ""));
    }

    #[test]
    fn an_unknown_user_costs_what_a_known_one_costs() {
        let stored = hash("whatever it may be").unwrap();
        let cost = |text: &str| text.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cost(NOBODY), cost(&stored));
        assert_eq!(PasswordHash::new(NOBODY).unwrap().hash.unwrap().len(), 32);
    }
}
