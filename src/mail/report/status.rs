//! Delivery status notifications (RFC 3464), and their internationalised form (RFC 6533).

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{
    Action, DIAGNOSTIC_MAX, RECIPIENTS_MAX, ReportedRecipient, fields, fields::Group, normalised, one_line,
    severity,
};

/// The fields of one recipient that are read.
const PER_RECIPIENT: [&str; 5] =
    ["original-recipient", "final-recipient", "action", "status", "diagnostic-code"];
/// Where the fields begin in a report whose parts came in one piece.
static FIRST_FIELD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?mi)^(?:Reporting-MTA|Original-Envelope-Id):").ok());
/// A character outside ASCII in a `utf-8` address (RFC 6533 section 3).
static EMBEDDED_CHAR: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\\x\{([0-9A-Fa-f]{2,6})\}").ok());

/// What the status parts of one report say.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Whether there was anything that could be a status part.
    pub seen: bool,
    pub recipients: Vec<ReportedRecipient>,
    pub message_id: Option<String>,
}

/// The fields of a report whose parts came in one piece, up to the next delimiter of parts.
pub(super) fn within(text: &str) -> Option<&str> {
    let from = &text[FIRST_FIELD.as_ref()?.find(text)?.start()..];
    let end = from.find("\n--").unwrap_or(from.len());
    Some(&from[..end])
}

impl Status {
    /// Reads one `message/delivery-status` part.
    pub(super) fn add(&mut self, text: &str) {
        self.seen = true;
        let mut entry = Group::default();
        for group in fields::groups(text) {
            if let Some(id) = group.first("original-message-id") {
                self.message_id = self.message_id.take().or_else(|| bare_id(id));
            }
            // A recipient's fields may be torn apart by a stray blank line: what is incomplete waits for the rest.
            if names_somebody(&entry) && entry.first("action").is_some() {
                self.settle(std::mem::take(&mut entry));
            }
            for (name, value) in group.0 {
                if !PER_RECIPIENT.contains(&name.as_str()) {
                    continue;
                }
                // And a missing one shows in a field that comes a second time.
                if entry.first(&name).is_some() {
                    self.settle(std::mem::take(&mut entry));
                }
                entry.0.push((name, value));
            }
        }
        self.settle(entry);
    }

    fn settle(&mut self, entry: Group) {
        // Several entries may name one address, which counts once at the end.
        if self.recipients.len() < RECIPIENTS_MAX * 10 {
            self.recipients.extend(recipient(&entry));
        }
    }
}

fn names_somebody(entry: &Group) -> bool {
    entry.first("final-recipient").or_else(|| entry.first("original-recipient")).is_some()
}

fn recipient(entry: &Group) -> Option<ReportedRecipient> {
    // The original recipient is the one that was written to; the final one may lie behind a forwarding that we do not know.
    let address = entry.first("original-recipient").and_then(address);
    let address = address.or_else(|| entry.first("final-recipient").and_then(self::address))?;
    let said = entry.first("diagnostic-code").map(|code| without_type(code).1);
    let field = entry.first("status");
    let status = severity::status(field, said);
    let words = said.or(field);
    let action = entry.first("action").and_then(action).or_else(|| implied(status.as_deref(), words))?;
    Some(ReportedRecipient {
        address,
        action,
        permanence: severity::permanence(action, status.as_deref(), words),
        diagnostic: words
            .and_then(|words| one_line(words, DIAGNOSTIC_MAX))
            .filter(|w| Some(w) != status.as_ref()),
        status,
    })
}

/// The action by its first word, which some servers follow with a comment or replace by one of their own.
fn action(value: &str) -> Option<Action> {
    let word = value.trim().to_ascii_lowercase();
    let known = [
        ("fail", Action::Failed),
        ("error", Action::Failed),
        ("undeliver", Action::Failed),
        ("delay", Action::Delayed),
        ("deliver", Action::Delivered),
        ("relay", Action::Relayed),
        ("expand", Action::Expanded),
    ];
    known.into_iter().find(|(start, _)| word.starts_with(start)).map(|(_, action)| action)
}

/// The action that a recipient without one must have met.
fn implied(status: Option<&str>, words: Option<&str>) -> Option<Action> {
    let class = status.and_then(|code| code.chars().next()).or_else(|| words.and_then(severity::reply_class));
    match class? {
        '5' => Some(Action::Failed),
        '4' => Some(Action::Delayed),
        _ => Some(Action::Delivered),
    }
}

/// The address in `rfc822; a@example.com`, with or without its type; X.400 and other names are none.
fn address(value: &str) -> Option<String> {
    let (kind, rest) = without_type(value);
    let rest = rest.split(" (").next().unwrap_or(rest).trim();
    let bare = rest.trim_start_matches(['<', '\'']).trim_end_matches(['>', '\'']).trim();
    match kind.as_deref() {
        Some("x400" | "x500") => None,
        Some("utf-8") => normalised(&with_embedded(bare)),
        _ => normalised(bare),
    }
}

/// A value's type in lower case, and what follows it (RFC 3464 section 2.1.2).
fn without_type(value: &str) -> (Option<String>, &str) {
    match value.split_once(';') {
        Some((kind, rest)) if kind.trim().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            (Some(kind.trim().to_ascii_lowercase()), rest.trim())
        }
        _ => (None, value.trim()),
    }
}

fn with_embedded(address: &str) -> String {
    let Some(embedded) = EMBEDDED_CHAR.as_ref() else { return address.to_owned() };
    let character = |found: &Captures<'_>| {
        let code = u32::from_str_radix(&found[1], 16).ok().and_then(char::from_u32);
        code.map_or_else(|| found[0].to_owned(), String::from)
    };
    embedded.replace_all(address, character).into_owned()
}

fn bare_id(value: &str) -> Option<String> {
    let id = value.trim().trim_start_matches('<').split('>').next().unwrap_or_default();
    one_line(id, 998).filter(|id| !id.contains(' '))
}
