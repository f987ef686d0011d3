//! From the bytes of a part to its content: transfer encodings, charsets, file names.

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use mail_parser::decoders::charsets::map::charset_decoder;

/// Longest file name that is kept, in octets.
const FILENAME_MAX: usize = 200;

const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// How a part's bytes were made fit for transport (RFC 2045 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// `7bit`, `8bit`, `binary`, or one nobody knows.
    #[default]
    Identity,
    Base64,
    QuotedPrintable,
}

impl Encoding {
    pub(super) fn parse(name: &str) -> Self {
        match name.trim().trim_end_matches(';').to_ascii_lowercase().as_str() {
            "base64" => Self::Base64,
            "quoted-printable" => Self::QuotedPrintable,
            _ => Self::Identity,
        }
    }

    /// The content of a part; damaged encodings give what can be read of them.
    pub(super) fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Identity => body.into(),
            Self::Base64 => decode_base64(body).into(),
            Self::QuotedPrintable => decode_quoted_printable(body).into(),
        }
    }

    /// The length of the content in bytes, without holding all of it.
    pub(super) fn decoded_len(self, body: &[u8]) -> usize {
        match self {
            Self::Identity => body.len(),
            Self::Base64 => count_symbols(body) * 3 / 4,
            Self::QuotedPrintable => decode_quoted_printable(body).len(),
        }
    }
}

/// Whether a byte is one of base64's symbols.
const IS_SYMBOL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// What stands before the padding: what follows it is not ours (mailing lists append their footer there).
fn before_padding(body: &[u8]) -> &[u8] {
    body.split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn count_symbols(body: &[u8]) -> usize {
    before_padding(body).iter().map(|byte| usize::from(IS_SYMBOL[usize::from(*byte)])).sum()
}

fn decode_base64(body: &[u8]) -> Vec<u8> {
    let mut symbols: Vec<u8> = Vec::with_capacity(body.len());
    // Line by line: mostly only their ends are no symbols.
    for line in before_padding(body).split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| IS_SYMBOL[usize::from(*byte)]) {
            symbols.extend_from_slice(line);
        } else {
            symbols.extend(line.iter().filter(|byte| IS_SYMBOL[usize::from(**byte)]));
        }
    }
    // A single symbol over holds no whole byte.
    if symbols.len() % 4 == 1 {
        symbols.pop();
    }
    LENIENT_BASE64.decode(&symbols).unwrap_or_default()
}

fn decode_quoted_printable(body: &[u8]) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        if let (Some(high), Some(low)) = (hex(body.get(at)), hex(body.get(at + 1))) {
            out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            at += 2;
            continue;
        }
        // A soft line break, with the blanks some gateways add; anything else is an `=` that was never encoded.
        let blanks = body[at..].iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        match body.get(at + blanks) {
            Some(b'\n') => at += blanks + 1,
            None => at += blanks,
            Some(_) => out.push(b'='),
        }
    }
    out
}

/// Text from bytes in the charset a part claims; a wrong, unknown or missing claim is answered by a guess.
pub(super) fn text(bytes: &[u8], charset: Option<&str>) -> String {
    let label = charset.map(|c| c.trim().to_ascii_lowercase()).unwrap_or_default();
    // These labels are put on anything, so the bytes are believed before them.
    let vague = [
        "",
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "latin1",
        "windows-1252",
        "cp1252",
        "default",
    ];
    if vague.contains(&label.as_str()) {
        return guess(bytes);
    }
    match charset_decoder(label.as_bytes()) {
        Some(decode) => decode(bytes),
        None => guess(bytes),
    }
}

/// UTF-8 when it is, even if some bytes were damaged; Windows-1252, which includes Latin-1, otherwise.
fn guess(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let lossy = String::from_utf8_lossy(bytes);
    let mostly_utf8 = lossy.chars().any(|c| !c.is_ascii() && c != char::REPLACEMENT_CHARACTER);
    if mostly_utf8 {
        lossy.into_owned()
    } else {
        encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned()
    }
}

