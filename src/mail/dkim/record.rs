//! Whether what a domain publishes is the public half of a key that signs (RFC 6376 section 3.6.1). Nothing is looked up.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Why receivers could not check our signatures with a published record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It is no list of `name=value`.
    #[error("`{0}` is no tag of the form name=value")]
    Malformed(String),
    /// The version is another one, or not the first tag.
    #[error("v=DKIM1 must be its first tag, when it is there")]
    Version,
    /// There is no key in it.
    #[error("it has no tag p=")]
    NoKey,
    /// The key in it is empty.
    #[error("its p= is empty: the key is revoked")]
    Revoked,
    /// It is for another algorithm.
    #[error("it says k={0}, which is not this key's algorithm")]
    Algorithm(String),
    /// It is another key.
    #[error("it holds another public key than this one")]
    OtherKey,
    /// It does not allow SHA-256.
    #[error("its h= does not allow sha256")]
    Hash,
    /// It is not for mail.
    #[error("its s= does not allow email")]
    Service,
}

/// Compares a published TXT record with the one of our key. What tools print is understood too: quoted strings, which
/// belong together.
///
/// # Errors
/// Why a receiver could not check our signatures with it.
pub fn matches(ours: &str, published: &str) -> Result<(), RecordFault> {
    let published = unquoted(published);
    let tags = tags(&published)?;
    let tag = |name: &str| tags.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if tags.iter().position(|(name, _)| *name == "v").is_some_and(|at| at > 0)
        || tag("v").is_some_and(|version| version != "DKIM1")
    {
        return Err(RecordFault::Version);
    }
    let key = without_space(tag("p").ok_or(RecordFault::NoKey)?);
    if key.is_empty() {
        return Err(RecordFault::Revoked);
    }
    let expected = self::tags(ours)?;
    let expected = |name: &str| expected.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let algorithm = tag("k").unwrap_or("rsa");
    if Some(algorithm) != expected("k") {
        return Err(RecordFault::Algorithm(algorithm.to_owned()));
    }
    let lists = |name: &str, wanted: &str, any: &str| {
        tag(name).is_none_or(|value| value.split(':').any(|one| [wanted, any].contains(&one.trim())))
    };
    if !lists("h", "sha256", "sha256") {
        return Err(RecordFault::Hash);
    }
    if !lists("s", "email", "*") {
        return Err(RecordFault::Service);
    }
    let bytes = |text: &str| STANDARD.decode(text).ok();
    let ours = expected("p").and_then(bytes);
    if ours.is_some() && bytes(&key) == ours { Ok(()) } else { Err(RecordFault::OtherKey) }
}

/// The strings between quotation marks joined, or the text itself when there are none.
fn unquoted(text: &str) -> String {
    if text.contains('"') { text.split('"').skip(1).step_by(2).collect() } else { text.to_owned() }
}

fn without_space(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn tags(text: &str) -> Result<Vec<(&str, &str)>, RecordFault> {
    let tags = text.split(';').map(str::trim).filter(|tag| !tag.is_empty());
    tags.map(|tag| match tag.split_once('=') {
        Some((name, value)) => Ok((name.trim(), value.trim())),
        None => Err(RecordFault::Malformed(tag.chars().take(40).collect())),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn the_record_may_be_written_and_printed_in_many_ways() {
        for published in [
            OURS.to_owned(),
            format!("k=ed25519;p={KEY}"),
            format!("v=DKIM1;h=sha1:sha256; s=email:x; t=s; n=note; k=ed25519; p={KEY};"),
            format!("\"v=DKIM1; k=ed25519; p={}\" \"{}\"", &KEY[..10], &KEY[10..]),
            format!(" v = DKIM1 ; k = ed25519 ; p = {} {} ", &KEY[..10], &KEY[10..]),
        ] {
            assert_eq!(matches(OURS, &published), Ok(()), "{published}");
        }
    }

    #[test]
    fn what_keeps_receivers_from_checking_is_named() {
        let cases = [
            ("", RecordFault::NoKey),
            ("v=spf1 -all", RecordFault::Version),
            (&format!("k=ed25519; v=DKIM1; p={KEY}"), RecordFault::Version),
            ("v=DKIM1; k=ed25519; p=", RecordFault::Revoked),
            ("v=DKIM1; broken; p=x", RecordFault::Malformed("broken".into())),
            (&format!("v=DKIM1; p={KEY}"), RecordFault::Algorithm("rsa".into())),
            (&format!("v=DKIM1; k=rsa; p={KEY}"), RecordFault::Algorithm("rsa".into())),
            ("v=DKIM1; k=ed25519; p=AAAA", RecordFault::OtherKey),
            ("v=DKIM1; k=ed25519; p=§", RecordFault::OtherKey),
            (&format!("v=DKIM1; k=ed25519; h=sha1; p={KEY}"), RecordFault::Hash),
            (&format!("v=DKIM1; k=ed25519; s=web; p={KEY}"), RecordFault::Service),
        ];
        for (published, fault) in cases {
            assert_eq!(matches(OURS, published), Err(fault), "{published}");
        }
    }
}
