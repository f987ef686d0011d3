//! Makes the mail of an answer: recipients, subject, the agent's words, the signature and the quote. No I/O.

use super::{Way, bodies::Wanted, original::Original};
use crate::{
    conversations::{
        entity::MessageKind,
        outbound::Letter,
        recipient::{Recipient, breaks_lines},
    },
    http::{Code, Problem, problem::FieldError},
    id::{MessageId, UserId},
    mail::{
        address::Mailbox,
        compose::{Outgoing, OutgoingAttachment, escape},
        sanitise::{self, Images},
    },
};

/// Who gets an answer.
#[derive(Debug)]
pub(super) struct Recipients {
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
}

/// Makes sure that an answer can be written, and to whom.
///
/// # Errors
/// `validation_failed` with all that is wrong, `no_recipients`.
pub(super) fn recipients(original: &Original, wanted: &Wanted) -> Result<Recipients, Problem> {
    check(wanted, &original.own)?;
    let (to, cc) = original.recipients(wanted.way);
    let chosen = |given: &Option<Vec<Recipient>>, usual: Vec<Mailbox>| match given {
        Some(list) => list.iter().cloned().map(Mailbox::from).collect(),
        None => usual,
    };
    let (to, cc) = (chosen(&wanted.to, to), chosen(&wanted.cc, cc));
    let bcc: Vec<Mailbox> = wanted.bcc.iter().cloned().map(Mailbox::from).collect();
    if to.is_empty() && cc.is_empty() && bcc.is_empty() {
        return Err(Problem::new(Code::NoRecipients, "the message names nobody to answer to: give `to`"));
    }
    Ok(Recipients { to, cc, bcc })
}

/// Writes the letter, still without files. Makes HTML safe, which takes a while: not to be called on an async thread or in
/// a transaction.
pub(super) fn letter(
    id: MessageId,
    original: &Original,
    wanted: &Wanted,
    author: UserId,
    recipients: Recipients,
) -> Letter {
    let Recipients { to, cc, bcc } = recipients;
    let body = Body::write(original, wanted);
    let mail = Outgoing {
        to,
        cc,
        bcc,
        subject: wanted.subject.clone().unwrap_or_else(|| original.subject(wanted.way)),
        text: body.text,
        html: body.html,
        // What is passed on begins a thread of its own for whoever gets it.
        in_reply_to: original.message.message_id_header.clone().filter(|_| wanted.way != Way::Forward),
        references: original.references(),
        ..Outgoing::default()
    };
    Letter {
        id,
        kind: if wanted.way == Way::Forward { MessageKind::Forward } else { MessageKind::Reply },
        conversation_id: original.conversation.id,
        work_item_id: Some(original.item.id),
        author_id: Some(author),
        new_text: body.new_text,
        quoted_text: body.quoted_text,
        signature: body.signature,
        due: None,
        mail,
    }
}

/// Rules that the schema cannot say.
fn check(wanted: &Wanted, own: &[String]) -> Result<(), Problem> {
    let none = Vec::new();
    let lists = [
        ("to", wanted.to.as_ref().unwrap_or(&none)),
        ("cc", wanted.cc.as_ref().unwrap_or(&none)),
        ("bcc", &wanted.bcc),
    ];
    let mut errors: Vec<FieldError> = Vec::new();
    for (field, list) in lists {
        errors.extend(
            list.iter().enumerate().filter_map(|(at, one)| one.wrong(&format!("/{field}/{at}"), own)),
        );
    }
    if wanted.subject.as_deref().is_some_and(breaks_lines) {
        errors.push(FieldError::new("/subject", "header_injection", "a subject has no line breaks"));
    }
    let says_something = !wanted.text.trim().is_empty()
        || wanted.html.as_deref().is_some_and(|html| !html.trim().is_empty())
        || !wanted.attachment_ids.is_empty()
        || wanted.way == Way::Forward;
    if !says_something {
        errors.push(FieldError::new("/text", "required", "the answer has neither text nor HTML nor files"));
    }
    if wanted.outcome_code.is_some() && !wanted.complete {
        errors.push(FieldError::new(
            "/outcome_code",
            "needs_complete",
            "an outcome is set together with `complete`",
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

/// The text in its parts and as a whole, and the HTML.
struct Body {
    new_text: String,
    signature: String,
    quoted_text: String,
    text: String,
    html: Option<String>,
}

impl Body {
    fn write(original: &Original, wanted: &Wanted) -> Self {
        let html = wanted.html.as_deref().filter(|html| !html.trim().is_empty()).map(safe);
        let new_text = match &html {
            Some(html) if wanted.text.trim().is_empty() => sanitise::text_from_html(html),
            _ => wanted.text.trim_end().to_owned(),
        };
        let (quoted_text, quoted_html) =
            if wanted.quote { original.quote(wanted.way) } else { Default::default() };
        let (signature, signature_html) =
            if wanted.include_signature { signature(original) } else { Default::default() };
        // A forward keeps the look of what it passes on.
        let keeps_look = wanted.way == Way::Forward && wanted.quote && original.mail.html.is_some();
        let written = html.or_else(|| keeps_look.then(|| paragraphs(&new_text)));
        let html = written.map(|html| {
            let parts = [html, signature_html, quoted_html];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
        });
        let signed = if signature.is_empty() { String::new() } else { format!("-- \n{signature}") };
        let parts = [new_text.as_str(), signed.as_str(), quoted_text.trim_end()];
        let mut text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
        text.push('\n');
        Self { new_text, signature, quoted_text, text, html }
    }
}

/// The account's signature as text and as HTML.
pub(super) fn signature(original: &Original) -> (String, String) {
    let text = original.account.signature_text.trim().to_owned();
    let html = match original.account.signature_html.trim() {
        "" if text.is_empty() => String::new(),
        "" => paragraphs(&text),
        html => safe(html),
    };
    (text, html)
}

/// HTML without scripts; pictures stay, those of our own uploads too.
fn safe(html: &str) -> String {
    sanitise::html(html, Images::Allowed, |id| Some(format!("cid:{id}"))).html
}

fn paragraphs(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<p>{}</p>", escape(text).replace('\n', "<br>\n")) }
}

/// Gives the letter its files.
pub(super) fn attach(letter: Letter, files: Vec<OutgoingAttachment>) -> Letter {
    Letter { mail: Outgoing { attachments: files, ..letter.mail }, ..letter }
}
