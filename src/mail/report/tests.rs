//! Machine-readable reports, hostile sizes and damaged bytes; `prose` has the rest.

mod prose;

use super::{Action::*, Permanence::*, *};

/// The header of a mail system's mail, up to the content type.
const DAEMON: &str = "Return-Path: <>\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example.net>\n\
                      To: support@example.com\nSubject: Undelivered Mail Returned to Sender\n";
const REPORT: &str = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n";
const MIXED: &str = "Content-Type: multipart/mixed; boundary=b\n";
const RETURNED: &str = "Content-Type: message/rfc822\n\nReturn-Path: <bounce@example.com>\nFrom: support@example.com\n\
                        To: Gone <gone@example.net>\nMessage-ID: <order.7@example.com>\nSubject: Your order\n\nHello\n";

/// A mail whose parts, each with its own header, are `parts`.
fn multipart(header: &str, parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--b\n{part}\n")).collect();
    format!("{header}\n{parts}--b--\n")
}

fn status(fields: &str) -> String {
    format!("Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n{fields}\n")
}

fn report(mail: &str) -> Report {
    let unix = read(mail.as_bytes()).unwrap_or_else(|| panic!("no report: {mail}"));
    assert_eq!(read(mail.replace('\n', "\r\n").as_bytes()).as_ref(), Some(&unix), "with CRLF: {mail}");
    unix
}

type Fate<'a> = (&'a str, Action, Permanence);

fn fates(report: &Report) -> Vec<Fate<'_>> {
    report.recipients.iter().map(|r| (r.address.as_str(), r.action, r.permanence)).collect()
}

fn failed(fields: &str) -> ReportedRecipient {
    let mut report = report(&multipart(&format!("{DAEMON}{REPORT}"), &[&status(fields)]));
    assert_eq!(report.recipients.len(), 1, "{fields}");
    report.recipients.remove(0)
}

#[test]
fn a_failure_names_its_recipient_the_reason_and_the_message_that_failed() {
    let text = "Content-Type: text/plain\n\nYour mail to other@example.net went wrong.\n";
    let fields = "Final-Recipient: RFC822; <Gone@Example.NET>\nAction: failed\nStatus: 5.1.1 (no mailbox)\n\
                  Diagnostic-Code: smtp; 550 5.1.1 <Gone@Example.NET>:\n  nobody of that name\n";
    let report = report(&multipart(&format!("{DAEMON}{REPORT}"), &[text, &status(fields), RETURNED]));
    assert_eq!(report.kind, ReportKind::Delivery);
    let expected = ReportedRecipient {
        address: "Gone@example.net".to_owned(),
        action: Failed,
        permanence: Permanent,
        status: Some("5.1.1".to_owned()),
        diagnostic: Some("550 5.1.1 <Gone@Example.NET>: nobody of that name".to_owned()),
    };
    assert_eq!(report.recipients, [expected]);
    let original = Original {
        message_id: Some("order.7@example.com".to_owned()),
        to: vec!["gone@example.net".to_owned()],
        subject: Some("Your order".to_owned()),
    };
    assert_eq!(report.original, original);
}

#[test]
fn each_recipient_meets_its_own_fate() {
    let fields = "Final-Recipient: rfc822; a@example.net\nAction: Failed (mailbox gone)\nStatus: 5.1.1\n\n\
                  Final-Recipient: rfc822; b@example.net\nAction: failed\nStatus: 4.4.7\n\n\
                  Final-Recipient: rfc822; c@example.net\nAction: delayed\nStatus: 4.4.1\n\n\
                  Final-Recipient: rfc822; d@example.net\nAction: relayed\nStatus: 2.0.0\n\n\
                  Final-Recipient: rfc822; e@example.net\nAction: error\nDiagnostic-Code: smtp; 452 later\n\n\
                  Final-Recipient: rfc822; a@example.net\nAction: delivered\nStatus: 2.0.0\n";
    let report = report(&multipart(&format!("{DAEMON}{REPORT}"), &[&status(fields)]));
    let expected = [
        ("a@example.net", Failed, Permanent),
        ("b@example.net", Failed, Transient),
        ("c@example.net", Delayed, Transient),
        ("d@example.net", Relayed, Transient),
        ("e@example.net", Failed, Transient),
    ];
    assert_eq!(fates(&report), expected);
}

