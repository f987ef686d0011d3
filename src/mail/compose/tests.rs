//! What leaves, and that what left can be read again.

use proptest::prelude::*;

use super::*;
use crate::mail::parse::{self, Limits, Parsed, parse};

fn mail() -> Outgoing {
    Outgoing {
        from: Some(Mailbox::new(Some("Support"), "support@example.com")),
        to: vec![Mailbox::new(Some("Anna"), "anna@example.org")],
        subject: "Your order".to_owned(),
        text: "Hello\n".to_owned(),
        message_id: "prt.abc@example.com".to_owned(),
        date: 1_715_000_000_000,
        ..Outgoing::default()
    }
}

fn file(name: &str, content_id: Option<&str>) -> OutgoingAttachment {
    OutgoingAttachment {
        filename: name.to_owned(),
        content_type: "application/pdf".to_owned(),
        bytes: Bytes::from_static(b"\0\x01line\nline\r\n"),
        content_id: content_id.map(str::to_owned),
    }
}

fn read(mail: &Outgoing) -> (String, Parsed) {
    let raw = compose(mail).unwrap().raw;
    let parsed = parse(&raw, &Limits::default()).unwrap();
    (String::from_utf8(raw).unwrap(), parsed)
}

#[test]
fn a_plain_mail_has_exactly_the_fields_it_was_given() {
    let (raw, parsed) = read(&mail());
    assert!(
        raw.contains("Message-ID: <prt.abc@example.com>\r\n") && raw.contains("\r\n\r\nHello\r\n"),
        "{raw}"
    );
    assert_eq!(parsed.message_id.as_deref(), Some("prt.abc@example.com"));
    assert_eq!(parsed.from, mail().from);
    assert_eq!(parsed.to, mail().to);
    assert_eq!(parsed.sent_at, Some(1_715_000_000_000));
    assert_eq!(parsed.text.as_deref().map(str::trim_end), Some("Hello"));
    assert_eq!(parsed.content_type, "text/plain");
}

#[test]
fn the_containers_are_those_that_are_needed() {
    let html = Some("<p>Hello <img src=\"cid:logo@x\"></p>".to_owned());
    let cases = [
        (None, vec![], "text/plain", vec![]),
        (html.clone(), vec![], "multipart/alternative", vec![]),
        (
            html.clone(),
            vec![file("l.png", Some("logo@x"))],
            "multipart/alternative",
            vec!["multipart/related"],
        ),
        (None, vec![file("a.pdf", None)], "multipart/mixed", vec![]),
        (
            html,
            vec![file("a.pdf", None), file("l.png", Some("logo@x"))],
            "multipart/mixed",
            vec!["multipart/alternative", "multipart/related"],
        ),
    ];
    for (html, attachments, top, inner) in cases {
        let (raw, parsed) =
            read(&Outgoing { html: html.clone(), attachments: attachments.clone(), ..mail() });
        assert_eq!(parsed.content_type, top);
        assert!(inner.iter().all(|kind| raw.contains(kind)), "{raw}");
        assert_eq!(parsed.attachments.len(), attachments.len());
        assert_eq!(parsed.html.as_deref().map(str::trim_end), html.as_deref());
        for (index, found) in parsed.attachments.iter().enumerate() {
            assert_eq!(found.inline, found.content_id.is_some());
            let content = parse::attachment(raw.as_bytes(), index).unwrap();
            assert_eq!(content.bytes, b"\0\x01line\nline\r\n");
        }
    }
}

