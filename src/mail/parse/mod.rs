//! Reads a received mail, whatever state it is in.
//!
//! [`parse`] never panics and its work is bounded by [`Limits`]; what cannot be read at all is [`Unparsable`], which is kept
//! as an item that an agent can open, because the raw bytes are stored before parsing. No text that comes out holds a NUL.

mod continuation;
mod decode;
mod header;
mod mime;
mod opened;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::{Deserialize, Serialize};

use self::mime::{Bounds, Disposition, Leaf, Stretch, Tree};
pub(super) use self::{continuation::percent_decoded, opened::Opened, opened::Part};
use super::{
    address::Mailbox,
    classify::{self, Classification},
    quote, sanitise,
};

/// How much of a mail is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of parts; a mail that goes deeper is unparsable.
    pub depth: usize,
    /// Most parts, containers included; a mail with more is unparsable.
    pub parts: usize,
    /// Longest header section in bytes; the rest of a longer one is not read.
    pub header_bytes: usize,
    /// Most mailboxes read from each of To, Cc and Reply-To.
    pub recipients: usize,
    /// Most message ids read from References and In-Reply-To.
    pub references: usize,
    /// Longest text in bytes; a longer one is cut.
    pub text_bytes: usize,
    /// Longest HTML in bytes; a longer one is cut.
    pub html_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 50,
            parts: 1000,
            header_bytes: 256 * 1024,
            recipients: 500,
            references: 100,
            text_bytes: 1024 * 1024,
            html_bytes: 2 * 1024 * 1024,
        }
    }
}

/// Why a mail could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Unparsable {
    /// A stable code: `empty`, `too_deep`, `too_many_parts` or `parser_panic`.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: String,
}

impl Unparsable {
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// What a mail says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parsed {
    /// The Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// The ids in In-Reply-To.
    pub in_reply_to: Vec<String>,
    /// The ids in References, oldest first; of a longer chain, the newest.
    pub references: Vec<String>,
    /// The first mailbox in From.
    pub from: Option<Mailbox>,
    /// The mailbox in Sender.
    pub sender: Option<Mailbox>,
    /// Where answers are wanted.
    pub reply_to: Vec<Mailbox>,
    /// The recipients in To.
    pub to: Vec<Mailbox>,
    /// The recipients in Cc.
    pub cc: Vec<Mailbox>,
    /// The subject, decoded, on one line.
    pub subject: Option<String>,
    /// The Date field in milliseconds since 1970.
    pub sent_at: Option<i64>,
    /// The best plain text: the text parts, or the HTML's words.
    pub text: Option<String>,
    /// What of the text was written now.
    pub new_text: Option<String>,
    /// The quoted history in the text.
    pub quoted_text: Option<String>,
    /// The signature in the text.
    pub signature: Option<String>,
    /// The HTML body as it came: it must be sanitised each time it is shown.
    pub html: Option<String>,
    /// The parts that are not the body.
    pub attachments: Vec<Attachment>,
    /// The fields that classification and routing look at: lower-case names, values as written, unfolded.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The top content type, `type/subtype` in lower case.
    pub content_type: String,
    /// What was left out because of a limit.
    pub truncated: Truncated,
    /// What kind of mail this is; `loop` is only told by [`classify::with_loop_check`].
    pub class: Classification,
}

/// Which of a mail's pieces were longer than [`Limits`] allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// The header section.
    pub headers: bool,
    /// To, Cc or Reply-To.
    pub recipients: bool,
    /// The text.
    pub text: bool,
    /// The HTML.
    pub html: bool,
}

/// A part of a mail that is not its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its place among the attachments, from 0: what [`attachment`] takes.
    pub index: usize,
    /// Its part number as IMAP writes it, such as `2.1`.
    pub part: String,
    /// A name without folders and control characters.
    pub filename: Option<String>,
    /// `type/subtype` in lower case, as the sender claims.
    pub content_type: String,
    /// The decoded size in bytes.
    pub size_bytes: u64,
    /// The Content-ID without angle brackets, which `cid:` links name.
    pub content_id: Option<String>,
    /// Whether the sender means it to be shown within the body.
    pub inline: bool,
}

/// An attachment's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentBytes {
    /// A name without folders and control characters.
    pub filename: Option<String>,
    /// `type/subtype` in lower case, as the sender claims.
    pub content_type: String,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
}

