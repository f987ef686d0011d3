//! Strings inside IMAP commands: quoting (RFC 3501 §9 `quoted`) and folder names (§5.1.3, modified UTF-7).

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::ImapError;

const MODIFIED_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::IMAP_MUTF7, GeneralPurposeConfig::new().with_encode_padding(false));

/// Puts a string into quotes; `None` when it holds what quotes cannot carry: CR, LF, NUL, 8-bit characters.
pub(super) fn quoted(text: &str) -> Option<String> {
    if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0) || !byte.is_ascii()) {
        return None;
    }
    Some(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A folder name as a command's argument.
pub(super) fn folder_argument(folder: &str) -> Result<String, ImapError> {
    if folder.is_empty() || folder.chars().any(char::is_control) {
        return Err(ImapError::BadInput { what: "folder name" });
    }
    quoted(&modified_utf7(folder)).ok_or(ImapError::BadInput { what: "folder name" })
}

fn modified_utf7(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted: Vec<u8> = Vec::new();
    for c in name.chars() {
        if (' '..='~').contains(&c) {
            flush(&mut out, &mut shifted);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            shifted.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut out, &mut shifted);
    out
}

fn flush(out: &mut String, shifted: &mut Vec<u8>) {
    if !shifted.is_empty() {
        out.push('&');
        out.push_str(&MODIFIED_BASE64.encode(&shifted));
        out.push('-');
        shifted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_outside_ascii_is_written_in_modified_utf_7() {
        assert_eq!(modified_utf7("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(modified_utf7("Entwürfe & mehr"), "Entw&APw-rfe &- mehr");
        assert_eq!(modified_utf7("INBOX"), "INBOX");
    }

    #[test]
    fn a_command_cannot_be_smuggled_in_a_name() {
        assert_eq!(quoted(r#"a"b\c"#).as_deref(), Some(r#""a\"b\\c""#));
        assert!(quoted("a\r\nP9 DELETE x").is_none());
        assert!(folder_argument("a\nb").is_err());
        assert!(folder_argument("").is_err());
    }
}
