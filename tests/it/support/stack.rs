//! The real mail servers of `tests/stack/`: those that all tests share, or a test's own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tokio::net::TcpStream;

use super::line_io::LineIo;

pub const LMTP: &str = "POSTROOM_TEST_LMTP";
pub const SMTP: &str = "POSTROOM_TEST_SMTP";

/// Dovecot and Postfix.
pub struct Stack {
    /// Those of a test's own end with it.
    process: Option<Child>,
    /// What `stack.py up --json` told; null for the shared ones, which the environment tells of.
    environment: Value,
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }
}

fn stack_py() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stack/stack.py"));
    command
}

impl Stack {
    /// Servers of this test's own, so that a restart disturbs no other.
    pub fn own() -> Self {
        let mut process =
            stack_py().args(["up", "--only", "mail", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let state: Value = serde_json::from_str(&line).unwrap();
        Self { process: Some(process), environment: state["environment"].clone() }
    }

    /// The servers of this run; none when it has no mail servers, which need root to start.
    pub fn shared() -> Option<Self> {
        if std::env::var_os(LMTP).is_none() {
            println!("left out: there are no mail servers in this run");
            return None;
        }
        Some(Self { process: None, environment: Value::Null })
    }

    pub fn value(&self, name: &str) -> String {
        match self.environment[name].as_str() {
            Some(value) => value.to_owned(),
            None => std::env::var(name).unwrap(),
        }
    }

    pub fn port(&self, name: &str) -> u16 {
        self.value(name).rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn restart_dovecot(&self) {
        let state = self.value("POSTROOM_TEST_STACK");
        assert!(stack_py().args(["restart-dovecot", &state]).status().unwrap().success());
    }

    pub fn doveadm(&self, arguments: &[&str]) {
        let state = std::fs::read(self.value("POSTROOM_TEST_STACK")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let config = state["servers"]["dovecot"]["config"].as_str().unwrap();
        assert!(Command::new("doveadm").args(["-c", config]).args(arguments).status().unwrap().success());
    }

    /// Hands one mail to LMTP or SMTP; when this returns it was taken.
    pub async fn deliver(&self, server: &str, user: &str, raw: &[u8]) {
        self.connect(server).await.hand_over("customer@example.org", user, raw).await;
    }

    /// A connection that hands over mail.
    pub async fn connect(&self, server: &str) -> Handover {
        let mut io = LineIo::new(TcpStream::connect(self.value(server)).await.unwrap());
        answer(&mut io).await;
        let hello = if server == LMTP { "LHLO test" } else { "EHLO test" };
        io.send(format!("{hello}\r\n")).await.unwrap();
        answer(&mut io).await;
        Handover { io }
    }
}

/// A connection to an SMTP or LMTP server.
pub struct Handover {
    io: LineIo,
}

impl Handover {
    /// Hands over one mail, whose lines end with CRLF.
    pub async fn hand_over(&mut self, from: &str, to: &str, raw: &[u8]) {
        for line in [&format!("MAIL FROM:<{from}>"), &format!("RCPT TO:<{to}>"), "DATA"] {
            self.io.send(format!("{line}\r\n")).await.unwrap();
            answer(&mut self.io).await;
        }
        let mut data = Vec::with_capacity(raw.len() + 100);
        for line in raw.split_inclusive(|byte| *byte == b'\n') {
            // RFC 5321 §4.5.2
            if line.starts_with(b".") {
                data.push(b'.');
            }
            data.extend_from_slice(line);
        }
        data.extend_from_slice(if raw.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" });
        self.io.send(data).await.unwrap();
        answer(&mut self.io).await;
    }
}

/// One reply, its continuation lines included.
async fn answer(io: &mut LineIo) {
    loop {
        let line = io.line().await.unwrap().unwrap();
        assert!(line.starts_with(['2', '3']), "{line}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return;
        }
    }
}
