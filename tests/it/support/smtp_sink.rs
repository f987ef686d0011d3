//! An SMTP server that takes mail and, where a test says so, misbehaves in ways that real servers will not on
//! demand. It never sleeps: whatever is late waits for the test to release it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::line_io::LineIo;
use super::tls_fixture::acceptor;

/// The place in the conversation at which a rule takes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// After the first line of the message.
    Body,
    Dot,
    Rset,
    Noop,
}

/// What the sink does there instead of its duty.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers with this line and takes no message. 421 also hangs up.
    Reply(&'static str),
    /// Hangs up without a word.
    Close,
    /// At the dot: takes the message, then hangs up without a word.
    TakeAndClose,
    /// Goes on as usual once the test calls [`SmtpSink::release`].
    Late,
    /// Never answers.
    Never,
}

/// When a rule holds. What is none holds always; numbers begin at 1.
#[derive(Debug, Clone)]
pub struct Rule {
    pub stage: Stage,
    pub act: Act,
    pub connection: Option<usize>,
    pub recipient: Option<&'static str>,
    /// The nth MAIL over all connections.
    pub message: Option<usize>,
    /// How often the rule may hold.
    pub times: Option<usize>,
}

impl Rule {
    pub fn at(stage: Stage, act: Act) -> Self {
        Self { stage, act, connection: None, recipient: None, message: None, times: None }
    }

    pub fn on_connection(mut self, number: usize) -> Self {
        self.connection = Some(number);
        self
    }

    pub fn for_recipient(mut self, address: &'static str) -> Self {
        self.recipient = Some(address);
        self
    }

    pub fn on_message(mut self, number: usize) -> Self {
        self.message = Some(number);
        self
    }

    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }
}

/// What the sink offers and how it misbehaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub rules: Vec<Rule>,
    pub pipelining: bool,
    pub size: Option<u64>,
    pub smtputf8: bool,
    pub eight_bit_mime: bool,
    /// EHLO is answered 502, as by a server from before 1993.
    pub helo_only: bool,
    pub starttls: bool,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// The user and the password or token that AUTH wants; MAIL before it gets 530.
    pub login: Option<(&'static str, &'static str)>,
    pub mechanisms: &'static [&'static str],
    /// More connections than this at once get 421.
    pub connection_limit: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            pipelining: true,
            size: Some(10_000_000),
            smtputf8: true,
            eight_bit_mime: true,
            helo_only: false,
            starttls: false,
            implicit_tls: false,
            login: None,
            mechanisms: &["PLAIN", "LOGIN", "XOAUTH2"],
            connection_limit: usize::MAX,
        }
    }
}

impl Behaviour {
    pub fn with(rule: Rule) -> Self {
        Self { rules: vec![rule], ..Self::default() }
    }
}

/// A message that the sink took.
#[derive(Debug, Clone)]
pub struct Received {
    pub connection: usize,
    pub from: String,
    pub to: Vec<String>,
    /// The MAIL line's parameters.
    pub parameters: String,
    /// As it was before its dots were doubled.
    pub raw: Vec<u8>,
    pub message_id: Option<String>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    /// How many conversations wait for the test.
    waiting: watch::Sender<usize>,
    released: Semaphore,
    lines: Mutex<Vec<String>>,
    verbs: Mutex<HashMap<String, usize>>,
    connections: Mutex<(usize, usize)>,
    messages: Mutex<usize>,
}

/// The running sink; it ends when it is dropped.
pub struct SmtpSink {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SmtpSink {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            received: Mutex::default(),
            count: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
            released: Semaphore::new(0),
            lines: Mutex::default(),
            verbs: Mutex::default(),
            connections: Mutex::default(),
            messages: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            // Its connections end with it.
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                conversations.spawn(serve(Arc::clone(&serving), LineIo::new(socket)));
            }
        });
        Self { addr, shared, task }
    }

    /// Changes what new conversations, and the next commands of running ones, meet.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until at least `n` messages were taken, and gives them.
    pub async fn wait_for(&self, n: usize) -> Vec<Received> {
        self.shared.count.subscribe().wait_for(|count| *count >= n).await.unwrap();
        self.received()
    }

    /// Waits until a conversation has come to an [`Act::Late`].
    pub async fn wait_until_late(&self) {
        self.shared.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    /// Lets one conversation that is [`Act::Late`] go on.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// How many connections were taken so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().0
    }

    /// How often a command came, such as `MAIL`.
    pub fn commands(&self, verb: &str) -> usize {
        self.shared.verbs.lock().unwrap().get(verb).copied().unwrap_or(0)
    }

    /// Every command line that came.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().unwrap().clone()
    }
}

async fn serve(shared: Arc<Shared>, io: LineIo) {
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
                self.to.clear();
                self.usual(Stage::Rset, "", "250 2.0.0 flushed\r\n").await
            }
            "NOOP" => self.usual(Stage::Noop, "", "250 2.0.0 still here\r\n").await,
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
            (Some("XOAUTH2"), Some(response)) => {
                let good = decode(response) == format!("user={user}\x01auth=Bearer {secret}\x01\x01");
                if !good {
                    self.io.send("334 eyJzdGF0dXMiOiI0MDEifQ==\r\n").await?;
                    self.io.line().await?;
                }
                good
            }
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
        if !self.to.is_empty() {
            return self.say("503 5.5.1 a transaction is open\r\n").await;
        }
        self.message = {
            let mut messages = self.shared.messages.lock().unwrap();
            *messages += 1;
            *messages
        };
        let (from, parameters) = path(line);
        (self.from, self.parameters) = (from, parameters);
        self.usual(Stage::Mail, "", "250 2.1.0 ok\r\n").await
    }

    async fn rcpt(&mut self, line: &str) -> io::Result<bool> {
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
        match self.look(Stage::Data, "").await? {
            Next::End => return Ok(false),
            Next::Answered => return Ok(true),
            Next::Usual | Next::Take => {}
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
        let answer = format!("250 2.0.0 Ok: queued as SINK{}\r\n", self.message);
        match self.look(Stage::Dot, "").await? {
            Next::End => return Ok(false),
            Next::Answered => self.to.clear(),
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

    fn take(&mut self, raw: Vec<u8>) {
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
