//! The mails that wait in the sandbox: customers of a shop that does not exist.

use uuid::Uuid;

use crate::clock::Timestamp;

/// The mails as files, oldest first.
const FILES: [&str; 7] = [
    include_str!("mails/order.eml"),
    include_str!("mails/invoice.eml"),
    include_str!("mails/rechnung.eml"),
    include_str!("mails/complaint.eml"),
    include_str!("mails/photo.eml"),
    include_str!("mails/opening.eml"),
    include_str!("mails/change.eml"),
];

/// The mails as they would come over SMTP: written a few minutes ago, with an id of their own and CRLF line ends.
pub fn written_before(now: Timestamp) -> Vec<Vec<u8>> {
    let stamped = |(age, file): (i64, &&str)| {
        let date = now.plus_s(-60 * (age + 1)).to_chrono().to_rfc2822();
        let mail = format!("Date: {date}\nMessage-ID: <{}@customer.test>\n{file}", Uuid::new_v4());
        mail.replace('\n', "\r\n").into_bytes()
    };
    let mut mails: Vec<_> = (0..).zip(FILES.iter().rev()).map(stamped).collect();
    mails.reverse();
    mails
}

/// Texts as the gateway mails them: two of one customer, and one of another.
const TEXTS: [(&str, &str); 3] = [
    ("447700900123", "Hi, is the blue lantern in stock again?"),
    ("447700900456", "Please call me about order 4711"),
    ("447700900123", "I need two of them by Friday"),
];

/// The gateway's mails, written a few minutes ago.
pub fn texts_before(now: Timestamp) -> Vec<Vec<u8>> {
    let mail = |(age, (number, words)): (i64, &(&str, &str))| {
        let date = now.plus_s(-60 * age).to_chrono().to_rfc2822();
        let id = Uuid::new_v4();
        let mail = format!(
            "Date: {date}\nMessage-ID: <{id}@sms.test>\nFrom: {number}@sms.test\nTo: texts@shop.test\n\
             Subject: SMS\nContent-Type: text/plain; charset=utf-8\n\n{words}\n"
        );
        mail.replace('\n', "\r\n").into_bytes()
    };
    let mut mails: Vec<_> = (1..).zip(TEXTS.iter().rev()).map(mail).collect();
    mails.reverse();
    mails
}