/// LF line ends, no NUL, no byte order mark, at most `max` octets; the flag tells that the text was cut.
pub(super) fn normalise(mut text: String, max: usize) -> (String, bool) {
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    if text.contains('\0') {
        text.retain(|c| c != '\0');
    }
    if text.contains('\r') {
        text = text.replace("\r\n", "\n").replace('\r', "\n");
    }
    let cut = text.len() > max;
    if cut {
        text.truncate(boundary_at(&text, max));
    }
    (text, cut)
}

fn boundary_at(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rfind(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// A file name that is only a name: no folders, no controls, no marks that turn the writing direction; its ending is kept.
pub(super) fn filename(raw: &str) -> Option<String> {
    let name = raw.rsplit(['/', '\\']).next().unwrap_or_default();
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let name: String = name.chars().filter(|c| !c.is_control() && !turns(*c)).collect();
    let name = name.trim_matches(|c: char| c.is_whitespace() || c == '.' && name.chars().all(|c| c == '.'));
    if name.is_empty() {
        return None;
    }
    if name.len() <= FILENAME_MAX {
        return Some(name.to_owned());
    }
    let ending = name.rfind('.').map(|dot| &name[dot..]).filter(|e| e.len() <= 16).unwrap_or_default();
    Some(format!("{}{ending}", &name[..boundary_at(name, FILENAME_MAX - ending.len())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_encodings_give_what_can_be_read() {
        assert_eq!(&*Encoding::Base64.decode(b"SGVs\r\nbG8=\r\n-- \r\nfooter"), b"Hello");
        assert_eq!(&*Encoding::Base64.decode(b"SGVs*bG8"), b"Hello");
        assert_eq!(&*Encoding::Base64.decode(b"SGVsb"), b"Hel");
        let every: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte != b'=').collect();
        assert_eq!(every.iter().filter(|byte| IS_SYMBOL[usize::from(**byte)]).count(), 64);
        assert_eq!(Encoding::Base64.decode(&every).len(), 48);
        assert_eq!(Encoding::Base64.decoded_len(&every), 48);
        assert_eq!(&*Encoding::QuotedPrintable.decode(b"a=3Db=\r\nc = d=E4=Z=  \nx="), b"a=bc = d\xe4=Zx");
        for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Identity] {
            for body in [&b"SGVsbG8=\r\n"[..], b"SGVsb", b"a=3Db", b""] {
                assert_eq!(encoding.decoded_len(body), encoding.decode(body).len());
            }
        }
    }

    #[test]
    fn charsets_are_read_even_when_the_claim_is_wrong() {
        assert_eq!(text("Grüße".as_bytes(), Some("iso-8859-1")), "Grüße");
        assert_eq!(text(b"Gr\xfc\xdfe", Some("utf-8")), "Grüße");
        assert_eq!(text(b"Gr\xfc\xdfe", Some("x-unheard-of")), "Grüße");
        assert_eq!(text(b"Gr\xfc\xdfe \x80", Some("ISO-8859-1")), "Grüße €");
        assert_eq!(text(b"\x1b$B$3$s\x1b(B", Some("ISO-2022-JP")), "こん");
        assert_eq!(text(b"\xd0\xc4\xc9\xd7\xc5\xd4", Some("koi8-r")), "пдивет");
        assert_eq!(text("é\u{e9}".as_bytes().split_last().unwrap().1, None), "é\u{fffd}");
    }

    #[test]
    fn file_names_cannot_leave_their_folder_or_mislead() {
        let cases = [
            ("../../etc/passwd", Some("passwd")),
            ("C:\\Users\\a\\invoice.pdf", Some("invoice.pdf")),
            ("a\r\nb\0.txt", Some("ab.txt")),
            ("invoice\u{202e}fdp.exe", Some("invoicefdp.exe")),
            ("..", None),
            ("  ", None),
            (".htaccess", Some(".htaccess")),
            ("Übersicht 2024.xlsx", Some("Übersicht 2024.xlsx")),
        ];
        for (raw, expected) in cases {
            assert_eq!(filename(raw).as_deref(), expected, "{raw:?}");
        }
        let long = filename(&format!("{}.pdf", "ä".repeat(300))).unwrap();
        assert!(long.len() <= 200 && long.ends_with(".pdf"), "{long}");
    }
}