/// The fields kept in [`Parsed::headers`], besides those that begin with `x-postroom-`.
const KEPT: [&str; 22] = [
    "auto-submitted",
    "precedence",
    "list-id",
    "list-unsubscribe",
    "list-post",
    "list-help",
    "x-auto-response-suppress",
    "return-path",
    "x-loop",
    "x-failed-recipients",
    "feedback-id",
    "delivered-to",
    "x-original-to",
    "envelope-to",
    "x-autoreply",
    "x-autorespond",
    "x-autorespond-to",
    "x-auto-reply-from",
    "x-mail-autoreply",
    "x-vacation",
    "x-mailer",
    "x-ms-exchange-inbox-rules-loop",
];
/// Most values kept of one field.
const KEPT_VALUES: usize = 20;

/// Reads `raw`, one message as it crossed the wire.
pub fn parse(raw: &[u8], limits: &Limits) -> Result<Parsed, Unparsable> {
    catch_unwind(AssertUnwindSafe(|| read(raw, limits)))
        .unwrap_or_else(|_| Err(Unparsable::new("parser_panic", "the parser failed on this message")))
}

/// The content of the attachment with this [`Attachment::index`]; `None` when there is none.
pub fn attachment(raw: &[u8], index: usize) -> Option<AttachmentBytes> {
    // The caller's limits let the message pass once; these only keep a mistaken call from running away.
    let bounds = Bounds { depth: 200, parts: 20_000, header_bytes: 1024 * 1024 };
    let read = || {
        let raw = line_ends(raw);
        let tree = Tree::grow(&raw, bounds).ok()?;
        let leaf = tree.attachments().nth(index)?;
        Some(AttachmentBytes {
            filename: leaf.head.filename.clone(),
            content_type: leaf.head.content_type.clone(),
            bytes: leaf.head.encoding.decode(leaf.body).into_owned(),
        })
    };
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

fn read(raw: &[u8], limits: &Limits) -> Result<Parsed, Unparsable> {
    let raw = line_ends(raw);
    if raw.is_empty() {
        return Err(Unparsable::new("empty", "the message has no content"));
    }
    let bounds = Bounds { depth: limits.depth, parts: limits.parts, header_bytes: limits.header_bytes };
    let tree = Tree::grow(&raw, bounds)?;
    let fields = &tree.fields;
    let mut truncated = Truncated { headers: tree.headers_truncated, ..Truncated::default() };
    let mut mailboxes = |name: &str| {
        let (found, more) = fields.mailboxes(name, limits.recipients);
        truncated.recipients |= more;
        found
    };
    let (reply_to, to, cc) = (mailboxes("reply-to"), mailboxes("to"), mailboxes("cc"));
    let body = Body::read(&tree, limits);
    truncated.text = body.text_cut;
    truncated.html = body.html_cut;
    let pieces = body.text.as_deref().map(quote::split);
    let piece =
        |text: &str| Some(text.trim_end().trim_start_matches('\n').to_owned()).filter(|t| !t.is_empty());
    let mut parsed = Parsed {
        message_id: fields.first("message-id").and_then(|v| header::ids(v, 1).pop()),
        in_reply_to: fields
            .all("in-reply-to")
            .flat_map(|v| header::ids(v, limits.references))
            .take(limits.references)
            .collect(),
        references: references(&tree, limits.references),
        from: fields.mailboxes("from", limits.recipients).0.into_iter().next(),
        sender: fields.mailboxes("sender", 1).0.pop(),
        reply_to,
        to,
        cc,
        subject: fields.first("subject").and_then(header::text),
        sent_at: fields.first("date").and_then(header::date),
        new_text: pieces.and_then(|p| piece(p.new_text)),
        quoted_text: pieces.and_then(|p| piece(p.quoted_text)),
        signature: pieces.and_then(|p| piece(p.signature)),
        text: body.text,
        html: body.html,
        attachments: tree.attachments().enumerate().map(|(index, leaf)| describe(index, leaf)).collect(),
        headers: kept(&tree),
        content_type: tree.root.content_type.clone(),
        truncated,
        class: Classification::Normal,
    };
    parsed.class = classify::classify(&parsed, tree.root.report_type.as_deref(), &delivery_actions(&tree));
    Ok(parsed)
}

/// The message without leading blank lines, and with LF where a sender ended all its lines with bare CR.
fn line_ends(raw: &[u8]) -> Cow<'_, [u8]> {
    let blank = raw.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0).count();
    let raw = &raw[blank..];
    let cr_only = !raw.contains(&b'\n') && raw.contains(&b'\r');
    if cr_only {
        raw.iter().map(|b| if *b == b'\r' { b'\n' } else { *b }).collect::<Vec<_>>().into()
    } else {
        raw.into()
    }
}

fn references(tree: &Tree<'_>, max: usize) -> Vec<String> {
    // Header sections are bounded, so all ids can be read to keep the newest ones.
    let all: Vec<String> = tree.fields.all("references").flat_map(|v| header::ids(v, usize::MAX)).collect();
    all[all.len().saturating_sub(max)..].to_vec()
}

