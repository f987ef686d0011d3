//! `Content-Disposition` of downloads (RFC 6266), with names that senders chose.

/// The longest name that is passed on, in characters.
const NAME_MAX: usize = 200;
/// The characters besides letters and digits that RFC 8187 lets stand unescaped (`attr-char`).
const ATTR_CHARS: &[u8] = b"!#$&+-.^_`|~";

/// The value of a header that makes a browser save the content under `name`, or show it when `inline`.
///
/// The plain `filename` is for clients without RFC 8187; it is ASCII.
pub fn content_disposition(inline: bool, name: &str) -> String {
    let kind = if inline { "inline" } else { "attachment" };
    let name = harmless(name);
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if plain == name {
        return format!("{kind}; filename=\"{plain}\"");
    }
    let mut escaped = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || ATTR_CHARS.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{escaped}")
}

/// Without folders, without controls, and without the marks that turn `gpj.exe` around to look like a picture.
fn harmless(name: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control() && !turns(*c)).take(NAME_MAX).collect();
    let clean = clean.trim().trim_start_matches('.');
    if clean.is_empty() { "attachment".into() } else { clean.into() }
}

fn is_plain(c: char) -> bool {
    // A percent sign is avoided because some browsers decode it in the plain form too (RFC 6266 appendix D).
    (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_quoted_as_it_is() {
        assert_eq!(content_disposition(false, "my invoice.pdf"), "attachment; filename=\"my invoice.pdf\"");
        assert_eq!(content_disposition(true, "logo.png"), "inline; filename=\"logo.png\"");
    }

    #[test]
    fn other_names_are_given_in_utf_8_with_a_plain_one_beside() {
        let value = content_disposition(false, "Übersicht 50%.pdf");
        assert_eq!(
            value,
            "attachment; filename=\"_bersicht 50_.pdf\"; filename*=UTF-8''%C3%9Cbersicht%2050%25.pdf"
        );
    }

    #[test]
    fn no_name_can_add_a_header_a_parameter_or_a_folder() {
        let cases = [
            ("../../etc/passwd", "attachment; filename=\"passwd\""),
            ("C:\\Windows\\x.exe", "attachment; filename=\"x.exe\""),
            ("a\r\nSet-Cookie: x", "attachment; filename=\"aSet-Cookie: x\""),
            (".htaccess", "attachment; filename=\"htaccess\""),
            ("", "attachment; filename=\"attachment\""),
            ("\u{202e}gpj.exe", "attachment; filename=\"gpj.exe\""),
        ];
        for (name, expected) in cases {
            assert_eq!(content_disposition(false, name), expected, "{name:?}");
        }
        let quoted = content_disposition(false, "a\"; filename=\"b.exe");
        assert!(quoted.starts_with("attachment; filename=\"a_; filename=_b.exe\"; filename*="), "{quoted}");
        assert!(content_disposition(false, &"x".repeat(5000)).len() < 300);
    }
}
