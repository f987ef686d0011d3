//! From a bearer token to the caller behind it: what the token says, and what the user or key may do right now.
//!
//! A verified token is remembered by its hash, so that the signature is not checked on every request. The user's or
//! key's row is remembered for [`STANDING_S`] seconds; a change made in this process forgets it at once, one made in
//! another replica counts after that time at the latest.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, RwLock},
};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    api_keys,
    entity::{api_key, user},
    token,
};
use crate::{
    app::App,
    clock::Timestamp,
    http::{
        caller::{Caller, Role},
        problem::{Code, Problem},
    },
    id::UserId,
};

/// How long a row is believed without being read again, in seconds.
pub const STANDING_S: i64 = 5;
/// How long a verified token is believed without being verified again, in seconds.
const VERIFIED_S: i64 = 60;
const MAX_REMEMBERED: usize = 10_000;

/// Whom a token names.
#[derive(Clone, Debug)]
struct Identity {
    id: Uuid,
    is_key: bool,
    /// The scopes that a key's access token is limited to; none for the key itself.
    limit: Option<Arc<[String]>>,
}

/// What somebody may do right now.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who it is.
    pub caller: Caller,
    /// Whether the password must be changed before anything else.
    pub must_change_password: bool,
    /// When an API key ends.
    expires_at: Option<Timestamp>,
}

/// What this process remembers of tokens, users and keys.
#[derive(Debug, Default)]
pub struct Remembered {
    tokens: Cache<[u8; 32], Identity>,
    standings: Cache<Uuid, Standing>,
}

/// Finds out who sends this bearer token, and that they may still do so.
///
/// # Errors
/// `unauthenticated` or `token_expired`.
pub async fn authenticate(app: &App, bearer: &str) -> Result<Standing, Problem> {
    let identity = identify(app, bearer).await?;
    let mut standing = standing(app, identity.id, identity.is_key).await?;
    if let Some(limit) = &identity.limit {
        standing.caller.scopes.retain(|scope| limit.contains(scope));
    }
    Ok(standing)
}

/// What somebody who was authenticated before may do now: for tickets, and for streams that stay open.
///
/// # Errors
/// `unauthenticated` when the user or key is gone, disabled, expired or revoked.
pub async fn still_valid(app: &App, caller: &Caller) -> Result<Standing, Problem> {
    let mut standing = standing(app, caller.id, caller.role == Role::Integration).await?;
    standing.caller.scopes.retain(|scope| caller.scopes.contains(scope));
    Ok(standing)
}

/// Forgets what is remembered of a user or key, after a change of it was committed.
pub fn forget(app: &App, id: impl Into<Uuid>) {
    app.access.remembered.standings.remove(&id.into());
}

async fn identify(app: &App, bearer: &str) -> Result<Identity, Problem> {
    let now = app.clock.now();
    let hash: [u8; 32] = Sha256::digest(bearer).into();
    let tokens = &app.access.remembered.tokens;
    if let Some(known) = tokens.get(&hash, now) {
        return Ok(known);
    }
    let (identity, until) = if bearer.starts_with(api_keys::PREFIX) {
        let refused = || Problem::new(Code::Unauthenticated, "the API key is not valid");
        let by_hash = api_key::Entity::find().filter(api_key::Column::SecretHash.eq(hash.to_vec()));
        let key = by_hash.one(app.db.read()).await?.ok_or_else(refused)?;
        (Identity { id: key.id.uuid(), is_key: true, limit: None }, now.plus_s(VERIFIED_S))
    } else {
        let claims = token::verify(app, bearer).await?;
        let is_key = claims.role == Role::Integration;
        let limit = is_key.then(|| claims.scopes().map(str::to_owned).collect());
        (Identity { id: claims.sub, is_key, limit }, claims.ends_at().min(now.plus_s(VERIFIED_S)))
    };
    tokens.put(hash, identity.clone(), now, until, tokens.generation());
    Ok(identity)
}

