//! Complaints in the Abuse Reporting Format (RFC 5965).

use super::{
    Action, DIAGNOSTIC_MAX, Permanence, RECIPIENTS_MAX, ReportedRecipient, fields, fields::Group, normalised,
    one_line,
};

/// Feedback that does not complain: authentication reports (RFC 6591), and mail that was taken for spam by mistake.
const NO_COMPLAINT: [&str; 6] =
    ["not-spam", "auth-failure", "auth-fail", "dmarc", "miscategorized", "not-abuse"];
/// Who complained; a provider that hides them gives none.
const RECIPIENT_FIELDS: [&str; 2] = ["original-rcpt-to", "removal-recipient"];

/// Who complains in a `message/feedback-report` part; `None` when it is no complaint. A type that nobody registered counts as `other`, which is one.
pub(super) fn read(text: &str) -> Option<Vec<ReportedRecipient>> {
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
    Some(recipients.collect())
}

/// An address without angle brackets and type.
fn plain(value: &str) -> &str {
    let value = value.rsplit_once(';').map_or(value, |(_, address)| address);
    value.trim().trim_start_matches('<').trim_end_matches('>').trim()
}
