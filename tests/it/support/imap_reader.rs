//! A mailbox as an IMAP client sees it that shares nothing with ours.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{line_io::LineIo, stack::Stack};

/// A connection with INBOX open.
pub struct ImapReader {
    io: LineIo,
    commands: usize,
    /// How many messages there are.
    exists: usize,
}

impl ImapReader {
    pub async fn open(stack: &Stack, user: &str) -> Self {
        let socket = TcpStream::connect(stack.value("POSTROOM_TEST_IMAP")).await.unwrap();
        let mut reader = Self { io: LineIo::new(socket), commands: 0, exists: 0 };
        reader.io.line().await.unwrap().unwrap();
        let password = stack.value("POSTROOM_TEST_MAIL_PASSWORD");
        reader.run(&format!("LOGIN {user} {password}")).await;
        reader.run("SELECT INBOX").await;
        reader
    }

    /// Runs a command to its end.
    pub async fn run(&mut self, command: &str) {
        let tag = self.begin(command).await;
        while !self.is_over(&tag).await {}
    }

    async fn begin(&mut self, command: &str) -> String {
        self.commands += 1;
        let tag = format!("a{}", self.commands);
        self.io.send(format!("{tag} {command}\r\n")).await.unwrap();
        tag
    }

    /// Reads a line; whether it ends the command.
    async fn is_over(&mut self, tag: &str) -> bool {
        let line = self.io.line().await.unwrap().unwrap();
        if let Some(number) = line.strip_prefix("* ").and_then(|line| line.strip_suffix(" EXISTS")) {
            self.exists = number.parse().unwrap();
        }
        let ended = line.strip_prefix(tag);
        assert!(ended.is_none_or(|end| end.starts_with(" OK")), "{line}");
        ended.is_some()
    }

    /// Waits in IDLE (RFC 2177) until there are at least `count` messages.
    pub async fn wait_for(&mut self, count: usize) {
        let arrived = async {
            let tag = self.begin("IDLE").await;
            while self.exists < count {
                assert!(!self.is_over(&tag).await);
            }
            self.io.send("DONE\r\n").await.unwrap();
            while !self.is_over(&tag).await {}
        };
        // Only so that a test that fails does not hang.
        tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("mail comes");
    }

    /// All messages, byte for byte.
    pub async fn fetch(&mut self) -> Vec<Vec<u8>> {
        let tag = self.begin("UID FETCH 1:* BODY.PEEK[]").await;
        let mut messages = Vec::new();
        loop {
            let line = self.io.line().await.unwrap().unwrap();
            if let Some((_, length)) = line.rsplit_once('{') {
                let length = length.trim_end_matches('}').parse().unwrap();
                messages.push(self.io.exact(length).await.unwrap());
            } else if line.starts_with(&tag) {
                assert!(line.contains(" OK"), "{line}");
                return messages;
            }
        }
    }
}
