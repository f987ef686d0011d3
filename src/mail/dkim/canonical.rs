//! The `relaxed` canonical form of a message (RFC 6376 sections 3.4.2 and 3.4.4): what is signed and hashed.

use super::DkimError;

/// A message taken apart where the signature takes it apart.
#[derive(Debug)]
pub(super) struct Split<'a> {
    /// The header fields in their order.
    pub(super) fields: Vec<Field<'a>>,
    /// What follows the empty line; nothing when there is none.
    pub(super) body: &'a [u8],
}

/// One header field as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// The name, in any case.
    pub(super) name: &'a str,
    /// What follows the colon, with its folds, without the last CRLF.
    pub(super) value: &'a [u8],
}

/// Takes a message apart.
///
/// # Errors
/// [`DkimError::LineBreak`] and [`DkimError::Header`]: relays change such messages, which would break the signature.
pub(super) fn split(raw: &[u8]) -> Result<Split<'_>, DkimError> {
    if has_bare_line_break(raw) {
        return Err(DkimError::LineBreak);
    }
    let mut fields = Vec::with_capacity(24);
    let mut rest = raw;
    while !rest.is_empty() {
        if let Some(body) = rest.strip_prefix(b"\r\n") {
            return Ok(Split { fields, body });
        }
        let end = field_end(rest);
        fields.push(field(&rest[..end])?);
        rest = rest[end..].strip_prefix(b"\r\n").unwrap_or_default();
    }
    Ok(Split { fields, body: b"" })
}

fn has_bare_line_break(raw: &[u8]) -> bool {
    let mut after_cr = false;
    for &byte in raw {
        if after_cr != (byte == b'\n') {
            return true;
        }
        after_cr = byte == b'\r';
    }
    after_cr
}

/// Where the first field ends: at the first CRLF that no white space follows.
fn field_end(text: &[u8]) -> usize {
    let ends = |at: &usize| text[*at] == b'\r' && !text.get(at + 2).is_some_and(|&byte| is_space(byte));
    (0..text.len()).find(ends).unwrap_or(text.len())
}

fn field(text: &[u8]) -> Result<Field<'_>, DkimError> {
    let colon = text.iter().position(|&byte| byte == b':').ok_or(DkimError::Header)?;
    // RFC 5322 section 4.5.8: older mail has white space before the colon.
    let name = str::from_utf8(text[..colon].trim_ascii_end()).map_err(|_| DkimError::Header)?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(DkimError::Header);
    }
    Ok(Field { name, value: &text[colon + 1..] })
}