#[test]
fn the_recipient_is_the_one_that_was_written_to() {
    let cases = [
        (
            "Original-Recipient: rfc822; a@example.net\nFinal-Recipient: rfc822; box7@internal\n",
            "a@example.net",
        ),
        ("Original-Recipient: rfc822;a@example.net\n", "a@example.net"),
        ("Original-Recipient: rfc822; a@example.net\nFinal-Recipient: x400; /S=a/C=GB/\n", "a@example.net"),
        ("Original-Recipient: rfc822; nonsense\nFinal-Recipient: rfc822; b@example.net\n", "b@example.net"),
        ("Final-Recipient: <b@example.net>\n", "b@example.net"),
        ("Final-Recipient: rfc822; b@example.net (forwarded)\n", "b@example.net"),
        ("Final-Recipient: utf-8; j\\x{F6}rg@b\\x{FC}cher.example\n", "jörg@xn--bcher-kva.example"),
    ];
    for (fields, expected) in cases {
        assert_eq!(failed(&format!("{fields}Action: failed\n")).address, expected, "{fields}");
    }
}

#[test]
fn a_vague_status_gives_way_to_the_code_in_the_servers_words() {
    let cases = [
        ("Status: 5.0.0\nDiagnostic-Code: smtp; 550-5.7.1 blocked", Some("5.7.1"), Permanent),
        ("Status: 5.0.0\nDiagnostic-Code: smtp; 452 4.2.2 full", Some("5.0.0"), Permanent),
        ("Diagnostic-Code: smtp; 550 5.1.1 unknown", Some("5.1.1"), Permanent),
        ("Status: 553 too large", None, Permanent),
        ("Diagnostic-Code: X-Local; connection to 4.5.6.7 refused", None, Permanent),
        ("Diagnostic-Code: X-Local; mailbox is full", None, Transient),
        ("", None, Permanent),
    ];
    for (fields, status, permanence) in cases {
        let read = failed(&format!("Final-Recipient: rfc822; a@example.net\nAction: failed\n{fields}\n"));
        assert_eq!((read.status.as_deref(), read.permanence), (status, permanence), "{fields}");
    }
}

#[test]
fn torn_and_glued_recipients_are_told_apart() {
    let torn = "Final-Recipient: rfc822; a@example.net\n\nAction: failed\nStatus: 5.1.1\n\n\
                Final-Recipient: rfc822; b@example.net\nAction: failed\nStatus: 5.1.1\n";
    let glued = "Final-Recipient: rfc822; a@example.net\nAction: failed\nStatus: 5.1.1\n\
                 Final-Recipient: rfc822; b@example.net\nAction: failed\nStatus: 5.1.1\n";
    for fields in [torn, glued] {
        let report = report(&multipart(&format!("{DAEMON}{REPORT}"), &[&status(fields)]));
        let both = [("a@example.net", Failed, Permanent), ("b@example.net", Failed, Permanent)];
        assert_eq!(fates(&report), both, "{fields}");
    }
}

