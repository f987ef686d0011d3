//! From a template to the parts of a mail. Nothing it does takes long, and nothing gets into a header that has no
//! business there.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::value::{Rest, Serde, Value};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, escape_formatter, filters,
};
use serde::Serialize;

use super::entity::{Model, TemplateState};
use super::fields::{self, Fields};
use crate::{
    clock::Timestamp,
    id::{ConversationId, TemplateId},
    language,
};

/// Most bytes of a rendered subject.
pub const MAX_SUBJECT: usize = 2_000;
/// Most bytes of a rendered text, and of rendered HTML.
pub const MAX_BODY: usize = 512 * 1024;

/// Most published templates that are kept compiled.
const MAX_COMPILED: usize = 256;

/// What is missing is an error: nobody gets a mail with a hole in it.
static STRICT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Strict));
/// What is missing is left out: for previews.
static LENIENT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Chainable));

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut env = language::environment();
    env.set_undefined_behavior(undefined);
    env.set_auto_escape_callback(|name| if name == "html" { AutoEscape::Html } else { AutoEscape::None });
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
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Makes the parts of a mail; what the template reads and the context has not is an error.
///
/// # Errors
/// Which part fails, and why.
pub fn render(template: &Model, context: &impl Serialize) -> Result<Rendered, RenderError> {
    render_in(&STRICT, template, &Value::from(Serde(context)))
}

/// Makes the parts of a mail with whatever variables there are; what is missing is left out.
///
/// # Errors
/// Which part fails, and why.
pub fn preview(template: &Model, variables: &impl Serialize) -> Result<Rendered, RenderError> {
    render_in(&LENIENT, template, &Value::from(Serde(variables)))
}

fn render_in(env: &Environment<'_>, template: &Model, context: &Value) -> Result<Rendered, RenderError> {
    let source = |part: Part| match part {
        Part::Subject => Some(&template.subject),
        Part::Text => Some(&template.text),
        Part::Html => template.html.as_ref(),
    };
    assemble(|part| {
        let Some(source) = source(part) else { return Ok(None) };
        let compiled =
            env.template_from_named_str(part.name(), source).map_err(|error| failed(part, &error))?;
        compiled.render(context.clone()).map(Some).map_err(|error| failed(part, &error))
    })
}

/// The parts of a mail from what each part of the template gives.
fn assemble(
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
    Ok(Rendered { subject: subject.trim().to_owned(), text, html })
}

fn failed(part: Part, error: &Error) -> RenderError {
    RenderError { part, code: "render_failed", detail: in_words(error) }
}

/// A template ready to be rendered any number of times, from any thread.
#[derive(Debug)]
pub struct Compiled {
    env: Environment<'static>,
    /// The template's fields.
    pub fields: Fields,
}

impl Compiled {
    /// Compiles the parts and the sources of the fields.
    ///
    /// # Errors
    /// Which part is no template.
    pub fn new(template: &Model) -> Result<Self, RenderError> {
        let mut env = environment(UndefinedBehavior::Strict);
        let html = template.html.as_ref().map(|html| (Part::Html, html));
        let parts = [(Part::Subject, &template.subject), (Part::Text, &template.text)];
        for (part, source) in parts.into_iter().chain(html) {
            let added = env.add_template_owned(part.name(), source.clone());
            added.map_err(|error| failed(part, &error))?;
        }
        let fields = Fields::compile(fields::of(template)).map_err(|fault| RenderError {
            part: Part::Text,
            code: "invalid_field",
            detail: fault.to_string(),
        })?;
        Ok(Self { env, fields })
    }

    /// The template compiled; a published one, which is frozen, only once.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn of(template: &Model) -> Result<Arc<Self>, RenderError> {
        static PUBLISHED: LazyLock<Mutex<HashMap<TemplateId, Arc<Compiled>>>> = LazyLock::new(Mutex::default);
        if template.state == TemplateState::Draft {
            return Self::new(template).map(Arc::new);
        }
        let kept = || PUBLISHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept().get(&template.id) {
            return Ok(Arc::clone(found));
        }
        let compiled = Arc::new(Self::new(template)?);
        let mut kept = kept();
        if kept.len() >= MAX_COMPILED {
            kept.clear();
        }
        kept.insert(template.id, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Makes the parts of a mail; what the template reads and the context has not, or has as null, is an error.
    ///
    /// # Errors
    /// Which part fails, and why.
    pub fn render(&self, context: impl Serialize) -> Result<Rendered, RenderError> {
        let context = Value::from(Serde(context));
        assemble(|part| {
            let Ok(template) = self.env.get_template(part.name()) else { return Ok(None) };
            template.render(context.clone()).map(Some).map_err(|error| failed(part, &error))
        })
    }
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

fn in_words(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
