//! The fixtures of `tests/fixtures`, each with what it says; hostile sizes and shapes; arbitrary bytes.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::mail::sanitise::Images;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/{name}.eml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn parsed(name: &str) -> Parsed {
    parse(&fixture(name), &Limits::default()).unwrap()
}

fn read_bytes(raw: &[u8]) -> Parsed {
    parse(raw, &Limits::default()).unwrap()
}

/// What a fixture says, in the order a person reads it; `-` is nothing.
struct Case {
    name: &'static str,
    from: &'static str,
    id: &'static str,
    subject: &'static str,
    new_text: &'static str,
    /// `name type size` of each attachment, `inline` after those that are.
    attachments: &'static [&'static str],
    class: Classification,
}

const fn case(
    name: &'static str,
    from: &'static str,
    id: &'static str,
    subject: &'static str,
    new_text: &'static str,
) -> Case {
    Case { name, from, id, subject, new_text, attachments: &[], class: Classification::Normal }
}

impl Case {
    const fn with(self, attachments: &'static [&'static str]) -> Self {
        Self { attachments, ..self }
    }

    const fn is(self, class: Classification) -> Self {
        Self { class, ..self }
    }
}

const ANNA: &str = "Anna Smith <anna@example.org>";
const PLAIN_ANNA: &str = "anna@example.org";

