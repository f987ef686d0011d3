//! DKIM signatures on the mail that we send (RFC 6376, RFC 8301, RFC 8463).
//!
//! A signature tells the receiver which domain answers for a mail. Header and body are signed in the `relaxed` form, which
//! stands what relays do to white space. Fields that a forger would gain by adding are listed once more than the mail has
//! them, so that one more breaks the signature (RFC 6376 section 8.15).

mod canonical;
mod key;
pub mod record;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest;

pub use self::key::{KeyKind, generate};
use self::{
    canonical::{Field, Split},
    key::PrivateKey,
};

/// The fields that are signed, and whether one more of them than there is breaks the signature.
///
/// RFC 8058 section 4 wants both List-Unsubscribe fields signed.
const SIGNED: [(&str, bool); 18] = [
    ("from", true),
    ("to", true),
    ("cc", true),
    ("subject", true),
    ("date", true),
    ("message-id", true),
    ("in-reply-to", false),
    ("references", false),
    ("reply-to", true),
    ("mime-version", true),
    ("content-type", true),
    ("content-transfer-encoding", false),
    ("auto-submitted", false),
    ("list-unsubscribe", true),
    ("list-unsubscribe-post", true),
    ("list-id", false),
    ("precedence", false),
    ("feedback-id", false),
];
/// The field that holds the signature.
const NAME: &str = "DKIM-Signature";
/// Longest line of the field in characters, without CRLF (RFC 5322 section 2.1.1 recommends 78).
const LINE: usize = 76;
/// Longest host name in characters (RFC 1035 section 2.3.4, less the root).
const NAME_MAX: usize = 253;

/// Why a key cannot be used or a message cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DkimError {
    /// The signing domain is not a domain of at least two labels, or too long with the selector.
    #[error("the signing domain is not valid")]
    Domain,
    /// The selector is not one or more labels of letters, digits and hyphens.
    #[error("the selector is not valid")]
    Selector,
    /// The text holds no private key that can be read; an encrypted one cannot.
    #[error("there is no unencrypted private key in PKCS#8 or PKCS#1 PEM")]
    NoKey,
    /// The key is neither RSA nor Ed25519.
    #[error("the key is neither RSA nor Ed25519")]
    Algorithm,
    /// The RSA key is shorter than RFC 8301 section 3.2 recommends, or longer than can be used.
    #[error("an RSA key must have 2048 to 4096 bits")]
    KeySize,
    /// The message has a CR or LF that is not part of a CRLF.
    #[error("the message has a line break that is not CRLF")]
    LineBreak,
    /// Something before the empty line is not a header field.
    #[error("the message has a malformed header")]
    Header,
    /// The message has no From, which must be signed (RFC 6376 section 5.4).
    #[error("the message has no From")]
    NoFrom,
    /// The system gave no random bytes, or the key failed for another reason than its form.
    #[error("the signature or key could not be made")]
    Random,
}

/// Signs for one domain with one key.
pub struct Signer {
    domain: String,
    selector: String,
    key: PrivateKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { domain, selector, .. } = self;
        f.debug_struct("Signer").field("domain", domain).field("selector", selector).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer for `domain` (internationalised names are made ASCII) with the private key in `pem`: Ed25519 in PKCS#8,
    /// or RSA of 2048 to 4096 bits in PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// Those of [`DkimError`] about the domain, the selector and the key.
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, DkimError> {
        let domain = idna::domain_to_ascii(domain).map_err(|_| DkimError::Domain)?;
        if !(is_name(&domain) && domain.contains('.')) {
            return Err(DkimError::Domain);
        }
        let selector = selector.to_ascii_lowercase();
        if !is_name(&selector) {
            return Err(DkimError::Selector);
        }
        let signer = Self { domain, selector, key: PrivateKey::from_pem(pem)? };
        if signer.dns_name().len() > NAME_MAX {
            return Err(DkimError::Domain);
        }
        Ok(signer)
    }

