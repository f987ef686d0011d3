//! Raw messages: small ones in the database, large ones in an object store.
//!
//! [`RawStore::put`] makes a large message durable before the caller commits its row. A crash in between leaves an
//! object that no row names, which harms nobody: its key is the message's id, and ids are not used twice.

pub mod entity;

use std::{fmt, io, path::Path as FilePath, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    ObjectStore, ObjectStoreExt, PutPayload, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path,
};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait};
use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;
use uuid::Uuid;

use crate::{config, id::MessageId};

/// The directory of the object store below the data directory.
const DIRECTORY: &str = "objects";
/// How often, and for how long, an S3 request is tried again: whoever waits for it is told soon, and tries again themselves.
const RETRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// Why raw bytes could not be stored or read.
#[derive(Debug, Error)]
pub enum RawError {
    /// The object store failed.
    #[error("the object store: {0}")]
    Store(#[from] object_store::Error),
    /// The database failed.
    #[error("the database: {0}")]
    Db(#[from] DbErr),
    /// The object of a file is not what was stored.
    #[error("the stored file {0} was changed or cut")]
    CorruptFile(Uuid),
    /// The object is not what was stored.
    #[error("the stored source of message {0} was changed or cut")]
    Corrupt(MessageId),
}

impl RawError {
    /// Whether the same may be read at another time: a store or database that does not answer comes back, what is gone or was
    /// changed does not.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Store(object_store::Error::NotFound { .. }) | Self::CorruptFile(_) | Self::Corrupt(_) => {
                false
            }
            Self::Store(_) | Self::Db(_) => true,
        }
    }
}

/// Keeps the raw bytes of messages. Cheap to clone.
#[derive(Clone)]
pub struct RawStore {
    inline_max: usize,
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// Bytes that are no message: in their row, or in the object store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The bytes, when they are small.
    pub data: Option<Vec<u8>>,
    /// The object that holds them otherwise.
    pub object_key: Option<String>,
}

/// The raw source of a message, to be sent on.
pub struct Source {
    /// How many bytes.
    pub size_bytes: u64,
    /// The bytes, in pieces.
    pub bytes: BoxStream<'static, Result<Bytes, RawError>>,
}

impl fmt::Debug for RawStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawStore({}/{})", self.objects, self.prefix)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({} bytes)", self.size_bytes)
    }
}

