//! Status codes (RFC 3463), and whether a failure is for good.

use std::sync::LazyLock;

use regex::Regex;

use super::{Action, Permanence};

/// An enhanced status code that is not a piece of an IP address or of a version.
static ENHANCED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:^|[^0-9.])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\.?[^0-9.]|\.?$)").ok());
/// A server's reply code of three digits (RFC 5321 section 4.2.3).
static REPLY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:^|[^0-9.])([45])[0-5][0-9](?:[ :,;#-]|$)").ok());
/// Causes that may pass, in the words of servers that give no code.
static PASSING: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\b(?:full|quota|over its limit|temporar\w*|try again|tim(?:ed|e) ?out|timeout|not respond\w*|busy|",
        r"unreachable|greylist\w*|graylist\w*|deferred|too many (?:connections|messages)|",
        r"connection (?:refused|failed|lost|reset)|(?:insufficient|out of) (?:system )?(?:storage|disk))"
    ))
    .ok()
});

/// A server that knows nobody of that name, in its words.
static NOBODY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\b(?:unknown|no such|invalid|bad|non-?existent) (?:local )?(?:user|recipient|mailbox|address|account|addressee)\b|",
        r"\b(?:user|recipient|mailbox|address|account|addressee)s?\b[^;]{0,80}?\b(?:unknown|(?:not|\w*n't|never) (?:found|known|exist\w*|valid)|",
        r"does(?:n't| not) have an account|disabled|inactive|invalid|no longer (?:valid|exists|active|in use))"
    ))
    .ok()
});
/// These words are about who wrote.
static SENDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:sender|from address|return[- ]path|reverse[- ]path|helo|client)\b").ok()
});

/// Whether a server's words say that there is nobody of the recipient's name.
pub(crate) fn names_nobody(words: &str) -> bool {
    let has = |regex: &LazyLock<Option<Regex>>| regex.as_ref().is_some_and(|regex| regex.is_match(words));
    has(&NOBODY) && !has(&SENDER)
}

/// The first enhanced status code in `text`.
pub(super) fn enhanced(text: &str) -> Option<String> {
    let found = ENHANCED.as_ref()?.captures(text)?;
    Some(found.get(1)?.as_str().to_owned())
}

/// The code of a `Status` field, or the one in the diagnostic where that tells more of the same class.
pub(super) fn status(field: Option<&str>, diagnostic: Option<&str>) -> Option<String> {
    let field = field.and_then(enhanced);
    let told = diagnostic.and_then(enhanced);
    match (field, told) {
        (Some(field), Some(told)) if field.ends_with(".0.0") && told.starts_with(&field[..1]) => Some(told),
        (Some(field), _) => Some(field),
        (None, told) => told,
    }
}

/// The class of failure, 4 or 5, by the reply code in `text`.
pub(super) fn reply_class(text: &str) -> Option<char> {
    REPLY.as_ref()?.captures(text)?.get(1)?.as_str().chars().next()
}

/// Whether trying again could help: by the status code, else by the reply code, else by the server's words.
pub(super) fn permanence(action: Action, status: Option<&str>, words: Option<&str>) -> Permanence {
    let class = status.and_then(|code| code.chars().next()).or_else(|| words.and_then(reply_class));
    let passing = || words.zip(PASSING.as_ref()).is_some_and(|(words, passing)| passing.is_match(words));
    match (action, class) {
        (Action::Failed, Some('5')) => Permanence::Permanent,
        (Action::Failed, None) if !passing() => Permanence::Permanent,
        _ => Permanence::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_know_nobody_of_that_name_say_so_in_many_ways() {
        for words in [
            "550 User unknown",
            "553 sorry, no such mailbox here",
            "550 The email account that you tried to reach does not exist",
            "550 <a@example.org>: Recipient address rejected: User unknown in local recipient table",
            "554 delivery error: This user doesn't have an account here",
            "550 Invalid recipient a@example.org",
            "550 mailbox is disabled",
            "511 sorry, no mailbox here by that name; address no longer valid",
        ] {
            assert!(names_nobody(words), "{words}");
        }
        for words in [
            "550 Requested action not taken: mailbox unavailable",
            "554 Recipient address rejected: Access denied",
            "553 Sender address rejected: Domain not found",
            "550 the content of this message looks like spam",
            "552 mailbox full",
        ] {
            assert!(!names_nobody(words), "{words}");
        }
    }
}
