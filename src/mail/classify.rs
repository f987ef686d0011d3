//! What kind of mail one is, and whether a machine may answer it (RFC 3834 section 2).

use serde::{Deserialize, Serialize};

use super::{address::comparable, parse::Parsed};

/// The header field that marks our own mail; its value is the instance that sent it.
pub const LOOP_HEADER: &str = "X-Postroom-Loop";

/// What kind of mail a received one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    /// A person wrote it, as far as its header tells.
    Normal,
    /// A machine answered or notified: an out-of-office note, a receipt, a report of success or delay.
    AutoReply,
    /// A report that a mail could not be delivered (RFC 3464).
    Bounce,
    /// A report that a recipient called a mail spam (RFC 5965).
    Complaint,
    /// Mail to many: a mailing list or bulk mail.
    List,
    /// Our own mail come back.
    Loop,
}

/// Why no automatic answer may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NoAnswer {
    /// There is nobody to answer.
    #[error("the mail has no sender")]
    NoSender,
    /// The envelope sender is empty, as in bounces.
    #[error("the return path is empty")]
    NullReturnPath,
    /// `Auto-Submitted` has another value than `no`, or an older field says the same.
    #[error("the mail was sent by a machine")]
    AutoSubmitted,
    /// It is a delivery report or a complaint.
    #[error("the mail is a report")]
    Report,
    /// It has `List-*` fields.
    #[error("the mail came from a mailing list")]
    List,
    /// `Precedence` is `bulk`, `list`, `junk` or `auto_reply`.
    #[error("the mail was sent in bulk")]
    Bulk,
    /// `X-Auto-Response-Suppress` asks for no automatic answers.
    #[error("the sender asks for no automatic answers")]
    Suppressed,
    /// The sender is a system address such as `mailer-daemon`, `owner-…` or `noreply`.
    #[error("the sender is a system address")]
    SystemAddress,
    /// The sender is one of our own addresses.
    #[error("the sender is ourselves")]
    OwnAddress,
    /// The mail bears our own loop marker.
    #[error("the mail is our own")]
    Loop,
}

/// Subjects with which clients announce an automatic answer that their header does not.
pub(super) const AUTO_SUBJECTS: [&str; 16] = [
    "automatic reply:",
    "auto reply:",
    "autoreply:",
    "auto:",
    "out of office:",
    "out of office",
    "out-of-office:",
    "automatische antwort:",
    "abwesenheitsnotiz:",
    "réponse automatique",
    "respuesta automática:",
    "risposta automatica:",
    "resposta automática:",
    "automatisch antwoord:",
    "autosvar:",
    "automatyczna odpowiedź:",
];
/// Subjects of delivery failures from servers older than RFC 3464.
const BOUNCE_SUBJECTS: [&str; 8] = [
    "undelivered mail",
    "undeliverable",
    "delivery status notification (failure)",
    "mail delivery failed",
    "delivery failure",
    "returned mail",
    "failure notice",
    "unzustellbar",
];

/// Classifies a mail by its fields and content type, without the check for our own marker.
///
/// `report_type` is the parameter of a `multipart/report`; `delivery_actions` are its `Action` values in lower case.
pub fn classify(mail: &Parsed, report_type: Option<&str>, delivery_actions: &[String]) -> Classification {
    if report_type == Some("feedback-report") || mail.content_type == "message/feedback-report" {
        return Classification::Complaint;
    }
    if let Some(class) = delivery_report(mail, report_type, delivery_actions) {
        return class;
    }
    let is_list = is_list(mail) || precedence(mail).is_some_and(|p| p != "auto_reply");
    let auto_submitted = auto_submitted(mail);
    if auto_submitted.as_deref() == Some("auto-replied")
        || says_auto_reply(mail)
        || report_type == Some("disposition-notification")
    {
        return Classification::AutoReply;
    }
    if is_list {
        return Classification::List;
    }
    let subject = mail.subject.as_deref().unwrap_or_default().to_lowercase();
    if auto_submitted.is_some() || AUTO_SUBJECTS.iter().any(|start| subject.starts_with(start)) {
        return Classification::AutoReply;
    }
    Classification::Normal
}