const GONE: &str = "Final-Recipient: rfc822; gone@example.net\nAction: failed\nStatus: 5.1.1\n";
const GONE_FATE: [Fate<'_>; 1] = [("gone@example.net", Failed, Permanent)];

#[test]
fn a_report_is_found_wherever_gateways_put_it() {
    let whole = multipart(&format!("{DAEMON}{REPORT}"), &[&status(GONE), RETURNED]);
    let mislabelled = multipart(&format!("{DAEMON}{MIXED}"), &[&status(GONE), RETURNED]);
    let nested = whole.split_once("Content-Type").unwrap().1.replace("=b\n", "=c\n").replace("--b", "--c");
    let nested = multipart(&format!("{DAEMON}{MIXED}"), &[&format!("Content-Type{nested}")]);
    let inner = whole.replace("boundary=b", "boundary=c").replace("--b", "--c");
    let postmaster = "From: postmaster@example.net\nTo: support@example.com\nSubject: Delivery Status\n";
    let wrapped =
        multipart(&format!("{postmaster}{MIXED}"), &[&format!("Content-Type: message/rfc822\n\n{inner}")]);
    let flattened = whole.replace(REPORT, "Content-Type: text/plain\n");
    let boundary_lost = whole.replace("boundary=b", "boundary=other");
    for mail in [&whole, &mislabelled, &nested, &wrapped, &flattened, &boundary_lost] {
        let report = report(mail);
        assert_eq!(fates(&report), GONE_FATE, "{mail}");
        assert_eq!(report.original.message_id.as_deref(), Some("order.7@example.com"), "{mail}");
    }
}

#[test]
fn encoded_and_internationalised_parts_are_read() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let fields = BASE64_STANDARD.encode(format!("Original-Envelope-Id: env-7\n\n{GONE}"));
    let encoded = format!(
        "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: base64\n\n{fields}\n"
    );
    let header =
        "Content-Type: message/global-headers\n\nMessage-ID: <order.8@example.com>\nSubject: Grüße\n";
    let report = report(&multipart(&format!("{DAEMON}{REPORT}"), &[&encoded, header]));
    assert_eq!(fates(&report), GONE_FATE);
    assert_eq!(report.original.message_id.as_deref(), Some("order.8@example.com"));
    assert_eq!(report.original.subject.as_deref(), Some("Grüße"));
}

#[test]
fn the_message_id_is_found_in_quoted_text_and_in_what_the_report_answers() {
    let prose =
        "Content-Type: text/plain\n\nThe message below was not delivered.\n\n  > Message-Id:\n  >  x\n";
    let quoted = format!("{prose}\n > From: support@example.com\n > Message-ID: <quoted.1@example.com>\n");
    let headers = "Content-Type: text/rfc822-headers\n\nMessage-ID: <headers.1@example.com>\n";
    let answer = format!("{DAEMON}In-Reply-To: <answered.1@example.com>\n{REPORT}");
    let id = |parts: &[&str]| report(&multipart(&answer, parts)).original.message_id;
    assert_eq!(id(&[&quoted, &status(GONE), headers]).as_deref(), Some("headers.1@example.com"));
    assert_eq!(id(&[&quoted, &status(GONE)]).as_deref(), Some("quoted.1@example.com"));
    assert_eq!(id(&[&status(GONE)]).as_deref(), Some("answered.1@example.com"));
}

/// The text of a bounce, as people quote it.
const BOUNCE: &str = "The following addresses failed:\n\n<gone@example.net>:\n550 5.1.1 no such user\n";

fn feedback(fields: &str) -> String {
    let header = "From: <fbl@provider.example>\nTo: fbl@example.com\nSubject: FW: Your order\n\
                  Content-Type: multipart/report; report-type=feedback-report; boundary=b\n";
    let text = "Content-Type: text/plain\n\nOne of our users complains.\n";
    let part = format!("Content-Type: message/feedback-report\n\nVersion: 1\n{fields}");
    multipart(header, &[text, &part, RETURNED])
}

#[test]
fn a_complaint_names_who_complains_and_about_what() {
    let fields = "Feedback-Type: abuse\nOriginal-Mail-From: <bounce@Example.com>\nOriginal-Rcpt-To: <gone@EXAMPLE.net>\n\
                  Removal-Recipient: rfc822; second@example.net\nOriginal-Envelope-Id: env-9\n";
    let report = report(&feedback(fields));
    assert_eq!(report.kind, ReportKind::Complaint);
    let addresses: Vec<_> =
        report.recipients.iter().map(|r| (r.address.as_str(), r.diagnostic.as_deref())).collect();
    assert_eq!(addresses, [("gone@example.net", Some("abuse")), ("second@example.net", Some("abuse"))]);
    assert_eq!(report.original.message_id.as_deref(), Some("order.7@example.com"));
}

