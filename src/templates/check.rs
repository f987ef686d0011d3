//! What is wrong with a template, found before it is sent.

use uuid::Uuid;

use super::bodies::TemplateCreate;
use super::context::{ROOTS, is_known};
use super::entity::{Model, TemplateCategory, TemplateChannel, TemplatePurpose};
use super::fields::{self, Fields, TemplateField};
use super::render::{
    AccountContext, Context, ConversationContext, MessageContext, Part, PersonContext, reads, render,
};
use super::words::{wrong_in_source, wrong_in_template};
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

/// What keeps a draft from being stored.
pub(super) fn draft(draft: &TemplateCreate) -> Vec<FieldError> {
    let mut found = syntax(&draft.subject, &draft.text, draft.html.as_deref());
    let mut wrong =
        |pointer: &str, code: &str, detail: &str| found.push(FieldError::new(pointer, code, detail));
    match draft.channel {
        TemplateChannel::Email if draft.subject.is_empty() => {
            wrong("/subject", "required", "mail has a subject");
        }
        TemplateChannel::Email => {}
        TemplateChannel::Sms => {
            if !draft.subject.is_empty() {
                wrong("/subject", "not_for_sms", "a text has no subject");
            }
            if draft.html.is_some() {
                wrong("/html", "not_for_sms", "a text has no HTML");
            }
            if draft.purpose == TemplatePurpose::Receipt {
                wrong("/purpose", "not_for_sms", "receipts are mail");
            }
        }
    }
    if draft.purpose == TemplatePurpose::Receipt && !draft.fields.is_empty() {
        wrong("/fields", "not_for_receipts", "a receipt reads only the message that it answers");
    }
    found.extend(wrong_fields(&draft.fields));
    found
}

fn wrong_fields(fields: &[TemplateField]) -> Vec<FieldError> {
    let mut found = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let mut wrong = |member: &str, code: &str, detail: String| {
            found.push(FieldError::new(format!("/fields/{i}/{member}"), code, detail));
        };
        if ROOTS.contains(&field.name.as_str()) {
            wrong("name", "reserved", "the service sets this one itself".to_owned());
        }
        if fields[..i].iter().any(|other| other.name == field.name) {
            wrong("name", "duplicate", "another field has this name".to_owned());
        }
        if let Err(detail) = field.fits_default() {
            wrong("default", "wrong_type", detail);
        }
        if let Err(fault) = Fields::compile(vec![field.clone()]) {
            wrong("source", "invalid_expression", fault.detail);
        }
    }
    found
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

/// What keeps a template from being published: it reads only what it will be given, with filters and tests that exist,
/// and marketing can be unsubscribed from.
pub fn publishable(template: &Model) -> Vec<FieldError> {
    let found = syntax(&template.subject, &template.text, template.html.as_deref());
    if !found.is_empty() {
        return found;
    }
    let fields = fields::of(template);
    let parts = parts(&template.subject, &template.text, template.html.as_deref());
    let mut found: Vec<FieldError> = Vec::new();
    for (part, source) in parts {
        found.extend(wrong_in_template(source).into_iter().map(|(code, detail)| error(part, code, detail)));
        found.extend(unknown_names(template, &fields, part, source));
        // Texts are unsubscribed from by a stop word.
        let is_body = part != Part::Subject && template.channel == TemplateChannel::Email;
        if template.category == TemplateCategory::Marketing && is_body && !reads_unsubscribe(part, source) {
            let detail = "marketing says how to unsubscribe: put {{ unsubscribe_url }} into it";
            found.push(error(part, "missing_unsubscribe", detail));
        }
    }
    found.extend(unknown_in_sources(fields));
    if !found.is_empty() || template.purpose != TemplatePurpose::Receipt {
        return found;
    }
    render(template, &sample())
        .err()
        .map(|failed| error(failed.part, failed.code, failed.detail))
        .into_iter()
        .collect()
}

fn reads_unsubscribe(part: Part, source: &str) -> bool {
    reads(part, source).unwrap_or_default().iter().any(|path| path == "unsubscribe_url")
}

fn unknown_names(template: &Model, fields: &[TemplateField], part: Part, source: &str) -> Vec<FieldError> {
    let is_receipt = template.purpose == TemplatePurpose::Receipt;
    let in_receipts = |path: &str| {
        RECEIPT_PATHS.iter().any(|known| {
            known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let is_field = |path: &str| fields.iter().any(|field| field.name == path);
    let known = |path: &str| {
        if is_receipt { in_receipts(path) } else { is_known(path) || is_field(path) }
    };
    let paths = reads(part, source).unwrap_or_default().into_iter().filter(|path| !known(path));
    let detail = |path: String| match is_receipt {
        true => format!("a receipt is not given `{path}`"),
        false => format!("the template is not given `{path}`: make it a field"),
    };
    paths.map(|path| error(part, "unknown_name", detail(path))).collect()
}

/// What the sources of fields read or use that there is not. They are read before the link to unsubscribe is made.
fn unknown_in_sources(fields: Vec<TemplateField>) -> Vec<FieldError> {
    let at =
        |i: usize, code: &str, detail: String| FieldError::new(format!("/fields/{i}/source"), code, detail);
    let words = fields.iter().enumerate().flat_map(|(i, field)| {
        wrong_in_source(field).into_iter().map(move |(code, detail)| at(i, code, detail))
    });
    let mut found: Vec<FieldError> = words.collect();
    let Ok(fields) = Fields::compile(fields) else { return found };
    for (i, paths) in fields.paths() {
        let unknown = paths.into_iter().filter(|path| !is_known(path) || path == "unsubscribe_url");
        found.extend(unknown.map(|path| at(i, "unknown_name", format!("a field cannot read `{path}`"))));
    }
    found
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
