//! Complaints in the Abuse Reporting Format (RFC 5965).

use super::{
    Action, DIAGNOSTIC_MAX, Permanence, RECIPIENTS_MAX, ReportedRecipient, fields, fields::Group, normalised,
    one_line, status::bare_id,
};

/// Feedback that does not complain: authentication reports (RFC 6591), and mail that was taken for spam by mistake.
const NO_COMPLAINT: [&str; 6] =
    ["not-spam", "auth-failure", "auth-fail", "dmarc", "miscategorized", "not-abuse"];
/// Who complained; a provider that hides them gives none.
const RECIPIENT_FIELDS: [&str; 2] = ["original-rcpt-to", "removal-recipient"];

/// What a `message/feedback-report` part says.
#[derive(Debug)]
pub(super) struct Feedback {
    pub recipients: Vec<ReportedRecipient>,
    pub envelope_id: Option<String>,
    pub mail_from: Option<String>,
}

/// Reads the part; `None` when it is no complaint. A type that nobody registered counts as `other`, which is one.
pub(super) fn read(text: &str) -> Option<Feedback> {
    // There is one group; a stray blank line must not hide the rest.
    let all = Group(fields::groups(text).into_iter().flat_map(|group| group.0).collect());
    let kind = all.first("feedback-type").unwrap_or("other").to_ascii_lowercase();
    if NO_COMPLAINT.iter().any(|no| kind.starts_with(no)) {
        return None;
    }
    let recipients = RECIPIENT_FIELDS
        .iter()
        .flat_map(|name| all.all(name))
        .filter_map(|value| normalised(plain(value)))
        .take(RECIPIENTS_MAX)
        .map(|address| ReportedRecipient {
            address,
            action: Action::Delivered,
            permanence: Permanence::Permanent,
            status: None,
            diagnostic: one_line(&kind, DIAGNOSTIC_MAX),
        });
    Some(Feedback {
        recipients: recipients.collect(),
        envelope_id: all.first("original-envelope-id").and_then(bare_id),
        mail_from: all.first("original-mail-from").map(plain).and_then(normalised),
    })
}

/// An address without angle brackets and type.
fn plain(value: &str) -> &str {
    let value = value.rsplit_once(';').map_or(value, |(_, address)| address);
    value.trim().trim_start_matches('<').trim_end_matches('>').trim()
}
