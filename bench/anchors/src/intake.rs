//! A mailbox fetched by one command, parsed on one thread and stored on another.

use std::{
    collections::HashMap,
    hint::black_box,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::Instant,
};

use mail_parser::{MessageParser, MimeHeaders};
use rusqlite::Connection;

use crate::{INSERT, Result, create, report};

const ROWS: usize = 100;

struct Mail {
    date: i64,
    id: String,
    from: String,
    subject: String,
    parent: Option<String>,
    attachments: Vec<(String, i64)>,
    raw: Vec<u8>,
}

pub fn run(address: &str, user: &str, password: &str, file: &str) -> Result<()> {
    let db = create(file, "NORMAL")?;
    db.execute_batch(
        "CREATE TABLE attachment (message_id INT, name TEXT, size INT);
         CREATE TABLE thread (msgid TEXT PRIMARY KEY, thread_id INT) WITHOUT ROWID;",
    )?;
    let since = Instant::now();
    let (send, mails) = mpsc::sync_channel(256);
    let storing = thread::spawn(move || store(db, &mails));
    let mut imap = Imap::connect(address)?;
    imap.command(&format!("LOGIN {user} {password}"), |_| Ok(()))?;
    imap.command("EXAMINE INBOX", |_| Ok(()))?;
    let (parser, mut count) = (MessageParser::default(), 0);
    imap.command("UID FETCH 1:* (UID BODY.PEEK[])", |raw| {
        count += 1;
        Ok(send.send(read(&parser, raw, count))?)
    })?;
    drop(send);
    storing.join().map_err(|_| "the storing thread panicked")??;
    report(count, since);
    Ok(())
}

fn read(parser: &MessageParser, raw: Vec<u8>, number: usize) -> Mail {
    let mail = parser.parse(&raw).map(|mail| {
        black_box((mail.body_text(0).map(|text| text.len()), mail.body_html(0).map(|html| html.len())));
        let attachments = mail.attachments().map(|part| {
            (part.attachment_name().unwrap_or_default().to_owned(), part.contents().len() as i64)
        });
        Mail {
            date: mail.date().map_or(0, |date| date.to_timestamp()),
            id: mail.message_id().map_or_else(|| format!("none-{number}"), str::to_owned),
            from: mail.from().and_then(|from| from.first()?.address()).unwrap_or_default().to_owned(),
            subject: mail.subject().unwrap_or_default().to_owned(),
            parent: mail.in_reply_to().as_text().map(str::to_owned),
            attachments: attachments.collect(),
            raw: Vec::new(),
        }
    });
    let nothing = || Mail {
        date: 0,
        id: format!("none-{number}"),
        from: String::new(),
        subject: String::new(),
        parent: None,
        attachments: Vec::new(),
        raw: Vec::new(),
    };
    Mail { raw, ..mail.unwrap_or_else(nothing) }
}

fn store(mut db: Connection, mails: &mpsc::Receiver<Mail>) -> Result<()> {
    let (mut threads, mut id, mut more) = (HashMap::<String, i64>::new(), 0, true);
    while more {
        let tx = db.transaction()?;
        for _ in 0..ROWS {
            let Ok(mail) = mails.recv() else {
                more = false;
                break;
            };
            id += 1;
            let subject = mail.subject.to_lowercase();
            let queue = if subject.contains("refund") || subject.contains("invoice") { "billing" } else { "general" };
            let thread = mail.parent.and_then(|parent| threads.get(&parent).copied()).unwrap_or(id);
            tx.prepare_cached("INSERT OR IGNORE INTO thread VALUES (?1, ?2)")?.execute((&mail.id, thread))?;
            tx.prepare_cached(INSERT)?.execute((queue, mail.date, &mail.id, mail.from, mail.subject, mail.raw))?;
            for (name, size) in mail.attachments {
                tx.prepare_cached("INSERT INTO attachment VALUES (?1, ?2, ?3)")?.execute((id, name, size))?;
            }
            threads.insert(mail.id, thread);
        }
        tx.commit()?;
    }
    Ok(())
}

struct Imap {
    read: BufReader<TcpStream>,
    write: TcpStream,
    tag: u32,
}

impl Imap {
    fn connect(address: &str) -> Result<Self> {
        let write = TcpStream::connect(address)?;
        write.set_nodelay(true)?;
        let mut read = BufReader::with_capacity(1 << 20, write.try_clone()?);
        read.read_until(b'\n', &mut Vec::new())?;
        Ok(Self { read, write, tag: 0 })
    }

    /// Runs a command and gives each literal of its answer to `take`.
    fn command(&mut self, command: &str, mut take: impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        self.tag += 1;
        let tag = format!("A{} ", self.tag);
        self.write.write_all(format!("{tag}{command}\r\n").as_bytes())?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.read.read_until(b'\n', &mut line)? == 0 {
                return Err("the server hung up".into());
            }
            if let Some(answer) = line.strip_prefix(tag.as_bytes()) {
                let answer = String::from_utf8_lossy(answer);
                return if answer.starts_with("OK") { Ok(()) } else { Err(answer.into()) };
            }
            if let Some(length) = literal(&line) {
                let mut bytes = vec![0; length];
                self.read.read_exact(&mut bytes)?;
                take(bytes)?;
            }
        }
    }
}

/// The length of the literal that a line announces: `… {123}`.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let start = line.iter().rposition(|&byte| byte == b'{')?;
    std::str::from_utf8(&line[start + 1..]).ok()?.parse().ok()
}
