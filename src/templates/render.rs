//! From a template to the parts of a mail. Nothing it does takes long, and nothing gets into a header that has no
//! business there.

use std::sync::LazyLock;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::entity::Model;
use crate::{clock::Timestamp, id::ConversationId, language};

/// Most bytes of a rendered subject.
pub const MAX_SUBJECT: usize = 2_000;
/// Most bytes of a rendered text, and of rendered HTML.
pub const MAX_BODY: usize = 512 * 1024;

/// What is missing is an error: nobody gets a mail with a hole in it.
static STRICT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Strict));
/// What is missing is left out: for previews.
static LENIENT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Chainable));

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut env = language::environment();
    env.set_undefined_behavior(undefined);
    env.set_auto_escape_callback(|name| if name == "html" { AutoEscape::Html } else { AutoEscape::None });
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
    let subject = part(env, Part::Subject, &template.subject, context)?;
    if subject.chars().any(char::is_control) {
        let detail = "the subject would hold a line break or another control character".to_owned();
        return Err(RenderError { part: Part::Subject, code: "control_character", detail });
    }
    let html = template.html.as_ref().map(|html| part(env, Part::Html, html, context)).transpose()?;
    let text = part(env, Part::Text, &template.text, context)?;
    Ok(Rendered { subject: subject.trim().to_owned(), text, html })
}

fn part(env: &Environment<'_>, part: Part, source: &str, context: &Value) -> Result<String, RenderError> {
    let failed =
        |error: minijinja::Error| RenderError { part, code: "render_failed", detail: in_words(&error) };
    let template = env.template_from_named_str(part.name(), source).map_err(failed)?;
    let output = template.render(context.clone()).map_err(failed)?;
    if output.len() > part.limit() {
        let detail = format!("it would be {} bytes long; at most {} are allowed", output.len(), part.limit());
        return Err(RenderError { part, code: "output_too_long", detail });
    }
    Ok(output)
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
