//! From what was asked for to the mail: which content, whether it may be sent, and what it says. No I/O.

use std::collections::HashSet;

use super::{
    api::{MessageCategory, MessageContent, MessageCreate},
    begin::{IN_USE, Parts, Unwritten},
};
use crate::{
    accounts::entity::{Channel, account},
    clock::Timestamp,
    http::{Code, Problem, problem::FieldError},
    id::CustomerId,
    mail::sanitise::{self, Images},
    templates::{
        context::ROOTS,
        entity::{self as template, TemplatePurpose, TemplateState},
    },
};

/// How far ahead a send may be put off, in seconds.
const AHEAD_S: i64 = 366 * 24 * 3600;
/// Where marketing whose content is given has its link to unsubscribe, as in templates.
const UNSUBSCRIBE: [&str; 2] = ["{{ unsubscribe_url }}", "{{unsubscribe_url}}"];

/// Rules that the schema cannot say, before anything is read.
///
/// # Errors
/// `validation_failed` with all that is wrong.
pub(super) fn check(
    wanted: &MessageCreate,
    channel: Channel,
    own: &[String],
    now: Timestamp,
) -> Result<(), Problem> {
    let wrong_to = wanted.to.iter().filter_map(|to| to.recipient(channel, "/to", own).err());
    let mut errors: Vec<FieldError> = wrong_to.chain(wrong_recipient(wanted)).collect();
    if let Some(category) = wanted.category {
        if wanted.template_id.is_some() {
            errors.push(FieldError::new("/category", "not_both", "a template has its own category"));
        } else if category == MessageCategory::Marketing && channel == Channel::Email {
            // Who gets texts can send a stop word.
            errors.extend(wanted.content.iter().flat_map(without_link));
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
        (None, Some(content)) if channel == Channel::Sms => errors.extend(wrong_text(content)),
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

/// What a text has not, and what it needs.
fn wrong_text(content: &MessageContent) -> Vec<FieldError> {
    let html = content.html.as_deref().is_some_and(|html| !html.trim().is_empty());
    let wrong = [
        ("/content/subject", !content.subject.is_empty(), "not_for_sms", "a text has no subject"),
        ("/content/html", html, "not_for_sms", "a text has no HTML"),
        ("/content/text", content.text.trim().is_empty(), "required", "the text is empty"),
        ("/content/text", content.text.contains('\0'), "control_character", "a text has no NUL"),
    ];
    let wrong = wrong.into_iter().filter(|(_, is, ..)| *is);
    wrong.map(|(pointer, _, code, detail)| FieldError::new(pointer, code, detail)).collect()
}

/// Whether a message may still be filed for its customer: not when they were erased while it was written.
///
/// # Errors
/// `gone`.
pub(super) fn check_customer(gone: &HashSet<CustomerId>, id: Option<CustomerId>) -> Result<(), Problem> {
    match id.filter(|id| gone.contains(id)) {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::Gone, "the customer was erased or deleted in the meantime")),
    }
}

/// Whether messages of the channel may be sent from the account, which `pointer` of the body names.
///
/// # Errors
/// `validation_failed`.
pub(super) fn check_account(
    account: &account::Model,
    channel: Channel,
    pointer: &str,
) -> Result<(), Problem> {
    if account.channel != channel {
        let detail = match channel {
            Channel::Email => "the account does not send e-mail",
            Channel::Sms => "the account does not send texts",
        };
        return Err(Problem::invalid(pointer, "wrong_channel", detail));
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
pub(super) fn check_template(template: &template::Model, channel: Channel) -> Result<(), Problem> {
    let wrong = |code: &str, detail: &str| Err(Problem::invalid("/template_id", code, detail));
    if template.state != TemplateState::Published {
        return wrong("wrong_state", "the template is not published");
    }
    if template.purpose != TemplatePurpose::General {
        return wrong("wrong_purpose", "the template is for receipts");
    }
    match (Channel::from(template.channel), channel) {
        (Channel::Sms, Channel::Email) => wrong("wrong_channel", "the template is for texts (SMS)"),
        (Channel::Email, Channel::Sms) => wrong("wrong_channel", "the template is for e-mail"),
        (Channel::Sms, Channel::Sms) | (Channel::Email, Channel::Email) => Ok(()),
    }
}

/// The parts of marketing that do not say how to unsubscribe, as templates must.
fn without_link(content: &MessageContent) -> impl Iterator<Item = FieldError> {
    let html = content.html.as_deref().filter(|html| !html.trim().is_empty());
    // Text that is made from the HTML has its link.
    let text = Some(content.text.as_str()).filter(|text| html.is_none() || !text.trim().is_empty());
    let parts = [("/content/text", text), ("/content/html", html)];
    let lacking = |part: &str| !UNSUBSCRIBE.iter().any(|spelling| part.contains(spelling));
    let lacking = parts.map(|(pointer, part)| part.filter(|part| lacking(part)).map(|_| pointer));
    lacking.into_iter().flatten().map(|pointer| {
        let detail = "marketing says how to unsubscribe: put {{ unsubscribe_url }} into it";
        FieldError::new(pointer, "missing_unsubscribe", detail)
    })
}

/// What the mail says when its content is given; of marketing with its link to unsubscribe, all else as it is.
pub(super) fn given(wanted: &MessageCreate, unsubscribe_url: &str) -> Parts {
    let is_marketing = wanted.category == Some(MessageCategory::Marketing);
    let linked = |text: String| match is_marketing {
        true => UNSUBSCRIBE.iter().fold(text, |text, spelling| text.replace(spelling, unsubscribe_url)),
        false => text,
    };
    let content = wanted.content.clone().unwrap_or_else(|| MessageContent {
        subject: String::new(),
        text: String::new(),
        html: None,
    });
    let html = content.html.filter(|html| !html.trim().is_empty());
    let html =
        html.map(|html| sanitise::html(&linked(html), Images::Allowed, |id| Some(format!("cid:{id}"))).html);
    Parts::complete(content.subject.trim().to_owned(), linked(content.text), html)
}

/// Why a template says nothing with the variables that were given.
pub(super) fn unwritten(why: &Unwritten) -> Problem {
    let detail = why.to_string();
    match why {
        Unwritten::Field(fault) => Problem::validation(vec![fault.at_variables()]),
        Unwritten::Render(failed) => Problem::invalid("/variables", failed.code, detail),
        Unwritten::EmptyText => Problem::invalid("/variables", "empty_text", detail),
        Unwritten::EmptySubject => Problem::invalid("/variables", "empty_subject", detail),
    }
}