async fn standing(app: &App, id: Uuid, is_key: bool) -> Result<Standing, Problem> {
    let now = app.clock.now();
    let standings = &app.access.remembered.standings;
    let standing = match standings.get(&id, now) {
        Some(known) => known,
        None => {
            let generation = standings.generation();
            let read = if is_key { of_key(app, id, now).await? } else { of_user(app, id).await? };
            standings.put(id, read.clone(), now, now.plus_s(STANDING_S), generation);
            read
        }
    };
    if standing.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::new(Code::Unauthenticated, "the API key has expired"));
    }
    Ok(standing)
}

async fn of_user(app: &App, id: Uuid) -> Result<Standing, Problem> {
    let gone = || Problem::new(Code::Unauthenticated, "the user is disabled or deleted");
    let row = user::Entity::find_by_id(UserId(id)).one(app.db.read()).await?;
    let row = row.filter(|row| !row.disabled && row.deleted_at.is_none()).ok_or_else(gone)?;
    let caller = Caller { id, name: row.username, role: row.role, scopes: Vec::new() };
    Ok(Standing { caller, must_change_password: row.must_change_password, expires_at: None })
}

async fn of_key(app: &App, id: Uuid, now: Timestamp) -> Result<Standing, Problem> {
    let refused = || Problem::new(Code::Unauthenticated, "the API key is not valid");
    let row = api_key::Entity::find_by_id(crate::id::ApiKeyId(id)).one(app.db.read()).await?;
    let row = row.filter(|row| row.revoked_at.is_none()).ok_or_else(refused)?;
    api_keys::touch(app, &row, now).await;
    let scopes = api_keys::scopes_of(&row);
    let caller = Caller { id, name: row.name, role: Role::Integration, scopes };
    Ok(Standing { caller, must_change_password: false, expires_at: row.expires_at })
}

/// A bounded map whose entries end.
#[derive(Debug)]
struct Cache<K, V>(RwLock<Entries<K, V>>);

#[derive(Debug)]
struct Entries<K, V> {
    map: HashMap<K, (V, Timestamp)>,
    /// Counts removals: what was read before one must not be remembered after it.
    generation: u64,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Entries { map: HashMap::new(), generation: 0 }))
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let entries = self.0.read().ok()?;
        let (value, until) = entries.map.get(key)?;
        (*until > now).then(|| value.clone())
    }

    fn generation(&self) -> u64 {
        self.0.read().map_or(0, |entries| entries.generation)
    }

    fn put(&self, key: K, value: V, now: Timestamp, until: Timestamp, generation: u64) {
        let Ok(mut entries) = self.0.write() else { return };
        if entries.generation != generation {
            return;
        }
        if entries.map.len() >= MAX_REMEMBERED {
            entries.map.retain(|_, (_, until)| *until > now);
        }
        if entries.map.len() >= MAX_REMEMBERED {
            entries.map.clear();
        }
        entries.map.insert(key, (value, until));
    }

    fn remove(&self, key: &K) {
        let Ok(mut entries) = self.0.write() else { return };
        entries.generation += 1;
        entries.map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_removal_is_not_remembered_after_it() {
        let cache = Cache::default();
        let (now, until) = (Timestamp::from_millis(0), Timestamp::from_millis(10));
        let generation = cache.generation();
        cache.remove(&1);
        cache.put(1, "old", now, until, generation);
        assert_eq!(cache.get(&1, now), None);
        cache.put(1, "new", now, until, cache.generation());
        assert_eq!(cache.get(&1, now), Some("new"));
        assert_eq!(cache.get(&1, until), None);
    }

    #[test]
    fn a_full_cache_makes_room_by_dropping_what_has_ended() {
        let cache = Cache::default();
        let (then, now) = (Timestamp::from_millis(0), Timestamp::from_millis(50));
        for key in 0..MAX_REMEMBERED {
            let until = if key == 0 { 100 } else { 10 };
            cache.put(key, (), then, Timestamp::from_millis(until), 0);
        }
        cache.put(MAX_REMEMBERED, (), now, Timestamp::from_millis(100), 0);
        assert_eq!(cache.get(&0, now), Some(()));
        assert_eq!(cache.get(&MAX_REMEMBERED, now), Some(()));
        assert_eq!(cache.0.read().unwrap().map.len(), 2);
    }
}
