//! From what was asked for to the mail: which content, whether it may be sent, and what it says. No I/O.

use super::{
    api::{MessageCategory, MessageContent, MessageCreate},
    begin::{IN_USE, Parts, Unwritten, category_refusal},
};
use crate::{
    accounts::entity::{Channel, account},
    clock::Timestamp,
    http::{Problem, problem::FieldError},
    mail::sanitise::{self, Images},
    templates::{
        context::ROOTS,
        entity::{self as template, TemplateCategory, TemplateChannel, TemplatePurpose, TemplateState},
    },
};

/// How far ahead a send may be put off, in seconds.
const AHEAD_S: i64 = 366 * 24 * 3600;
/// Rules that the schema cannot say, before anything is read.
///
/// # Errors
/// `validation_failed` with all that is wrong.
pub(super) fn check(wanted: &MessageCreate, own: &[String], now: Timestamp) -> Result<(), Problem> {
    let mut errors: Vec<FieldError> =
        wanted.to.iter().filter_map(|to| to.wrong("/to", own)).chain(wrong_recipient(wanted)).collect();
    if let Some(category) = wanted.category {
        let marketing = category == MessageCategory::Marketing;
        let refusal = category_refusal(TemplateCategory::Marketing).filter(|_| marketing);
        if wanted.template_id.is_some() {
            errors.push(FieldError::new("/category", "not_both", "a template has its own category"));
        } else if let Some(detail) = refusal {
            errors.push(FieldError::new("/category", "marketing_not_supported", detail));
        }
    }
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
    if wanted.template_id.is_none() && wanted.locale.is_some() {
        errors.push(FieldError::new("/locale", "needs_template", "only a template speaks languages"));
    }
    if wanted.template_id.is_none() && !wanted.variables.is_empty() {
        errors.push(FieldError::new("/variables", "needs_template", "only a template reads variables"));
    }
    let reserved = ROOTS.iter().filter(|name| wanted.variables.contains_key(**name));
    errors.extend(reserved.map(|name| {
        FieldError::new(format!("/variables/{name}"), "reserved", "the service sets this one itself")
    }));
    if wanted.send_at.is_some_and(|at| at > now.plus_s(AHEAD_S)) {
        errors.push(FieldError::new("/send_at", "too_large", "it is more than a year ahead"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

/// Whether it is said in one way who gets it.
fn wrong_recipient(wanted: &MessageCreate) -> Option<FieldError> {
    let ways = [
        ("/to", wanted.to.is_some()),
        ("/customer_id", wanted.customer_id.is_some()),
        ("/customer_ref", wanted.customer_ref.is_some()),
    ];
    let mut given = ways.iter().filter(|(_, given)| *given);
    match (given.next(), given.next()) {
        (None, _) => {
            Some(FieldError::new("/to", "required", "say who gets it: to, customer_id or customer_ref"))
        }
        (Some(_), Some((second, _))) => {
            Some(FieldError::new(*second, "not_both", "say in one way only who gets it"))
        }
        _ => None,
    }
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

/// Whether mail may be sent from the account, which `pointer` of the body names.
///
/// # Errors
/// `validation_failed`.
pub(super) fn check_account(account: &account::Model, pointer: &str) -> Result<(), Problem> {
    if account.channel != Channel::Email {
        return Err(Problem::invalid(pointer, "wrong_channel", "the account does not send e-mail"));
    }
    if !IN_USE.contains(&account.state) {
        let detail = "the account is not in use: activate it first";
        return Err(Problem::invalid(pointer, "wrong_state", detail));
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
    if template.channel != TemplateChannel::Email {
        return wrong("wrong_channel", "the template is for texts (SMS), which are not sent yet");
    }
    category_refusal(template.category).map_or(Ok(()), |detail| wrong("marketing_not_supported", detail))
}

/// What the mail says when its content is given.
pub(super) fn given(wanted: &MessageCreate) -> Parts {
    let content = wanted.content.clone().unwrap_or_else(|| MessageContent {
        subject: String::new(),
        text: String::new(),
        html: None,
    });
    let html = content.html.filter(|html| !html.trim().is_empty());
    let html = html.map(|html| sanitise::html(&html, Images::Allowed, |id| Some(format!("cid:{id}"))).html);
    Parts::complete(content.subject.trim().to_owned(), content.text, html)
}

/// Why a template says nothing with the variables that were given.
pub(super) fn unwritten(why: &Unwritten) -> Problem {
    let detail = why.to_string();
    match why {
        Unwritten::Field(fault) => Problem::validation(vec![fault.at_variables()]),
        Unwritten::Render(failed) => Problem::invalid("/variables", failed.code, detail),
        Unwritten::EmptySubject => Problem::invalid("/variables", "empty_subject", detail),
    }
}
