//! Answers to texts: words only, to the number that wrote, as long as the account allows.

use super::{Way, bodies::Wanted, original::Original};
use crate::{
    accounts::entity::Channel,
    conversations::{entity::MessageKind, outbound::Letter, texts::segments},
    http::{Code, Problem, problem::FieldError},
    id::{MessageId, UserId},
    mail::{address::Mailbox, compose::Outgoing, number::Number, sms::segments::Segments},
};

/// Whether what is answered came over an SMS account.
pub(super) fn is_text(original: &Original) -> bool {
    original.item.channel == Channel::Sms
}

/// Refuses what texts have not: answers to everybody, and passing on.
///
/// # Errors
/// `not_for_texts`.
pub(super) fn check_way(original: &Original, way: Way) -> Result<(), Problem> {
    if is_text(original) && way != Way::Reply {
        let detail = "a text has one recipient and is not passed on: reply to it, or transfer the work item";
        return Err(Problem::new(Code::NotForTexts, detail));
    }
    Ok(())
}

/// Whom the answer goes to: the number that wrote, or else the one that the conversation is with.
pub(super) fn recipient(original: &Original) -> Option<Mailbox> {
    let known = [&original.message.from_address, &original.conversation.customer_address];
    let number = known.into_iter().flatten().find_map(|address| Number::parse(address).ok())?;
    Some(Mailbox::new(original.conversation.customer_name.as_deref(), number.as_str()))
}

/// Writes the letter, and says what it takes.
///
/// # Errors
/// `not_for_texts`, `no_recipients`, `validation_failed` with all that is wrong.
pub(super) fn letter(
    id: MessageId,
    original: &Original,
    wanted: &Wanted,
    author: UserId,
) -> Result<(Letter, Segments), Problem> {
    check_way(original, wanted.way)?;
    let mut errors = not_for_texts(wanted);
    if wanted.outcome_code.is_some() && !wanted.complete {
        let detail = "an outcome is set together with `complete`";
        errors.push(FieldError::new("/outcome_code", "needs_complete", detail));
    }
    let new_text = wanted.text.trim_end().to_owned();
    if new_text.trim().is_empty() {
        errors.push(FieldError::new("/text", "required", "the text is empty"));
    } else if new_text.contains('\0') {
        errors.push(FieldError::new("/text", "control_character", "a text has no NUL"));
    }
    let signature = if wanted.include_signature { original.account.signature_text.trim() } else { "" };
    let text = match signature {
        "" => new_text.clone(),
        signature => format!("{new_text}\n{signature}"),
    };
    let segments = segments(&original.account, &text).map_err(|detail| {
        errors.push(FieldError::new("/text", "too_many_segments", detail));
    });
    let Ok(segments) = segments else { return Err(Problem::validation(errors)) };
    if !errors.is_empty() {
        return Err(Problem::validation(errors));
    }
    let to = recipient(original).ok_or_else(|| {
        Problem::new(Code::NoRecipients, "the message is no text, so there is no number to answer to")
    })?;
    let mail = Outgoing {
        to: vec![to],
        text: format!("{text}\n"),
        in_reply_to: original.message.message_id_header.clone(),
        references: original.references(),
        ..Outgoing::default()
    };
    let letter = Letter {
        id,
        kind: MessageKind::Reply,
        conversation_id: original.conversation.id,
        work_item_id: Some(original.item.id),
        author_id: Some(author),
        new_text,
        quoted_text: String::new(),
        signature: signature.to_owned(),
        due: None,
        mail,
    };
    Ok((letter, segments))
}

fn not_for_texts(wanted: &Wanted) -> Vec<FieldError> {
    let given = [
        ("/html", wanted.html.as_deref().is_some_and(|html| !html.trim().is_empty()), "a text has no HTML"),
        ("/to", wanted.to.is_some(), "a text is answered to the number that wrote it"),
        ("/cc", wanted.cc.as_ref().is_some_and(|list| !list.is_empty()), "a text has no copies"),
        ("/bcc", !wanted.bcc.is_empty(), "a text has no copies"),
        ("/subject", wanted.subject.is_some(), "a text has no subject"),
        ("/attachment_ids", !wanted.attachment_ids.is_empty(), "a text has no files"),
    ];
    let given = given.into_iter().filter(|(_, given, _)| *given);
    given.map(|(pointer, _, detail)| FieldError::new(pointer, "not_for_sms", detail)).collect()
}
