//! Header sections: where they end, their fields, and what the fields say.

use std::borrow::Cow;

use mail_parser::{Addr, ContentType, HeaderValue, parsers::MessageStream};

use crate::mail::address::Mailbox;

/// Longest single header value that is kept, in characters.
const VALUE_MAX: usize = 2000;

/// The fields of one header section, in order.
pub(super) struct Fields<'a> {
    block: Cow<'a, [u8]>,
    /// Per field: where its name begins and ends, and where its value ends; the value keeps its last line end.
    spans: Vec<(usize, usize, usize)>,
}

/// A header section and what follows it.
pub(super) struct Section<'a> {
    pub fields: Fields<'a>,
    pub body: &'a [u8],
    /// Whether the section was longer than the limit and only its beginning was read.
    pub truncated: bool,
}

/// Cuts `raw` at its first empty line; a text that does not begin with a header field is all body.
pub(super) fn section(raw: &[u8], max: usize) -> Section<'_> {
    let begins_with_field = raw.split_inclusive(|b| *b == b'\n').next().is_some_and(|line| {
        is_field(line)
            || line.starts_with(b"From ")
            || line.starts_with(b">From ")
            || line.starts_with(b"\n")
            || line.starts_with(b"\r\n")
    });
    if !begins_with_field {
        return Section { fields: Fields::new(&[]), body: raw, truncated: false };
    }
    let (mut end, mut body) = (raw.len(), raw.len());
    let mut at = 0;
    for line in raw.split_inclusive(|b| *b == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            (end, body) = (at, at + line.len());
            break;
        }
        at += line.len();
    }
    let kept =
        if end > max { raw[..max].iter().rposition(|b| *b == b'\n').map_or(max, |i| i + 1) } else { end };
    Section { fields: Fields::new(&raw[..kept]), body: &raw[body..], truncated: end > max }
}

/// Whether a line looks like `Name: value` (RFC 5322 section 2.2).
fn is_field(line: &[u8]) -> bool {
    match line.iter().position(|b| *b == b':') {
        Some(colon) if colon > 0 => {
            let name = line[..colon].trim_ascii_end();
            !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
        }
        _ => false,
    }
}

impl<'a> Fields<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let block = clean(raw);
        let mut spans: Vec<(usize, usize, usize)> = Vec::with_capacity(24);
        let mut at = 0;
        for line in block.split_inclusive(|b| *b == b'\n') {
            let next = at + line.len();
            if matches!(line.first(), Some(b' ' | b'\t')) {
                if let Some(last) = spans.last_mut() {
                    last.2 = next;
                }
            } else if is_field(line) {
                let colon = line.iter().position(|b| *b == b':').unwrap_or(0);
                spans.push((at, at + colon, next));
            }
            at = next;
        }
        Self { block, spans }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Names and raw values, each value with its folding and last line end.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|&(name, colon, end)| {
            (self.block[name..colon].trim_ascii_end(), &self.block[colon + 1..end])
        })
    }

    /// The raw values of the fields called `name`.
    pub(super) fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The raw value of the first field called `name`.
    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Mailboxes of all fields called `name`, at most `max`; the flag tells that there were more.
    pub(super) fn mailboxes(&self, name: &str, max: usize) -> (Vec<Mailbox>, bool) {
        let mut found: Vec<Mailbox> = self.all(name).flat_map(mailboxes).take(max + 1).collect();
        let more = found.len() > max;
        found.truncate(max);
        (found, more)
    }

    pub(super) fn content_type(&self, name: &str) -> Option<ContentType<'_>> {
        match MessageStream::new(self.first(name)?).parse_content_type() {
            HeaderValue::ContentType(content_type) => Some(content_type),
            _ => None,
        }
    }
}

