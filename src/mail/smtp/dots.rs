//! The message as it goes over the wire: CRLF line ends and doubled dots (RFC 5321 §2.3.8 and §4.5.2).

/// Writes `raw` for DATA, without the final dot: every line ends in CRLF, and a line that begins with a dot
/// gets another. A bare CR or LF becomes CRLF: left alone, some servers take `LF . LF` for the end of the
/// message and what follows for commands.
pub(super) fn encode(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 32 + 2);
    let mut rest = raw;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(wire: &[u8]) -> Vec<u8> {
        let text = wire.strip_suffix(b"\r\n").unwrap_or(wire);
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let undotted = lines.iter().map(|line| line.strip_prefix(b".").unwrap_or(line));
        undotted.collect::<Vec<_>>().join(&b'\n')
    }

    #[test]
    fn dots_are_doubled_at_the_beginning_of_lines_only() {
        assert_eq!(encode(b".a\r\n..b\r\nc.d\r\n.\r\n"), b"..a\r\n...b\r\nc.d\r\n..\r\n");
        assert_eq!(encode(b"no end"), b"no end\r\n");
        assert_eq!(encode(b"a\n.\nb\r.\rc"), b"a\r\n..\r\nb\r\n..\r\nc\r\n");
        assert_eq!(encode(b"a\r\r\nb\r\n\r\n"), b"a\r\n\r\nb\r\n\r\n");
        assert_eq!(encode(b""), b"");
    }

    proptest! {
        #[test]
        fn no_message_can_end_the_data_early(raw in "[a.\r\n]{0,40}") {
            let wire = encode(raw.as_bytes());
            prop_assert!(!wire.windows(5).any(|w| w == b"\r\n.\r\n"));
            prop_assert!(!wire.starts_with(b".\r\n"));
            let bare_lf = (0..wire.len()).any(|i| wire[i] == b'\n' && (i == 0 || wire[i - 1] != b'\r'));
            let bare_cr = (0..wire.len()).any(|i| wire[i] == b'\r' && wire.get(i + 1) != Some(&b'\n'));
            prop_assert!(!bare_lf && !bare_cr);
        }

        #[test]
        fn a_proper_message_arrives_as_it_was(lines in proptest::collection::vec("[a-c. ]{0,6}", 1..10)) {
            let raw = lines.join("\r\n");
            let arrived = decode(&encode(format!("{raw}\r\n").as_bytes()));
            prop_assert_eq!(arrived, raw.as_bytes().to_vec());
        }
    }
}