#[test]
fn every_header_source_refuses_cr_lf_and_nul() {
    for bad in ["a\rb", "a\nb", "a\r\nBcc: x@example.com", "a\0b"] {
        let person = || vec![Mailbox::new(Some(bad), "a@example.com")];
        let address = || vec![Mailbox::new(None, format!("a@example.com{bad}"))];
        let text = bad.to_owned();
        let cases = [
            ("from", Outgoing { from: person().pop(), ..mail() }),
            ("from", Outgoing { from: address().pop(), ..mail() }),
            ("reply_to", Outgoing { reply_to: person(), ..mail() }),
            ("to", Outgoing { to: address(), ..mail() }),
            ("cc", Outgoing { cc: person(), ..mail() }),
            ("bcc", Outgoing { bcc: address(), ..mail() }),
            ("subject", Outgoing { subject: text.clone(), ..mail() }),
            ("message_id", Outgoing { message_id: text.clone(), ..mail() }),
            ("in_reply_to", Outgoing { in_reply_to: Some(text.clone()), ..mail() }),
            ("references", Outgoing { references: vec![text.clone()], ..mail() }),
            ("attachments.filename", Outgoing { attachments: vec![file(bad, None)], ..mail() }),
            ("attachments.content_id", Outgoing { attachments: vec![file("a", Some(bad))], ..mail() }),
            (
                "attachments.content_type",
                Outgoing {
                    attachments: vec![OutgoingAttachment { content_type: text.clone(), ..file("a", None) }],
                    ..mail()
                },
            ),
            ("headers", Outgoing { headers: vec![(text.clone(), "x".to_owned())], ..mail() }),
            ("headers.X-A", Outgoing { headers: vec![("X-A".to_owned(), text.clone())], ..mail() }),
        ];
        for (field, mail) in cases {
            let expected = ComposeError::HeaderInjection { field: field.to_owned() };
            assert_eq!(compose(&mail).unwrap_err(), expected, "{bad:?}");
        }
    }
}

#[test]
fn what_cannot_be_sent_says_why() {
    assert_eq!(compose(&Outgoing { from: None, ..mail() }), Err(ComposeError::NoSender));
    assert_eq!(compose(&Outgoing { to: vec![], ..mail() }), Err(ComposeError::NoRecipients));
    for id in ["", "noat", "a b@x", "<a@x>", "ä@x", "@x"] {
        assert_eq!(
            compose(&Outgoing { message_id: id.to_owned(), ..mail() }),
            Err(ComposeError::InvalidMessageId),
            "{id}"
        );
    }
    let error = compose(&Outgoing { cc: vec![Mailbox::new(None, "nobody")], ..mail() }).unwrap_err();
    assert!(
        matches!(error, ComposeError::InvalidAddress { field: "cc", source: AddressError::Form, .. }),
        "{error}"
    );
    for name in ["Bcc", "to", "Content-Type", "Resent-To", "X A", "X:A", "", "Ä", "Auto-Submitted"] {
        let error =
            compose(&Outgoing { headers: vec![(name.to_owned(), "x".to_owned())], ..mail() }).unwrap_err();
        assert_eq!(error, ComposeError::HeaderNotAllowed { name: name.to_owned() });
    }
}

#[test]
fn bcc_is_in_the_envelope_only_and_each_recipient_once() {
    let composed = compose(&Outgoing {
        cc: vec![Mailbox::new(None, "anna@EXAMPLE.org")],
        bcc: vec![Mailbox::new(None, "secret@example.net")],
        ..mail()
    })
    .unwrap();
    let raw = String::from_utf8(composed.raw).unwrap();
    assert!(!raw.to_lowercase().contains("bcc") && !raw.contains("secret"), "{raw}");
    let recipients: Vec<_> = composed.recipients.iter().map(Address::as_str).collect();
    assert_eq!(recipients, ["anna@example.org", "secret@example.net"]);
    assert_eq!(composed.sender.as_str(), "support@example.com");
}

#[test]
fn international_domains_are_made_ascii() {
    let to = |address: &str| Outgoing { to: vec![Mailbox::new(None, address)], ..mail() };
    let domain = compose(&to("info@Bücher.example")).unwrap();
    assert_eq!(domain.recipients[0].as_str(), "info@xn--bcher-kva.example");
    assert!(domain.raw.is_ascii());
}

#[test]
fn a_long_chain_keeps_its_first_and_newest_ids() {
    let references: Vec<String> = (0..100).map(|i| format!("id-{i}@example.com")).collect();
    let (raw, parsed) =
        read(&Outgoing { references, in_reply_to: Some("id-99@example.com".to_owned()), ..mail() });
    let expected: Vec<String> =
        std::iter::once(0).chain(80..100).map(|i| format!("id-{i}@example.com")).collect();
    assert_eq!(parsed.references, expected);
    assert_eq!(parsed.in_reply_to, ["id-99@example.com"]);
    assert!(raw.lines().all(|line| line.len() <= 998));
}