#[test]
fn feedback_that_is_no_complaint_is_no_report() {
    for kind in ["not-spam", "auth-failure", "dmarc"] {
        assert_eq!(read(feedback(&format!("Feedback-Type: {kind}\n")).as_bytes()), None, "{kind}");
    }
    let hidden = report(&feedback("Feedback-Type: fraud\n"));
    assert_eq!(
        (hidden.recipients.len(), hidden.original.to.as_slice()),
        (0, &["gone@example.net".to_owned()][..])
    );
    let forwarded = feedback("Feedback-Type: abuse\n")
        .replace("report; report-type=feedback-report", "mixed")
        .replace("From: <fbl@provider.example>", "From: anna@example.org\nIn-Reply-To: <x@example.org>");
    assert_eq!(read(forwarded.as_bytes()), None);
}

#[test]
fn what_is_kept_of_a_large_report_is_bounded() {
    let many: String = (0..500)
        .map(|n| {
            format!(
                "Final-Recipient: rfc822; u{n}@example.net\nAction: failed\nDiagnostic-Code: smtp; {}\n\n",
                "ä ".repeat(3000)
            )
        })
        .collect();
    let large = multipart(&format!("{DAEMON}{REPORT}"), &[&status(&many), RETURNED]);
    assert!(large.len() > READ_MAX * 2);
    let report = read(large.as_bytes()).unwrap();
    assert!((20..=RECIPIENTS_MAX).contains(&report.recipients.len()), "{}", report.recipients.len());
    let words = report.recipients[0].diagnostic.as_deref().unwrap();
    assert_eq!(words.chars().count(), DIAGNOSTIC_MAX);
    let short = many.replace(&"ä ".repeat(3000), "550");
    let report = read(multipart(&format!("{DAEMON}{REPORT}"), &[&status(&short)]).as_bytes()).unwrap();
    assert_eq!(report.recipients.len(), RECIPIENTS_MAX);
    let prose = format!(
        "{DAEMON}\nThe following addresses failed:\n\n{}",
        "u@example.net x@example.net\n".repeat(4_000)
    );
    assert_eq!(read(prose.as_bytes()).unwrap().recipients.len(), 1);
}

/// Marsaglia's xorshift: the same damage in every run.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap()
}

#[test]
fn damaged_bytes_never_make_it_panic() {
    let whole = multipart(&format!("{DAEMON}{REPORT}"), &[&status(GONE), RETURNED]);
    let wrapped = format!(
        "Content-Type: message/rfc822\n\n{}",
        whole.replace("boundary=b", "boundary=c").replace("--b", "--c")
    );
    let seeds = [
        multipart(&format!("{DAEMON}{MIXED}"), &[&wrapped]),
        whole,
        feedback("Feedback-Type: abuse\nOriginal-Rcpt-To: <gone@example.net>\n"),
        format!("{DAEMON}\n{BOUNCE}  (expanded from: <b@example.net>)\n\nÜber 4.2.2 a@b...User unknown"),
        format!("{DAEMON}Content-Type: text/html\n\n<p>these recipients failed:<br>a@example.net</p>"),
    ];
    let mut state = 0x5EED_0FB0_0CE5_u64;
    for seed in &seeds {
        for _ in 0..150 {
            let mut bytes = seed.clone().into_bytes();
            for _ in 0..=random(&mut state) % 12 {
                let at = random(&mut state) % bytes.len();
                match random(&mut state) % 4 {
                    0 => bytes[at] = u8::try_from(random(&mut state) % 256).unwrap(),
                    1 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, b"\n:<>@;= \xc3\0"[random(&mut state) % 10]),
                    _ => {
                        let piece = bytes[at..bytes.len().min(at + 40)].to_vec();
                        let to = random(&mut state) % bytes.len();
                        bytes.splice(to..to, piece);
                    }
                }
            }
            // Not through `read`, which would hide it.
            examine(&bytes);
        }
    }
}
