//! From what was asked for to the mail: which content, whether it may be sent, and what it says. No I/O.

use serde_json::{Value, json};

use super::api::{MessageContent, MessageCreate};
use crate::{
    accounts::entity::{AccountState, Channel, account},
    clock::Timestamp,
    conversations::{entity::MessageKind, outbound::Letter},
    http::{Problem, problem::FieldError},
    id::{ConversationId, MessageId, UserId},
    mail::{
        compose::{AutoSubmitted, Outgoing},
        sanitise::{self, Images},
    },
    templates::{
        check,
        entity::{self as template, TemplateCategory, TemplatePurpose, TemplateState},
        render::render,
    },
};

/// How far ahead a send may be put off, in seconds.
const AHEAD_S: i64 = 366 * 24 * 3600;
/// What the service tells a template itself.
const RESERVED: [&str; 2] = ["account", "to"];

/// The parts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
}

/// Rules that the schema cannot say, before anything is read.
///
/// # Errors
/// `validation_failed` with all that is wrong.
pub(super) fn check(wanted: &MessageCreate, own: &[String], now: Timestamp) -> Result<(), Problem> {
    let mut errors: Vec<FieldError> = wanted.to.wrong("/to", own).into_iter().collect();
    match (&wanted.template_id, &wanted.content) {
        (None, None) => {
            errors.push(FieldError::new("/content", "required", "give either a template or the content"))
        }
        (Some(_), Some(_)) => {
            errors.push(FieldError::new(
                "/content",
                "not_both",
                "give either a template or the content, not both",
            ));
        }
        (None, Some(content)) => errors.extend(wrong_content(content)),
        (Some(_), None) => {}
    }
    if wanted.template_id.is_none() && !wanted.variables.is_empty() {
        errors.push(FieldError::new("/variables", "needs_template", "only a template reads variables"));
    }
    let reserved = RESERVED.iter().filter(|name| wanted.variables.contains_key(**name));
    errors.extend(reserved.map(|name| {
        FieldError::new(format!("/variables/{name}"), "reserved", "the service sets this one itself")
    }));
    if wanted.send_at.is_some_and(|at| at > now.plus_s(AHEAD_S)) {
        errors.push(FieldError::new("/send_at", "too_large", "it is more than a year ahead"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

fn wrong_content(content: &MessageContent) -> Option<FieldError> {
    if content.subject.chars().any(char::is_control) {
        return Some(FieldError::new(
            "/content/subject",
            "header_injection",
            "a subject has no control characters",
        ));
    }
    if content.subject.trim().is_empty() {
        return Some(FieldError::new("/content/subject", "required", "the subject is empty"));
    }
    let says_something = [Some(&content.text), content.html.as_ref()];
    let says_something = says_something.into_iter().flatten().any(|part| !part.trim().is_empty());
    (!says_something)
        .then(|| FieldError::new("/content/text", "required", "the message has neither text nor HTML"))
}

/// The states in which mail may be sent from an account.
pub(super) const IN_USE: [AccountState; 3] =
    [AccountState::Active, AccountState::Failing, AccountState::Paused];

/// Whether mail may be sent from the account.
///
/// # Errors
/// `validation_failed`.
pub(super) fn check_account(account: &account::Model) -> Result<(), Problem> {
    if account.channel != Channel::Email {
        return Err(Problem::invalid("/account_id", "wrong_channel", "the account does not send e-mail"));
    }
    if !IN_USE.contains(&account.state) {
        let detail = "the account is not in use: activate it first";
        return Err(Problem::invalid("/account_id", "wrong_state", detail));
    }
    Ok(())
}

/// Whether single sends may be made from the template.
///
/// # Errors
/// `validation_failed`.
pub(super) fn check_template(template: &template::Model) -> Result<(), Problem> {
    let wrong = |code: &str, detail: &str| Err(Problem::invalid("/template_id", code, detail));
    if template.state != TemplateState::Published {
        return wrong("wrong_state", "the template is not published");
    }
    if template.purpose != TemplatePurpose::General {
        return wrong("wrong_purpose", "the template is for receipts");
    }
    if template.category == TemplateCategory::Marketing {
        return wrong(
            "wrong_category",
            "marketing needs a way to unsubscribe, which single sends do not offer",
        );
    }
    Ok(())
}

/// What the mail says.
///
/// # Errors
/// `validation_failed` when the template cannot be rendered with the variables.
pub(super) fn parts(
    wanted: &MessageCreate,
    account: &account::Model,
    template: Option<&template::Model>,
) -> Result<Parts, Problem> {
    let Some(template) = template else {
        let content = wanted.content.clone().unwrap_or_else(|| MessageContent {
            subject: String::new(),
            text: String::new(),
            html: None,
        });
        let html = content.html.filter(|html| !html.trim().is_empty());
        let html =
            html.map(|html| sanitise::html(&html, Images::Allowed, |id| Some(format!("cid:{id}"))).html);
        return Ok(complete(content.subject.trim().to_owned(), content.text, html));
    };
    let mut context = wanted.variables.clone();
    context.insert("to".into(), json!(wanted.to));
    let sender = json!({ "address": account.address, "display_name": account.display_name });
    context.insert("account".into(), sender);
    let context = Value::Object(context);
    let rendered = render(template, &context).map_err(|failed| {
        let missing = check::missing(template, |path| has(&context, path));
        let detail = match missing.as_slice() {
            [] => failed.to_string(),
            missing => format!("{failed}; not given: {}", missing.join(", ")),
        };
        Problem::invalid("/variables", failed.code, detail)
    })?;
    if rendered.subject.is_empty() {
        return Err(Problem::invalid("/variables", "empty_subject", "the subject would be empty"));
    }
    Ok(complete(rendered.subject, rendered.text, rendered.html))
}

fn has(context: &Value, path: &str) -> bool {
    context.pointer(&format!("/{}", path.replace('.', "/"))).is_some()
}

/// Who cannot read HTML reads the text that is made from it.
fn complete(subject: String, text: String, html: Option<String>) -> Parts {
    let text = match &html {
        Some(html) if text.trim().is_empty() => sanitise::text_from_html(html),
        _ => text,
    };
    Parts { subject, text: format!("{}\n", text.trim_end()), html }
}

/// The letter of a conversation that it begins.
pub(super) fn letter(
    id: MessageId,
    conversation_id: ConversationId,
    author: Option<UserId>,
    wanted: &MessageCreate,
    parts: Parts,
) -> Letter {
    Letter {
        id,
        kind: MessageKind::Direct,
        conversation_id,
        work_item_id: None,
        author_id: author,
        new_text: parts.text.trim_end().to_owned(),
        quoted_text: String::new(),
        signature: String::new(),
        mail: Outgoing {
            to: vec![wanted.to.clone().into()],
            subject: parts.subject,
            text: parts.text,
            html: parts.html,
            auto_submitted: Some(AutoSubmitted::AutoGenerated),
            ..Outgoing::default()
        },
    }
}
