//! Signed tokens that tie an answer to its conversation, carried in a Message-ID or in a plus-address.
//!
//! A Message-ID's token holds the message and the conversation; a plus-address has only 64 octets for its whole local part
//! (RFC 5321 section 4.5.3.1.1), so its token holds the conversation alone. Both end in an HMAC-SHA256 cut to 80 bits, and
//! are written in lower-case base 32, because gateways on the way may change the case of what they carry.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{
    address::Address,
    base32::{decode, encode},
};

/// What introduces a token in a Message-ID and, after a `+`, in an address.
const MARK: &str = "prt.";
/// What introduces the token of a bounce address after its `+`.
const BOUNCE_MARK: &str = "prb.";
/// Bytes kept of the HMAC: 80 bits.
const MAC_LEN: usize = 10;
/// Bytes kept of the HMAC in a bounce address, which has little room: 64 bits.
const BOUNCE_MAC_LEN: usize = 8;
const UUID_LEN: usize = 16;

/// What a genuine token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The conversation that our message belongs to.
    pub conversation: Uuid,
    /// Our message that is answered; a plus-address does not say.
    pub message: Option<Uuid>,
}

/// Makes and checks tokens under one secret key.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(..)")
    }
}

impl Signer {
    /// A signer for `key`; tokens of one key mean nothing under another.
    pub fn new(key: &[u8; 32]) -> Self {
        // 32 bytes fit SHA-256's block of 64, so the key needs no hashing and `Hmac::new` cannot fail.
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(key);
        Self { mac: <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into()) }
    }

    /// The Message-ID (without angle brackets) of our message `message` in `conversation`.
    pub fn message_id(&self, message: Uuid, conversation: Uuid, domain: &str) -> String {
        let mut bytes = Vec::with_capacity(2 * UUID_LEN + MAC_LEN);
        bytes.extend_from_slice(conversation.as_bytes());
        bytes.extend_from_slice(message.as_bytes());
        format!("{MARK}{}@{domain}", self.seal(bytes))
    }

    /// `local+prt.<token>@domain` for the conversation, or `None` when that is too long for an address.
    pub fn reply_address(&self, base: &Address, conversation: Uuid) -> Option<Address> {
        let token = self.seal(conversation.as_bytes().to_vec());
        Address::parse(&format!("{}+{MARK}{token}@{}", base.local(), base.domain())).ok()
    }

    /// `local+prb.<token>@domain` as the envelope sender of one message (VERP), or `None` when that is too long for an address.
    pub fn bounce_address(&self, base: &Address, message: Uuid) -> Option<Address> {
        let mut bytes = message.as_bytes().to_vec();
        let mac = self.sign_bounce(&bytes);
        bytes.extend_from_slice(&mac);
        let token = encode(&bytes);
        Address::parse(&format!("{}+{BOUNCE_MARK}{token}@{}", base.local(), base.domain())).ok()
    }

    /// The message whose bounce address is in `text`; `None` when there is none or it is forged.
    pub fn bounced(&self, text: &str) -> Option<Uuid> {
        let lower = text.to_ascii_lowercase();
        lower.match_indices(BOUNCE_MARK).find_map(|(at, _)| {
            let rest = &lower[at + BOUNCE_MARK.len()..];
            let end = rest.bytes().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let bytes = decode(&rest[..end])?;
            let (body, mac) = bytes.split_at_checked(UUID_LEN)?;
            bool::from(self.sign_bounce(body).ct_eq(mac)).then(|| Uuid::from_slice(body).ok())?
        })
    }

    fn sign_bounce(&self, message: &[u8]) -> [u8; BOUNCE_MAC_LEN] {
        let mut mac = self.mac.clone();
        // A first byte that is no length of the other forms.
        mac.update(&[u8::MAX]);
        mac.update(message);
        let mut short = [0; BOUNCE_MAC_LEN];
        short.copy_from_slice(&mac.finalize().into_bytes()[..BOUNCE_MAC_LEN]);
        short
    }

    /// The token in a Message-ID, an In-Reply-To or References entry or an address; `None` when there is none or it is forged.
    pub fn verify(&self, message_id_or_address: &str) -> Option<Token> {
        let lower = message_id_or_address.to_ascii_lowercase();
        lower.match_indices(MARK).find_map(|(at, _)| {
            let rest = &lower[at + MARK.len()..];
            let end = rest.bytes().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
            self.open(&rest[..end])
        })
    }

    fn seal(&self, mut bytes: Vec<u8>) -> String {
        let mac = self.sign(&bytes);
        bytes.extend_from_slice(&mac);
        encode(&bytes)
    }

    fn open(&self, text: &str) -> Option<Token> {
        let bytes = decode(text)?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LEN)?)?;
        if !bool::from(self.sign(body).ct_eq(mac)) {
            return None;
        }
        let id = |at: usize| Uuid::from_slice(body.get(at..at + UUID_LEN)?).ok();
        match body.len() {
            UUID_LEN => Some(Token { conversation: id(0)?, message: None }),
            len if len == 2 * UUID_LEN => Some(Token { conversation: id(0)?, message: Some(id(UUID_LEN)?) }),
            _ => None,
        }
    }

    fn sign(&self, body: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = self.mac.clone();
        // The length goes in first, so that no token of one form is a prefix of the other's.
        mac.update(&[u8::try_from(body.len()).unwrap_or(u8::MAX)]);
        mac.update(body);
        let mut short = [0; MAC_LEN];
        short.copy_from_slice(&mac.finalize().into_bytes()[..MAC_LEN]);
        short
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signer() -> Signer {
        Signer::new(&[7; 32])
    }

    fn ids() -> (Uuid, Uuid) {
        (
            Uuid::from_u128(0x0190_aaaa_bbbb_7ccc_8ddd_0000_0000_0001),
            Uuid::from_u128(0x0190_ffff_0000_7123_8456_0000_0000_0002),
        )
    }

    #[test]
    fn a_message_id_gives_back_message_and_conversation_wherever_it_is_quoted() {
        let (message, conversation) = ids();
        let id = signer().message_id(message, conversation, "example.com");
        assert!(id.starts_with("prt.") && id.ends_with("@example.com"));
        let expected = Some(Token { conversation, message: Some(message) });
        for text in [id.clone(), format!("<{id}>"), format!("<other@x> <{id}>"), id.to_uppercase()] {
            assert_eq!(signer().verify(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_reply_address_gives_back_the_conversation() {
        let (_, conversation) = ids();
        let base = Address::parse("support@example.com").unwrap();
        let address = signer().reply_address(&base, conversation).unwrap();
        assert!(address.as_str().starts_with("support+prt."));
        assert_eq!(signer().verify(address.as_str()), Some(Token { conversation, message: None }));
    }

    #[test]
    fn a_bounce_address_gives_back_the_message_and_nothing_else_does() {
        let (message, conversation) = ids();
        let base = Address::parse("customer-services-uk@example.com").unwrap();
        let address = signer().bounce_address(&base, message).unwrap();
        assert!(address.as_str().starts_with("customer-services-uk+prb."));
        assert_eq!(signer().bounced(address.as_str()), Some(message));
        assert_eq!(signer().bounced(&address.as_str().to_uppercase()), Some(message));
        assert_eq!(signer().verify(address.as_str()), None, "it names no conversation");
        assert_eq!(Signer::new(&[8; 32]).bounced(address.as_str()), None);
        assert_eq!(signer().bounced(&signer().message_id(message, conversation, "x.org")), None);
        let forged = address.as_str().replace("prb.", "prb.a");
        for text in ["", "prb.", "a+prb.aaaa@x", "a+prb.éé@x", &forged] {
            assert_eq!(signer().bounced(text), None, "{text}");
        }
        let long = Address::parse("customer-services-unit@example.com").unwrap();
        assert_eq!(signer().bounce_address(&long, message), None);
    }

    #[test]
    fn a_base_address_without_room_for_a_token_gives_none() {
        let base = Address::parse("a-rather-long-local-part@example.com").unwrap();
        assert_eq!(signer().reply_address(&base, ids().1), None);
    }

    #[test]
    fn another_key_and_texts_without_a_token_give_none() {
        let (message, conversation) = ids();
        let id = signer().message_id(message, conversation, "example.com");
        assert_eq!(Signer::new(&[8; 32]).verify(&id), None);
        for text in ["", "prt.", "prt.@x", "prt.aaaa@x", "CAF+abc@mail.example.com", "a+prt.éé@x"] {
            assert_eq!(signer().verify(text), None, "{text}");
        }
    }

    #[test]
    fn changing_any_one_character_of_a_token_makes_it_a_forgery() {
        let (message, conversation) = ids();
        let id = signer().message_id(message, conversation, "x.org");
        let token_end = id.find('@').unwrap();
        for at in MARK.len()..token_end {
            for other in ('a'..='z').chain('2'..='7').chain(['0', '.', '-']) {
                let mut forged = id.clone();
                forged.replace_range(at..=at, &other.to_string());
                if forged != id {
                    assert_eq!(signer().verify(&forged), None, "{forged}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_token_round_trips(key: [u8; 32], message: u128, conversation: u128) {
            let (message, conversation) = (Uuid::from_u128(message), Uuid::from_u128(conversation));
            let signer = Signer::new(&key);
            let id = signer.message_id(message, conversation, "example.com");
            prop_assert_eq!(signer.verify(&id), Some(Token { conversation, message: Some(message) }));
            let base = Address::parse("help@example.com").unwrap();
            let address = signer.reply_address(&base, conversation).unwrap();
            prop_assert_eq!(signer.verify(address.as_str()), Some(Token { conversation, message: None }));
        }

        #[test]
        fn verifying_anything_never_panics(text in any::<String>(), tail in "[a-z2-7]{0,80}") {
            prop_assert_eq!(signer().verify(&text), None);
            prop_assert_eq!(signer().verify(&format!("prt.{tail}@x")), None);
        }
    }
}
