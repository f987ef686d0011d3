//! One client's conversation with the IMAP server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::line_io::LineIo;
use super::super::tls_fixture::acceptor;
use super::{FetchFault, Mailbox, Shared, Stored};

pub(super) struct Conversation {
    shared: Arc<Shared>,
    io: LineIo,
    encrypted: bool,
    logged_in: bool,
    folder: Option<String>,
    /// The UIDs that the client knows of, by sequence number.
    view: Vec<u32>,
}

impl Conversation {
    pub(super) async fn hold(shared: Arc<Shared>, mut io: LineIo) -> io::Result<()> {
        let implicit = shared.behaviour.lock().unwrap().implicit_tls;
        if implicit {
            io = io.secure(&acceptor()).await?;
        }
        let mut this =
            Self { shared, io, encrypted: implicit, logged_in: false, folder: None, view: Vec::new() };
        this.send(b"* OK ready when you are\r\n").await?;
        while let Some(line) = this.io.line().await? {
            let Some((tag, command)) = line.split_once(' ') else { return Ok(()) };
            let (tag, command) = (tag.to_owned(), command.to_owned());
            let verb = verb_of(&command);
            *this.shared.commands.lock().unwrap().entry(verb.clone()).or_default() += 1;
            this.shared.lines.lock().unwrap().push(command.clone());
            if verb == "STARTTLS" {
                this.done(&tag, "OK begin").await?;
                this.io = this.io.secure(&acceptor()).await?;
                this.encrypted = true;
            } else if !this.misbehave(&tag, &verb).await? && !this.command(&tag, &verb, &command).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// True when the command got all the answer that it will get.
    async fn misbehave(&mut self, tag: &str, verb: &str) -> io::Result<bool> {
        let behaviour = self.shared.behaviour.lock().unwrap().clone();
        if let Some((_, bytes)) = behaviour.inject.filter(|(at, _)| *at == verb) {
            self.send(bytes).await?;
        }
        if behaviour.silent_on == Some(verb) {
            self.io.hang().await?;
            return Ok(true);
        }
        if let Some((_, words)) = behaviour.refuse.filter(|(at, _)| *at == verb) {
            self.done(tag, &format!("NO {words}")).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn command(&mut self, tag: &str, verb: &str, command: &str) -> io::Result<bool> {
        let rest = command.get(verb.len()..).unwrap_or_default().trim();
        match verb {
            "CAPABILITY" => {
                let list = self.capabilities();
                self.send(format!("* CAPABILITY {list}\r\n")).await?;
                self.done(tag, "OK done").await?;
            }
            "LOGIN" => {
                let given = strings(rest);
                self.log_in(tag, |user, secret| given == [user, secret]).await?;
            }
            "AUTHENTICATE" => self.authenticate(tag, rest).await?,
            "NOOP" => {
                self.tell_changes().await?;
                self.done(tag, "OK done").await?;
            }
            "LOGOUT" => {
                self.send(b"* BYE see you\r\n").await?;
                self.done(tag, "OK done").await?;
                self.shared.changed.send_modify(|version| *version += 1);
                return Ok(false);
            }
            _ if !self.logged_in => self.done(tag, "BAD log in first").await?,
            "SELECT" | "EXAMINE" => self.select(tag, &strings(rest), verb).await?,
            _ if self.folder.is_none() => self.done(tag, "BAD select a folder first").await?,
            "UID FETCH" => return self.fetch(tag, rest).await,
            "UID STORE" => self.store(tag, rest).await?,
            "UID COPY" => self.copy(tag, rest, false).await?,
            "UID MOVE" => self.copy(tag, rest, true).await?,
            "UID EXPUNGE" => self.expunge(tag, rest).await?,
            "IDLE" => return self.idle(tag).await,
            _ => self.done(tag, "BAD what?").await?,
        }
        Ok(true)
    }

    fn capabilities(&self) -> String {
        let behaviour = self.shared.behaviour.lock().unwrap();
        let mut list = vec!["IMAP4rev1"];
        list.extend(&behaviour.capabilities);
        if behaviour.starttls && !self.encrypted {
            list.push("STARTTLS");
        }
        list.join(" ")
    }

    async fn log_in(&mut self, tag: &str, good: impl FnOnce(&str, &str) -> bool) -> io::Result<()> {
        let behaviour = self.shared.behaviour.lock().unwrap().clone();
        if let Some(words) = behaviour.refuse_login {
            return self.done(tag, &format!("NO {words}")).await;
        }
        self.logged_in = good(behaviour.user, behaviour.secret);
        if !self.logged_in {
            return self.done(tag, "NO [AUTHENTICATIONFAILED] wrong user or password").await;
        }
        let list = self.capabilities();
        self.done(tag, &format!("OK [CAPABILITY {list}] welcome")).await
    }

    async fn authenticate(&mut self, tag: &str, rest: &str) -> io::Result<()> {
        let (mechanism, response) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut response = response.to_owned();
        if response.is_empty() {
            self.send(b"+ \r\n").await?;
            response = self.io.line().await?.unwrap_or_default();
        }
        let given = String::from_utf8(STANDARD.decode(response).unwrap_or_default()).unwrap_or_default();
        let expected = |user: &str, secret: &str| match mechanism {
            "PLAIN" => format!("\0{user}\0{secret}"),
            _ => format!("user={user}\x01auth=Bearer {secret}\x01\x01"),
        };
        let (user, secret) = {
            let behaviour = self.shared.behaviour.lock().unwrap();
            (behaviour.user, behaviour.secret)
        };
        if mechanism == "XOAUTH2" && given != expected(user, secret) {
            self.send(b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n").await?;
            self.io.line().await?;
        }
        self.log_in(tag, |user, secret| given == expected(user, secret)).await
    }

    async fn select(&mut self, tag: &str, folder: &[String], verb: &str) -> io::Result<()> {
        let name = folder.first().cloned().unwrap_or_default();
        let found = self.shared.boxes.lock().unwrap().get(&name).cloned();
        let Some(mailbox) = found else {
            self.folder = None;
            return self.done(tag, "NO [NONEXISTENT] no such folder").await;
        };
        self.view = mailbox.messages.iter().map(|message| message.uid).collect();
        self.folder = Some(name);
        self.send(format!(
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* {} EXISTS\r\n* 0 RECENT\r\n\
             * OK [UIDVALIDITY {}] valid\r\n* OK [UIDNEXT {}] next\r\n* OK [HIGHESTMODSEQ 7] modseq\r\n",
            mailbox.messages.len(),
            mailbox.uid_validity,
            mailbox.uid_next
        ))
        .await?;
        let mode = if verb == "SELECT" { "READ-WRITE" } else { "READ-ONLY" };
        self.done(tag, &format!("OK [{mode}] open")).await
    }

    async fn fetch(&mut self, tag: &str, rest: &str) -> io::Result<bool> {
        let (set, items) = rest.split_once(' ').unwrap_or((rest, ""));
        let wanted = self.chosen(set);
        let body = items.contains("BODY.PEEK[]");
        let header = items.contains("BODY.PEEK[HEADER]");
        let behaviour = self.shared.behaviour.lock().unwrap().clone();
        let fault = behaviour.fetch_fault.filter(|_| body);
        let struck = |at: usize, uid: u32| match behaviour.fault_uids.as_slice() {
            [] => at == 1 || wanted.len() == 1,
            chosen => chosen.contains(&uid),
        };
        for (at, message) in wanted.iter().enumerate() {
            let sequence = self.view.iter().position(|uid| *uid == message.uid).map_or(0, |i| i + 1);
            let flags = message.flags.iter().cloned().collect::<Vec<_>>().join(" ");
            let mut head = format!(
                "* {sequence} FETCH (UID {} INTERNALDATE \"17-Jul-1996 02:44:25 -0700\"",
                message.uid
            );
            if let Some(fault) = behaviour.header_fault.filter(|_| header) {
                self.fail(&head, message, fault).await?;
                return Ok(false);
            }
            if header {
                let end = message.raw.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
                self.send(format!("{head} BODY[HEADER]<0> {{{end}}}\r\n")).await?;
                self.send(&message.raw[..end]).await?;
                self.send(b")\r\n").await?;
                continue;
            }
            if !body {
                head.push_str(&format!(" RFC822.SIZE {} FLAGS ({flags}))\r\n", message.raw.len()));
                self.send(head).await?;
                continue;
            }
            if let Some(fault) = fault.filter(|_| struck(at, message.uid)) {
                if behaviour.fault_once {
                    self.shared.behaviour.lock().unwrap().fetch_fault = None;
                }
                match fault {
                    FetchFault::LeaveOut => continue,
                    FetchFault::Late => {
                        self.shared.late.send_modify(|times| *times += 1);
                        self.shared.released.cancelled().await;
                    }
                    _ => {
                        self.fail(&head, message, fault).await?;
                        return Ok(false);
                    }
                }
            }
            head.push_str(&format!(" BODY[] {{{}}}\r\n", message.raw.len()));
            self.send(head).await?;
            self.send(&message.raw).await?;
            self.send(b")\r\n").await?;
        }
        self.tell_changes().await?;
        self.done(tag, "OK done").await?;
        Ok(true)
    }

    async fn fail(&mut self, head: &str, message: &Stored, fault: FetchFault) -> io::Result<()> {
        let size = message.raw.len();
        let half = &message.raw[..size / 2];
        match fault {
            FetchFault::HugeLiteral(announced) => {
                self.send(format!("{head} BODY[] {{{announced}}}\r\n")).await?;
                self.io.hang().await
            }
            FetchFault::Garbage => self.send(b"* 1 FETCH (((UID\r\n").await,
            FetchFault::Bye => self.send(b"* BYE going down\r\n").await,
            FetchFault::Stall | FetchFault::CloseInLiteral => {
                self.send(format!("{head} BODY[] {{{size}}}\r\n")).await?;
                self.send(half).await?;
                if matches!(fault, FetchFault::Stall) { self.io.hang().await } else { Ok(()) }
            }
            FetchFault::LeaveOut | FetchFault::Late => Ok(()),
        }
    }

    async fn store(&mut self, tag: &str, rest: &str) -> io::Result<()> {
        let (set, what) = rest.split_once(' ').unwrap_or((rest, ""));
        let flag = what.split(['(', ')']).nth(1).unwrap_or_default().to_owned();
        let uids: Vec<u32> = self.chosen(set).iter().map(|message| message.uid).collect();
        self.edit(|mailbox| {
            for message in mailbox.messages.iter_mut().filter(|message| uids.contains(&message.uid)) {
                message.flags.insert(flag.clone());
            }
        });
        self.done(tag, "OK stored").await
    }

    async fn copy(&mut self, tag: &str, rest: &str, and_remove: bool) -> io::Result<()> {
        let (set, target) = rest.split_once(' ').unwrap_or((rest, ""));
        let target = strings(target).remove(0);
        let chosen = self.chosen(set);
        let known = {
            let mut boxes = self.shared.boxes.lock().unwrap();
            boxes
                .get_mut(&target)
                .map(|mailbox| chosen.iter().for_each(|m| _ = mailbox.add(&m.raw)))
                .is_some()
        };
        if !known {
            return self.done(tag, "NO [TRYCREATE] no such folder").await;
        }
        if and_remove {
            self.edit(|mailbox| mailbox.messages.retain(|m| !chosen.iter().any(|c| c.uid == m.uid)));
            self.tell_changes().await?;
        }
        self.done(tag, "OK done").await
    }

    async fn expunge(&mut self, tag: &str, set: &str) -> io::Result<()> {
        let chosen = self.chosen(set);
        self.edit(|mailbox| {
            mailbox.messages.retain(|message| {
                !(message.flags.contains("\\Deleted") && chosen.iter().any(|c| c.uid == message.uid))
            });
        });
        self.tell_changes().await?;
        self.done(tag, "OK expunged").await
    }

    async fn idle(&mut self, tag: &str) -> io::Result<bool> {
        if !self.capabilities().contains("IDLE") {
            self.done(tag, "BAD no IDLE here").await?;
            return Ok(true);
        }
        let mut changed = self.shared.changed.subscribe();
        let shutdown = self.shared.shutdown.clone();
        self.send(b"+ idling\r\n").await?;
        self.shared.idling.send_modify(|idling| *idling += 1);
        let ended = loop {
            if let Err(error) = self.tell_changes().await {
                break Err(error);
            }
            tokio::select! {
                line = self.io.line() => break line.map(|line| line.is_some()),
                _ = changed.changed() => {}
                () = shutdown.cancelled() => {
                    break self.send(b"* BYE shutting down\r\n").await.map(|()| false);
                }
            }
        };
        self.shared.idling.send_modify(|idling| *idling -= 1);
        if ended? {
            self.done(tag, "OK idled").await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// EXPUNGE and EXISTS for what happened since the client was last told.
    async fn tell_changes(&mut self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let now: Vec<u32> = {
            let boxes = self.shared.boxes.lock().unwrap();
            boxes.get(folder).map(|m| m.messages.iter().map(|m| m.uid).collect()).unwrap_or_default()
        };
        let mut news = String::new();
        for at in (0..self.view.len()).rev().filter(|at| !now.contains(&self.view[*at])) {
            news.push_str(&format!("* {} EXPUNGE\r\n", at + 1));
        }
        if now.iter().any(|uid| !self.view.contains(uid)) {
            news.push_str(&format!("* {} EXISTS\r\n", now.len()));
        }
        self.view = now;
        if news.is_empty() { Ok(()) } else { self.send(news).await }
    }

    /// The messages that a UID set names; `n:*` always names the last one (RFC 3501 §6.4.8).
    fn chosen(&self, set: &str) -> Vec<Stored> {
        let boxes = self.shared.boxes.lock().unwrap();
        let Some(mailbox) = self.folder.as_ref().and_then(|folder| boxes.get(folder)) else {
            return Vec::new();
        };
        let last = mailbox.messages.last().map_or(0, |message| message.uid);
        let number = |text: &str| if text == "*" { last } else { text.parse().unwrap() };
        let ranges: Vec<(u32, u32)> = set
            .split(',')
            .map(|range| {
                let (a, b) = range.split_once(':').unwrap_or((range, range));
                (number(a).min(number(b)), number(a).max(number(b)))
            })
            .collect();
        let named = |uid: u32| ranges.iter().any(|(from, to)| (*from..=*to).contains(&uid));
        mailbox.messages.iter().filter(|message| named(message.uid)).cloned().collect()
    }

    fn edit(&self, change: impl FnOnce(&mut Mailbox)) {
        let mut boxes = self.shared.boxes.lock().unwrap();
        if let Some(mailbox) = self.folder.as_ref().and_then(|folder| boxes.get_mut(folder)) {
            change(mailbox);
        }
        self.shared.changed.send_modify(|version| *version += 1);
    }

    async fn done(&mut self, tag: &str, text: &str) -> io::Result<()> {
        self.send(format!("{tag} {text}\r\n")).await
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.shared.bytes.fetch_add(bytes.as_ref().len() as u64, Ordering::Relaxed);
        self.io.send(bytes).await
    }
}

fn verb_of(command: &str) -> String {
    let mut words = command.split(' ');
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    if first == "UID" {
        format!("UID {}", words.next().unwrap_or_default().to_ascii_uppercase())
    } else {
        first
    }
}

/// Quoted strings and atoms, unquoted.
fn strings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(chars.next().map(|(_, c)| c)),
                    c => value.push(c),
                }
            }
            found.push(value);
            rest = quoted[end..].trim_start();
        } else {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            found.push(word.to_owned());
            rest = after.trim_start();
        }
    }
    found
}
