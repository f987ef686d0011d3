//! Whether a mail comes from a mail system that reports, or from a person or an answering machine that may quote a report.

use super::{Opened, normalised};
use crate::mail::classify::AUTO_SUBJECTS;

/// Local parts of mail systems, without punctuation.
const DAEMONS: [&str; 6] =
    ["mailerdaemon", "maildaemon", "mdaemon", "postmaster", "maildeliverysystem", "maildeliverysubsystem"];
/// Display names of mail systems, whatever their address.
const DAEMON_NAMES: [&str; 5] =
    ["mail delivery s", "mail delivery agent", "mailer-daemon", "mailer daemon", "delivery subsystem"];
/// Words in the local parts of machines, and of a few people: they report only under a subject that says so.
const SYSTEMS: [&str; 8] =
    ["admin", "administrator", "smtp", "ndr", "mta", "antivirus", "gateway", "gateways"];
/// Subjects that tell of mail that was not delivered.
const FAILURES: [&str; 26] = [
    "undeliver",
    "non-deliver",
    "nondeliver",
    "not delivered",
    "not be delivered",
    "delivery fail",
    "delivery has failed",
    "delivery status",
    "delivery notification",
    "delivery report",
    "delivery problem",
    "error during delivery",
    "failure notice",
    "failure delivery",
    "mail failure",
    "mail failed",
    "failed mail",
    "mail error",
    "mail system error",
    "rejected mail",
    "returned mail",
    "returned to sender",
    "returning message to sender",
    "unzustellbar",
    "nicht zugestellt",
    "non remis",
];
/// Subjects that tell it only when a mail system uses them.
const DELAYS: [&str; 3] = ["delayed", "delivery", "warning: message"];
const ANSWERS: [&str; 9] = ["re:", "aw:", "sv:", "antw:", "fwd:", "fw:", "wg:", "tr:", "rv:"];
/// Fields that answering machines set.
const AUTO_REPLY_FIELDS: [&str; 5] =
    ["x-autoreply", "x-autorespond", "x-auto-reply-from", "x-mail-autoreply", "x-vacation"];

/// What the header of a mail tells about its sender.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The sender goes by a name that only mail systems have.
    daemon: bool,
    system: bool,
    /// The envelope sender is empty, or was when the mail set out.
    null_path: bool,
    says_failure: bool,
    says_delay: bool,
    has_subject: bool,
    /// A person's answer or forwarding, or an answering machine's note.
    is_answer: bool,
    is_report: bool,
    /// The failed recipients that the header names.
    pub failed: Vec<String>,
    /// The sender and the addressees, who are not those that the report is about.
    pub parties: Vec<String>,
}

impl Origin {
    pub(super) fn of(mail: &Opened) -> Self {
        let subject = mail.text("subject").unwrap_or_default().to_lowercase();
        let local = mail.from.as_ref().map(|from| local_part(&from.address)).unwrap_or_default();
        let squeezed: String = local.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let name = mail.text("from").unwrap_or_default().to_lowercase();
        let path = mail.first("return-path").map(|path| path.trim().trim_matches(['<', '>']).to_lowercase());
        let null_path = path.is_some_and(|path| path.is_empty() || squeezed_starts(&path, "mailerdaemon"));
        let daemon = DAEMONS.iter().any(|daemon| squeezed.starts_with(daemon))
            || DAEMON_NAMES.iter().any(|daemon| name.contains(daemon));
        let failed = mail.all("x-failed-recipients").flat_map(|value| value.split(','));
        let parties = mail.from.iter().chain(&mail.to).filter_map(|mailbox| normalised(&mailbox.address));
        Self {
            daemon,
            system: local.split(|c: char| !c.is_alphanumeric()).any(|word| SYSTEMS.contains(&word)),
            null_path,
            says_failure: FAILURES.iter().any(|words| subject.contains(words)),
            says_delay: DELAYS.iter().any(|words| subject.contains(words)),
            has_subject: !subject.is_empty(),
            is_answer: answers(mail) || is_reply(&subject) && !(daemon && null_path),
            is_report: mail.report_type.as_deref() == Some("delivery-status"),
            failed: failed
                .filter_map(|address| normalised(address.trim().trim_matches(['<', '>'])))
                .collect(),
            parties: parties.collect(),
        }
    }

    /// Whether a status part is its own, and not one that a person passes on.
    pub(super) fn may_hold_status(&self) -> bool {
        self.is_report || !self.is_answer && (self.daemon || self.system || self.null_path)
    }

    /// Whether its prose may be a report.
    pub(super) fn may_report(&self) -> bool {
        let called_so = self.says_failure && (self.null_path || self.system || !self.failed.is_empty());
        let named = self.null_path && !self.failed.is_empty();
        self.is_report || !self.is_answer && (self.daemon || called_so || named)
    }

    /// Whether it is a report even when its prose is not understood.
    pub(super) fn surely_reports(&self) -> bool {
        let called_so = self.says_failure && (self.daemon || self.null_path);
        !self.is_answer && (called_so || self.daemon && self.null_path && self.says_delay)
    }

    /// Whether neither subject nor sender leaves the purpose open.
    pub(super) fn is_explicit(&self) -> bool {
        self.says_failure || self.is_report || !self.has_subject
    }

    /// The domain of a mail system, which may name its own mailboxes without it.
    pub(super) fn own_domain(&self) -> Option<&str> {
        let own = self.parties.first().filter(|_| self.daemon)?;
        own.rsplit_once('@').map(|(_, domain)| domain)
    }
}

fn local_part(address: &str) -> String {
    address.rsplit_once('@').map_or(address, |(local, _)| local).to_lowercase()
}

fn squeezed_starts(text: &str, start: &str) -> bool {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().starts_with(start)
}

fn is_reply(subject: &str) -> bool {
    ANSWERS.iter().any(|prefix| subject.starts_with(prefix))
}

/// Whether an answering machine wrote it; a rejection is marked `auto-replied` too, so that alone tells nothing.
fn answers(mail: &Opened) -> bool {
    let subject = mail.text("subject").unwrap_or_default().to_lowercase();
    AUTO_SUBJECTS.iter().any(|start| subject.starts_with(start))
        || AUTO_REPLY_FIELDS.iter().any(|name| mail.first(name).is_some())
        || mail.all("precedence").any(|value| value.trim().eq_ignore_ascii_case("auto_reply"))
}
