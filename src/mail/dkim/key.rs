//! Private keys for signing: read from PEM, made anew, and the public half as it is published.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::DkimError;

/// The kinds of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, which every receiver can check; made with 2048 bits (RFC 8301 section 3.2).
    Rsa,
    /// Ed25519 (RFC 8463): small and fast, but not every receiver can check it.
    Ed25519,
}

/// The DER of an Ed25519 private key (RFC 8410 section 7) up to the seed.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The DER of the algorithm `rsaEncryption` (RFC 8017 appendix A.1).
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Makes a private key and gives it as PKCS#8 PEM, as [`super::Signer::new`] takes it. RSA takes up to seconds of CPU time.
///
/// # Errors
/// [`DkimError::Random`] when the system gives no random bytes.
pub fn generate(kind: KeyKind) -> Result<Zeroizing<String>, DkimError> {
    match kind {
        KeyKind::Rsa => {
            let key =
                rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).map_err(|_| DkimError::Random)?;
            key.to_pkcs8_pem(LineEnding::LF).map_err(|_| DkimError::Random)
        }
        KeyKind::Ed25519 => {
            let mut der = Zeroizing::new([0; 48]);
            let (head, seed) = der.split_at_mut(ED25519_PKCS8.len());
            head.copy_from_slice(&ED25519_PKCS8);
            SystemRandom::new().fill(seed).map_err(|_| DkimError::Random)?;
            let text = Zeroizing::new(STANDARD.encode(*der));
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *text);
            Ok(Zeroizing::new(pem))
        }
    }
}

/// A key that signs.
pub(super) enum PrivateKey {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Reads PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`) PEM.
    pub(super) fn from_pem(pem: &str) -> Result<Self, DkimError> {
        match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| DkimError::NoKey)? {
            PrivateKeyDer::Pkcs1(der) => rsa_key(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                // Most tools write Ed25519 keys without the public half, which then cannot be compared.
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(key) => Ok(Self::Ed25519(key)),
                    Err(_) => rsa_key(RsaKeyPair::from_pkcs8(der)),
                }
            }
            _ => Err(DkimError::Algorithm),
        }
    }

    pub(super) fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(_) => KeyKind::Rsa,
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// The algorithm as the tag `a=` says it, without the hash.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa",
            Self::Ed25519(_) => "ed25519",
        }
    }

    /// The signature over the SHA-256 of `data`.
    pub(super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, DkimError> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
                    .map_err(|_| DkimError::Random)?;
                Ok(signature)
            }
            // RFC 8463 section 3: Ed25519 signs the hash as its message.
            Self::Ed25519(key) => {
                Ok(key.sign(digest::digest(&digest::SHA256, data).as_ref()).as_ref().to_vec())
            }
        }
    }

    /// The public key as the tag `p=` carries it, before base 64.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            // A SubjectPublicKeyInfo, though RFC 6376 section 3.6.1 names the bare RSAPublicKey: its own examples and
            // every receiver use the former.
            Self::Rsa(key) => {
                let bits = [&[0][..], key.public_key().as_ref()].concat();
                der(SEQUENCE, &[&RSA_ALGORITHM[..], &der(BIT_STRING, &bits)].concat())
            }
            // RFC 8463 section 4: the 32 bytes alone.
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }
}

fn rsa_key(read: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<PrivateKey, DkimError> {
    read.map(PrivateKey::Rsa).map_err(|rejected| match rejected.to_string().as_str() {
        "TooSmall" | "TooLarge" => DkimError::KeySize,
        "WrongAlgorithm" => DkimError::Algorithm,
        _ => DkimError::NoKey,
    })
}

/// One DER element (X.690) of at most 65,535 bytes of content, more than any key's.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let length: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[low],
        (0, _) => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag][..], length, content].concat()
}