impl RawStore {
    /// Opens the store that the settings name; a missing local directory is made.
    ///
    /// # Errors
    /// When the directory cannot be made, or the URL or its settings cannot be used.
    pub fn open(settings: &config::Storage) -> anyhow::Result<Self> {
        let inline_max = settings.inline_max_bytes;
        if settings.object_store_url.is_empty() {
            let directory = settings.data_dir.join(DIRECTORY);
            make_durable(&directory, &settings.data_dir)?;
            let objects = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
            return Ok(Self { inline_max, objects: Arc::new(objects), prefix: Path::default() });
        }
        let url = Url::parse(&settings.object_store_url)?;
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
        let mut s3 = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry);
        if !settings.s3_endpoint.is_empty() {
            let plain = settings.s3_endpoint.starts_with("http://");
            s3 = s3.with_endpoint(&settings.s3_endpoint).with_allow_http(plain);
        }
        if !settings.s3_region.is_empty() {
            s3 = s3.with_region(&settings.s3_region);
        }
        if !settings.s3_access_key_id.is_empty() {
            s3 = s3.with_access_key_id(&settings.s3_access_key_id);
        }
        if !settings.s3_secret_access_key.0.is_empty() {
            s3 = s3.with_secret_access_key(&settings.s3_secret_access_key.0);
        }
        let prefix = Path::from_url_path(url.path())?;
        Ok(Self { inline_max, objects: Arc::new(s3.build()?), prefix })
    }

    /// Gives the row for a message's bytes, to be inserted; large bytes are durable in the object store when it returns.
    ///
    /// # Errors
    /// `Store`.
    pub async fn put(&self, id: MessageId, bytes: Vec<u8>) -> Result<entity::Model, RawError> {
        let sha256 = Sha256::digest(&bytes).to_vec();
        self.put_hashed(id, bytes, sha256).await
    }

    /// As [`RawStore::put`], for bytes whose SHA-256 is known already.
    ///
    /// # Errors
    /// `Store`.
    pub async fn put_hashed(
        &self,
        id: MessageId,
        bytes: Vec<u8>,
        sha256: Vec<u8>,
    ) -> Result<entity::Model, RawError> {
        let size_bytes = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let row = entity::Model { message_id: id, size_bytes, sha256, data: None, object_key: None };
        if bytes.len() <= self.inline_max {
            return Ok(entity::Model { data: Some(bytes), ..row });
        }
        let key = self.key(id);
        self.objects.put(&key, PutPayload::from(bytes)).await?;
        Ok(entity::Model { object_key: Some(key.to_string()), ..row })
    }

    /// Removes the object of a row that will not be inserted after all. A failure is only logged: nothing refers to it.
    pub async fn forget(&self, row: &entity::Model) {
        self.drop_objects(row.object_key.clone()).await;
    }

    /// Makes the bytes of a file durable, as [`RawStore::put`] does; its id is its own for ever.
    ///
    /// # Errors
    /// `Store`.
    pub async fn keep(&self, id: Uuid, bytes: Vec<u8>) -> Result<Kept, RawError> {
        if bytes.len() <= self.inline_max {
            return Ok(Kept { data: Some(bytes), object_key: None });
        }
        let key = self.prefix.clone().join("files").join(id.simple().to_string());
        self.objects.put(&key, PutPayload::from(bytes)).await?;
        Ok(Kept { data: None, object_key: Some(key.to_string()) })
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// `Store`, or `CorruptFile` when the object is not what was stored.
    pub async fn read(&self, id: Uuid, kept: Kept, sha256: &[u8]) -> Result<Bytes, RawError> {
        let Some(key) = kept.object_key else { return Ok(kept.data.unwrap_or_default().into()) };
        let bytes = self.objects.get(&parse(&key)?).await?.bytes().await?;
        if Sha256::digest(&bytes).as_slice() != sha256 {
            return Err(RawError::CorruptFile(id));
        }
        Ok(bytes)
    }

    /// Removes objects that no row names any more. A failure is only logged: nothing refers to them.
    pub async fn drop_objects(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if let Err(error) = self.remove(&key).await {
                tracing::warn!(%error, key, "an object that nothing refers to stays behind");
            }
        }
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// `Store`: it may still be there.
    pub async fn remove(&self, key: &str) -> Result<(), RawError> {
        match self.objects.delete(&parse(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the whole raw source of a message; none when there is none.
    ///
    /// # Errors
    /// `Db`, `Store`, or `Corrupt` when an object is not what was stored.
    pub async fn load(&self, db: &impl ConnectionTrait, id: MessageId) -> Result<Option<Bytes>, RawError> {
        let Some(row) = entity::Entity::find_by_id(id).one(db).await? else { return Ok(None) };
        let Some(key) = row.object_key else { return Ok(Some(row.data.unwrap_or_default().into())) };
        let bytes = self.objects.get(&parse(&key)?).await?.bytes().await?;
        if Sha256::digest(&bytes).as_slice() != row.sha256 {
            return Err(RawError::Corrupt(id));
        }
        Ok(Some(bytes))
    }

    /// Reads the raw source of a message piece by piece; none when there is none.
    ///
    /// # Errors
    /// `Db`, `Store`, or `Corrupt` when an object has another size than was stored.
    pub async fn stream(&self, db: &impl ConnectionTrait, id: MessageId) -> Result<Option<Source>, RawError> {
        use futures::{StreamExt, TryStreamExt, stream};
        let Some(row) = entity::Entity::find_by_id(id).one(db).await? else { return Ok(None) };
        let size_bytes = u64::try_from(row.size_bytes).unwrap_or_default();
        let Some(key) = row.object_key else {
            let bytes = Bytes::from(row.data.unwrap_or_default());
            return Ok(Some(Source { size_bytes, bytes: stream::once(async { Ok(bytes) }).boxed() }));
        };
        let object = self.objects.get(&parse(&key)?).await?;
        if object.meta.size != size_bytes {
            return Err(RawError::Corrupt(id));
        }
        Ok(Some(Source { size_bytes, bytes: object.into_stream().map_err(RawError::from).boxed() }))
    }

    /// The last digits of an id are random, so its directories fill evenly.
    fn key(&self, id: MessageId) -> Path {
        let name = id.uuid().simple().to_string();
        self.prefix.clone().join("raw").join(&name[30..]).join(name.as_str())
    }
}

fn parse(key: &str) -> Result<Path, object_store::Error> {
    Ok(Path::parse(key)?)
}

/// A new directory is durable only when its parent is.
fn make_durable(directory: &FilePath, parent: &FilePath) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, config::Config};

    fn store(dir: &FilePath, inline_max_bytes: usize) -> RawStore {
        let mut settings = Config::from_toml("").unwrap().storage;
        settings.data_dir = dir.to_owned();
        settings.inline_max_bytes = inline_max_bytes;
        RawStore::open(&settings).unwrap()
    }

    #[tokio::test]
    async fn bytes_up_to_the_limit_stay_in_the_row_and_larger_ones_become_an_object() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 4);
        let id = MessageId::new(Timestamp::from_millis(1));
        let small = store.put(id, b"1234".to_vec()).await.unwrap();
        assert_eq!((small.data.as_deref(), small.object_key.as_deref()), (Some(&b"1234"[..]), None));
        let large = store.put(id, b"12345".to_vec()).await.unwrap();
        assert_eq!((large.data, large.size_bytes), (None, 5));
        let path = dir.path().join(DIRECTORY).join(large.object_key.as_deref().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"12345");
        assert_eq!(large.sha256, Sha256::digest(b"12345").to_vec());
    }

    #[tokio::test]
    async fn a_file_is_read_as_it_was_kept_and_a_changed_object_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 4);
        for bytes in [&b"1234"[..], b"12345"] {
            let id = Uuid::now_v7();
            let kept = store.keep(id, bytes.to_vec()).await.unwrap();
            assert_eq!(kept.object_key.is_some(), bytes.len() > 4);
            assert_eq!(store.read(id, kept.clone(), &Sha256::digest(bytes)).await.unwrap(), bytes);
            let Some(key) = kept.object_key.clone() else { continue };
            assert!(
                matches!(store.read(id, kept, &[0; 32]).await, Err(RawError::CorruptFile(found)) if found == id)
            );
            let path = dir.path().join(DIRECTORY).join(&key);
            assert!(path.exists());
            store.drop_objects([key]).await;
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_forgotten_object_is_gone_and_forgetting_it_again_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 0);
        let row = store.put(MessageId::new(Timestamp::from_millis(1)), b"x".to_vec()).await.unwrap();
        let path = dir.path().join(DIRECTORY).join(row.object_key.as_deref().unwrap());
        assert!(path.exists());
        store.forget(&row).await;
        assert!(!path.exists());
        store.forget(&row).await;
    }
}