    /// The DKIM-Signature field for a message with CRLF line ends, made at `at_s` (seconds since 1970): folded, ending in
    /// CRLF, to be put in front of the message.
    ///
    /// # Errors
    /// Those of [`DkimError`] about the message, and [`DkimError::Random`].
    pub fn sign(&self, raw: &[u8], at_s: i64) -> Result<String, DkimError> {
        let Split { fields, body } = canonical::split(raw)?;
        let (names, mut signed) = signed_fields(&fields)?;
        let mut value = self.tags(at_s, &names, &body_hash(body));
        // The field itself is signed last, with an empty `b=` and without a CRLF (RFC 6376 section 3.7).
        canonical::write_field(Field { name: NAME, value: value.as_bytes() }, &mut signed);
        fold_signature(&STANDARD.encode(self.key.sign(&signed)?), &mut value);
        Ok(format!("{NAME}:{value}\r\n"))
    }

    /// The signing domain, in lower case and ASCII.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The selector, in lower case.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// The kind of the key.
    pub fn kind(&self) -> KeyKind {
        self.key.kind()
    }

    /// The name at which receivers look for the key.
    pub fn dns_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The TXT record to publish at [`Self::dns_name`]. One of an RSA key is longer than the 255 bytes of one string in a
    /// TXT record, so zone files have it in pieces.
    pub fn dns_record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.key.algorithm(), STANDARD.encode(self.key.public()))
    }

    /// Whether the signature speaks for a From in `from_domain`: the signing domain or one below it.
    ///
    /// DMARC also counts domains beside and above it as aligned when one organisation owns them (RFC 7489 section 3.1.1);
    /// that needs a list of public suffixes and is not counted here.
    pub fn is_aligned(&self, from_domain: &str) -> bool {
        let from = idna::domain_to_ascii(from_domain).unwrap_or_default();
        let above = from.strip_suffix(self.domain.as_str());
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    /// The field's value up to and with the empty `b=`.
    fn tags(&self, at_s: i64, names: &str, body_hash: &str) -> String {
        let Self { domain, selector, key } = self;
        let algorithm = key.algorithm();
        let at_s = at_s.max(0);
        format!(
            " v=1; a={algorithm}-sha256; c=relaxed/relaxed;\r\n d={domain};\r\n s={selector}; t={at_s};\r\n \
             h={names};\r\n bh={body_hash};\r\n b="
        )
    }
}

/// Whether this is one or more host labels (`sub-domain` of RFC 5321 section 4.1.2) joined by dots.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split('.').all(label)
}

/// The names for `h=`, folded, and the canonical form of the fields that they stand for.
///
/// Of fields that occur more than once the last comes first (RFC 6376 section 5.4.2); a name without a field stands for
/// nothing.
fn signed_fields(fields: &[Field<'_>]) -> Result<(String, Vec<u8>), DkimError> {
    let (mut names, mut line_len) = (String::with_capacity(512), " h=".len());
    let mut signed = Vec::with_capacity(2048);
    for (name, oversigned) in SIGNED {
        let mut times = usize::from(oversigned);
        for field in fields.iter().rev().filter(|field| field.name.eq_ignore_ascii_case(name)) {
            canonical::write_field(*field, &mut signed);
            signed.extend_from_slice(b"\r\n");
            times += 1;
        }
        if name == "from" && times < 2 {
            return Err(DkimError::NoFrom);
        }
        for _ in 0..times {
            list_name(name, &mut names, &mut line_len);
        }
    }
    Ok((names, signed))
}

fn list_name(name: &str, names: &mut String, line_len: &mut usize) {
    if !names.is_empty() {
        names.push(':');
        *line_len += 1;
    }
    // With the colon or semicolon that follows.
    if *line_len + name.len() + 1 > LINE {
        names.push_str("\r\n ");
        *line_len = 1;
    }
    names.push_str(name);
    *line_len += name.len();
}

fn body_hash(body: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    canonical::write_body(body, |piece| hash.update(piece));
    STANDARD.encode(hash.finish())
}

/// Appends the signature after its `b=`, folded. The value must begin right there: receivers take it out with the white
/// space around it, and what remains must be what was signed.
fn fold_signature(signature: &str, value: &mut String) {
    let (first, rest) = signature.split_at(signature.len().min(LINE - " b=".len()));
    value.push_str(first);
    for line in rest.as_bytes().chunks(LINE - 1) {
        value.push_str("\r\n ");
        value.extend(line.iter().map(|&byte| char::from(byte)));
    }
}

#[cfg(test)]
mod tests;
