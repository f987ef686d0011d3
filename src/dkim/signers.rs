//! The keys in force, opened, and the signatures that they put on mail.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::task::spawn_blocking;

use super::{
    entity::{Column, DkimKeyState, Entity, Model},
    purpose,
};
use crate::{
    app::App,
    db::among,
    id::DkimKeyId,
    mail::dkim::{DkimError, Signer},
    secret::Sealer,
};

/// The keys that this process has opened. What belongs to an id never changes, so that one look into the database for
/// the ids in force is enough for each mail.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    opened: Arc<Mutex<HashMap<DkimKeyId, Arc<Signer>>>>,
    changes: Arc<AtomicU64>,
}

impl Keyring {
    /// Notes that keys came into force, or out of it, here or on another replica.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        // What is out of force stays in memory no longer than needed.
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DkimKeyId, Arc<Signer>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that were in force at one moment.
#[derive(Clone, Debug)]
pub struct Signers {
    keys: Vec<Arc<Signer>>,
    ring: Keyring,
    seen: u64,
}

impl Signers {
    /// Those in force now. A key that cannot be opened signs nothing: mail that must go out is not held back for it.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn of(app: &App, db: &impl ConnectionTrait) -> Result<Self, DbErr> {
        let (ring, seen) = (app.dkim.clone(), app.dkim.changes.load(Ordering::Relaxed));
        let ids: Vec<DkimKeyId> = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::State.eq(DkimKeyState::Active))
            .order_by_asc(Column::Id)
            .into_tuple()
            .all(db)
            .await?;
        let mut known = ring.lock().clone();
        let closed: Vec<DkimKeyId> = ids.iter().filter(|id| !known.contains_key(id)).copied().collect();
        if !closed.is_empty() {
            let rows = Entity::find().filter(among(Column::Id, closed)).all(db).await?;
            let sealer = app.sealer.clone();
            let found = spawn_blocking(move || open_all(&sealer, rows)).await;
            let found = found.map_err(|error| DbErr::Custom(error.to_string()))?;
            known.extend(found.iter().cloned());
            ring.lock().extend(found);
        }
        let keys = ids.iter().filter_map(|id| known.remove(id)).collect();
        Ok(Self { keys, ring, seen })
    }

    /// Whether no key came into force or out of it since, as far as this replica has heard.
    pub fn is_current(&self) -> bool {
        self.ring.changes.load(Ordering::Relaxed) == self.seen
    }

    /// Puts the signatures for a From in this domain in front of a mail that is dated `at_s` (seconds since 1970); none
    /// when no key is for it. An RSA signature takes about a millisecond: not for the threads that serve requests.
    ///
    /// # Errors
    /// What of the mail cannot be signed.
    pub fn sign(&self, from_domain: &str, raw: Vec<u8>, at_s: i64) -> Result<Vec<u8>, DkimError> {
        let nearest = self.keys.iter().filter(|key| key.is_aligned(from_domain));
        let Some(nearest) = nearest.map(|key| key.domain().len()).max() else { return Ok(raw) };
        let ours =
            self.keys.iter().filter(|key| key.domain().len() == nearest && key.is_aligned(from_domain));
        let mut signed = Vec::with_capacity(raw.len() + 2 * 1024);
        for key in ours {
            signed.extend_from_slice(key.sign(&raw, at_s)?.as_bytes());
        }
        signed.extend_from_slice(&raw);
        Ok(signed)
    }
}

fn open_all(sealer: &Sealer, rows: Vec<Model>) -> Vec<(DkimKeyId, Arc<Signer>)> {
    let opened = rows.into_iter().filter_map(|row| match open(sealer, &row) {
        Ok(signer) => Some((row.id, Arc::new(signer))),
        Err(error) => {
            tracing::error!(key = %row.id, %error, "a DKIM key cannot be opened: mail goes out without its signature");
            None
        }
    });
    opened.collect()
}

/// Opens a stored key.
///
/// # Errors
/// Why it cannot be used, without a word of it.
pub(super) fn open(sealer: &Sealer, row: &Model) -> anyhow::Result<Signer> {
    let pem = sealer.open_text(&purpose(row.id), &row.private_key_sealed)?;
    Ok(Signer::new(&row.domain, &row.selector, &pem)?)
}
