//! One client's conversation with the sink.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::line_io::LineIo;
use super::super::tls_fixture::acceptor;
use super::{Act, Received, Shared, Stage};

pub(super) async fn serve(shared: Arc<Shared>, io: LineIo) {
    let (number, open) = {
        let mut connections = shared.connections.lock().unwrap();
        connections.0 += 1;
        connections.1 += 1;
        *connections
    };
    // A client that hangs up is no fault of the sink's.
    let _ = Conversation::hold(Arc::clone(&shared), io, number, open).await;
    shared.connections.lock().unwrap().1 -= 1;
}

/// What to do after a rule was looked at.
enum Next {
    Usual,
    Answered,
    Take,
    End,
}

struct Conversation {
    shared: Arc<Shared>,
    io: LineIo,
    number: usize,
    message: usize,
    encrypted: bool,
    logged_in: bool,
    /// MAIL was accepted.
    is_open: bool,
    from: String,
    parameters: String,
    to: Vec<String>,
}

impl Conversation {
    async fn hold(shared: Arc<Shared>, mut io: LineIo, number: usize, open: usize) -> io::Result<()> {
        let behaviour = shared.behaviour.lock().unwrap().clone();
        if behaviour.implicit_tls {
            io = io.secure(&acceptor()).await?;
        }
        let mut this = Self {
            shared,
            io,
            number,
            message: 0,
            encrypted: behaviour.implicit_tls,
            logged_in: behaviour.login.is_none(),
            is_open: false,
            from: String::new(),
            parameters: String::new(),
            to: Vec::new(),
        };
        if open > behaviour.connection_limit {
            return this.io.send("421 4.7.0 too many connections\r\n").await;
        }
        if !this.usual(Stage::Greeting, "", "220 sink.test ESMTP\r\n").await? {
            return Ok(());
        }
        while let Some(line) = this.io.line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            *this.shared.verbs.lock().unwrap().entry(verb.clone()).or_default() += 1;
            this.shared.lines.lock().unwrap().push(line.clone());
            if verb == "STARTTLS" {
                if !this.usual(Stage::StartTls, "", "220 go ahead\r\n").await? {
                    return Ok(());
                }
                this.io = this.io.secure(&acceptor()).await?;
                this.encrypted = true;
            } else if !this.command(&verb, &line).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn command(&mut self, verb: &str, line: &str) -> io::Result<bool> {
        match verb {
            "EHLO" => {
                let answer = self.ehlo_answer();
                self.usual(Stage::Ehlo, "", &answer).await
            }
            "HELO" => self.say("250 sink.test\r\n").await,
            "AUTH" => self.auth(line).await,
            "MAIL" => self.mail(line).await,
            "RCPT" => self.rcpt(line).await,
            "DATA" => self.data().await,
            "RSET" => {
                self.close();
                self.usual(Stage::Rset, "", "250 2.0.0 flushed\r\n").await
            }
            "NOOP" => self.say("250 2.0.0 still here\r\n").await,
            "QUIT" => {
                self.say("221 2.0.0 bye\r\n").await?;
                Ok(false)
            }
            _ => self.say("500 5.5.2 what?\r\n").await,
        }
    }

    fn ehlo_answer(&self) -> String {
        let behaviour = self.shared.behaviour.lock().unwrap();
        if behaviour.helo_only {
            return "502 5.5.1 never heard of it\r\n".to_owned();
        }
        let mut lines = vec!["sink.test".to_owned(), "ENHANCEDSTATUSCODES".to_owned()];
        let size = behaviour.size.map(|size| format!("SIZE {size}"));
        lines.extend(size);
        let flags = [
            (behaviour.pipelining, "PIPELINING"),
            (behaviour.smtputf8, "SMTPUTF8"),
            (behaviour.eight_bit_mime, "8BITMIME"),
            (behaviour.starttls && !self.encrypted, "STARTTLS"),
        ];
        lines.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned()));
        if behaviour.login.is_some() {
            lines.push(format!("AUTH {}", behaviour.mechanisms.join(" ")));
        }
        let last = lines.len() - 1;
        let line =
            |(i, text): (usize, &String)| format!("250{}{text}\r\n", if i == last { ' ' } else { '-' });
        lines.iter().enumerate().map(line).collect()
    }

    async fn auth(&mut self, line: &str) -> io::Result<bool> {
        let words: Vec<&str> = line.split(' ').collect();
        let login = self.shared.behaviour.lock().unwrap().login;
        let Some((user, secret)) = login else {
            return self.say("503 5.5.1 no login here\r\n").await;
        };
        let decode = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap_or_default()).unwrap();
        let good = match (words.get(1).copied(), words.get(2)) {
            (Some("PLAIN"), Some(response)) => decode(response) == format!("\0{user}\0{secret}"),
            (Some("LOGIN"), None) => {
                self.io.send("334 VXNlcm5hbWU6\r\n").await?;
                let given_user = self.io.line().await?.unwrap_or_default();
                self.io.send("334 UGFzc3dvcmQ6\r\n").await?;
                let given_secret = self.io.line().await?.unwrap_or_default();
                decode(&given_user) == user && decode(&given_secret) == secret
            }
            _ => return self.say("504 5.5.4 unknown mechanism\r\n").await,
        };
        self.logged_in = good;
        let answer = if good { "235 2.7.0 welcome\r\n" } else { "535 5.7.8 wrong credentials\r\n" };
        self.usual(Stage::Auth, "", answer).await
    }

    async fn mail(&mut self, line: &str) -> io::Result<bool> {
        if !self.logged_in {
            return self.say("530 5.7.0 log in first\r\n").await;
        }
        if self.is_open {
            return self.say("503 5.5.1 a transaction is open\r\n").await;
        }
        self.message = {
            let mut messages = self.shared.messages.lock().unwrap();
            *messages += 1;
            *messages
        };
        let (from, parameters) = path(line);
        (self.from, self.parameters) = (from, parameters);
        match self.look(Stage::Mail, "").await? {
            Next::End => return Ok(false),
            Next::Answered => return Ok(true),
            Next::Usual | Next::Take => {}
        }
        self.is_open = true;
        self.say("250 2.1.0 ok\r\n").await
    }

    async fn rcpt(&mut self, line: &str) -> io::Result<bool> {
        if !self.is_open {
            return self.say("503 5.5.1 need MAIL command\r\n").await;
        }
        let (address, _) = path(line);
        match self.look(Stage::Rcpt, &address).await? {
            Next::End => return Ok(false),
            Next::Answered => return Ok(true),
            Next::Usual | Next::Take => {}
        }
        self.to.push(address);
        self.say("250 2.1.5 ok\r\n").await
    }

    async fn data(&mut self) -> io::Result<bool> {
        let (is_open, takes_any) = (self.is_open, self.shared.behaviour.lock().unwrap().takes_any_data);
        if !is_open && !takes_any {
            return self.say("503 5.5.1 need RCPT command\r\n").await;
        }
        match self.look(Stage::Data, "").await? {
            Next::End => return Ok(false),
            Next::Answered => return Ok(true),
            Next::Usual | Next::Take => {}
        }
        if self.to.is_empty() && !takes_any {
            return self.say("554 5.5.1 no valid recipients\r\n").await;
        }
        self.say("354 go ahead\r\n").await?;
        let mut raw = Vec::new();
        let mut begun = false;
        loop {
            let line = self.io.raw_line().await?;
            if line.is_empty() {
                return Ok(false);
            }
            if line == b".\r\n" {
                break;
            }
            raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if !std::mem::replace(&mut begun, true)
                && !matches!(self.look(Stage::Body, "").await?, Next::Usual)
            {
                return Ok(false);
            }
        }
        if self.to.is_empty() {
            self.close();
            return self.say("554 5.5.1 no valid recipients\r\n").await;
        }
        let answer = format!("250 2.0.0 Ok: queued as SINK{}\r\n", self.message);
        match self.look(Stage::Dot, "").await? {
            Next::End => return Ok(false),
            Next::Answered => self.close(),
            Next::Take => {
                self.take(raw);
                return Ok(false);
            }
            Next::Usual => {
                self.take(raw);
                return self.say(&answer).await;
            }
        }
        Ok(true)
    }

    /// Forgets the transaction.
    fn close(&mut self) {
        self.is_open = false;
        self.to.clear();
    }

    fn take(&mut self, raw: Vec<u8>) {
        self.is_open = false;
        let text = String::from_utf8_lossy(&raw).into_owned();
        let id = text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("message-id").then(|| value.trim().to_owned())
        });
        let mut received = self.shared.received.lock().unwrap();
        received.push(Received {
            connection: self.number,
            from: self.from.clone(),
            to: std::mem::take(&mut self.to),
            parameters: self.parameters.clone(),
            raw,
            message_id: id,
        });
        self.shared.count.send_replace(received.len());
    }

    async fn say(&mut self, text: &str) -> io::Result<bool> {
        self.io.send(text).await?;
        Ok(true)
    }

    /// Gives the usual answer unless a rule says otherwise; false when the conversation is over.
    async fn usual(&mut self, stage: Stage, recipient: &str, answer: &str) -> io::Result<bool> {
        match self.look(stage, recipient).await? {
            Next::Usual | Next::Take => self.say(answer).await,
            Next::Answered => Ok(true),
            Next::End => Ok(false),
        }
    }

    async fn look(&mut self, stage: Stage, recipient: &str) -> io::Result<Next> {
        let Some(act) = self.rule(stage, recipient) else {
            return Ok(Next::Usual);
        };
        match act {
            Act::Reply(text) => {
                self.io.send(format!("{text}\r\n")).await?;
                Ok(if text.starts_with("421") { Next::End } else { Next::Answered })
            }
            Act::Close => Ok(Next::End),
            Act::TakeAndClose => Ok(Next::Take),
            Act::Late => {
                self.shared.waiting.send_modify(|waiting| *waiting += 1);
                self.shared.released.acquire().await.unwrap().forget();
                self.shared.waiting.send_modify(|waiting| *waiting -= 1);
                Ok(Next::Usual)
            }
            Act::Never => {
                self.io.hang().await?;
                Ok(Next::End)
            }
        }
    }

    fn rule(&self, stage: Stage, recipient: &str) -> Option<Act> {
        let mut behaviour = self.shared.behaviour.lock().unwrap();
        let rule = behaviour.rules.iter_mut().find(|rule| {
            rule.stage == stage
                && rule.times != Some(0)
                && rule.connection.is_none_or(|number| number == self.number)
                && rule.recipient.is_none_or(|address| address == recipient)
                && rule.message.is_none_or(|number| number == self.message)
        })?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.act.clone())
    }
}

/// `MAIL FROM:<a@b> SIZE=3` gives the address and the parameters.
fn path(line: &str) -> (String, String) {
    let after = line.split_once('<').map_or("", |(_, after)| after);
    let (address, parameters) = after.split_once('>').unwrap_or((after, ""));
    (address.to_owned(), parameters.trim().to_owned())
}
