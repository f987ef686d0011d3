//! From a template to the parts of a mail. Nothing it does takes long, and nothing gets into a header that has no
//! business there.

use std::sync::LazyLock;

use minijinja::value::{Rest, Value};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, escape_formatter, filters,
};
use serde::Serialize;

use super::compiled::Compiled;
use super::entity::Model;
use crate::{clock::Timestamp, id::ConversationId, language};

/// Most bytes of a rendered subject.
pub const MAX_SUBJECT: usize = 2_000;
/// Most bytes of a rendered text, and of rendered HTML.
pub const MAX_BODY: usize = 512 * 1024;

/// What is missing is an error: nobody gets a mail with a hole in it.
static STRICT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Strict));

/// Where templates are rendered. What they are called says how: those whose name begins with `html` are escaped, and what
/// one of them includes is the partial of that name in the same form.
pub(super) fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut env = language::environment();
    env.set_undefined_behavior(undefined);
    env.set_auto_escape_callback(|name| match name.starts_with(Part::Html.name()) {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    env.set_path_join_callback(|name, parent| {
        let html = parent.starts_with(Part::Html.name());
        partial_name(if html { Part::Html } else { Part::Text }, name).into()
    });
    // JSON's null is as good as not there: nobody is to read "none".
    env.add_filter("default", |state: &State<'_, '_>, value: &Value, args: Rest<Value>| {
        let value = if value.is_none() { &Value::UNDEFINED } else { value };
        filters::default(state, value, args)
    });
    let strict = undefined == UndefinedBehavior::Strict;
    env.set_formatter(move |out, state, value| match value.is_none() {
        true if strict => Err(Error::new(ErrorKind::UndefinedError, "the value is null")),
        true => Ok(()),
        false => escape_formatter(out, state, value),
    });
    env
}

/// What the environment knows a partial by that this part of a template includes.
pub(super) fn partial_name(part: Part, name: &str) -> String {
    let form = if part == Part::Html { Part::Html } else { Part::Text };
    format!("{}/{name}", form.name())
}

/// What a receipt's template may read.
#[derive(Clone, Debug, Serialize)]
pub struct Context {
    /// The message that it answers.
    pub message: MessageContext,
    /// The account that received the message.
    pub account: AccountContext,
    /// The conversation.
    pub conversation: ConversationContext,
}

/// `message` in templates.
#[derive(Clone, Debug, Serialize)]
pub struct MessageContext {
    /// Its subject, decoded.
    pub subject: String,
    /// Its sender.
    pub from: PersonContext,
    /// When it came.
    pub received_at: Timestamp,
}

/// `message.from` in templates.
#[derive(Clone, Debug, Serialize)]
pub struct PersonContext {
    /// The display name; empty if there is none.
    pub name: String,
    /// The address.
    pub address: String,
}

/// `account` in templates.
#[derive(Clone, Debug, Serialize)]
pub struct AccountContext {
    /// The address we receive at.
    pub address: String,
    /// The name that goes with it.
    pub display_name: String,
}

/// `conversation` in templates.
#[derive(Clone, Debug, Serialize)]
pub struct ConversationContext {
    /// The conversation.
    pub id: ConversationId,
}

/// The parts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The subject: one line without control characters.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The HTML, in which values are escaped.
    pub html: Option<String>,
    /// The language of the template that it was made of; none of the default.
    pub variant: Option<String>,
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The subject.
    Subject,
    /// The text.
    Text,
    /// The HTML.
    Html,
}

impl Part {
    /// The member of a template that holds it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
        }
    }

    const fn limit(self) -> usize {
        match self {
            Self::Subject => MAX_SUBJECT,
            Self::Text | Self::Html => MAX_BODY,
        }
    }
}

/// Why a template cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .part.name())]
pub struct RenderError {
    /// In which part it happened.
    pub part: Part,
    /// `render_failed`, `output_too_long` or `control_character`.
    pub code: &'static str,
    /// A sentence for a person, with the line where there is one.
    pub detail: String,
}

/// Makes the parts of a mail in the default language; what the template reads and the context has not is an error.
///
/// # Errors
/// Which part fails, and why.
pub fn render(template: &Model, context: &impl Serialize) -> Result<Rendered, RenderError> {
    Compiled::of(template)?.render(None, context)
}

/// The parts of a mail from what each part of the template gives.
pub(super) fn assemble(
    variant: Option<String>,
    mut render: impl FnMut(Part) -> Result<Option<String>, RenderError>,
) -> Result<Rendered, RenderError> {
    let mut part = |part: Part| match render(part)? {
        Some(output) if output.len() > part.limit() => {
            let detail =
                format!("it would be {} bytes long; at most {} are allowed", output.len(), part.limit());
            Err(RenderError { part, code: "output_too_long", detail })
        }
        output => Ok(output),
    };
    let subject = part(Part::Subject)?.unwrap_or_default();
    if subject.chars().any(char::is_control) {
        let detail = "the subject would hold a line break or another control character".to_owned();
        return Err(RenderError { part: Part::Subject, code: "control_character", detail });
    }
    let html = part(Part::Html)?;
    let text = part(Part::Text)?.unwrap_or_default();
    Ok(Rendered { subject: subject.trim().to_owned(), text, html, variant })
}

pub(super) fn failed(part: Part, error: &Error) -> RenderError {
    RenderError { part, code: "render_failed", detail: in_words(error) }
}

/// What a part reads from outside, as dotted paths in alphabetical order.
///
/// # Errors
/// When it does not compile: a sentence with the line.
pub(super) fn reads(part: Part, source: &str) -> Result<Vec<String>, String> {
    let template = STRICT.template_from_named_str(part.name(), source).map_err(|error| in_words(&error))?;
    let mut paths: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    paths.sort_unstable();
    Ok(paths)
}

/// What is wrong, and where: in a partial, when it is one that fails.
fn in_words(error: &Error) -> String {
    let mut error = error;
    while let Some(inner) = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>())
    {
        error = inner;
    }
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let partial = error.name().and_then(|name| Some(name.split_once('/')?.1));
    match (error.line(), partial) {
        (Some(line), Some(partial)) => format!("{what} (partial `{partial}`, line {line})"),
        (Some(line), None) => format!("{what} (line {line})"),
        (None, _) => what,
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
