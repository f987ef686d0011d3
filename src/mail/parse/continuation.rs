//! Parameter values in numbered pieces (RFC 2231 section 3), whose charset stands on the first piece only.
//!
//! `mail-parser` joins the pieces but reads the later ones as UTF-8, which breaks names that other charsets encode.

use super::decode;

/// One `name*N*=value` piece.
struct Piece {
    number: u32,
    encoded: bool,
    value: Vec<u8>,
}

/// The value of `parameter` in an unfolded header value, when it comes in numbered pieces.
pub(super) fn join(header: &str, parameter: &str) -> Option<String> {
    // Nearly every mail: no pieces, no work.
    if !header.contains("*1") {
        return None;
    }
    let mut pieces: Vec<Piece> =
        parameters(header).filter_map(|(name, value)| piece(name, &value, parameter)).collect();
    pieces.sort_by_key(|piece| piece.number);
    let first = pieces.first_mut().filter(|piece| piece.number == 0)?;
    let mut charset = None;
    if first.encoded {
        let mut fields = first.value.splitn(3, |b| *b == b'\'');
        if let (Some(label), Some(_language), Some(rest)) = (fields.next(), fields.next(), fields.next()) {
            charset = Some(String::from_utf8_lossy(label).into_owned());
            first.value = rest.to_vec();
        }
    }
    let bytes: Vec<u8> = pieces
        .into_iter()
        .flat_map(|piece| if piece.encoded { percent_decoded(&piece.value) } else { piece.value })
        .collect();
    Some(decode::text(&bytes, charset.as_deref()))
}

fn piece(name: &str, value: &str, parameter: &str) -> Option<Piece> {
    let (base, number) = name.split_once('*')?;
    let (number, encoded) = number.strip_suffix('*').map_or((number, false), |number| (number, true));
    let number = base.trim().eq_ignore_ascii_case(parameter).then(|| number.parse().ok()).flatten()?;
    Some(Piece { number, encoded, value: value.as_bytes().to_vec() })
}

/// Names and unquoted values between the semicolons that are not within quotes.
fn parameters(header: &str) -> impl Iterator<Item = (&str, String)> {
    let (mut quoted, mut escaped) = (false, false);
    let separated = header.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == ';' && !quoted,
        }
        false
    });
    separated
        .filter_map(|text| text.split_once('='))
        .map(|(name, value)| (name.trim(), unquoted(value.trim())))
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest)) else {
        return value.to_owned();
    };
    let mut escaped = false;
    inner
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

/// Bytes with `%XX` undone; a `%` that begins no escape stays.
pub(in crate::mail) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = text.get(at) {
        match (byte, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_in_order_of_their_numbers_in_one_charset() {
        let cases = [
            ("attachment; filename*1*=%FC.pdf; filename*0*=iso-8859-1'de'Gr", Some("Grü.pdf")),
            ("attachment; filename*0=\"a;b \\\"\"; filename*1=c.txt", Some("a;b \"c.txt")),
            ("attachment; filename*0*=utf-8''%E2%82; filename*1*=%AC%2", Some("€%2")),
            ("attachment; FileName*0=a; FILENAME*1=b", Some("ab")),
            ("attachment; filename*1=b", None),
            ("attachment; filename=plain*1.txt", None),
            ("attachment; name*0=a; name*1=b", None),
        ];
        for (header, expected) in cases {
            assert_eq!(join(header, "filename").as_deref(), expected, "{header}");
        }
    }
}
