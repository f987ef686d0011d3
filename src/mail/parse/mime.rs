//! The tree of MIME parts, walked with limits, and which of its leaves are the mail's body.
//!
//! The walk is our own because it must be bounded by construction: nesting costs stack or quadratic copying in a general
//! parser, and here the depth and the number of parts are checked before anything is read. Enclosed messages
//! (`message/rfc822`) are leaves: an agent opens them as files. Fields and charsets are read by `mail-parser`.

use mail_parser::ContentType;

use super::{
    Unparsable, continuation,
    decode::{self, Encoding},
    header::{self, Fields, Section},
};

/// How far a walk may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub depth: usize,
    pub parts: usize,
    pub header_bytes: usize,
}

/// What a part's own header fields say.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    /// `type/subtype`, lower-case.
    pub content_type: String,
    pub charset: Option<String>,
    pub encoding: Encoding,
    pub filename: Option<String>,
    pub content_id: Option<String>,
    pub report_type: Option<String>,
    pub disposition: Disposition,
    boundary: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Disposition {
    #[default]
    Unsaid,
    Inline,
    Attachment,
}

/// A part without parts of its own.
#[derive(Debug)]
pub(super) struct Leaf<'a> {
    /// Numbers of the part and its ancestors, as IMAP writes them: `2.1` (RFC 3501 section 6.4.5).
    pub path: String,
    pub head: Head,
    pub body: &'a [u8],
    /// Whether it belongs to a `multipart/related`, so that its Content-ID is used by the HTML.
    pub related: bool,
}

/// One stretch of the body: the same content as plain text, as HTML, or both; indexes of leaves.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub plain: Vec<usize>,
    pub html: Vec<usize>,
}

/// A message taken apart.
pub(super) struct Tree<'a> {
    pub fields: Fields<'a>,
    pub root: Head,
    pub leaves: Vec<Leaf<'a>>,
    pub body: Vec<Stretch>,
    pub headers_truncated: bool,
}

impl<'a> Tree<'a> {
    /// Takes `raw` apart within `bounds`.
    pub(super) fn grow(raw: &'a [u8], bounds: Bounds) -> Result<Self, Unparsable> {
        let Section { fields, body, truncated } = header::section(raw, bounds.header_bytes);
        let root = Head::read(&fields, "text/plain");
        let mut walk = Walk { bounds, seen: 0, leaves: Vec::new() };
        let body = walk.entity(&root, body, &Place { path: String::new(), depth: 0, related: false })?;
        Ok(Self { fields, root, leaves: walk.leaves, body, headers_truncated: truncated })
    }

    /// The leaves that are not the body, in order: what an agent sees as attachments.
    pub(super) fn attachments(&self) -> impl Iterator<Item = &Leaf<'a>> {
        let mut is_body = vec![false; self.leaves.len()];
        for &at in self.body.iter().flat_map(|s| s.plain.iter().chain(&s.html)) {
            is_body[at] = true;
        }
        self.leaves.iter().zip(is_body).filter(|(_, body)| !body).map(|(leaf, _)| leaf)
    }
}

struct Place {
    path: String,
    depth: usize,
    related: bool,
}

struct Walk<'a> {
    bounds: Bounds,
    seen: usize,
    leaves: Vec<Leaf<'a>>,
}

impl<'a> Walk<'a> {
    fn entity(&mut self, head: &Head, body: &'a [u8], place: &Place) -> Result<Vec<Stretch>, Unparsable> {
        self.seen += 1;
        if self.seen > self.bounds.parts {
            return Err(Unparsable::new("too_many_parts", format!("more than {} parts", self.bounds.parts)));
        }
        if place.depth > self.bounds.depth {
            return Err(Unparsable::new(
                "too_deep",
                format!("parts nested more than {} deep", self.bounds.depth),
            ));
        }
        if !head.content_type.starts_with("multipart/") {
            return Ok(self.leaf(head.clone(), body, place));
        }
        match split(body, head.boundary.as_deref(), self.bounds.parts)? {
            Some(parts) => self.multipart(head, parts, place),
            // A multipart without any part: whatever it is, somebody may want to read it.
            None => {
                Ok(self.leaf(Head { content_type: "text/plain".to_owned(), ..head.clone() }, body, place))
            }
        }
    }

    fn multipart(
        &mut self,
        head: &Head,
        parts: Vec<&'a [u8]>,
        place: &Place,
    ) -> Result<Vec<Stretch>, Unparsable> {
        let default = if head.content_type == "multipart/digest" { "message/rfc822" } else { "text/plain" };
        let mut children = Vec::with_capacity(parts.len());
        for (at, part) in parts.into_iter().enumerate() {
            let section = header::section(part, self.bounds.header_bytes);
            let number = at + 1;
            let path =
                if place.path.is_empty() { number.to_string() } else { format!("{}.{number}", place.path) };
            let related = place.related || head.content_type == "multipart/related";
            let child = Head::read(&section.fields, default);
            children.push(self.entity(
                &child,
                section.body,
                &Place { path, depth: place.depth + 1, related },
            )?);
        }
        Ok(match head.content_type.as_str() {
            "multipart/alternative" => vec![alternative(children)],
            _ => children.into_iter().flatten().collect(),
        })
    }