fn kept(tree: &Tree<'_>) -> BTreeMap<String, Vec<String>> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if tree.fields.is_empty() {
        return kept;
    }
    for (name, value) in tree.fields.iter() {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if KEPT.contains(&name.as_str()) || name.starts_with("x-postroom-") {
            let values = kept.entry(name).or_default();
            if values.len() < KEPT_VALUES {
                values.push(header::raw_text(value));
            }
        }
    }
    kept
}

fn describe(index: usize, leaf: &Leaf<'_>) -> Attachment {
    let head = &leaf.head;
    let inline = match head.disposition {
        Disposition::Inline => true,
        Disposition::Attachment => false,
        Disposition::Unsaid => leaf.related && head.content_id.is_some(),
    };
    Attachment {
        index,
        part: leaf.path.clone(),
        filename: head.filename.clone(),
        content_type: head.content_type.clone(),
        size_bytes: u64::try_from(head.encoding.decoded_len(leaf.body)).unwrap_or(u64::MAX),
        content_id: head.content_id.clone(),
        inline,
    }
}

/// The `Action` values of a delivery report's recipients (RFC 3464 section 2.3.3), lower-case.
fn delivery_actions(tree: &Tree<'_>) -> Vec<String> {
    let status = tree.leaves.iter().find(|leaf| leaf.head.content_type.ends_with("/delivery-status"));
    let Some(leaf) = status else { return Vec::new() };
    let content = leaf.head.encoding.decode(&leaf.body[..leaf.body.len().min(64 * 1024)]).into_owned();
    let content = String::from_utf8_lossy(&content).to_ascii_lowercase();
    content
        .lines()
        .filter_map(|line| line.strip_prefix("action:"))
        .map(|value| value.trim().to_owned())
        .collect()
}

struct Body {
    text: Option<String>,
    html: Option<String>,
    text_cut: bool,
    html_cut: bool,
}

impl Body {
    fn read(tree: &Tree<'_>, limits: &Limits) -> Self {
        let mut body = Self { text: None, html: None, text_cut: false, html_cut: false };
        let has_html = tree.body.iter().any(|stretch| !stretch.html.is_empty());
        for stretch in &tree.body {
            body.add(tree, stretch, has_html, limits);
        }
        body.text = body.text.filter(|text| !text.trim().is_empty());
        body.html = body.html.filter(|html| !html.trim().is_empty());
        body
    }

    fn add(&mut self, tree: &Tree<'_>, stretch: &Stretch, has_html: bool, limits: &Limits) {
        let (plain, plain_cut) = content(tree, &stretch.plain, limits.text_bytes);
        let (html, html_cut) = content(tree, &stretch.html, limits.html_bytes);
        self.text_cut |= plain_cut;
        self.html_cut |= html_cut;
        // Rendering HTML is by far the dearest step: it is done only where no text says the same.
        let text =
            if plain.trim().is_empty() && !html.is_empty() { sanitise::text_from_html(&html) } else { plain };
        if has_html {
            let piece = if html.is_empty() { format!("<div>{}</div>", escape(&text)) } else { html };
            self.html_cut |= join(&mut self.html, &piece, limits.html_bytes);
        }
        self.text_cut |= join(&mut self.text, &text, limits.text_bytes);
    }
}

/// The decoded text of some leaves, at most `max` bytes.
fn content(tree: &Tree<'_>, leaves: &[usize], max: usize) -> (String, bool) {
    let (mut whole, mut cut) = (None, false);
    for leaf in leaves.iter().filter_map(|&at| tree.leaves.get(at)) {
        // Four encoded bytes make at least one of text in every encoding but UTF-7 and quoted-printable's worst case.
        let read = leaf.body.len().min(max.saturating_mul(12));
        let bytes = leaf.head.encoding.decode(&leaf.body[..read]);
        let (text, long) = decode::normalise(decode::text(&bytes, leaf.head.charset.as_deref()), max);
        cut |= long || read < leaf.body.len();
        cut |= join(&mut whole, &text, max);
    }
    (whole.unwrap_or_default(), cut)
}

/// Appends on a line of its own as much as `max` bytes allow; tells whether something was left out.
fn join(whole: &mut Option<String>, piece: &str, max: usize) -> bool {
    let text = whole.get_or_insert_default();
    if piece.is_empty() {
        return false;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let room = max.saturating_sub(text.len());
    let end = (0..=room.min(piece.len())).rfind(|&i| piece.is_char_boundary(i)).unwrap_or(0);
    text.push_str(&piece[..end]);
    end < piece.len()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', "<br>\n")
}

#[cfg(test)]
mod tests;
