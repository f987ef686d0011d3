//! SMTP replies (RFC 5321 §4.2) with their enhanced status codes (RFC 2034, RFC 3463).

use std::fmt;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// RFC 5321 §4.5.3.1.5 says 512; real servers send longer lines.
const LINE_LIMIT: u64 = 4096;
const LINES_LIMIT: usize = 128;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The enhanced status code, such as `5.1.1`.
    pub enhanced: Option<String>,
    /// The text, its lines joined by spaces, without the enhanced code.
    pub text: String,
}

impl Reply {
    /// 2yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// 4yz: trying again later may work.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// 421: the whole service is closing, not just this command.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.code == 421
    }

    fn from_lines(code: u16, lines: &[String]) -> Self {
        let enhanced = lines.first().and_then(|line| enhanced_code(line, code));
        let without = |line: &String| match enhanced {
            Some(code) => line.strip_prefix(code).map_or(line.as_str(), str::trim_start).to_owned(),
            None => line.clone(),
        };
        let text = lines.iter().map(without).collect::<Vec<_>>().join(" ");
        Self { code, enhanced: enhanced.map(str::to_owned), text }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = &self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

/// A reply with its lines kept apart, as EHLO needs them.
#[derive(Debug)]
pub(super) struct RawReply {
    pub code: u16,
    pub lines: Vec<String>,
}

impl RawReply {
    pub fn into_reply(self) -> Reply {
        Reply::from_lines(self.code, &self.lines)
    }
}

/// Reads one reply; `InvalidData` when it is none.
pub(super) async fn read_reply(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<RawReply> {
    let mut lines = Vec::new();
    let mut expected = None;
    loop {
        let mut line = Vec::new();
        let read = (&mut *from).take(LINE_LIMIT).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let (code, last, text) = split(&line).ok_or(io::ErrorKind::InvalidData)?;
        if *expected.get_or_insert(code) != code || lines.len() >= LINES_LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        lines.push(text);
        if last {
            return Ok(RawReply { code, lines });
        }
    }
}

/// Code, whether it is the last line, and the text without control characters.
fn split(line: &[u8]) -> Option<(u16, bool, String)> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let code: u16 = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
    if !(200..600).contains(&code) {
        return None;
    }
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
    Some((code, last, text.chars().filter(|c| !c.is_control()).collect()))
}

/// RFC 2034 §4: the code stands first and its class agrees with the reply's.
fn enhanced_code(line: &str, code: u16) -> Option<&str> {
    let word = line.split(' ').next()?;
    let parts: Vec<&str> = word.split('.').collect();
    let digits = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let agrees = parts.first().is_some_and(|class| *class == (code / 100).to_string());
    (parts.len() == 3 && agrees && parts.iter().all(digits)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Reply> {
        let mut from = bytes;
        read_reply(&mut from).await.map(RawReply::into_reply)
    }

    #[tokio::test]
    async fn a_reply_of_several_lines_is_one_reply() {
        let reply = read(b"550-5.1.1 No such user\r\n550 5.1.1 here\r\n").await.unwrap();
        assert_eq!(reply.enhanced.as_deref(), Some("5.1.1"));
        assert_eq!(reply.to_string(), "550 5.1.1 No such user here");
        assert_eq!(read(b"250\r\n").await.unwrap().text, "");
        assert_eq!(read(b"250 caf\xe9\n").await.unwrap().text, "caf\u{fffd}");
    }

    #[tokio::test]
    async fn an_enhanced_code_of_another_class_is_only_text() {
        assert_eq!(read(b"250 5.1.1 odd\r\n").await.unwrap().enhanced, None);
        assert_eq!(read(b"250 2.0.0.1 odd\r\n").await.unwrap().enhanced, None);
    }

    #[tokio::test]
    async fn what_is_no_reply_is_refused() {
        let endless = vec![b'2'; 10_000];
        let many = b"250-x\r\n".repeat(LINES_LIMIT + 1);
        for bad in [&b"hello\r\n"[..], b"99 x\r\n", b"999 x\r\n", b"250-a\r\n251 b\r\n", &endless, &many] {
            assert_eq!(read(bad).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(read(b"").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
