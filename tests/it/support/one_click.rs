//! The recipient's mail program: reads from a mail how to unsubscribe with one click, and does it (RFC 8058 section 3.2).

use mail_parser::{Address, HeaderName, HeaderValue, MessageParser};
use reqwest::{Client, redirect::Policy};

/// The two forms in which a program may post (RFC 8058 section 3.2), with their media types.
pub const FORMS: [(&str, &str); 2] = [
    ("application/x-www-form-urlencoded", "List-Unsubscribe=One-Click"),
    (
        "multipart/form-data; boundary=---FormBoundaryjWmhtjORrn",
        "-----FormBoundaryjWmhtjORrn\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\n\
         One-Click\r\n-----FormBoundaryjWmhtjORrn--\r\n",
    ),
];

/// The one https link (http on this machine) that the mail offers for one click; none when it offers none. What the fields say
/// is read by `mail-parser`.
pub fn link(raw: &[u8]) -> Option<String> {
    let mail = MessageParser::default().parse(raw).unwrap();
    let post = mail.header(HeaderName::ListUnsubscribePost)?;
    assert_eq!(post.as_text(), Some("List-Unsubscribe=One-Click"));
    let HeaderValue::Address(Address::List(offered)) = mail.list_unsubscribe() else {
        panic!("{:?}", mail.list_unsubscribe());
    };
    let offered: Vec<&str> = offered.iter().filter_map(|one| one.address.as_deref()).collect();
    let web: Vec<&&str> = offered.iter().filter(|link| link.starts_with("http")).collect();
    assert_eq!(web.len(), 1, "{offered:?}");
    Some((*web[0]).to_owned())
}

/// Clicks: no cookies, no login, no redirect is followed. Gives the status.
pub async fn click(link: &str, (media, body): (&str, &str)) -> u16 {
    let program = Client::builder().redirect(Policy::none()).build().unwrap();
    let request = program.post(link).header("content-type", media).body(body.to_owned());
    let answer = request.send().await.unwrap();
    assert!(answer.headers().get("set-cookie").is_none());
    answer.status().as_u16()
}
