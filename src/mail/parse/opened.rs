//! A message taken apart for the reader of reports, who looks into parts that are neither body nor attachment to others.

use super::{
    decode, header, line_ends,
    mime::{Bounds, Leaf, Tree},
};
use crate::mail::{address::Mailbox, sanitise};

/// Most header fields that are kept.
const FIELDS_MAX: usize = 500;

/// Header fields and parts of one message, all decoded as far as they can be.
pub(in crate::mail) struct Opened {
    /// The top content type, `type/subtype` in lower case.
    pub content_type: String,
    /// The parameter of a `multipart/report`, in lower case (RFC 6522).
    pub report_type: Option<String>,
    /// The first mailbox in From.
    pub from: Option<Mailbox>,
    /// The mailboxes in To.
    pub to: Vec<Mailbox>,
    /// Everything that is not a multipart, in order; a message inside is one part.
    pub parts: Vec<Part>,
    fields: Vec<(String, String)>,
}

/// A part without parts of its own, its transfer encoding undone.
pub(in crate::mail) struct Part {
    /// `type/subtype` in lower case.
    pub content_type: String,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
    charset: Option<String>,
}

impl Opened {
    /// Takes `raw` apart; `None` when its nesting or number of parts is beyond reason.
    pub(in crate::mail) fn read(raw: &[u8]) -> Option<Self> {
        let raw = line_ends(raw);
        let tree = Tree::grow(&raw, Bounds { depth: 50, parts: 1000, header_bytes: 256 * 1024 }).ok()?;
        let fields = tree.fields.iter().take(FIELDS_MAX);
        let fields =
            fields.map(|(name, v)| (String::from_utf8_lossy(name).to_ascii_lowercase(), header::raw_text(v)));
        Some(Self {
            content_type: tree.root.content_type.clone(),
            report_type: tree.root.report_type.clone(),
            from: tree.fields.mailboxes("from", 1).0.pop(),
            to: tree.fields.mailboxes("to", 100).0,
            fields: if tree.fields.is_empty() { Vec::new() } else { fields.collect() },
            parts: tree.leaves.iter().map(Part::read).collect(),
        })
    }

    /// The values of the fields called `name` (in lower case), as written and unfolded.
    pub(in crate::mail) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.fields.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value of the first field called `name` (in lower case).
    pub(in crate::mail) fn first<'s>(&'s self, name: &'s str) -> Option<&'s str> {
        self.all(name).next()
    }

    /// The value of the first field called `name`, its encoded words decoded (RFC 2047).
    pub(in crate::mail) fn text(&self, name: &str) -> Option<String> {
        // The parser wants the line end that unfolding took.
        self.first(name).and_then(|value| header::text(format!("{value}\n").as_bytes()))
    }

    /// The message ids in the first field called `name`, without angle brackets.
    pub(in crate::mail) fn ids(&self, name: &str) -> Vec<String> {
        self.first(name).map(|value| header::ids(value.as_bytes(), 100)).unwrap_or_default()
    }
}

impl Part {
    fn read(leaf: &Leaf<'_>) -> Self {
        Self {
            content_type: leaf.head.content_type.clone(),
            bytes: leaf.head.encoding.decode(leaf.body).into_owned(),
            charset: leaf.head.charset.clone(),
        }
    }

    /// The content as text with LF line ends; HTML loses its tags.
    pub(in crate::mail) fn text(&self) -> String {
        let text = decode::text(&self.bytes, self.charset.as_deref());
        let (text, _) = decode::normalise(text, self.bytes.len().saturating_mul(4));
        // Some servers call their plain text HTML, which would lose its line ends.
        let is_html = self.content_type == "text/html" && text.contains('<');
        if is_html { sanitise::text_from_html(&text) } else { text }
    }
}