/// [`Parsed::class`], or `Loop` when the mail bears the marker of our `instance`.
pub fn with_loop_check(mail: &Parsed, instance: &str) -> Classification {
    let ours = |marker: &String| !instance.is_empty() && marker.trim() == instance;
    if values(mail, &LOOP_HEADER.to_ascii_lowercase()).iter().any(ours) {
        Classification::Loop
    } else {
        mail.class
    }
}

/// Whether a machine may answer `mail`; `own_addresses` are all addresses that we receive at.
pub fn may_auto_answer<A: AsRef<str>>(mail: &Parsed, own_addresses: &[A]) -> Result<(), NoAnswer> {
    if !values(mail, &LOOP_HEADER.to_ascii_lowercase()).is_empty() {
        return Err(NoAnswer::Loop);
    }
    if matches!(mail.class, Classification::Bounce | Classification::Complaint) {
        return Err(NoAnswer::Report);
    }
    if has_null_return_path(mail) {
        return Err(NoAnswer::NullReturnPath);
    }
    if auto_submitted(mail).is_some() || mail.class == Classification::AutoReply {
        return Err(NoAnswer::AutoSubmitted);
    }
    if is_list(mail) {
        return Err(NoAnswer::List);
    }
    if precedence(mail).is_some() {
        return Err(NoAnswer::Bulk);
    }
    if values(mail, "x-auto-response-suppress").iter().any(|v| suppresses(v)) {
        return Err(NoAnswer::Suppressed);
    }
    check_senders(mail, own_addresses)
}

/// Every address that an answer could go to, and the one that wrote, must be a stranger's and a person's.
fn check_senders<A: AsRef<str>>(mail: &Parsed, own_addresses: &[A]) -> Result<(), NoAnswer> {
    let mut senders =
        mail.from.iter().chain(&mail.sender).chain(&mail.reply_to).map(|m| m.address.as_str()).peekable();
    if senders.peek().is_none() {
        return Err(NoAnswer::NoSender);
    }
    let return_path = values(mail, "return-path").iter().map(|v| v.trim().trim_matches(['<', '>']));
    for address in senders.chain(return_path) {
        if own_addresses.iter().any(|own| is_same_or_tagged(own.as_ref(), address)) {
            return Err(NoAnswer::OwnAddress);
        }
        if is_system_address(address) {
            return Err(NoAnswer::SystemAddress);
        }
    }
    Ok(())
}

/// Whether `address` is `own`, in any case and with any `+tag`.
pub fn is_same_or_tagged(own: &str, address: &str) -> bool {
    let untagged = |address: &str| {
        let address = comparable(address).to_lowercase();
        match address.rsplit_once('@') {
            Some((local, domain)) => format!("{}@{domain}", local.split('+').next().unwrap_or(local)),
            None => address,
        }
    };
    comparable(own).to_lowercase() == comparable(address).to_lowercase() || untagged(own) == untagged(address)
}

/// RFC 3834 section 2's addresses of lists and systems, and the usual forms of "do not answer".
fn is_system_address(address: &str) -> bool {
    let Some((local, _)) = address.rsplit_once('@') else { return true };
    let local = local.trim_matches('"').to_ascii_lowercase();
    let squeezed: String = local.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let whole =
        ["mailerdaemon", "postmaster", "majordomo", "listserv", "mdaemon", "uucp", "bounce", "bounces"];
    let dont = ["noreply", "donotreply", "dontreply", "neverreply", "nichtantworten", "nepasrepondre"];
    whole.contains(&squeezed.as_str())
        || dont.iter().any(|word| squeezed.starts_with(word) || squeezed.ends_with(word))
        || local.starts_with("owner-")
        || local.ends_with("-request")
        || local.ends_with("-owner")
        || local.ends_with("-bounces")
        || local.starts_with("bounce-")
        || local.starts_with("bounces+")
        || local.starts_with("mailer-daemon")
}

fn values<'a>(mail: &'a Parsed, name: &str) -> &'a [String] {
    mail.headers.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// The `Auto-Submitted` keyword when it is anything but `no` (RFC 3834 section 5).