    fn leaf(&mut self, head: Head, body: &'a [u8], place: &Place) -> Vec<Stretch> {
        let at = self.leaves.len();
        let is_root = place.path.is_empty();
        let is_body = head.disposition != Disposition::Attachment && (is_root || head.filename.is_none());
        let is_html = head.content_type == "text/html";
        let is_plain =
            head.content_type == "text/plain" || (is_root && head.content_type.starts_with("text/"));
        let path = if is_root { "1".to_owned() } else { place.path.clone() };
        self.leaves.push(Leaf { path, head, body, related: place.related });
        match (is_body, is_html, is_plain) {
            (true, true, _) => vec![Stretch { plain: vec![], html: vec![at] }],
            (true, _, true) => vec![Stretch { plain: vec![at], html: vec![] }],
            _ => vec![],
        }
    }
}

/// Of several forms of one content, the first as plain text and the last, which is the richest, as HTML (RFC 2046 5.1.4).
fn alternative(forms: Vec<Vec<Stretch>>) -> Stretch {
    let all = |form: &[Stretch], pick: fn(&Stretch) -> &Vec<usize>| -> Vec<usize> {
        form.iter().flat_map(pick).copied().collect()
    };
    let plain = forms.iter().map(|form| all(form, |s| &s.plain)).find(|p| !p.is_empty()).unwrap_or_default();
    let html =
        forms.iter().rev().map(|form| all(form, |s| &s.html)).find(|h| !h.is_empty()).unwrap_or_default();
    Stretch { plain, html }
}

/// The parts between the boundary's delimiter lines; `None` when there is no such line.
fn split<'a>(
    body: &'a [u8],
    boundary: Option<&str>,
    max: usize,
) -> Result<Option<Vec<&'a [u8]>>, Unparsable> {
    let Some(boundary) = boundary.map(str::as_bytes).or_else(|| guess_boundary(body)) else {
        return Ok(None);
    };
    let (mut parts, mut open, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|b| *b == b'\n') {
        let next = at + line.len();
        if let Some(closes) = delimiter(line, boundary) {
            if let Some(start) = open.take() {
                parts.push(without_line_end(&body[start..at]));
                if parts.len() > max {
                    return Err(Unparsable::new("too_many_parts", format!("more than {max} parts")));
                }
            }
            if closes {
                return Ok(Some(parts));
            }
            open = Some(next);
        }
        at = next;
    }
    // The closing delimiter is missing, as in a mail that was cut short.
    parts.extend(open.map(|start| &body[start..]));
    Ok((!parts.is_empty()).then_some(parts))
}

/// `Some(true)` for the closing delimiter line, `Some(false)` for one between parts.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?.trim_ascii_end();
    match rest {
        b"" => Some(false),
        b"--" => Some(true),
        _ => None,
    }
}

fn guess_boundary(body: &[u8]) -> Option<&[u8]> {
    let line = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    line.strip_prefix(b"--").filter(|boundary| !boundary.is_empty() && boundary.len() <= 200)
}

fn without_line_end(part: &[u8]) -> &[u8] {
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    part.strip_suffix(b"\r").unwrap_or(part)
}

impl Head {
    fn read(fields: &Fields<'_>, default: &str) -> Self {
        let kind = fields.content_type("content-type");
        let disposition = fields.content_type("content-disposition");
        let attribute = |name: &str| kind.as_ref().and_then(|k| k.attribute(name)).map(str::to_owned);
        Self {
            content_type: kind
                .as_ref()
                .map_or_else(|| default.to_owned(), |k| media_type(k.ctype(), k.subtype())),
            charset: attribute("charset"),
            encoding: fields
                .first("content-transfer-encoding")
                .map(|v| Encoding::parse(&header::raw_text(v)))
                .unwrap_or_default(),
            filename: named(fields, "content-disposition", "filename", disposition.as_ref())
                .or_else(|| named(fields, "content-type", "name", kind.as_ref())),
            content_id: fields
                .first("content-id")
                .and_then(|v| header::ids(v, 1).pop().or_else(|| bare_id(v))),
            report_type: attribute("report-type").map(|t| t.to_ascii_lowercase()),
            disposition: match disposition {
                Some(d) if d.is_inline() => Disposition::Inline,
                Some(_) => Disposition::Attachment,
                None => Disposition::Unsaid,
            },
            boundary: attribute("boundary").filter(|b| !b.is_empty()),
        }
    }
}

/// The file name that one parameter gives, in numbered pieces or whole.
fn named(
    fields: &Fields<'_>,
    field: &str,
    parameter: &str,
    parsed: Option<&ContentType<'_>>,
) -> Option<String> {
    let parsed = parsed?;
    let pieces =
        fields.first(field).and_then(|value| continuation::join(&header::raw_text(value), parameter));
    decode::filename(pieces.as_deref().or_else(|| parsed.attribute(parameter))?)
}

/// Some clients write `Content-ID: image1` without brackets or `@`.
fn bare_id(value: &[u8]) -> Option<String> {
    Some(header::raw_text(value)).filter(|id| !id.is_empty() && !id.contains(char::is_whitespace))
}

/// `type/subtype` in lower case; what is no type at all is plain text, as RFC 2045 section 5.2 suggests.
fn media_type(kind: &str, subtype: Option<&str>) -> String {
    let is_token = |t: &str| {
        !t.is_empty()
            && t.len() <= 100
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match subtype {
        Some(subtype) if is_token(kind) && is_token(subtype) => {
            format!("{kind}/{subtype}").to_ascii_lowercase()
        }
        None if !kind.eq_ignore_ascii_case("text") && is_token(kind) => "application/octet-stream".to_owned(),
        _ => "text/plain".to_owned(),
    }
}