static CASES: &[Case] = &[
    case(
        "plain_english",
        ANNA,
        "plain-1@example.org",
        "Where is my order?",
        "Hello,\n\nmy order 4711 has not arrived. Can you help?\n\nAnna",
    ),
    case(
        "german_quoted_printable",
        "Jürgen Müller <juergen@example.de>",
        "de-1@example.de",
        "Rückfrage zur Größe",
        "Guten Tag,\n\nwelche Größe empfehlen Sie für Erwachsene?",
    ),
    case(
        "french_windows_1252",
        "Zoé Lefèvre <zoe@example.fr>",
        "fr-1@example.fr",
        "Remboursement € 20",
        "Bonjour,\n\nj’attends mes 20 € depuis l’été.",
    ),
    case(
        "russian_koi8",
        "Иван Петров <ivan@example.ru>",
        "ru-1@example.ru",
        "Доставка",
        "Когда приедет посылка?",
    ),
    case(
        "japanese_iso_2022_jp",
        "山田花子 <hanako@example.jp>",
        "jp-1@example.jp",
        "注文について",
        "注文の状況を教えてください。",
    ),
    case("chinese_gb2312", "李明 <li@example.cn>", "cn-1@example.cn", "发票", "请给我发票。"),
    case("arabic_utf8", ANNA, "ar-1@example.org", "استفسار", "أين طلبي؟"),
    case("no_from", "-", "nofrom@example.org", "Who am I?", "Guess."),
    case("no_message_id", PLAIN_ANNA, "-", "Without an id", "Nameless."),
    case("no_header_at_all", "-", "-", "-", "Just some words that a machine piped in.\n\nNothing else."),
    case("header_only", PLAIN_ANNA, "-", "Only a header", "-"),
    case("reused_message_id_1", PLAIN_ANNA, "reused@example.org", "Message 1", "First message."),
    case("reused_message_id_2", PLAIN_ANNA, "reused@example.org", "Message 2", "Second message, same id."),
    case("broken_mime_no_end", ANNA, "broken-1@example.org", "Cut short", "The beginning is here.")
        .with(&["half.pdf application/pdf 10"]),
    case("broken_mime_no_boundary", ANNA, "broken-2@example.org", "No boundary given", "Still readable.")
        .with(&["list.csv text/csv 3"]),
    case(
        "broken_mime_boundary_never_comes",
        ANNA,
        "broken-3@example.org",
        "Boundary never comes",
        "This body has no parts at all.",
    ),
    case("broken_header_lines", PLAIN_ANNA, "-", "Broken lines", "Readable."),
    case("eight_bit_headers_latin1", "Jürgen Müller <j@example.de>", "l1@example.de", "Größe", "Hallo"),
    case("eight_bit_headers_utf8", "Jürgen Müller <j@example.de>", "u8@example.de", "Größe 漢字", "Hallo"),
    case("wrong_charset_says_utf8", ANNA, "wc-1@example.org", "Wrong charset", "Das Café in Köln"),
    case("wrong_charset_says_ascii", ANNA, "wc-2@example.org", "Wrong charset", "Das Café in Köln"),
    case("unknown_charset", ANNA, "wc-3@example.org", "Unknown charset", "Das Café in Köln"),
    case("nul_bytes", "Anna <anna@example.org>", "nul@example.org", "NUL", "Hello"),
    case("bare_cr", PLAIN_ANNA, "cr@example.org", "Old line ends", "Line one\nLine two"),
    case("bare_lf", PLAIN_ANNA, "lf@example.org", "Unix line ends", "Line one\nLine two"),
    case("mixed_line_ends", PLAIN_ANNA, "mix@example.org", "Mixed X-Bad: injected", "One\nTwo\nThree"),
    case("html_with_scripts", ANNA, "html-1@example.org", "Look at this", "Dear team, please click."),
    case(
        "outlook_reply",
        ANNA,
        "outlook-1@example.org",
        "RE: Your order",
        "That works for me, thank you.\n\nKind regards\nAnna",
    ),
    case("gmail_reply", ANNA, "CAF+gmail1@example.org", "Re: Your order", "Tuesday is fine."),
    case("iphone_reply", ANNA, "iphone-1@example.org", "Re: Your order", "Tuesday is fine"),
    case("german_reply_wrapped", ANNA, "de-reply@example.org", "AW: Ihre Bestellung", "Ja, Dienstag passt."),
    case(
        "inline_answers",
        ANNA,
        "inline-1@example.org",
        "Re: Questions",
        "On 6 May 2024, Support wrote:\n> Which size?\nMedium, please.\n\n> Which colour?\nBlue.",
    ),
    case(
        "auto_reply",
        "Bob <bob@example.org>",
        "auto-1@example.org",
        "Re: Your order",
        "I will read your mail soon.",
    )
    .is(Classification::AutoReply),
    case(
        "out_of_office_exchange",
        "Bob <bob@example.org>",
        "ooo-1@example.org",
        "Automatic reply: Your order",
        "I am away until Friday.",
    )
    .is(Classification::AutoReply),
    case(
        "bounce_dsn_failed",
        "Mail Delivery System <MAILER-DAEMON@mx.example.net>",
        "dsn-1@mx.example.net",
        "Undelivered Mail Returned to Sender",
        "This is the mail system at mx.example.net.",
    )
    .with(&["- message/delivery-status 154", "- message/rfc822 113"])
    .is(Classification::Bounce),
    case(
        "dsn_delayed",
        "Mail Delivery System <MAILER-DAEMON@mx.example.net>",
        "dsn-2@mx.example.net",
        "Delayed Mail (still being retried)",
        "This is the mail system at mx.example.net.",
    )
    .with(&["- message/delivery-status 155", "- message/rfc822 113"])
    .is(Classification::AutoReply),
    case(
        "bounce_dsn_headers_only",
        "Mail Delivery System <MAILER-DAEMON@mx.example.net>",
        "dsn-3@mx.example.net",
        "Delivery Status Notification (Failure)",
        "This is the mail system at mx.example.net.",
    )
    .with(&["- message/delivery-status 169", "- text/rfc822-headers 113"])
    .is(Classification::Bounce),
    case(
        "bounce_old_style",
        "Mail Delivery System <mailer-daemon@old.example.net>",
        "old-1@old.example.net",
        "Mail delivery failed: returning message to sender",
        "A message that you sent could not be delivered.",
    )
    .is(Classification::Bounce),
    case(
        "complaint_arf",
        "abuse@provider.example",
        "arf-1@provider.example",
        "FW: Your order",
        "This is an email abuse report.",
    )
    .with(&["- message/feedback-report 63", "- message/rfc822 55"])
    .is(Classification::Complaint),
    case(
        "mailing_list",
        "Carla <carla@example.org>",
        "list-1@lists.example.org",
        "[news] May",
        "The news of May.",
    )
    .is(Classification::List),
    case("inline_cid_image", ANNA, "cid-1@example.org", "A photo", "See the photo.")
        .with(&["photo.png image/png 70 inline"]),
    case("rfc2231_filenames", ANNA, "names-1@example.org", "Names", "Files.").with(&[
        "Übersicht €.pdf application/pdf 3",
        "Sehr langer Name für eine Datei.pdf application/pdf 3",
        "Привет.pdf application/pdf 3",
        "passwd text/plain 4",
    ]),
    case("calendar_invite", ANNA, "cal-1@example.org", "Invitation: Visit", "You are invited.")
        .with(&["- text/calendar 46", "invite.ics application/ics 30"]),
    case("winmail_dat", ANNA, "tnef-1@example.org", "From Outlook", "See attached.")
        .with(&["winmail.dat application/ms-tnef 260"]),
    case("pgp_signed", ANNA, "pgp-1@example.org", "Signed", "This is really me.")
        .with(&["signature.asc application/pgp-signature 76"]),
    case("empty_body", ANNA, "empty-1@example.org", "Nothing to say", "-"),
    case("only_attachment", ANNA, "only-1@example.org", "Scan", "-").with(&["scan.pdf application/pdf 13"]),
    case(
        "html_with_text_footer",
        ANNA,
        "foot-1@example.org",
        "Through a list",
        "The main content.\nSent through our gateway & checked.",
    ),
    case("forwarded_message", ANNA, "fwd-1@example.org", "Fwd: Complaint", "Please handle this.")
        .with(&["complaint.eml message/rfc822 62"]),
    case(
        "groups_and_comments",
        "Smith, Anna (Sales) (home) <anna@example.org>",
        "folded-id@example.org",
        "A subject that was folded 😊",
        "Hi",
    ),
    case("own_loop", "Support <support@example.com>", "loop-1@example.com", "Receipt", "We got your mail.")
        .is(Classification::AutoReply),
    case("uppercase_everything", "ANNA@EXAMPLE.ORG", "SHOUT@EXAMPLE.ORG", "SHOUTING", "HELLO"),
];

