//! What is wrong with a template, found before it is sent.

use uuid::Uuid;

use super::bodies::TemplateCreate;
use super::compiled::Compiled;
use super::context::{ROOTS, is_known};
use super::entity::{Model, TemplateCategory, TemplateChannel, TemplatePurpose};
use super::fields::{self, Fields, TemplateField};
use super::files::{self, TemplateAttachment};
use super::included::reached;
use super::partials::freeze::{self, Frozen};
use super::render::{
    AccountContext, Context, ConversationContext, MessageContext, Part, PersonContext, reads,
};
use super::variants::{self, Content, TemplateVariant};
use super::words::{includes, wrong_in_source, wrong_in_template};
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

fn error(content: &Content<'_>, part: Part, code: &str, detail: impl Into<String>) -> FieldError {
    FieldError::new(format!("{}/{}", content.pointer, part.name()), code, detail)
}

/// What keeps a draft from being stored.
pub(super) fn draft(draft: &TemplateCreate) -> Vec<FieldError> {
    let contents = Content::all(&draft.subject, &draft.text, draft.html.as_deref(), &draft.variants);
    let mut found = syntax(&contents);
    found.extend(contents.iter().flat_map(|content| wrong_for_channel(draft.channel, content)));
    found.extend(repeated_locales(&draft.variants));
    let mut wrong =
        |pointer: &str, code: &str, detail: &str| found.push(FieldError::new(pointer, code, detail));
    if draft.channel == TemplateChannel::Sms && draft.purpose == TemplatePurpose::Receipt {
        wrong("/purpose", "not_for_sms", "receipts are mail");
    }
    if draft.purpose == TemplatePurpose::Receipt && !draft.fields.is_empty() {
        wrong("/fields", "not_for_receipts", "a receipt reads only the message that it answers");
    }
    found.extend(wrong_fields(&draft.fields));
    found
}

/// What of a language does not fit the channel.
fn wrong_for_channel(channel: TemplateChannel, content: &Content<'_>) -> Vec<FieldError> {
    let wrong = |part: Part, source: &str| match (channel, part) {
        (TemplateChannel::Email, Part::Subject) if source.is_empty() => {
            Some(error(content, part, "required", "mail has a subject"))
        }
        (TemplateChannel::Sms, Part::Subject) if !source.is_empty() => {
            Some(error(content, part, "not_for_sms", "a text has no subject"))
        }
        (TemplateChannel::Sms, Part::Html) => Some(error(content, part, "not_for_sms", "a text has no HTML")),
        _ => None,
    };
    content.parts().filter_map(|(part, source)| wrong(part, source)).collect()
}

