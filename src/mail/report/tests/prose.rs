//! Reports in a server's own words, and mails that only look like reports.

use super::*;

const PERSON: &str =
    "Return-Path: <anna@example.org>\nFrom: Anna <anna@example.org>\nTo: support@example.com\n";

#[test]
fn servers_that_write_prose_are_understood() {
    let a = "a@example.net";
    let cases: [(&str, &[Fate<'_>]); 17] = [
        (
            "I could not deliver it.\n\n<a@example.net>:\nNo mailbox by that name. (#5.1.1)\n",
            &[(a, Failed, Permanent)],
        ),
        ("<a@example.net>: host mx[192.0.2.1] said: 450\n    4.2.2 over limit\n", &[(a, Failed, Transient)]),
        (
            "The following address(es) failed:\n\n  a@example.net:\n    <x@example.net>: 550 unknown\n  b@example.net\n    quota\n",
            &[(a, Failed, Permanent), ("b@example.net", Failed, Transient)],
        ),
        ("These recipients could not be reached:\n\n * [SMTP:a@example.net]\n", &[(a, Failed, Permanent)]),
        (
            "----- The following addresses had fatal errors -----\n<a@example.net>\n    (expanded from: <b@example.net>)\n",
            &[(a, Failed, Permanent), ("b@example.net", Failed, Permanent)],
        ),
        (
            "did not reach the following recipient(s):\n\nc=GB;p=X;dda:SMTP=a@example.net; on Monday\n",
            &[(a, Failed, Permanent)],
        ),
        ("Your message was not delivered to: a@example.net\n", &[(a, Failed, Permanent)]),
        ("Undeliverable address: a@example.net\n\nReason: the mailbox is full\n", &[(a, Failed, Permanent)]),
        ("550 <a@example.net>... User unknown\n", &[(a, Failed, Permanent)]),
        ("Your message to \"a@example.net\" was rejected: 552 too large\n", &[(a, Failed, Permanent)]),
        (
            "It has not yet been delivered to the following recipients:\n\n  a@example.net\n\nIt will be retried.\n",
            &[(a, Delayed, Transient)],
        ),
        ("Your message to a@example.net has been delayed.\n", &[(a, Delayed, Transient)]),
        (
            "Ihre Mail wurde an folgende Empfänger nicht zugestellt:\n\n  a@example.net\n",
            &[(a, Failed, Permanent)],
        ),
        ("The following recipients failed:\n\n  smith\n", &[("smith@mx.example.net", Failed, Permanent)]),
        (
            "It could not be successfully delivered to these users:\na@example.net\n",
            &[(a, Failed, Permanent)],
        ),
        ("For help write to the following address:\nhelp@example.net\n\nA connection failed.\n", &[]),
        ("It was relayed successfully to the following recipients:\n\n  a@example.net\n", &[]),
    ];
    for (text, expected) in cases {
        let report = report(&format!("{DAEMON}\n{text}"));
        assert_eq!(fates(&report), expected, "{text}");
    }
}

#[test]
fn markup_and_the_header_name_recipients_too() {
    let html = "Content-Type: text/html\n\n<p>Delivery to these recipients failed:<br><br>a@example.net<br>No such user</p>\n";
    assert_eq!(fates(&report(&format!("{DAEMON}{html}"))), [("a@example.net", Failed, Permanent)]);
    let header = "X-Failed-Recipients: a@example.net, <b@Example.net>\n\nIt went wrong.\n";
    let addresses = [("a@example.net", Failed, Permanent), ("b@example.net", Failed, Permanent)];
    assert_eq!(fates(&report(&format!("{DAEMON}{header}"))), addresses);
}

#[test]
fn addresses_in_the_returned_copy_or_of_the_parties_are_not_taken_for_recipients() {
    for copy in [
        "--- Below this line is a copy of the message.",
        "Original message follows.",
        "Return-Path: <x@y.org>",
    ] {
        let text = format!(
            "The following addresses failed:\n\n<gone@example.net>\nsupport@example.com\npostmaster@example.net\n\n{copy}\n\n\
             <other@example.net>: hello\n"
        );
        assert_eq!(fates(&report(&format!("{DAEMON}\n{text}"))), GONE_FATE, "{copy}");
    }
}

#[test]
fn mail_of_people_and_answering_machines_is_no_report_even_when_it_quotes_one() {
    let null = "Return-Path: <>\nFrom: Anna <anna@example.org>\nTo: support@example.com\n";
    let postmaster = "From: Paul <postmaster@example.org>\nTo: support@example.com\n";
    let cases = [
        format!("{PERSON}Subject: Help\n\nI got this:\n\n{BOUNCE}"),
        format!("{PERSON}Subject: Delivery failure\n\n{BOUNCE}"),
        format!("{PERSON}Subject: Undelivered Mail Returned to Sender\n\n{BOUNCE}"),
        format!("{PERSON}Subject: Fwd: failure notice\nX-Failed-Recipients: gone@example.net\n\n{BOUNCE}"),
        format!("{postmaster}Subject: Re: failure notice\nIn-Reply-To: <x@example.com>\n\nHere:\n\n{BOUNCE}"),
        format!("{postmaster}Subject: Lunch\n\nAt the following address:\n\ncanteen@example.net\n"),
        format!("{null}Subject: Automatic reply: Undeliverable\n\n{BOUNCE}"),
        format!(
            "{null}Subject: I am away\nAuto-Submitted: auto-replied\n\nWrite to these users:\n\nbob@example.org\n"
        ),
        format!("{null}Subject: Undeliverable\nPrecedence: auto_reply\n\n{BOUNCE}"),
        format!("{null}Subject: Re: Returned mail\n\n> {BOUNCE}"),
        format!("{PERSON}List-Id: <news.example.org>\nSubject: Delivery status of your order\n\n{BOUNCE}"),
        multipart(&format!("{PERSON}Subject: See attached\n{MIXED}"), &[&status(GONE), RETURNED]),
        multipart(
            &format!("{PERSON}Subject: Fwd: bounce\n{MIXED}"),
            &[&format!("Content-Type: message/rfc822\n\n{DAEMON}\n{BOUNCE}")],
        ),
        multipart(
            &format!(
                "{PERSON}Subject: Read: Your order\n{}",
                REPORT.replace("delivery-status", "disposition-notification")
            ),
            &[
                "Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; anna@example.org\n\
               Disposition: manual-action/MDN-sent-manually; displayed\n",
            ],
        ),
    ];
    for mail in cases {
        assert_eq!(read(mail.as_bytes()), None, "{mail}");
    }
}

#[test]
fn of_the_fixtures_only_the_reports_are_reports() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut reports = Vec::new();
    let mut others = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        match read(&std::fs::read(&path).unwrap()) {
            Some(_) => reports.push(path.file_stem().unwrap().to_string_lossy().into_owned()),
            None => others += 1,
        }
    }
    reports.sort();
    let known =
        ["bounce_dsn_failed", "bounce_dsn_headers_only", "bounce_old_style", "complaint_arf", "dsn_delayed"];
    assert_eq!(reports, known);
    assert!(others >= 40);
}