fn shown(attachment: &Attachment) -> String {
    let name = attachment.filename.as_deref().unwrap_or("-");
    let mut text = format!("{name} {} {}", attachment.content_type, attachment.size_bytes);
    if attachment.inline {
        text.push_str(" inline");
    }
    text
}

#[test]
fn every_fixture_says_what_it_says() {
    let mut differences = String::new();
    for case in CASES {
        let mail = parsed(case.name);
        let attachments: Vec<String> = mail.attachments.iter().map(shown).collect();
        let found = [
            mail.from.as_ref().map_or("-".to_owned(), Mailbox::to_string),
            mail.message_id.clone().unwrap_or("-".to_owned()),
            mail.subject.clone().unwrap_or("-".to_owned()),
            mail.new_text.clone().unwrap_or("-".to_owned()),
            attachments.join("; "),
            format!("{:?}", mail.class),
        ];
        let expected = [
            case.from,
            case.id,
            case.subject,
            case.new_text,
            &case.attachments.join("; "),
            &format!("{:?}", case.class),
        ];
        for (found, expected) in found.iter().zip(expected) {
            if found != expected {
                let _ = writeln!(differences, "{}: {found:?} should be {expected:?}", case.name);
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn every_fixture_has_a_case_and_survives_json() {
    let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let folder = format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
    let files =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter_map(|f| f.strip_suffix(".eml").map(str::to_owned)).collect();
    files.sort_unstable();
    assert_eq!(names, files);
    for name in names {
        let mail = parsed(name);
        let json = serde_json::to_string(&mail).unwrap();
        assert!(!has_nul(&serde_json::to_value(&mail).unwrap()), "{name}");
        assert_eq!(serde_json::from_str::<Parsed>(&json).unwrap(), mail, "{name}");
    }
}

#[test]
fn quotes_and_signatures_are_told_apart_in_real_mails() {
    let cases = [
        ("plain_english", "", "-- \nAnna Smith"),
        ("outlook_reply", "From: Support <support@example.com>\nSent:", ""),
        ("gmail_reply", "On Mon, May 6, 2024 at 10:12 AM Support via", ""),
        ("iphone_reply", "> On 6 May 2024", "Sent from my iPhone"),
        ("german_reply_wrapped", "Am 06.05.2024 um 10:12 schrieb Support:", ""),
        ("inline_answers", "", ""),
    ];
    for (name, quoted, signature) in cases {
        let mail = parsed(name);
        for (found, start) in [(&mail.quoted_text, quoted), (&mail.signature, signature)] {
            let found = found.as_deref().unwrap_or_default();
            assert!(found.starts_with(start) && found.is_empty() == start.is_empty(), "{name}: {found:?}");
        }
    }
}

#[test]
fn people_dates_and_threads_are_read() {
    let mail = parsed("groups_and_comments");
    let addresses = |list: &[Mailbox]| list.iter().map(|m| m.address.clone()).collect::<Vec<_>>();
    assert_eq!(addresses(&mail.to), ["bob@example.com", "carla@example.com", "support@example.com"]);
    assert!(mail.cc.is_empty());
    assert_eq!(mail.reply_to, [Mailbox::new(Some("Büro"), "office@example.org")]);
    assert_eq!(mail.sender, Some(Mailbox::new(None, "assistant@example.org")));
    assert_eq!(mail.sent_at, Some(1_715_008_320_000));
    assert_eq!(mail.references, ["a@x", "b@x", "c@x"]);
    let mail = parsed("outlook_reply");
    assert_eq!(mail.in_reply_to, ["prt.original@example.com"]);
    assert_eq!(mail.references, ["first@example.org", "prt.original@example.com"]);
    assert_eq!(mail.sent_at, Some(1_714_983_120_000));
    assert_eq!(parsed("no_header_at_all").sent_at, None);
}

#[test]
fn a_long_chain_of_references_keeps_its_newest_ids() {
    let id = |at: usize| format!("{}.{at}@mail.example.org", "x".repeat(60));
    let chain: Vec<String> = (0..150).map(id).collect();
    let folded = chain.iter().map(|id| format!("<{id}>")).collect::<Vec<_>>().join("\r\n\t");
    let mail = read_bytes(format!("References: {folded}\r\n\r\nHi").as_bytes());
    assert_eq!(mail.references, chain[50..]);
    let bare = read_bytes(b"References: a@x,\r\n\tb@x;c@\x01x\r\n\r\nHi");
    assert_eq!(bare.references, ["a@x", "b@x", "c@x"]);
}

#[test]
fn the_fields_of_interest_are_kept_and_no_others() {
    let mail = parsed("mailing_list");
    assert_eq!(mail.headers["list-id"], ["Example news <news.lists.example.org>"]);
    assert_eq!(mail.headers["return-path"], ["<news-bounces@lists.example.org>"]);
    assert_eq!(mail.headers["precedence"], ["list"]);
    assert!(!mail.headers.contains_key("subject"));
    assert_eq!(classify::with_loop_check(&parsed("own_loop"), "centre-1"), Classification::Loop);
    assert_eq!(classify::with_loop_check(&parsed("own_loop"), "another"), Classification::AutoReply);
}

#[test]
fn attachments_come_out_as_they_went_in() {
    let raw = fixture("inline_cid_image");
    let image = attachment(&raw, 0).unwrap();
    assert_eq!((image.filename.as_deref(), image.content_type.as_str()), (Some("photo.png"), "image/png"));
    assert!(image.bytes.starts_with(b"\x89PNG") && image.bytes.len() == 70);
    assert_eq!(attachment(&raw, 1), None);
    let mail = parsed("inline_cid_image");
    assert_eq!(mail.attachments[0].content_id.as_deref(), Some("photo1@example.org"));
    assert_eq!(mail.attachments[0].part, "2");
    let enclosed = attachment(&fixture("forwarded_message"), 0).unwrap();
    assert_eq!(read_bytes(&enclosed.bytes).subject.as_deref(), Some("Complaint"));
    for case in CASES {
        let raw = fixture(case.name);
        for file in parsed(case.name).attachments {
            let content = attachment(&raw, file.index).unwrap();
            assert_eq!(
                (content.bytes.len() as u64, content.filename),
                (file.size_bytes, file.filename),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn html_is_kept_as_it_came_and_cleaned_when_it_is_shown() {
    let mail = parsed("html_with_scripts");
    let raw = mail.html.unwrap();
    assert!(raw.contains("<script>steal()</script>"));
    let clean = sanitise::html(&raw, Images::Blocked, |_| None);
    assert_eq!(clean.blocked_images, 1);
    assert!(!clean.html.contains("steal") && !clean.html.contains("form"), "{}", clean.html);
    let footer = parsed("html_with_text_footer").html.unwrap();
    assert!(footer.contains("<i>main</i>") && footer.contains("our gateway &amp; checked"), "{footer}");
}

#[test]
fn nothing_at_all_is_unparsable() {
    for raw in [&b""[..], b"\r\n\r\n", b"  \n\t", b"\0\0\0"] {
        assert_eq!(parse(raw, &Limits::default()).unwrap_err().reason, "empty");
    }
}

fn nested(depth: usize) -> Vec<u8> {
    let mut raw = String::from("From: a@example.org\r\nSubject: Deep\r\n");
    for level in 0..depth {
        let _ = write!(raw, "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
    }
    raw.push_str("Content-Type: text/plain\r\n\r\nbottom\r\n");
    for level in (0..depth).rev() {
        let _ = write!(raw, "--b{level}--\r\n");
    }
    raw.into_bytes()
}

#[test]
fn parts_nested_too_deep_are_refused_and_reasonable_ones_read() {
    assert_eq!(parse(&nested(1000), &Limits::default()).unwrap_err().reason, "too_deep");
    assert_eq!(parse(&nested(50_000), &Limits::default()).unwrap_err().reason, "too_deep");
    assert_eq!(read_bytes(&nested(40)).new_text.as_deref(), Some("bottom"));
}

#[test]
fn messages_within_messages_cost_nothing() {
    let once = "Content-Type: message/rfc822\r\n\r\n";
    let mail = read_bytes(format!("From: a@example.org\r\n{}", once.repeat(50_000)).as_bytes());
    assert_eq!(mail.attachments.len(), 1);
}

#[test]
fn too_many_parts_are_refused() {
    let part = "--b\r\n\r\nx\r\n";
    let raw = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(2000));
    assert_eq!(parse(raw.as_bytes(), &Limits::default()).unwrap_err().reason, "too_many_parts");
    let raw = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(900));
    assert_eq!(read_bytes(raw.as_bytes()).text.unwrap().lines().count(), 900);
}

#[test]
fn an_attachment_of_50_megabytes_is_measured_and_extracted() {
    let line = format!("{}\r\n", "QUJD".repeat(19));
    let lines = 50 * 1024 * 1024 / 57 + 1;
    let raw = format!(
        "From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nBig\r\n--b\r\nContent-Type: video/mp4; name=v.mp4\r\nContent-Transfer-Encoding: base64\r\n\r\n{}--b--\r\n",
        line.repeat(lines)
    );
    let mail = read_bytes(raw.as_bytes());
    assert_eq!(mail.attachments[0].size_bytes, (lines * 57) as u64);
    assert_eq!(mail.new_text.as_deref(), Some("Big"));
    assert_eq!(attachment(raw.as_bytes(), 0).unwrap().bytes.len(), lines * 57);
}

#[test]
fn what_is_too_long_is_cut_and_flagged() {
    let limits =
        Limits { header_bytes: 4096, recipients: 10, references: 5, text_bytes: 100, ..Limits::default() };
    let to = (0..20).map(|i| format!("p{i}@example.org")).collect::<Vec<_>>().join(", ");
    let ids = (0..20).map(|i| format!("<{i}@example.org>")).collect::<Vec<_>>().join(" ");
    let raw = format!(
        "From: a@example.org\r\nTo: {to}\r\nReferences: {ids}\r\nX-Long: {}\r\nSubject: lost\r\n\r\n{}",
        "x".repeat(5000),
        "ä".repeat(80)
    );
    let mail = parse(raw.as_bytes(), &limits).unwrap();
    assert_eq!((mail.to.len(), mail.text.as_deref().map(str::len)), (10, Some(100)));
    assert_eq!(
        mail.references,
        ["15@example.org", "16@example.org", "17@example.org", "18@example.org", "19@example.org"]
    );
    assert_eq!(mail.subject, None);
    assert_eq!(mail.truncated, Truncated { headers: true, recipients: true, text: true, html: false });
    let html = format!("Content-Type: text/html\r\n\r\n<p>{}</p>", "x".repeat(500));
    assert!(parse(html.as_bytes(), &Limits { html_bytes: 100, ..Limits::default() }).unwrap().truncated.html);
    let mail = parse(html.as_bytes(), &Limits { text_bytes: 100, ..Limits::default() }).unwrap();
    assert_eq!((mail.text.map(|text| text.len()), mail.truncated.text), (Some(100), true));
}

fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(values) => values.iter().any(has_nul),
        serde_json::Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
        }
        _ => false,
    }
}

/// Whatever comes in: no panic behind the guard, no NUL, and attachments that can be fetched again.
fn check(raw: &[u8]) -> Result<(), TestCaseError> {
    match read(raw, &Limits::default()) {
        Err(refused) => prop_assert!(["empty", "too_deep", "too_many_parts"].contains(&refused.reason)),
        Ok(mail) => {
            prop_assert!(!has_nul(&serde_json::to_value(&mail).unwrap()));
            for file in &mail.attachments {
                let content = attachment(raw, file.index);
                prop_assert_eq!(content.map(|c| c.bytes.len() as u64), Some(file.size_bytes));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..2000)) {
        check(&raw)?;
    }

    #[test]
    fn mutated_mails_never_panic(
        at in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..12),
    ) {
        let mut raw = fixture(at.get(CASES).name);
        for (place, byte, kind) in changes {
            let place = place.index(raw.len());
            match kind {
                0 => raw[place] = byte,
                1 => raw.insert(place, byte),
                2 => raw.truncate(place.max(1)),
                _ => raw.insert(place, *b"\r\n\0<>()\"\\;:=?-".get(usize::from(byte) % 15).unwrap_or(&0)),
            }
        }
        check(&raw)?;
    }
}