#[test]
fn machine_mail_is_marked_and_extra_fields_are_carried() {
    for (value, word) in
        [(AutoSubmitted::AutoReplied, "auto-replied"), (AutoSubmitted::AutoGenerated, "auto-generated")]
    {
        let headers = vec![("X-Postroom-Loop".to_owned(), "centre-1".to_owned())];
        let (_, parsed) = read(&Outgoing { auto_submitted: Some(value), headers, ..mail() });
        assert_eq!(parsed.headers["auto-submitted"], [word]);
        assert_eq!(parsed.headers["x-postroom-loop"], ["centre-1"]);
    }
}

#[test]
fn a_megabyte_of_lines_is_composed_at_once() {
    let (_, parsed) = read(&Outgoing { text: "line\n".repeat(200_000), ..mail() });
    assert_eq!(parsed.text.unwrap().trim_end().lines().count(), 200_000);
}

#[test]
fn reply_prefixes_stand_once_in_any_language() {
    for original in [
        "Order",
        "Re: Order",
        "RE: re: Order",
        "AW: Order",
        "Re[2]: AW: Order",
        "SV: Order",
        "Antw: Order",
        "回复：Order",
        "RE : Order",
    ] {
        assert_eq!(reply_subject(original), "Re: Order", "{original}");
    }
    assert_eq!(reply_subject("Fwd: Order"), "Re: Fwd: Order");
    assert_eq!(reply_subject("Regarding: it"), "Re: Regarding: it");
    assert_eq!(reply_subject(""), "Re:");
    for original in ["Order", "Fwd: Order", "FW: WG: Order", "TR: Order"] {
        assert_eq!(forward_subject(original), "Fwd: Order", "{original}");
    }
    assert_eq!(forward_subject("Re: Order"), "Fwd: Re: Order");
}

fn received(header: &str) -> Parsed {
    parse(format!("{header}\r\n\r\nHello\n> older\n\nBye\n").as_bytes(), &Limits::default()).unwrap()
}

#[test]
fn answers_go_to_those_who_expect_them() {
    let own = ["support@example.com"];
    let addresses = |list: Vec<Mailbox>| list.into_iter().map(|m| m.address).collect::<Vec<_>>();
    let mail = received(
        "From: a@x.org\r\nTo: Support@EXAMPLE.com, b@x.org, B <b@X.ORG>\r\nCc: c@x.org, a@x.org, support+prt.1@example.com",
    );
    let (to, cc) = reply_recipients(&mail, &own, true);
    assert_eq!(
        (addresses(to), addresses(cc)),
        (vec!["a@x.org".to_owned()], vec!["b@x.org".to_owned(), "c@x.org".to_owned()])
    );
    let (to, cc) = reply_recipients(&mail, &own, false);
    assert_eq!((addresses(to), cc), (vec!["a@x.org".to_owned()], vec![]));
    let elsewhere = received("From: a@x.org\r\nReply-To: desk@x.org\r\nTo: support@example.com");
    assert_eq!(addresses(reply_recipients(&elsewhere, &own, true).0), ["desk@x.org"]);
    let ours = received("From: support@example.com\r\nTo: a@x.org");
    assert_eq!(addresses(reply_recipients(&ours, &own, false).0), ["a@x.org"]);
}

#[test]
fn the_quote_under_an_answer_is_found_as_one() {
    let mail = received("From: Anna <a@x.org>\r\nDate: Mon, 6 May 2024 12:53:20 +0000\r\nSubject: <Order>");
    let (text, html) = reply_quote(&Quotable::from(&mail));
    assert_eq!(text, "On 2024-05-06 12:53 UTC, Anna <a@x.org> wrote:\n> Hello\n>> older\n>\n> Bye\n");
    assert!(
        html.contains("Anna &lt;a@x.org&gt; wrote:</p><blockquote") && html.contains("&gt; older<br>"),
        "{html}"
    );
    let answer = format!("Thanks\n\n{text}");
    assert_eq!(crate::mail::quote::split(&answer).new_text.trim(), "Thanks");
    let (text, html) = forward_quote(&Quotable::from(&mail));
    assert!(
        text.contains("From: Anna <a@x.org>\nDate: 2024-05-06 12:53 UTC\nSubject: <Order>\n\nHello"),
        "{text}"
    );
    assert!(html.contains("Subject: &lt;Order&gt;"), "{html}");
}

