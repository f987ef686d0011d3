//! Recognises delivery reports and complaints, and reads from them whom they are about.
//!
//! Machine-readable reports (`status`, RFC 3464 and 6533; `feedback`, RFC 5965) are believed as they are. Servers that write
//! prose are understood through a table of their usual `phrases`, and only when the mail's `origin` is a mail system.
//! The order is: complaint, status part, prose, and at last a report that a gateway wrapped into another message.

mod feedback;
mod fields;
mod lists;
mod origin;
mod original;
mod phrases;
mod severity;
mod status;
mod wording;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use self::origin::Origin;
pub(crate) use self::severity::names_nobody;
use super::{
    address::Address,
    parse::{Opened, Part},
};

/// How much of a message is read, in bytes: a report comes before the message that it returns.
const READ_MAX: usize = 512 * 1024;
/// Most recipients that are kept of one report.
const RECIPIENTS_MAX: usize = 100;
/// Most parts whose prose is read.
const TEXTS_MAX: usize = 10;
/// Longest diagnostic text, in characters.
const DIAGNOSTIC_MAX: usize = 1000;

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether it is about delivery, or a recipient's complaint.
    pub kind: ReportKind,
    /// Whom it is about, at most 100, each once; empty when the report names nobody, and then its outcome is unknown.
    pub recipients: Vec<ReportedRecipient>,
    /// The message that it is about.
    pub original: Original,
}

/// The kinds of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// What became of a message: failed, delayed or delivered (RFC 3464).
    Delivery,
    /// A recipient called a message spam, or wants no more of them (RFC 5965).
    Complaint,
}

/// What a report says of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRecipient {
    /// The address that was written to where the report tells it, else the one that it came to; its domain is lower-case ASCII.
    pub address: String,
    /// What became of the message; `delivered` in a complaint.
    pub action: Action,
    /// Whether trying again could help; it tells something only of `failed` and `delayed`.
    pub permanence: Permanence,
    /// The enhanced status code, such as `5.1.1` (RFC 3463).
    pub status: Option<String>,
    /// The server's words on one line, at most 1000 characters; the Feedback-Type in a complaint.
    pub diagnostic: Option<String>,
}

/// What became of a message to one recipient (RFC 3464 section 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was not delivered, and the server has given up.
    Failed,
    /// It was not delivered yet, and the server goes on trying.
    Delayed,
    /// It was delivered.
    Delivered,
    /// It went on to a server that sends no reports.
    Relayed,
    /// It was delivered and sent on to several further addresses.
    Expanded,
}

/// Whether the same message could be delivered at another time (RFC 3463 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permanence {
    /// It would fail again.
    Permanent,
    /// The cause may pass: a full mailbox, a server that does not answer.
    Transient,
}

/// What a report says of the message that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Its Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// The addresses in its To field, at most 100: a hint where the report names no recipient.
    pub to: Vec<String>,
    /// Its subject, decoded.
    pub subject: Option<String>,
}

/// Reads `raw`, one message as it crossed the wire; `None` when it is no report.
///
/// It never panics; only the first 512 KiB are looked at.
pub fn read(raw: &[u8]) -> Option<Report> {
    catch_unwind(AssertUnwindSafe(|| examine(raw))).ok().flatten()
}

fn examine(raw: &[u8]) -> Option<Report> {
    let mail = Opened::read(&raw[..raw.len().min(READ_MAX)])?;
    if let Some(complaint) = complaint(&mail) {
        return Some(complaint);
    }
    let origin = Origin::of(&mail);
    let own = delivery(&mail, &origin);
    let names_nobody = own.as_ref().is_none_or(|report| report.recipients.is_empty());
    let wrapped = if names_nobody { wrapped(&mail, &origin) } else { None };
    wrapped.or(own)
}

/// The complaint in `mail` (RFC 5965); a person who forwards one as attachments does not complain.
fn complaint(mail: &Opened) -> Option<Report> {
    let part = mail.parts.iter().find(|part| part.content_type == "message/feedback-report")?;
    let is_report = mail.report_type.as_deref() == Some("feedback-report");
    if !is_report && mail.first("in-reply-to").or_else(|| mail.first("references")).is_some() {
        return None;
    }
    let feedback = feedback::read(&part.text())?;
    let original = original::read(mail, &[]);
    Some(Report { kind: ReportKind::Complaint, recipients: merged(feedback), original })
}

/// The delivery report in `mail` itself, machine-readable or in prose.
fn delivery(mail: &Opened, origin: &Origin) -> Option<Report> {
    let is_report = mail.report_type.as_deref() == Some("delivery-status");
    let holds_status = mail.content_type == "multipart/report" || origin.may_hold_status();
    if !holds_status && !origin.may_report() {
        return None;
    }
    let texts: Vec<String> =
        mail.parts.iter().filter(|part| is_prose(part)).take(TEXTS_MAX).map(Part::text).collect();
    let mut status = status::Status::default();
    if holds_status {
        mail.parts.iter().filter(|part| is_status(part)).for_each(|part| status.add(&part.text()));
    }
    if origin.may_hold_status() {
        texts.iter().filter_map(|text| status::within(text)).for_each(|block| status.add(block));
    }
    let mut recipients = status.recipients;
    if recipients.is_empty() && origin.may_report() {
        recipients = wording::read(&texts, origin);
    }
    if recipients.is_empty() && !(is_report && status.seen) && !origin.surely_reports() {
        return None;
    }
    let mut original = original::read(mail, &texts);
    original.message_id = original.message_id.or(status.message_id);
    Some(Report { kind: ReportKind::Delivery, recipients: merged(recipients), original })
}

/// The report inside an attached message: some gateways pass their own reports on in this way.
fn wrapped(mail: &Opened, origin: &Origin) -> Option<Report> {
    if !origin.may_report() {
        return None;
    }
    let inside = mail.parts.iter().find(|part| original::is_message(part))?;
    let inside = Opened::read(&inside.bytes)?;
    delivery(&inside, &Origin::of(&inside))
}

fn is_status(part: &Part) -> bool {
    ["message/delivery-status", "message/global-delivery-status"].contains(&part.content_type.as_str())
}

fn is_prose(part: &Part) -> bool {
    ["text/plain", "text/html"].contains(&part.content_type.as_str())
}

/// Each address once, the worst that is said of it, in order of appearance.
fn merged(reported: Vec<ReportedRecipient>) -> Vec<ReportedRecipient> {
    let mut kept: Vec<ReportedRecipient> = Vec::new();
    for recipient in reported {
        match kept.iter().position(|known| known.address == recipient.address) {
            Some(at) if kept[at].action != Action::Failed && recipient.action == Action::Failed => {
                kept[at] = recipient;
            }
            Some(_) => {}
            None if kept.len() < RECIPIENTS_MAX => kept.push(recipient),
            None => {}
        }
    }
    kept
}

/// The address in the form that addresses are stored in; `None` when it is not a valid one.
fn normalised(address: &str) -> Option<String> {
    Address::parse(address).ok().map(|address| address.to_string())
}

/// `text` on one line, at most `max` characters; `None` when nothing is left.
fn one_line(text: &str, max: usize) -> Option<String> {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if line.len() > max * 4 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let end = line.char_indices().nth(max).map_or(line.len(), |(at, _)| at);
    line.truncate(end);
    Some(line).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
