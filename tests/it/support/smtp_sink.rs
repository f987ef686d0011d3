//! An SMTP server that takes mail and, where a test says so, misbehaves in ways that real servers will not on
//! demand. It never sleeps: whatever is late waits for the test to release it.

mod conversation;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::conversation::serve;
use super::line_io::LineIo;

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
    /// DATA is answered 354 even when every recipient was refused (RFC 2920 section 3.1), and the text is refused.
    pub takes_any_data: bool,
    /// EHLO is answered 502, as by a server from before 1993.
    pub helo_only: bool,
    pub starttls: bool,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// The user and the password that AUTH wants; MAIL before it gets 530.
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
            takes_any_data: false,
            helo_only: false,
            starttls: false,
            implicit_tls: false,
            login: None,
            mechanisms: &["PLAIN", "LOGIN"],
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