fn auto_submitted(mail: &Parsed) -> Option<String> {
    values(mail, "auto-submitted")
        .iter()
        .map(|value| first_word(value))
        .find(|word| word != "no" && !word.is_empty())
}

/// `Precedence` when it tells of mail that is not one person's to another.
fn precedence(mail: &Parsed) -> Option<String> {
    let telling = ["bulk", "list", "junk", "auto_reply"];
    values(mail, "precedence").iter().map(|v| first_word(v)).find(|word| telling.contains(&word.as_str()))
}

fn first_word(value: &str) -> String {
    value.split([';', '(', ' ', '\t']).next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_list(mail: &Parsed) -> bool {
    ["list-id", "list-unsubscribe", "list-post", "list-help"]
        .iter()
        .any(|name| !values(mail, name).is_empty())
}

/// `DR`, `NRN` and the like ask only that reports be kept back; these ask it of answers.
fn suppresses(value: &str) -> bool {
    value
        .split(',')
        .any(|word| ["all", "oof", "autoreply"].contains(&word.trim().to_ascii_lowercase().as_str()))
}

/// Fields that answering machines set before and beside `Auto-Submitted`.
fn says_auto_reply(mail: &Parsed) -> bool {
    let fields = [
        "x-autoreply",
        "x-autorespond",
        "x-autorespond-to",
        "x-auto-reply-from",
        "x-mail-autoreply",
        "x-vacation",
    ];
    fields.iter().any(|name| values(mail, name).iter().any(|v| !v.eq_ignore_ascii_case("no")))
        || precedence(mail).as_deref() == Some("auto_reply")
}

fn has_null_return_path(mail: &Parsed) -> bool {
    // The last hop writes the field on top; those under it are from earlier ones.
    values(mail, "return-path").first().is_some_and(|path| matches!(path.trim(), "<>" | ""))
}

/// RFC 3464 reports, and the failures of servers that do not write them.
fn delivery_report(mail: &Parsed, report_type: Option<&str>, actions: &[String]) -> Option<Classification> {
    if report_type == Some("delivery-status") || !actions.is_empty() {
        let failed = actions.is_empty() || actions.iter().any(|action| action.starts_with("failed"));
        return Some(if failed { Classification::Bounce } else { Classification::AutoReply });
    }
    let local =
        mail.from.as_ref().map(|f| f.address.split('@').next().unwrap_or_default().to_ascii_lowercase());
    let from_daemon = matches!(local.as_deref(), Some("mailer-daemon" | "postmaster" | "mdaemon"));
    let subject = mail.subject.as_deref().unwrap_or_default().to_lowercase();
    let says_so = BOUNCE_SUBJECTS.iter().any(|start| subject.starts_with(start));
    let failed_recipients = !values(mail, "x-failed-recipients").is_empty();
    let is_bounce =
        failed_recipients && (from_daemon || has_null_return_path(mail)) || says_so && from_daemon;
    (is_bounce || says_so && has_null_return_path(mail)).then_some(Classification::Bounce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::parse::{Limits, parse};

    fn mail(header: &str) -> Parsed {
        parse(format!("{header}\r\n\r\nHello\r\n").as_bytes(), &Limits::default()).unwrap()
    }

    const FROM: &str = "From: Anna <anna@example.org>\r\n";

    #[test]
    fn header_fields_decide_the_class() {
        use Classification::*;
        let cases = [
            ("Subject: Hello", Normal),
            ("Auto-Submitted: no", Normal),
            ("Auto-Submitted: auto-replied (vacation)", AutoReply),
            ("Auto-Submitted: Auto-Generated; owner-email=\"x\"", AutoReply),
            ("Precedence: auto_reply", AutoReply),
            ("X-Autoreply: yes", AutoReply),
            ("Subject: Automatic reply: Order", AutoReply),
            ("Subject: =?utf-8?q?R=C3=A9ponse_automatique?= : x", AutoReply),
            ("List-Id: <news.example.com>", List),
            ("List-Id: <git.example.com>\r\nAuto-Submitted: auto-generated", List),
            ("Precedence: bulk", List),
            ("List-Unsubscribe: <mailto:x@example.com>", List),
            ("Content-Type: multipart/report; report-type=delivery-status; boundary=x", Bounce),
            ("Content-Type: multipart/report; report-type=feedback-report; boundary=x", Complaint),
            ("Content-Type: multipart/report; report-type=disposition-notification; boundary=x", AutoReply),
            ("Return-Path: <>\r\nSubject: Undelivered Mail Returned to Sender", Bounce),
            ("Return-Path: <>\r\nX-Failed-Recipients: b@example.com", Bounce),
            ("Subject: Undeliverable furniture, please help", Normal),
        ];
        for (header, expected) in cases {
            assert_eq!(mail(&format!("{FROM}{header}")).class, expected, "{header}");
        }
    }

    #[test]
    fn only_our_own_marker_makes_a_loop() {
        let ours = mail(&format!("{FROM}X-Postroom-Loop: centre-1"));
        assert_eq!(with_loop_check(&ours, "centre-1"), Classification::Loop);
        assert_eq!(with_loop_check(&ours, "centre-2"), Classification::Normal);
        assert_eq!(with_loop_check(&mail(FROM.trim_end()), ""), Classification::Normal);
    }

    #[test]
    fn classes_are_snake_case_in_json() {
        assert_eq!(serde_json::to_string(&Classification::AutoReply).unwrap(), "\"auto_reply\"");
        assert_eq!(serde_json::to_string(&NoAnswer::NullReturnPath).unwrap(), "\"null_return_path\"");
    }

    #[test]
    fn every_ban_of_rfc_3834_keeps_a_machine_silent() {
        use NoAnswer::*;
        let cases = [
            ("From: anna@example.org", Ok(())),
            ("From: anna@example.org\r\nAuto-Submitted: no\r\nX-Auto-Response-Suppress: DR, NRN", Ok(())),
            ("From: anna@example.org\r\nReturn-Path: <anna@example.org>", Ok(())),
            ("From: requester@example.org", Ok(())),
            ("Subject: nobody", Err(NoSender)),
            ("From: anna@example.org\r\nReturn-Path: <>", Err(NullReturnPath)),
            ("From: anna@example.org\r\nAuto-Submitted: auto-generated", Err(AutoSubmitted)),
            ("From: anna@example.org\r\nAuto-Submitted: auto-notified", Err(AutoSubmitted)),
            ("From: anna@example.org\r\nX-Autorespond: 1", Err(AutoSubmitted)),
            ("From: anna@example.org\r\nList-Id: <x.example>", Err(List)),
            ("From: anna@example.org\r\nList-Unsubscribe: <https://x.example>", Err(List)),
            ("From: anna@example.org\r\nPrecedence: bulk", Err(Bulk)),
            ("From: anna@example.org\r\nPrecedence: Junk", Err(Bulk)),
            ("From: anna@example.org\r\nX-Auto-Response-Suppress: OOF", Err(Suppressed)),
            ("From: anna@example.org\r\nX-Auto-Response-Suppress: DR, AutoReply", Err(Suppressed)),
            ("From: MAILER-DAEMON@example.org", Err(SystemAddress)),
            ("From: MAILER-DAEMON", Err(SystemAddress)),
            ("From: postmaster@example.org", Err(SystemAddress)),
            ("From: owner-news@example.org", Err(SystemAddress)),
            ("From: news-request@example.org", Err(SystemAddress)),
            ("From: No-Reply@example.org", Err(SystemAddress)),
            ("From: do_not_reply@example.org", Err(SystemAddress)),
            ("From: shop.noreply@example.org", Err(SystemAddress)),
            ("From: anna@example.org\r\nReturn-Path: <news-bounces@example.org>", Err(SystemAddress)),
            ("From: Support@Example.com", Err(OwnAddress)),
            ("From: support+prt.abc@example.com", Err(OwnAddress)),
            ("From: anna@example.org\r\nReply-To: support@example.com", Err(OwnAddress)),
            ("From: anna@example.org\r\nX-Postroom-Loop: any", Err(Loop)),
            (
                "From: anna@example.org\r\nContent-Type: multipart/report; report-type=delivery-status",
                Err(Report),
            ),
        ];
        for (header, expected) in cases {
            assert_eq!(may_auto_answer(&mail(header), &["support@example.com"]), expected, "{header}");
        }
    }
}
