//! A reader between the socket and the IMAP parser that keeps a hostile or broken server from hurting us.
//!
//! The parser sets memory aside for a literal of any announced size and waits for it without end. This reader
//! follows the literals (RFC 3501 §4.3) as they pass, refuses one that is larger than the command in hand
//! expects before the parser sees its announcement, bounds the bytes a command may bring, and ends a read
//! during which nothing arrives.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::mail::tls::Stream;

/// The longest line outside literals; responses we ask for stay far below it.
const LINE_LIMIT: usize = 64 * 1024;
/// Fewer system calls for mail in bulk.
const BUFFER: usize = 64 * 1024;

/// What the command in hand may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// The largest literal, in bytes.
    pub literal: u64,
    /// All bytes together.
    pub total: u64,
}

impl Budget {
    /// For every command that does not fetch mail.
    pub const SMALL: Self = Self { literal: 64 * 1024, total: 4 * 1024 * 1024 };
}

/// Why the reader ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuardError {
    #[error("the server announced {announced} bytes where at most {limit} were expected")]
    Literal { announced: u64, limit: u64 },
    #[error("the server sent more than the {limit} bytes that were expected")]
    Total { limit: u64 },
    #[error("the server sent a line that never ends")]
    Line,
    #[error("nothing arrived for {0:?}")]
    Stalled(Duration),
}

pub(super) struct Guard {
    inner: BufReader<Stream>,
    scan: Scanner,
    budget: Budget,
    left: u64,
    stall: Option<Duration>,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Guard {
    pub fn new(stream: Stream, stall: Duration) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, stream),
            scan: Scanner::default(),
            budget: Budget::SMALL,
            left: Budget::SMALL.total,
            stall: Some(stall),
            timer: Box::pin(sleep(stall)),
            waiting: false,
        }
    }

    /// Begins a new command's allowance.
    pub fn allow(&mut self, budget: Budget) {
        self.budget = budget;
        self.left = budget.total;
    }

    /// How long a read may bring nothing; `None` while idling, where the caller keeps the time.
    pub fn set_stall(&mut self, stall: Option<Duration>) {
        self.stall = stall;
        self.waiting = false;
    }

    /// The socket, without what was read ahead: after STARTTLS nothing sent in clear may be believed.
    pub fn into_stream(self) -> Stream {
        self.inner.into_inner()
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stall) = self.stall else {
            return Poll::Pending;
        };
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + stall);
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::other(GuardError::Stalled(stall)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn account(&mut self, bytes: &[u8]) -> Result<(), GuardError> {
        let read = bytes.len() as u64;
        if read > self.left {
            return Err(GuardError::Total { limit: self.budget.total });
        }
        self.left -= read;
        self.scan.pass(bytes, self.budget.literal)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Pending => this.poll_stalled(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                this.waiting = false;
                Poll::Ready(this.account(&buf.filled()[before..]).map_err(io::Error::other))
            }
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Follows lines and literals in what the server sends.
#[derive(Debug, Default)]
struct Scanner {
    line: Vec<u8>,
    /// Bytes of the present literal still to come.
    literal: u64,
    /// The line goes on after a literal, so its beginning says nothing about what it is.
    continued: bool,
}

impl Scanner {
    fn pass(&mut self, mut bytes: &[u8], literal_limit: u64) -> Result<(), GuardError> {
        while !bytes.is_empty() {
            if self.literal > 0 {
                let skip = usize::try_from(self.literal).unwrap_or(usize::MAX).min(bytes.len());
                self.literal -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + part.len() > LINE_LIMIT {
                return Err(GuardError::Line);
            }
            self.line.extend_from_slice(part);
            bytes = rest;
            if end.is_some() {
                self.end_line(literal_limit)?;
            }
        }
        Ok(())
    }

    fn end_line(&mut self, limit: u64) -> Result<(), GuardError> {
        let announced = announced(&self.line);
        if let Some(announced) = announced.filter(|announced| *announced > limit) {
            return Err(GuardError::Literal { announced, limit });
        }
        // A line of free text may end in `{7}` by chance; only data carries literals.
        let carries = self.continued || carries_literals(&self.line);
        self.literal = announced.filter(|_| carries).unwrap_or(0);
        self.continued = carries && announced.is_some();
        self.line.clear();
        Ok(())
    }
}

fn carries_literals(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"* ") else {
        return false;
    };
    let word = rest.split(|byte| matches!(byte, b' ' | b'\r')).next().unwrap_or_default();
    let text: [&[u8]; 5] = [b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"];
    !text.iter().any(|status| word.eq_ignore_ascii_case(status))
}

/// The size of the literal that a line ending in `{n}` CRLF announces; too many digits count as the largest.
fn announced(line: &[u8]) -> Option<u64> {
    let digits_end = line.strip_suffix(b"}\r\n")?;
    let open = digits_end.iter().rposition(|byte| *byte == b'{')?;
    let digits = &digits_end[open + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(digits).ok()?;
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(parts: &[&[u8]], limit: u64) -> Result<(), GuardError> {
        let mut scanner = Scanner::default();
        parts.iter().try_for_each(|part| scanner.pass(part, limit))
    }

    #[test]
    fn a_literal_over_the_limit_is_refused_at_its_announcement() {
        let line = b"* 1 FETCH (UID 1 BODY[] {2147483648}\r\n";
        assert_eq!(scan(&[line], 1000), Err(GuardError::Literal { announced: 2_147_483_648, limit: 1000 }));
        let absurd = b"* 1 FETCH (BODY[] {99999999999999999999999}\r\n";
        assert!(matches!(scan(&[absurd], 1000), Err(GuardError::Literal { announced: u64::MAX, .. })));
    }

    #[test]
    fn an_announcement_cut_anywhere_is_still_seen() {
        let line = b"* 1 FETCH (BODY[] {5000}\r\n";
        for cut in 0..line.len() {
            assert!(scan(&[&line[..cut], &line[cut..]], 4999).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_a_message_says_is_not_an_announcement() {
        let body = b"* 1 FETCH (BODY[] {12}\r\nabc {9999}\r\n)\r\n* 2 FETCH (BODY[] {3}\r\nabc)\r\n";
        assert_eq!(scan(&[body], 100), Ok(()));
    }

    #[test]
    fn a_second_literal_in_one_response_is_counted_too() {
        let body = b"* 1 FETCH (BODY[HEADER] {3}\r\nabc BODY[TEXT] {5000}\r\n";
        assert!(scan(&[body], 100).is_err());
    }

    #[test]
    fn free_text_that_looks_like_an_announcement_hides_nothing() {
        let attack = b"* OK hello {50}\r\n* 1 FETCH (BODY[] {5000}\r\n";
        assert!(scan(&[attack], 100).is_err());
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert_eq!(scan(&[&vec![b'a'; LINE_LIMIT + 1]], 100), Err(GuardError::Line));
    }
}
