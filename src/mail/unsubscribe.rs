//! Unsubscribing from a mail: the header fields that offer it (RFC 2369, RFC 8058) and the signed token in its link.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use url::{Host, Url};
use uuid::Uuid;

use super::{address::Address, base32};

/// The field that says where to unsubscribe (RFC 2369 section 3.2).
pub const LIST_UNSUBSCRIBE: &str = "List-Unsubscribe";
/// The field that says that one POST to the link is enough (RFC 8058 section 3.1).
pub const LIST_UNSUBSCRIBE_POST: &str = "List-Unsubscribe-Post";
/// The value of [`LIST_UNSUBSCRIBE_POST`], and the body that a receiver posts (RFC 8058 section 5).
pub const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// Longest link in bytes, so that no line of the field is longer than 998 (RFC 5322 section 2.1.1).
const LINK_MAX: usize = 900;

/// Why a link cannot be offered for unsubscribing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsubscribeError {
    /// RFC 8058 section 3.1 wants https.
    #[error("the link to unsubscribe must be https")]
    NotHttps,
    /// The link does not fit a line of a mail.
    #[error("the link to unsubscribe is longer than {LINK_MAX} bytes")]
    TooLong,
}

/// The two fields, as name and value, that let a receiver unsubscribe with one click at `link`; `mailto` is offered too
/// when given.
///
/// The link is https; http is taken on a loopback address, where it cannot be overheard. Both fields must be signed.
///
/// # Errors
/// Those of [`UnsubscribeError`].
pub fn header_fields(
    link: &Url,
    mailto: Option<&Address>,
) -> Result<[(&'static str, String); 2], UnsubscribeError> {
    if !(link.scheme() == "https" || (link.scheme() == "http" && is_loopback(link))) {
        return Err(UnsubscribeError::NotHttps);
    }
    if link.as_str().len() > LINK_MAX {
        return Err(UnsubscribeError::TooLong);
    }
    // A `Url` holds printable ASCII without angle brackets; everything else in it is percent-encoded.
    let mut value = format!("<{link}>");
    if let Some(address) = mailto {
        value.push_str(", <mailto:");
        percent_encode(address.as_str(), &mut value);
        value.push_str("?subject=unsubscribe>");
    }
    Ok([(LIST_UNSUBSCRIBE, value), (LIST_UNSUBSCRIBE_POST, ONE_CLICK.to_owned())])
}

fn is_loopback(link: &Url) -> bool {
    match link.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Appends an address as the path of a `mailto:` (RFC 6068 section 2).
fn percent_encode(address: &str, out: &mut String) {
    for byte in address.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'*+@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Bytes kept of the HMAC: 128 bits.
const MAC_LEN: usize = 16;
const UUID_LEN: usize = 16;
/// Characters of a token: 32 bytes in base 32.
const TOKEN_LEN: usize = 52;
/// Told to the HMAC first, so that no other signature under the same key is a token.
const PURPOSE: &[u8] = b"unsubscribe/1\0";

/// Makes and reads the tokens of unsubscribe links under one secret key.
#[derive(Clone)]
pub struct UnsubscribeTokens {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for UnsubscribeTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnsubscribeTokens(..)")
    }
}

impl UnsubscribeTokens {
    /// Tokens under `key`; those of one key mean nothing under another.
    pub fn new(key: &[u8; 32]) -> Self {
        // 32 bytes fit SHA-256's block of 64, so the key needs no hashing and `Hmac::new` cannot fail.
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(key);
        let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into());
        mac.update(PURPOSE);
        Self { mac }
    }

    /// The token for what was sent as `message`: 52 characters, `a` to `z` and `2` to `7`. It never expires.
    pub fn token(&self, message: Uuid) -> String {
        let mut bytes = [0; UUID_LEN + MAC_LEN];
        bytes[..UUID_LEN].copy_from_slice(message.as_bytes());
        bytes[UUID_LEN..].copy_from_slice(&self.sign(message.as_bytes()));
        base32::encode(&bytes)
    }

    /// The message of a genuine token, in any case; compared in constant time.
    pub fn read(&self, token: &str) -> Option<Uuid> {
        if token.len() != TOKEN_LEN {
            return None;
        }
        let bytes = base32::decode(&token.to_ascii_lowercase())?;
        let (id, mac) = bytes.split_at_checked(UUID_LEN)?;
        if bool::from(self.sign(id).ct_eq(mac)) { Uuid::from_slice(id).ok() } else { None }
    }

    fn sign(&self, id: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = self.mac.clone();
        mac.update(id);
        let mut short = [0; MAC_LEN];
        short.copy_from_slice(&mac.finalize().into_bytes()[..MAC_LEN]);
        short
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn tokens() -> UnsubscribeTokens {
        UnsubscribeTokens::new(&[7; 32])
    }

    #[test]
    fn a_link_is_offered_for_one_click() {
        let fields = header_fields(&link("https://mail.example.com/u/abc"), None).unwrap();
        assert_eq!(
            fields,
            [
                ("List-Unsubscribe", "<https://mail.example.com/u/abc>".to_owned()),
                ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()),
            ]
        );
    }

    #[test]
    fn an_address_is_offered_after_the_link_with_its_special_characters_encoded() {
        let address = Address::parse("leave+50%?&x@example.com").unwrap();
        let [(_, value), _] = header_fields(&link("https://x.example/u/a"), Some(&address)).unwrap();
        assert_eq!(
            value,
            "<https://x.example/u/a>, <mailto:leave+50%25%3F%26x@example.com?subject=unsubscribe>"
        );
        let quoted = Address::parse("\"a, >b\"@example.com").unwrap();
        let [(_, value), _] = header_fields(&link("https://x.example/u/a"), Some(&quoted)).unwrap();
        assert!(value.ends_with(", <mailto:%22a%2C%20%3Eb%22@example.com?subject=unsubscribe>"), "{value}");
    }

    #[test]
    fn nothing_in_a_link_can_end_the_angle_brackets_or_the_line() {
        let strange = link("https://x.example/u/a>b<c d\r\n?q=>\"é#>");
        let [(_, value), _] = header_fields(&strange, None).unwrap();
        let inner = value.strip_prefix('<').unwrap().strip_suffix('>').unwrap();
        assert!(inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte)), "{value}");
    }

    #[test]
    fn a_link_must_be_https_but_on_a_loopback_address() {
        for text in
            ["http://example.com/u/a", "ftp://example.com/", "mailto:a@example.com", "http://10.0.0.1/"]
        {
            assert_eq!(header_fields(&link(text), None), Err(UnsubscribeError::NotHttps), "{text}");
        }
        for text in ["http://127.0.0.1:8080/u/a", "http://[::1]/u/a", "http://localhost/u/a"] {
            assert!(header_fields(&link(text), None).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_link_that_does_not_fit_a_line_is_refused() {
        let base = "https://x.example/";
        let fits = format!("{base}{}", "a".repeat(LINK_MAX - base.len()));
        assert!(header_fields(&link(&fits), None).is_ok());
        assert_eq!(header_fields(&link(&(fits + "a")), None), Err(UnsubscribeError::TooLong));
    }

    #[test]
    fn a_token_is_52_characters_that_a_link_carries_as_they_are() {
        let token = tokens().token(Uuid::from_u128(1));
        assert_eq!(token.len(), 52);
        assert!(token.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)), "{token}");
    }

    #[test]
    fn a_token_from_the_past_is_still_read() {
        // Links in mail that was sent must work for years: this one pins the form.
        let token = "agikvkv3xn6mzdo5aaaaaaaaahnaizodbi2qlbbuf52mzzerfo3a";
        assert_eq!(tokens().read(token), Some(Uuid::from_u128(0x0190_aaaa_bbbb_7ccc_8ddd_0000_0000_0001)));
    }

    #[test]
    fn changing_any_one_character_makes_a_forgery() {
        let token = tokens().token(Uuid::from_u128(0x0190_aaaa_bbbb_7ccc_8ddd_0000_0000_0001));
        for at in 0..token.len() {
            for other in ('a'..='z').chain('2'..='7').chain(['0', '.', '-']) {
                let mut forged = token.clone();
                forged.replace_range(at..=at, &other.to_string());
                if forged != token {
                    assert_eq!(tokens().read(&forged), None, "{forged}");
                }
            }
        }
    }

    #[test]
    fn a_token_of_another_key_or_of_a_message_id_is_none_of_ours() {
        let id = Uuid::from_u128(9);
        assert_eq!(UnsubscribeTokens::new(&[8; 32]).read(&tokens().token(id)), None);
        let message_id = crate::mail::token::Signer::new(&[7; 32]).message_id(id, id, "example.com");
        let other = message_id.strip_prefix("prt.").unwrap();
        assert_eq!(tokens().read(&other[..TOKEN_LEN]), None);
    }

    proptest! {
        #[test]
        fn every_token_is_read_in_either_case(key: [u8; 32], message: u128) {
            let (tokens, message) = (UnsubscribeTokens::new(&key), Uuid::from_u128(message));
            let token = tokens.token(message);
            prop_assert_eq!(tokens.read(&token), Some(message));
            prop_assert_eq!(tokens.read(&token.to_uppercase()), Some(message));
        }

        #[test]
        fn reading_anything_never_panics(text in any::<String>(), shaped in "[a-z2-7]{52}") {
            prop_assert_eq!(tokens().read(&text), None);
            prop_assert_eq!(tokens().read(&shaped), None);
        }
    }
}