/// Makes a header section regular: no NUL, no bare CR, UTF-8 (what is not, is read as Windows-1252), a line end at its end.
fn clean(raw: &[u8]) -> Cow<'_, [u8]> {
    let bare_cr = |i: usize| raw[i] == b'\r' && raw.get(i + 1) != Some(&b'\n');
    let odd = raw.contains(&0) || (0..raw.len()).any(bare_cr);
    if !odd && raw.ends_with(b"\n") && std::str::from_utf8(raw).is_ok() {
        return raw.into();
    }
    let mut out = Vec::with_capacity(raw.len() + 16);
    for line in raw.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line: Vec<u8> =
            line.iter().filter(|b| **b != 0).map(|b| if *b == b'\r' { b' ' } else { *b }).collect();
        match std::str::from_utf8(&line) {
            Ok(_) => out.extend_from_slice(&line),
            Err(_) => out
                .extend_from_slice(encoding_rs::WINDOWS_1252.decode_without_bom_handling(&line).0.as_bytes()),
        }
        out.push(b'\n');
    }
    out.into()
}

fn mailboxes(value: &[u8]) -> Vec<Mailbox> {
    let HeaderValue::Address(list) = MessageStream::new(value).parse_address() else { return Vec::new() };
    list.iter().filter_map(mailbox).collect()
}

fn mailbox(entry: &Addr<'_>) -> Option<Mailbox> {
    let name = entry.name.as_deref().map(single_line).filter(|n| !n.is_empty());
    match entry.address.as_deref().map(single_line).filter(|a| !a.is_empty()) {
        Some(address) => Some(Mailbox { name: name.filter(|n| *n != address), address }),
        // `From: MAILER-DAEMON` has no domain, yet it names who wrote.
        None => {
            name.filter(|n| !n.contains(char::is_whitespace)).map(|address| Mailbox { name: None, address })
        }
    }
}

/// An unstructured value, decoded (RFC 2047) and on one line; `None` when nothing is left.
pub(super) fn text(value: &[u8]) -> Option<String> {
    match MessageStream::new(value).parse_unstructured() {
        HeaderValue::Text(text) => Some(single_line(&text)).filter(|t| !t.is_empty()),
        _ => None,
    }
}

/// A value as it was written, unfolded.
pub(super) fn raw_text(value: &[u8]) -> String {
    single_line(&String::from_utf8_lossy(value))
}

/// A date in milliseconds since 1970 (RFC 5322 section 3.3); `None` when it is not one, or before 1970.
pub(super) fn date(value: &[u8]) -> Option<i64> {
    let seconds = match MessageStream::new(value).parse_date() {
        // RFC 5322 allows a leap second, which our clock does not know.
        HeaderValue::DateTime(date) => Some(mail_parser::DateTime { second: date.second.min(59), ..date }),
        _ => None,
    };
    let seconds = seconds.filter(mail_parser::DateTime::is_valid).map(|date| date.to_timestamp());
    // Two-digit years, missing seconds beside a named zone: rare, and read by the slower parser.
    let seconds = seconds
        .or_else(|| chrono::DateTime::parse_from_rfc2822(&raw_text(value)).ok().map(|date| date.timestamp()));
    seconds.filter(|s| *s >= 0).and_then(|s| s.checked_mul(1000))
}

/// The message ids in a value, in order, without angle brackets; ids that lost their brackets are found by their `@`.
pub(super) fn ids(value: &[u8], max: usize) -> Vec<String> {
    // Header sections are bounded, and what stands last in a long value is the newest.
    let value = String::from_utf8_lossy(value);
    let bare =
        |id: &str| id.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(998).collect::<String>();
    let bracketed = value.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(id, _)| bare(id));
    let found: Vec<String> = bracketed.filter(|id| !id.is_empty()).take(max).collect();
    if !found.is_empty() {
        return found;
    }
    let words = value
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';'))
        .map(|word| word.trim_matches(['<', '>', '"']));
    words.filter(|word| word.contains('@')).map(bare).take(max).collect()
}

/// One line without control characters: line ends and tabs become spaces, the rest goes.
pub(super) fn single_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars().take(VALUE_MAX) {
        match c {
            '\t' | '\n' | '\r' => line.push(' '),
            c if c.is_control() => {}
            c => line.push(c),
        }
    }
    let trimmed = line.trim();
    if trimmed.len() == line.len() { line } else { trimmed.to_owned() }
}
