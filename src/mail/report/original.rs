//! The message that a report returns: attached whole, as its header alone, or quoted in the text.

use std::sync::LazyLock;

use regex::Regex;

use super::{DIAGNOSTIC_MAX, Original, normalised, one_line};
use crate::mail::parse::{Opened, Part};

/// A Message-ID field anywhere in a text, quoted, indented or folded.
static QUOTED_ID: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?mi)^[ \t>|]*(?:Original-)?Message-ID:\s*<([^<>\s]{1,998})>").ok());

/// What `mail`, whose prose is `texts`, tells of the message that it reports on.
pub(super) fn read(mail: &Opened, texts: &[String]) -> Original {
    let returned = mail.parts.iter().filter(|part| is_message(part) || is_header(part));
    let mut original = returned
        .filter_map(|part| Opened::read(&part.bytes))
        .map(|message| of_message(&message))
        .find(|original| *original != Original::default())
        .unwrap_or_default();
    let quoted = || texts.iter().find_map(|text| quoted_id(text));
    // Some servers answer the message that failed, which says as much.
    let answered = || mail.ids("in-reply-to").pop().or_else(|| mail.ids("references").pop());
    original.message_id = original.message_id.or_else(quoted).or_else(answered);
    original
}

/// Whether a part is a whole message.
pub(super) fn is_message(part: &Part) -> bool {
    ["message/rfc822", "message/global", "message/partial"].contains(&part.content_type.as_str())
}

/// Whether a part is a message's header section.
fn is_header(part: &Part) -> bool {
    let known = ["text/rfc822-headers", "message/rfc822-headers", "message/global-headers", "text/rfc822"];
    known.contains(&part.content_type.as_str())
}

fn of_message(message: &Opened) -> Original {
    Original {
        message_id: message.ids("message-id").into_iter().next(),
        to: message.to.iter().filter_map(|mailbox| normalised(&mailbox.address)).collect(),
        subject: message.text("subject").and_then(|subject| one_line(&subject, DIAGNOSTIC_MAX)),
    }
}

fn quoted_id(text: &str) -> Option<String> {
    Some(QUOTED_ID.as_ref()?.captures(text)?.get(1)?.as_str().to_owned())
}
