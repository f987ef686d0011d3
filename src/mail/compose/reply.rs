//! What an answer or a forward takes over from the mail before it: subject, recipients, references, quoted text.

use std::sync::LazyLock;

use regex::Regex;

use crate::mail::{
    address::{Mailbox, comparable},
    classify::is_same_or_tagged,
    parse::Parsed,
    sanitise::{self, Images},
};

static REPLY_PREFIX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:\s*(?:re|ré|aw|antw|antwort|sv|vs|ref|res|odp|ynt|atb|отв|回复|答复|回覆|返信)(?:\s?[\[(]\d{1,3}[\])])?\s*[:：])+\s*").ok()
});
static FORWARD_PREFIX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:\s*(?:fwd?|wg|tr|rv|enc|doorst|vl|vb|pd|пересл|转发|轉寄|転送)(?:\s?[\[(]\d{1,3}[\])])?\s*[:：])+\s*").ok()
});

/// The subject of an answer: `Re: ` once, whatever prefixes in whatever language were there.
pub fn reply_subject(original: &str) -> String {
    prefixed("Re:", &REPLY_PREFIX, original)
}

/// The subject of a forward: `Fwd: ` once.
pub fn forward_subject(original: &str) -> String {
    prefixed("Fwd:", &FORWARD_PREFIX, original)
}

fn prefixed(prefix: &str, known: &LazyLock<Option<Regex>>, original: &str) -> String {
    let bare = known.as_ref().map_or(original.into(), |known| known.replace(original, ""));
    format!("{prefix} {}", bare.trim()).trim_end().to_owned()
}

/// The References of an answer: the original's chain and the original itself (RFC 5322 section 3.6.4).
pub fn answer_references(original: &Parsed) -> Vec<String> {
    let chain = if original.references.is_empty() && original.in_reply_to.len() == 1 {
        &original.in_reply_to
    } else {
        &original.references
    };
    chain.iter().chain(&original.message_id).cloned().collect()
}

/// Who gets an answer, as (To, Cc).
///
/// Reply-To goes before From; our own addresses never appear, in any case and with any `+tag`; an answer to our own mail
/// goes to those it went to. With `all`, the others in To and Cc get a copy.
pub fn reply_recipients<A: AsRef<str>>(
    original: &Parsed,
    own_addresses: &[A],
    all: bool,
) -> (Vec<Mailbox>, Vec<Mailbox>) {
    let own =
        |mailbox: &Mailbox| own_addresses.iter().any(|own| is_same_or_tagged(own.as_ref(), &mailbox.address));
    let mut seen: Vec<String> = Vec::new();
    let mut fresh = |mailbox: &&Mailbox| {
        let key = comparable(&mailbox.address).into_owned();
        let usable = !own(mailbox) && !key.is_empty() && !seen.contains(&key);
        if usable {
            seen.push(key);
        }
        usable
    };
    let wanted: Vec<&Mailbox> = if original.reply_to.is_empty() {
        original.from.iter().collect()
    } else {
        original.reply_to.iter().collect()
    };
    let mut to: Vec<Mailbox> = wanted.into_iter().filter(&mut fresh).cloned().collect();
    if to.is_empty() {
        to = original.to.iter().filter(&mut fresh).cloned().collect();
    }
    let cc = if all {
        original.to.iter().chain(&original.cc).filter(&mut fresh).cloned().collect()
    } else {
        Vec::new()
    };
    (to, cc)
}

/// What is quoted of a mail.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quotable<'a> {
    /// Who wrote it.
    pub from: Option<&'a Mailbox>,
    /// Whom it went to.
    pub to: &'a [Mailbox],
    /// When, in milliseconds since 1970.
    pub sent_at: Option<i64>,
    /// Its subject.
    pub subject: Option<&'a str>,
    /// Its text.
    pub text: Option<&'a str>,
    /// Its HTML as it came; it is sanitised here.
    pub html: Option<&'a str>,
}

impl<'a> From<&'a Parsed> for Quotable<'a> {
    fn from(mail: &'a Parsed) -> Self {
        Self {
            from: mail.from.as_ref(),
            to: &mail.to,
            sent_at: mail.sent_at,
            subject: mail.subject.as_deref(),
            text: mail.text.as_deref(),
            html: mail.html.as_deref(),
        }
    }
}

/// The quoted original to put under an answer, as text and as HTML without remote images.
pub fn reply_quote(original: &Quotable<'_>) -> (String, String) {
    let author = original.from.map_or_else(|| "somebody".to_owned(), Mailbox::to_string);
    let attribution = match written_at(original.sent_at) {
        Some(date) => format!("On {date}, {author} wrote:"),
        None => format!("{author} wrote:"),
    };
    let mut text = attribution.clone();
    for line in original.text.unwrap_or_default().trim_end().lines() {
        text.push_str(match line {
            "" => "\n>",
            line if line.starts_with('>') => "\n>",
            _ => "\n> ",
        });
        text.push_str(line);
    }
    let html = format!(
        "<p>{}</p><blockquote style=\"margin:0 0 0 0.8ex;border-left:1px solid #ccc;padding-left:1ex\">{}</blockquote>",
        escape(&attribution),
        quoted_html(original)
    );
    (text + "\n", html)
}

/// The original below a forward's own words, as text and as HTML without remote images.
pub fn forward_quote(original: &Quotable<'_>) -> (String, String) {
    let to = original.to.iter().map(Mailbox::to_string).collect::<Vec<_>>().join(", ");
    let fields = [
        ("From", original.from.map(Mailbox::to_string)),
        ("Date", written_at(original.sent_at)),
        ("Subject", original.subject.map(str::to_owned)),
        ("To", Some(to).filter(|to| !to.is_empty())),
    ];
    let mut text = "---------- Forwarded message ----------\n".to_owned();
    let mut html = "<p>---------- Forwarded message ----------".to_owned();
    for (name, value) in fields.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))) {
        text.push_str(&format!("{name}: {value}\n"));
        html.push_str(&format!("<br>{name}: {}", escape(&value)));
    }
    text.push_str(&format!("\n{}\n", original.text.unwrap_or_default().trim_end()));
    (text, format!("{html}</p>{}", quoted_html(original)))
}

fn quoted_html(original: &Quotable<'_>) -> String {
    match original.html {
        Some(html) => sanitise::html(html, Images::Blocked, |_| None).html,
        None => escape(original.text.unwrap_or_default().trim_end()).replace('\n', "<br>\n"),
    }
}

fn written_at(sent_at: Option<i64>) -> Option<String> {
    let date = chrono::DateTime::from_timestamp_millis(sent_at?)?;
    Some(date.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// Text as HTML that shows it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
