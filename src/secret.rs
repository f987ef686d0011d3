//! Secrets at rest: sealed with an AEAD under a key that is not in the database (XChaCha20-Poly1305).

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// Why a secret could not be sealed or opened.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The key file cannot be read or made.
    #[error("the key file {path}: {source}")]
    KeyFile {
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The key is not 32 bytes in base64.
    #[error("the secret key is not 32 bytes in base64")]
    BadKey,
    /// The sealed bytes were made under another key, for another purpose, or were changed.
    #[error("a stored secret cannot be opened with this key")]
    CannotOpen,
}

/// Seals and opens secrets. Each secret is bound to a purpose, so that one cannot be put in another's place.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// Takes the key itself.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&key.into()), key: Zeroizing::new(key) }
    }

    /// Takes a key given in base64.
    ///
    /// # Errors
    /// `BadKey`.
    pub fn from_base64(text: &str) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SecretError::BadKey)?);
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| SecretError::BadKey)?;
        Ok(Self::new(key))
    }

    /// Reads the key from a file, which is made with a random key (readable by its owner only) when it is missing.
    ///
    /// # Errors
    /// `KeyFile` or `BadKey`.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::KeyFile { path: path.display().to_string(), source };
        match fs::read_to_string(path) {
            Ok(text) => Self::from_base64(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = random_bytes::<KEY_BYTES>();
                create_private(path, STANDARD.encode(key).as_bytes()).map_err(failed)?;
                Ok(Self::new(key))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Seals a secret for a purpose, such as `account:{id}:password`.
    ///
    /// # Errors
    /// `CannotOpen` when the secret is absurdly long.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce = random_bytes::<NONCE_BYTES>();
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        let sealed =
            self.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SecretError::CannotOpen)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    /// `CannotOpen`.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(SecretError::CannotOpen)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        let opened = self.cipher.decrypt(XNonce::from_slice(nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| SecretError::CannotOpen)
    }

    /// Opens a sealed secret that is text.
    ///
    /// # Errors
    /// `CannotOpen`.
    pub fn open_text(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<String>, SecretError> {
        let bytes = self.open(purpose, sealed)?;
        String::from_utf8(bytes.to_vec()).map(Zeroizing::new).map_err(|_| SecretError::CannotOpen)
    }

    /// A key of its own for another use, derived from the secret key (HMAC-SHA256 over the purpose).
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.key.as_slice())
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Random bytes from the system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(unix)]
fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(not(unix))]
fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_for_its_purpose_and_unchanged() {
        let sealer = Sealer::new([7; 32]);
        let mut sealed = sealer.seal("account:1:password", b"hunter2").unwrap();
        assert_eq!(sealer.open("account:1:password", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(sealer.open("account:2:password", &sealed).is_err());
        assert!(Sealer::new([8; 32]).open("account:1:password", &sealed).is_err());
        sealed[30] ^= 1;
        assert!(sealer.open("account:1:password", &sealed).is_err());
        assert!(sealer.open("account:1:password", b"short").is_err());
    }

    #[test]
    fn a_missing_key_file_is_made_once_and_read_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let sealed = Sealer::from_file(&path).unwrap().seal("p", b"x").unwrap();
        assert_eq!(Sealer::from_file(&path).unwrap().open("p", &sealed).unwrap().as_slice(), b"x");
    }
}
