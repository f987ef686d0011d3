//! Makes the HTML of a received mail safe to show in a browser, and turns it into plain text.
//!
//! [`html`] is called each time a mail is read: the stored body stays what crossed the wire.

use std::{
    borrow::Cow,
    collections::HashMap,
    panic::catch_unwind,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use ammonia::{Builder, UrlRelative};
use regex::Regex;

use super::parse::percent_decoded;

mod bounded;

/// What becomes of images (and of other style resources) that live on a remote server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// They are taken out and counted, because loading them tells the sender that the mail was read.
    Blocked,
    /// `http` and `https` ones stay.
    Allowed,
}

/// Safe HTML and what was kept from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanitised {
    /// A fragment without scripts, forms, event handlers, classes or ids.
    pub html: String,
    /// How many remote images were taken out; above 0 a front end offers to show them.
    pub blocked_images: u32,
}

/// Longest HTML that [`text_from_html`] reads; the rest of a longer body is not rendered.
const TEXT_SOURCE_MAX: usize = 1024 * 1024;
/// Deepest nesting that is rendered with layout; deeper bodies are only stripped of their tags.
const TEXT_DEPTH_MAX: usize = 400;
/// Deepest nesting that is cleaned as HTML; a deeper body is shown as text.
const HTML_DEPTH_MAX: usize = 1000;
/// Most character references and hard spaces that are cleaned as HTML: each costs the cleaner the whole stretch of text it is in.
const REFERENCES_MAX: usize = 10_000;
/// Width that keeps a paragraph on one line.
const TEXT_WIDTH: usize = 1000;

/// CSS properties whose negative values would put a mail's content over what is around it.
const SHIFTING: [&str; 3] = ["margin", "text-indent", "letter-spacing"];

/// Schemes a link may have.
const LINK_SCHEMES: [&str; 4] = ["http", "https", "mailto", "tel"];
/// Elements dropped with everything in them.
const DROPPED: [&str; 15] = [
    "script", "style", "title", "template", "svg", "math", "iframe", "object", "embed", "applet", "noembed",
    "noframes", "textarea", "select", "button",
];
/// CSS properties that can neither load anything nor leave the mail's own box.
const STYLES: &[&str] = &[
    "background",
    "background-color",
    "background-image",
    "border",
    "border-bottom",
    "border-bottom-color",
    "border-bottom-style",
    "border-bottom-width",
    "border-collapse",
    "border-color",
    "border-left",
    "border-left-color",
    "border-left-style",
    "border-left-width",
    "border-radius",
    "border-right",
    "border-right-color",
    "border-right-style",
    "border-right-width",
    "border-spacing",
    "border-style",
    "border-top",
    "border-top-color",
    "border-top-style",
    "border-top-width",
    "border-width",
    "color",
    "direction",
    "display",
    "font",
    "font-family",
    "font-size",
    "font-style",
    "font-variant",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "list-style-type",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-width",
    "min-width",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "table-layout",
    "text-align",
    "text-decoration",
    "text-indent",
    "text-transform",
    "vertical-align",
    "white-space",
    "width",
    "word-break",
    "word-wrap",
];
/// CSS functions that load a resource, or are old ways to run code.
const LOADING: [&str; 10] = [
    "url(",
    "image(",
    "image-set(",
    "cross-fade(",
    "src(",
    "element(",
    "paint(",
    "expression(",
    "@import",
    "-moz-binding",
];

static CID: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?i)cid:([^\s"'<>()]{1,998})"#).ok());

static LINK_TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)</?a(?:\s[^>]*)?>").ok());

/// Cleans `raw`; `cid` gives the address under which the part with a Content-ID can be loaded, without angle brackets.
pub fn html(raw: &str, images: Images, cid: impl Fn(&str) -> Option<String>) -> Sanitised {
    let is_flooded = raw.matches(['&', '\u{a0}']).count() > REFERENCES_MAX;
    if is_flooded || !bounded::is_fragment(raw, HTML_DEPTH_MAX) {
        let html = format!("<pre>{}</pre>", ammonia::clean_text(&text_from_html(raw)));
        return Sanitised { html, blocked_images: 0 };
    }
    let blocked = Arc::new(AtomicU32::new(0));
    let filter = Filter { images, parts: resolve_parts(raw, cid), blocked: Arc::clone(&blocked) };
    let html = policy(filter).clean(raw).to_string();
    Sanitised { html, blocked_images: blocked.load(Ordering::Relaxed) }
}

/// The cleaner wants a `'static` filter, so the caller's answers for the Content-IDs in use are fetched before.
fn resolve_parts(raw: &str, cid: impl Fn(&str) -> Option<String>) -> HashMap<String, String> {
    let Some(pattern) = CID.as_ref() else { return HashMap::new() };
    let ids = pattern.captures_iter(raw).filter_map(|found| found.get(1)).take(REFERENCES_MAX);
    ids.filter_map(|id| {
        let id = content_id(id.as_str());
        cid(&id).map(|url| (id.into_owned(), url))
    })
    .collect()
}

/// A Content-ID as RFC 2392 writes it in a URL: entities and percent escapes undone.
fn content_id(written: &str) -> Cow<'_, str> {
    let id = written.replace("&amp;", "&");
    if !id.contains('%') {
        return id.into();
    }
    String::from_utf8_lossy(&percent_decoded(id.as_bytes())).into_owned().into()
}

