//! Whether an address gets mail another time, by what a report says of the mail that came back.

use crate::mail::report::{Permanence, ReportedRecipient, names_nobody};

/// Whether an address gets mail another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Never.
    Hard,
    /// Perhaps: a full mailbox, a server that cannot be reached.
    Soft,
    /// It was refused for what we are or wrote, which says nothing of the address.
    Policy,
}

/// Judges by the status code where it tells something, else by the server's words.
pub(super) fn severity(one: &ReportedRecipient) -> Severity {
    let nobody = || one.diagnostic.as_deref().is_some_and(names_nobody);
    match one.status.as_deref().and_then(by_code) {
        Some(Severity::Hard) if one.permanence == Permanence::Transient => Severity::Soft,
        Some(severity) => severity,
        None if one.permanence == Permanence::Permanent && nobody() => Severity::Hard,
        None => Severity::Soft,
    }
}

/// What the subject and the detail of a code say (RFC 3463 sections 3.2 to 3.8, and the registry of RFC 5248); none where
/// they say nothing of the address, as X.0.0 does.
fn by_code(status: &str) -> Option<Severity> {
    let mut parts = status.split('.').skip(1).map(|part| part.parse::<u16>().ok());
    let (subject, detail) = (parts.next()??, parts.next()??);
    Some(match (subject, detail) {
        // No such mailbox or system, one that cannot be written so, one of several, one that moved away; and a domain that
        // takes no mail at all (RFC 7505 section 4.2).
        (1, 0..=4 | 6 | 10) => Severity::Hard,
        // Our own address.
        (1, 7 | 8) => Severity::Policy,
        // The mailbox is disabled.
        (2, 1) => Severity::Hard,
        // Longer than the mailbox takes, wanting what the system has not, larger than the system takes.
        (2 | 3, 3) | (3, 4) => Severity::Policy,
        // The mailbox, its system, the way there: full, down, not found, tried for too long.
        (2..=4, _) => Severity::Soft,
        // The conversation, what we wrote, and what we are allowed; RFC 7372 and X.7.27 of RFC 7505 are about who we are.
        (5..=7, _) => Severity::Policy,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::report::Action;

    fn judged(status: Option<&str>, diagnostic: Option<&str>, permanence: Permanence) -> Severity {
        severity(&ReportedRecipient {
            address: "a@example.org".into(),
            action: Action::Failed,
            permanence,
            status: status.map(str::to_owned),
            diagnostic: diagnostic.map(str::to_owned),
        })
    }

    #[test]
    fn only_what_a_code_says_of_the_address_bars_it_for_ever() {
        use Severity::{Hard, Policy, Soft};
        let cases = [
            (Hard, &["5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10", "5.2.1"][..]),
            (
                Soft,
                &[
                    "5.2.0", "5.2.2", "5.2.4", "5.3.0", "5.3.1", "5.3.2", "5.3.5", "5.4.1", "5.4.4", "5.4.6",
                    "5.4.7",
                ],
            ),
            (
                Policy,
                &["5.1.7", "5.1.8", "5.2.3", "5.3.3", "5.3.4", "5.5.3", "5.6.0", "5.6.1", "5.6.7", "5.7.1"],
            ),
            (Policy, &["5.7.20", "5.7.23", "5.7.25", "5.7.26", "5.7.27"]),
            // Nothing that is known.
            (Soft, &["5.0.0", "5.1.90", "5.9.1", "5.1", "what?"]),
        ];
        for (expected, codes) in cases {
            for code in codes {
                assert_eq!(judged(Some(code), None, Permanence::Permanent), expected, "{code}");
            }
        }
        for code in ["4.1.1", "4.2.1", "4.4.1", "4.0.0"] {
            assert_eq!(judged(Some(code), Some("user unknown"), Permanence::Transient), Soft, "{code}");
        }
    }

    #[test]
    fn without_a_telling_code_the_words_decide() {
        for status in [None, Some("5.0.0")] {
            let with = |words| judged(status, Some(words), Permanence::Permanent);
            assert_eq!(with("550 <a@example.org>: User unknown in virtual mailbox table"), Severity::Hard);
            assert_eq!(with("554 delivery error: This user doesn't have an account here"), Severity::Hard);
            assert_eq!(with("550 spam is not wanted here"), Severity::Soft);
            assert_eq!(judged(status, None, Permanence::Permanent), Severity::Soft);
        }
    }
}