#[test]
fn quoted_html_is_sanitised() {
    let quotable = Quotable { html: Some("<script>x</script><p onclick=x>Hi</p>"), ..Quotable::default() };
    assert!(reply_quote(&quotable).1.contains("<p>Hi</p>"));
    assert!(!reply_quote(&quotable).1.contains("script"));
}

#[test]
fn an_answer_refers_to_the_whole_thread() {
    assert_eq!(
        answer_references(&received("Message-ID: <c@x>\r\nReferences: <a@x> <b@x>")),
        ["a@x", "b@x", "c@x"]
    );
    assert_eq!(answer_references(&received("Message-ID: <c@x>\r\nIn-Reply-To: <b@x>")), ["b@x", "c@x"]);
    assert!(answer_references(&received("From: a@x")).is_empty());
}

fn header_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9äöüßéñжЩ漢字€ ,.;:()<>@\"'?!=_/\\[\\]+&-]{0,120}"
        .prop_map(|t| t.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn person() -> impl Strategy<Value = Mailbox> {
    (
        "[A-Za-zäöüß漢字,. ()\"\\\\'@-]{0,40}",
        "[a-z0-9][a-z0-9.+_-]{0,20}[a-z0-9]",
        "[a-z][a-z0-9]{0,10}\\.(example|org)",
    )
        .prop_filter_map("dots must be apart", |(name, local, domain)| {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            Address::parse(&format!("{local}@{domain}"))
                .ok()
                .map(|a| Mailbox::new(Some(&name), a.to_string()))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_composed_is_read_again(
        from in person(),
        to in proptest::collection::vec(person(), 1..6),
        cc in proptest::collection::vec(person(), 0..3),
        subject in header_text(),
        text in "[ -~äöü漢€\n=.]{0,600}",
        html in proptest::option::of("<p>[a-z äöü漢]{1,200}</p>"),
        files in proptest::collection::vec(("[A-Za-z0-9äöü漢 _()';=%-]{1,60}\\.[a-z]{3}", proptest::collection::vec(any::<u8>(), 0..300)), 0..3),
    ) {
        let attachments: Vec<_> = files.iter().map(|(name, bytes)| OutgoingAttachment {
            filename: name.trim().to_owned(),
            content_type: "application/octet-stream".to_owned(),
            bytes: Bytes::from(bytes.clone()),
            content_id: None,
        }).collect();
        let sent = Outgoing { from: Some(from.clone()), to, cc, subject, text, html, attachments, ..mail() };
        let raw = compose(&sent).unwrap().raw;
        prop_assert!(raw.is_ascii());
        let got = parse(&raw, &Limits::default()).unwrap();
        prop_assert_eq!(got.from, Some(from));
        prop_assert_eq!(got.to, sent.to);
        prop_assert_eq!(got.cc, sent.cc);
        prop_assert_eq!(got.subject.unwrap_or_default(), sent.subject);
        prop_assert_eq!(got.html.as_deref().map(str::trim_end), sent.html.as_deref());
        if sent.html.is_none() || !sent.text.trim().is_empty() {
            let text = got.text.unwrap_or_default();
            prop_assert_eq!(text.trim_end(), sent.text.trim_end());
        }
        prop_assert_eq!(got.attachments.len(), files.len());
        for (index, (name, bytes)) in files.iter().enumerate() {
            let file = parse::attachment(&raw, index).unwrap();
            prop_assert_eq!(file.filename.as_deref(), Some(name.trim()));
            prop_assert_eq!(&file.bytes, bytes);
            prop_assert_eq!(got.attachments[index].size_bytes, bytes.len() as u64);
        }
    }
}
