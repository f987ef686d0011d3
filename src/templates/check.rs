//! What is wrong with a template, found before it is sent.

use uuid::Uuid;

use super::entity::{Model, TemplatePurpose};
use super::render::{
    AccountContext, Context, ConversationContext, MessageContext, Part, PersonContext, reads, render,
};
use crate::{clock::Timestamp, http::problem::FieldError, id::ConversationId};

/// What a receipt may read.
const RECEIPT_PATHS: [&str; 7] = [
    "message.subject",
    "message.from.name",
    "message.from.address",
    "message.received_at",
    "account.address",
    "account.display_name",
    "conversation.id",
];

/// The parts of a template with their sources.
fn parts<'a>(subject: &'a str, text: &'a str, html: Option<&'a str>) -> Vec<(Part, &'a str)> {
    let html = html.map(|html| (Part::Html, html));
    [(Part::Subject, subject), (Part::Text, text)].into_iter().chain(html).collect()
}

fn error(part: Part, code: &str, detail: impl Into<String>) -> FieldError {
    FieldError { pointer: format!("/{}", part.name()), code: code.to_owned(), detail: detail.into() }
}

/// What keeps the parts from being templates at all.
pub fn syntax(subject: &str, text: &str, html: Option<&str>) -> Vec<FieldError> {
    let wrong = |(part, source)| Some(error(part, "invalid_template", reads(part, source).err()?));
    parts(subject, text, html).into_iter().filter_map(wrong).collect()
}

/// What a template reads and `has` does not know, in alphabetical order.
pub fn missing(template: &Model, has: impl Fn(&str) -> bool) -> Vec<String> {
    let parts = parts(&template.subject, &template.text, template.html.as_deref());
    let mut paths: Vec<String> =
        parts.into_iter().flat_map(|(part, source)| reads(part, source).unwrap_or_default()).collect();
    paths.retain(|path| !has(path));
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// What keeps a template from being published: a receipt reads only what a receipt is given, and can be rendered.
pub fn publishable(template: &Model) -> Vec<FieldError> {
    let found = syntax(&template.subject, &template.text, template.html.as_deref());
    if !found.is_empty() || template.purpose != TemplatePurpose::Receipt {
        return found;
    }
    let known = |path: &str| {
        RECEIPT_PATHS.iter().any(|known| {
            known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let unknown = |part: Part, source: &str| {
        let paths = reads(part, source).unwrap_or_default().into_iter().filter(|path| !known(path));
        let detail = |path: String| format!("a receipt is not given `{path}`");
        paths.map(|path| error(part, "unknown_name", detail(path))).collect::<Vec<_>>()
    };
    let parts = parts(&template.subject, &template.text, template.html.as_deref());
    let unknown: Vec<_> = parts.into_iter().flat_map(|(part, source)| unknown(part, source)).collect();
    if !unknown.is_empty() {
        return unknown;
    }
    render(template, &sample())
        .err()
        .map(|failed| error(failed.part, failed.code, failed.detail))
        .into_iter()
        .collect()
}

fn sample() -> Context {
    Context {
        message: MessageContext {
            subject: "Where is my order?".to_owned(),
            from: PersonContext { name: "Kim Doe".to_owned(), address: "kim@example.com".to_owned() },
            received_at: Timestamp::ZERO,
        },
        account: AccountContext {
            address: "info@example.org".to_owned(),
            display_name: "Front desk".to_owned(),
        },
        conversation: ConversationContext { id: ConversationId(Uuid::nil()) },
    }
}