fn policy(filter: Filter) -> Builder<'static> {
    let mut builder = Builder::default();
    builder
        .add_tags(["font", "section", "main", "address", "tfoot", "big"])
        // Image maps carry links that get no `rel`.
        .rm_tags(["area", "map"])
        .add_clean_content_tags(DROPPED)
        .add_generic_attributes(["style", "dir", "align"])
        .add_tag_attributes("img", ["srcset", "border"])
        .add_tag_attributes("font", ["color", "face", "size"])
        .add_tag_attributes(
            "table",
            ["background", "bgcolor", "border", "cellpadding", "cellspacing", "width", "height"],
        )
        .add_tag_attributes("tr", ["background", "bgcolor", "valign", "height"])
        .add_tag_attributes("td", ["background", "bgcolor", "valign", "width", "height", "nowrap"])
        .add_tag_attributes("th", ["background", "bgcolor", "valign", "width", "height", "nowrap"])
        .set_tag_attribute_value("a", "target", "_blank")
        .link_rel(Some("noopener noreferrer nofollow"))
        .url_schemes(LINK_SCHEMES.into_iter().chain(["cid"]).collect())
        // The filter refuses relative addresses itself, because those that `cid` gives may be relative.
        .url_relative(UrlRelative::PassThrough)
        .filter_style_properties(STYLES.iter().copied().collect())
        .attribute_filter(move |_: &str, attribute: &str, value| filter.attribute(attribute, value));
    builder
}

struct Filter {
    images: Images,
    parts: HashMap<String, String>,
    blocked: Arc<AtomicU32>,
}

impl Filter {
    /// The attribute's new value, or `None` to take it away.
    fn attribute<'a>(&self, attribute: &str, value: &'a str) -> Option<Cow<'a, str>> {
        match attribute {
            "href" => LINK_SCHEMES.contains(&scheme(value)?.as_str()).then(|| value.into()),
            "src" => self.image(value),
            "srcset" => self.image_set(value),
            "background" => self.image(value),
            "style" => self.style(value),
            "cite" => None,
            _ => Some(value.into()),
        }
    }

    fn image<'a>(&self, value: &'a str) -> Option<Cow<'a, str>> {
        if value.trim_start().starts_with("//") {
            return self.remote(value);
        }
        match scheme(value)?.as_str() {
            "cid" => {
                let (_, id) = value.split_once(':')?;
                self.parts.get(content_id(id.trim()).as_ref()).map(|url| url.clone().into())
            }
            "http" | "https" => self.remote(value),
            _ => None,
        }
    }

    fn remote<'a>(&self, value: &'a str) -> Option<Cow<'a, str>> {
        match self.images {
            Images::Allowed => Some(value.into()),
            Images::Blocked => {
                self.blocked.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    fn image_set<'a>(&self, value: &'a str) -> Option<Cow<'a, str>> {
        let remote = |candidate: &str| {
            let url = candidate.trim_start();
            url.starts_with("//") || matches!(scheme(url).as_deref(), Some("http" | "https"))
        };
        value.split(',').all(remote).then(|| self.remote(value)).flatten()
    }

    fn style<'a>(&self, value: &'a str) -> Option<Cow<'a, str>> {
        // An escape or a comment could hide something from the tests below, and honest mail has none.
        if value.contains('\\') || value.contains("/*") {
            return None;
        }
        let lower = value.to_ascii_lowercase();
        if !LOADING.iter().chain(&SHIFTING).any(|word| lower.contains(word)) {
            return Some(value.into());
        }
        let kept: Vec<&str> =
            value.split(';').filter(|declaration| self.keep_declaration(declaration)).collect();
        Some(kept.join(";").into())
    }

    /// Whether a declaration shifts nothing out of its box, and loads nothing or only an allowed remote image by a plain
    /// `url()`.
    fn keep_declaration(&self, declaration: &str) -> bool {
        let lower = declaration.to_ascii_lowercase();
        let shifts = SHIFTING.iter().any(|property| lower.contains(property));
        // A function could make a negative length.
        if shifts && lower.split_once(':').is_some_and(|(_, value)| value.contains(['-', '('])) {
            return false;
        }
        let loads: Vec<_> = LOADING.iter().filter(|function| lower.contains(*function)).collect();
        match loads.as_slice() {
            [] => true,
            [function] if **function == "url(" => {
                let mut urls =
                    lower.split("url(").skip(1).map(|rest| rest.trim_start_matches(['"', '\'', ' ']));
                urls.all(|url| url.starts_with("https:") || url.starts_with("http:") || url.starts_with("//"))
                    && self.remote(declaration).is_some()
            }
            _ => false,
        }
    }
}

/// The lower-case scheme of an absolute URL, read as a browser does: without the spaces and controls it ignores.
fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    let scheme: String = scheme.chars().filter(|c| *c > ' ').map(|c| c.to_ascii_lowercase()).collect();
    (!scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
        .then_some(scheme)
}

/// Renders HTML as plain text: paragraphs on one line each, lists, quotes as `> `; links keep only their words.
pub fn text_from_html(raw: &str) -> String {
    let end = (0..=TEXT_SOURCE_MAX.min(raw.len())).rfind(|&i| raw.is_char_boundary(i)).unwrap_or(0);
    let raw = &raw[..end];
    let rendered = catch_unwind(|| render(raw)).ok().flatten();
    let text = rendered.unwrap_or_else(|| mail_parser::decoders::html::html_to_text(raw));
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().replace('\0', "")
}

/// None for what would take too much work.
fn render(raw: &str) -> Option<String> {
    // The renderer would put brackets around the words of a link.
    let page = bounded::page(&LINK_TAG.as_ref()?.replace_all(raw, ""), TEXT_DEPTH_MAX)?;
    let renderer = html2text::config::plain_no_decorate()
        .raw_mode(true)
        .no_table_borders()
        .allow_width_overflow()
        .link_footnotes(false);
    let tree = renderer.dom_to_render_tree(&page).ok()?;
    renderer.render_to_string(tree, TEXT_WIDTH).ok()
}

#[cfg(test)]
#[path = "sanitise_tests.rs"]
mod tests;