/// Writes a field's canonical form without a CRLF: the name in lower case, the value in one line with single spaces.
pub(super) fn write_field(field: Field<'_>, out: &mut Vec<u8>) {
    out.extend(field.name.bytes().map(|byte| byte.to_ascii_lowercase()));
    out.push(b':');
    // A CRLF in a value is always followed by white space, so it is one more space character.
    let space = |&byte: &u8| is_space(byte) || byte == b'\r' || byte == b'\n';
    for (index, word) in field.value.split(space).filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Gives a body's canonical form, piece by piece, to `sink`.
pub(super) fn write_body(body: &[u8], mut sink: impl FnMut(&[u8])) {
    let mut empty_lines = 0;
    for line in body.split(|&byte| byte == b'\n') {
        let line = trim_end(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty_lines) {
            sink(b"\r\n");
        }
        write_line(line, &mut sink);
        sink(b"\r\n");
    }
}

/// A line with each run of white space made one space. A line that has none to change goes through whole.
fn write_line(line: &[u8], sink: &mut impl FnMut(&[u8])) {
    let irregular = |rest: &[u8]| {
        let followed = |at: usize| rest.get(at + 1).is_some_and(|&byte| is_space(byte));
        rest.iter().enumerate().position(|(at, &byte)| byte == b'\t' || (byte == b' ' && followed(at)))
    };
    let mut rest = line;
    while let Some(at) = irregular(rest) {
        sink(&rest[..at]);
        sink(b" ");
        let run = rest[at..].iter().take_while(|&&byte| is_space(byte)).count();
        rest = &rest[at + run..];
    }
    sink(rest);
}

fn trim_end(line: &[u8]) -> &[u8] {
    let kept = line.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
    &line[..kept]
}

/// The white space of a line: `WSP` of RFC 5234.
fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> String {
        let mut out = Vec::new();
        write_body(text.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    fn fields(raw: &str) -> Vec<String> {
        let canonical = |field: &Field<'_>| {
            let mut out = Vec::new();
            write_field(*field, &mut out);
            String::from_utf8(out).unwrap()
        };
        split(raw.as_bytes()).unwrap().fields.iter().map(canonical).collect()
    }

    #[test]
    fn a_body_loses_its_empty_last_lines_and_its_needless_white_space() {
        let cases = [
            ("", ""),
            ("\r\n", ""),
            ("\r\n\r\n", ""),
            (" \t\r\n \r\n", ""),
            ("a", "a\r\n"),
            ("a\r\n", "a\r\n"),
            ("a\r\n\r\n\r\n", "a\r\n"),
            ("a\r\n \t \r\n", "a\r\n"),
            ("a \t\r\n", "a\r\n"),
            ("a\r\n\r\n\r\nb", "a\r\n\r\n\r\nb\r\n"),
            ("\r\n\r\na\r\n", "\r\n\r\na\r\n"),
            ("  a\r\n", " a\r\n"),
            ("\ta \t b  c\td e\r\n", " a b c d e\r\n"),
            ("a\u{a0} \u{a0}b\r\n", "a\u{a0} \u{a0}b\r\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(body(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_bodies_example_of_the_standard_comes_out_as_printed_there() {
        // RFC 6376 section 3.4.5.
        assert_eq!(body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(fields("A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n"), ["a:X", "b:Y Z"]);
    }

    #[test]
    fn a_folded_field_is_one_line_and_its_name_is_lower_case() {
        let raw = "SUBJect \t:  a\r\n  b\tc  \r\n\td\r\n \r\nX-Empty:\r\nX-Blank: \r\n \t\r\nX-Colon:a:b\r\n\r\nbody";
        assert_eq!(fields(raw), ["subject:a b c d", "x-empty:", "x-blank:", "x-colon:a:b"]);
    }

    #[test]
    fn the_body_begins_after_the_first_empty_line() {
        let cases = [
            ("A: 1\r\n\r\nb\r\n\r\nc", "b\r\n\r\nc"),
            ("A: 1\r\n\r\n", ""),
            ("A: 1\r\n", ""),
            ("A: 1", ""),
            ("\r\nbody", "body"),
            ("A: 1\r\n\r\n\r\nb", "\r\nb"),
        ];
        for (raw, expected) in cases {
            assert_eq!(split(raw.as_bytes()).unwrap().body, expected.as_bytes(), "{raw:?}");
        }
    }

    #[test]
    fn a_line_break_that_is_not_crlf_is_refused_anywhere() {
        for raw in
            ["A: 1\n\nb", "A: 1\r\n\r\nb\nc", "A: 1\r\n\r\nb\rc", "A: 1\r\n\r\nb\r", "A: 1\r\r\n\r\nb", "\n"]
        {
            assert_eq!(split(raw.as_bytes()).unwrap_err(), DkimError::LineBreak, "{raw:?}");
        }
    }

    #[test]
    fn what_is_no_header_field_is_refused() {
        for raw in [
            "no colon\r\n\r\n",
            ": no name\r\n\r\n",
            " A: folded first\r\n\r\n",
            "A b: space\r\n\r\n",
            "é: 1\r\n\r\n",
        ] {
            assert_eq!(split(raw.as_bytes()).unwrap_err(), DkimError::Header, "{raw:?}");
        }
    }
}