fn repeated_locales(variants: &[TemplateVariant]) -> Vec<FieldError> {
    let repeated = |at: &usize| {
        variants[..*at].iter().any(|other| other.locale.eq_ignore_ascii_case(&variants[*at].locale))
    };
    let repeated = (0..variants.len()).filter(repeated);
    repeated
        .map(|at| {
            let pointer = format!("/variants/{at}/locale");
            FieldError::new(pointer, "duplicate", "another variant is for this language")
        })
        .collect()
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
fn syntax(contents: &[Content<'_>]) -> Vec<FieldError> {
    let wrong = |content: &Content<'_>, part, source| {
        let detail = reads(part, source).err().or_else(|| includes(source).err())?;
        Some(error(content, part, "invalid_template", detail))
    };
    let parts = contents.iter().flat_map(|content| content.parts().map(move |part| (content, part)));
    parts.filter_map(|(content, (part, source))| wrong(content, part, source)).collect()
}

/// What a template reads in the language of this variant (none for the default) and `has` does not know, in alphabetical
/// order.
pub fn missing(template: &Model, variant: Option<&str>, has: impl Fn(&str) -> bool) -> Vec<String> {
    let (variants, partials) = (variants::of(template), freeze::of(template));
    let contents = Content::of(template, &variants);
    let parts = contents.iter().filter(|content| content.locale == variant).flat_map(Content::parts);
    let mut paths: Vec<String> = parts
        .flat_map(|(part, source)| sources(part, source, &partials).map(move |(_, source)| (part, source)))
        .flat_map(|(part, source)| reads(part, source).unwrap_or_default())
        .filter(|path| !has(path))
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// A part's own source and those of the partials that it includes, with their names.
fn sources<'a>(
    part: Part,
    source: &'a str,
    partials: &'a Frozen,
) -> impl Iterator<Item = (Option<&'a str>, &'a str)> {
    let names = reached(part, source, partials).unwrap_or_default();
    let included = partials.iter().filter(move |(name, _)| names.contains(*name));
    let included = included.filter_map(move |(name, one)| Some((Some(&**name), one.source(part)?)));
    std::iter::once((None, source)).chain(included)
}

/// What keeps a template from being published: in every language it reads only what it will be given, with filters, tests
/// and partials that exist, and marketing can be unsubscribed from.
pub(super) fn publishable(template: &Model) -> Vec<FieldError> {
    let (variants, partials) = (variants::of(template), freeze::of(template));
    let contents = Content::of(template, &variants);
    let found = syntax(&contents);
    if !found.is_empty() {
        return found;
    }
    let (fields, files) = (fields::of(template), files::of(template));
    let mut found: Vec<FieldError> = Vec::new();
    for content in &contents {
        for (part, source) in content.parts() {
            found.extend(
                wrong_in_part(template, &fields, &partials, part, source)
                    .into_iter()
                    .chain(unknown_images(&files, &partials, part, source))
                    .map(|(code, detail)| error(content, part, code, detail)),
            );
        }
    }
    found.extend(unknown_in_sources(fields));
    if !found.is_empty() || template.purpose != TemplatePurpose::Receipt {
        return found;
    }
    // A receipt's languages read the same few things, so that one that cannot be rendered is found now.
    let compiled = match Compiled::new(template) {
        Ok(compiled) => compiled,
        Err(failed) => return vec![error(&contents[0], failed.part, failed.code, failed.detail)],
    };
    let failed = |content: &Content<'_>| {
        let failed = compiled.render(content.locale, sample()).err()?;
        Some(error(content, failed.part, failed.code, failed.detail))
    };
    contents.iter().filter_map(failed).collect()
}

/// What is wrong with one part and what it includes: a code and a sentence each.
fn wrong_in_part(
    template: &Model,
    fields: &[TemplateField],
    partials: &Frozen,
    part: Part,
    source: &str,
) -> Vec<(&'static str, String)> {
    if let Err(fault) = reached(part, source, partials) {
        return vec![(fault.code, fault.detail)];
    }
    let (mut found, mut unsubscribes) = (Vec::new(), false);
    for (partial, source) in sources(part, source, partials) {
        let within = |detail: String| match partial {
            Some(name) => format!("partial `{name}`: {detail}"),
            None => detail,
        };
        let paths = reads(part, source).unwrap_or_default();
        unsubscribes |= paths.iter().any(|path| path == "unsubscribe_url");
        found.extend(wrong_in_template(source).into_iter().map(|(code, detail)| (code, within(detail))));
        found.extend(unknown_names(template, fields, paths).map(|detail| ("unknown_name", within(detail))));
    }
    // Texts are unsubscribed from by a stop word.
    let is_body = part != Part::Subject && template.channel == TemplateChannel::Email;
    if template.category == TemplateCategory::Marketing && is_body && !unsubscribes {
        let detail = "marketing says how to unsubscribe: put {{ unsubscribe_url }} into it";
        found.push(("missing_unsubscribe", detail.to_owned()));
    }
    found
}

/// The pictures that HTML shows from the mail itself and that do not go out with it.
fn unknown_images(
    files: &[TemplateAttachment],
    partials: &Frozen,
    part: Part,
    source: &str,
) -> Vec<(&'static str, String)> {
    if part != Part::Html {
        return Vec::new();
    }
    let shown = sources(part, source, partials).flat_map(|(_, source)| files::shown(source));
    let known = |id: &str| files.iter().any(|file| file.content_id.as_deref() == Some(id));
    let unknown = shown.filter(|id| !known(id));
    unknown
        .map(|id| ("unknown_image", format!("there is no attachment with the content_id `{id}`")))
        .collect()
}

/// What is said of each path that the template is not given.
fn unknown_names(
    template: &Model,
    fields: &[TemplateField],
    paths: Vec<String>,
) -> impl Iterator<Item = String> {
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
    let unknown = paths.into_iter().filter(|path| !known(path)).map(|path| match is_receipt {
        true => format!("a receipt is not given `{path}`"),
        false => format!("the template is not given `{path}`: make it a field"),
    });
    unknown.collect::<Vec<_>>().into_iter()
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
