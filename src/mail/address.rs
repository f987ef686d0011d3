//! E-mail addresses: the strict [`Address`] that we send to and store, and the lenient [`Mailbox`] of a message's headers.

use std::{borrow::Cow, fmt, net::Ipv4Addr, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest local part in octets (RFC 5321 section 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// Longest domain in octets (RFC 5321 section 4.5.3.1.2).
const DOMAIN_MAX: usize = 255;
/// Longest address in octets: a path of 256 less its angle brackets (RFC 5321 section 4.5.3.1.3).
const TOTAL_MAX: usize = 254;

/// A valid address, `local@domain`, whose domain is lower-case ASCII (IDNA A-labels) or an address literal.
///
/// The local part keeps its case and its quotes; it may hold UTF-8, which only an SMTPUTF8 server takes (RFC 6531).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    full: String,
    at: usize,
}

/// A name and an address as a header gave them; the address is not necessarily a valid one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mailbox {
    /// The display name, decoded (RFC 2047), without control characters.
    pub name: Option<String>,
    /// The address as it was written, without angle brackets.
    pub address: String,
}

impl Mailbox {
    /// A mailbox with a display name when `name` is not empty.
    pub fn new(name: Option<&str>, address: impl Into<String>) -> Self {
        Self { name: name.filter(|n| !n.is_empty()).map(str::to_owned), address: address.into() }
    }
}

impl fmt::Display for Mailbox {
    /// Writes `Name <address>` for people to read; it is not fit for a header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@` with something on both sides.
    #[error("an address has the form local@domain")]
    Form,
    /// The local part breaks RFC 5321 section 4.1.2.
    #[error("the part before the @ is not valid")]
    Local,
    /// The domain is neither a host name, an internationalised name nor an address literal.
    #[error("the part after the @ is not a valid domain")]
    Domain,
    /// The local part has more than 64 octets, the domain more than 255, or the whole more than 254.
    #[error("the address is too long")]
    TooLong,
    /// The text holds CR, LF, NUL or another control character.
    #[error("the address holds a control character")]
    Control,
}

impl Address {
    /// Reads `local@domain` (no name, no angle brackets); the domain is lower-cased and made ASCII.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.chars().any(char::is_control) {
            return Err(AddressError::Control);
        }
        // A quoted local part may hold an `@`; a domain never does.
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Form)?;
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Form);
        }
        if local.len() > LOCAL_MAX {
            return Err(AddressError::TooLong);
        }
        if !(is_dot_atom(local) || is_quoted_string(local)) {
            return Err(AddressError::Local);
        }
        let domain = ascii_domain(domain)?;
        let full = format!("{local}@{domain}");
        if full.len() > TOTAL_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(Self { at: local.len(), full })
    }

    /// The part before the `@`, as it was given.
    pub fn local(&self) -> &str {
        &self.full[..self.at]
    }

    /// The part after the `@`: lower-case ASCII.
    pub fn domain(&self) -> &str {
        &self.full[self.at + 1..]
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.full
    }
}

/// The form in which two written addresses are compared: trimmed, the domain lower-case ASCII when it can be.
pub fn comparable(address: &str) -> Cow<'_, str> {
    let address = address.trim();
    match address.rsplit_once('@') {
        Some((_, domain)) if domain.bytes().all(|b| b.is_ascii_lowercase() || b == b'.') => address.into(),
        Some((local, domain)) => {
            let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
            format!("{local}@{domain}").into()
        }
        None => address.into(),
    }
}

fn is_dot_atom(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_whitespace())
}

fn is_quoted_string(local: &str) -> bool {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut escaped = false;
    for c in inner.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    local.len() >= 2 && !escaped
}

fn ascii_domain(domain: &str) -> Result<String, AddressError> {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return is_address_literal(literal)
            .then(|| domain.to_ascii_lowercase().replace("[ipv6:", "[IPv6:"))
            .ok_or(AddressError::Domain);
    }
    let ascii = idna::domain_to_ascii(domain).map_err(|_| AddressError::Domain)?;
    if ascii.len() > DOMAIN_MAX {
        return Err(AddressError::TooLong);
    }
    if ascii.split('.').all(is_label) { Ok(ascii) } else { Err(AddressError::Domain) }
}

fn is_address_literal(literal: &str) -> bool {
    match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => literal[5..].parse::<Ipv6Addr>().is_ok(),
        _ => literal.parse::<Ipv4Addr>().is_ok(),
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.full)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_unusual_addresses_are_read_with_the_domain_lower_cased() {
        let cases = [
            ("Anna.Smith@Example.COM", "Anna.Smith@example.com"),
            ("a+tag@sub.example.org", "a+tag@sub.example.org"),
            ("o'brien@example.ie", "o'brien@example.ie"),
            ("\"john doe\"@example.com", "\"john doe\"@example.com"),
            ("\"a@b\"@example.com", "\"a@b\"@example.com"),
            ("info@Bücher.example", "info@xn--bcher-kva.example"),
            ("user@[192.0.2.1]", "user@[192.0.2.1]"),
            ("user@[ipv6:2001:DB8::1]", "user@[IPv6:2001:db8::1]"),
            ("root@localhost", "root@localhost"),
            ("用户@例子.example", "用户@xn--fsqu00a.example"),
        ];
        for (given, expected) in cases {
            assert_eq!(Address::parse(given).map(|a| a.to_string()).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_its_reason() {
        use AddressError::*;
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_domain = format!("a@{}com", "abcdefgh.".repeat(29));
        let cases = [
            ("", Form),
            ("nobody", Form),
            ("@example.com", Form),
            ("a@", Form),
            (".a@example.com", Local),
            ("a..b@example.com", Local),
            ("a b@example.com", Local),
            ("\"a\"b\"@example.com", Local),
            ("\"a\\\"@example.com", Local),
            ("<a@example.com>", Local),
            ("a@example..com", Domain),
            ("a@-example.com", Domain),
            ("a@exam ple.com", Domain),
            ("a@[300.1.1.1]", Domain),
            ("a@example.com\r\nBcc: b@example.com", Control),
            ("a\0@example.com", Control),
            (&long_local, TooLong),
            (&long_domain, TooLong),
        ];
        for (given, expected) in cases {
            assert_eq!(Address::parse(given), Err(expected), "{given}");
        }
    }

    #[test]
    fn the_parts_can_be_read_and_json_holds_a_string() {
        let address = Address::parse("\"a@b\"@Example.com").unwrap();
        assert_eq!((address.local(), address.domain()), ("\"a@b\"", "example.com"));
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(json, r#""\"a@b\"@example.com""#);
        assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        assert!(serde_json::from_str::<Address>("\"nobody\"").is_err());
    }

    #[test]
    fn addresses_compare_without_regard_to_case_in_the_domain_only() {
        assert_eq!(comparable(" Anna@EXAMPLE.com "), "Anna@example.com");
        assert_eq!(comparable("Anna@example.com"), "Anna@example.com");
        assert_ne!(comparable("anna@example.com"), comparable("Anna@example.com"));
        assert_eq!(comparable("i@Bücher.example"), comparable("i@xn--bcher-kva.example"));
    }
}
