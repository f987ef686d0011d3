//! A small IMAP server with mailboxes in memory, which a test changes while it runs and can tell to misbehave.

mod conversation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::conversation::Conversation;
use super::line_io::LineIo;

/// What goes wrong when message bodies are fetched; it happens at the second message of the answer.
#[derive(Debug, Clone, Copy)]
pub enum FetchFault {
    /// Announces a literal of this size and sends nothing of it.
    HugeLiteral(u64),
    /// `* BYE` and the end.
    Bye,
    /// Stops sending in the middle of a literal, and waits.
    Stall,
    /// Hangs up in the middle of a literal.
    CloseInLiteral,
    /// Leaves the message out, as if it had just been expunged.
    LeaveOut,
    /// Waits until the test releases it, and then sends the message.
    Late,
    /// Sends what no client understands.
    Garbage,
}

/// What the server offers and how it misbehaves.
#[derive(Debug, Clone)]
pub struct ImapBehaviour {
    pub capabilities: Vec<&'static str>,
    pub user: &'static str,
    /// The password or the token.
    pub secret: &'static str,
    /// The words with which every login is refused.
    pub refuse_login: Option<&'static str>,
    pub fetch_fault: Option<FetchFault>,
    /// The fault strikes these messages instead, wherever they stand in an answer.
    pub fault_uids: Vec<u32>,
    /// What goes wrong when a header is fetched.
    pub header_fault: Option<FetchFault>,
    /// The fault strikes once.
    pub fault_once: bool,
    /// A command, such as `SELECT`, that gets no answer.
    pub silent_on: Option<&'static str>,
    /// Bytes that are sent before the answer to a command.
    pub inject: Option<(&'static str, &'static [u8])>,
    /// A command that is answered `NO` with these words.
    pub refuse: Option<(&'static str, &'static str)>,
    /// The server offers STARTTLS until it is used.
    pub starttls: bool,
    pub implicit_tls: bool,
}

impl Default for ImapBehaviour {
    fn default() -> Self {
        Self {
            capabilities: vec!["IDLE", "MOVE", "UIDPLUS", "SASL-IR", "AUTH=PLAIN", "AUTH=XOAUTH2"],
            user: "anna",
            secret: "pass",
            refuse_login: None,
            fetch_fault: None,
            fault_uids: Vec::new(),
            header_fault: None,
            fault_once: false,
            silent_on: None,
            inject: None,
            refuse: None,
            starttls: false,
            implicit_tls: false,
        }
    }
}

impl ImapBehaviour {
    pub fn without(mut self, capability: &str) -> Self {
        self.capabilities.retain(|offered| *offered != capability);
        self
    }
}

#[derive(Debug, Clone)]
struct Stored {
    uid: u32,
    raw: Vec<u8>,
    flags: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Mailbox {
    uid_validity: u32,
    uid_next: u32,
    messages: Vec<Stored>,
}

impl Mailbox {
    fn add(&mut self, raw: &[u8]) -> u32 {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.messages.push(Stored { uid, raw: raw.to_vec(), flags: BTreeSet::new() });
        uid
    }
}

struct Shared {
    behaviour: Mutex<ImapBehaviour>,
    boxes: Mutex<BTreeMap<String, Mailbox>>,
    changed: watch::Sender<u64>,
    idling: watch::Sender<usize>,
    commands: Mutex<HashMap<String, usize>>,
    lines: Mutex<Vec<String>>,
    connections: AtomicU64,
    bytes: AtomicU64,
    shutdown: CancellationToken,
    late: watch::Sender<usize>,
    released: CancellationToken,
}

/// The running server; it ends when it is dropped.
pub struct ImapServer {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for ImapServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ImapServer {
    /// Starts with an empty `INBOX` and an empty `Archive`.
    pub async fn start(behaviour: ImapBehaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let empty = |uid_validity| Mailbox { uid_validity, uid_next: 1, messages: Vec::new() };
        let boxes = BTreeMap::from([("INBOX".to_owned(), empty(1000)), ("Archive".to_owned(), empty(2000))]);
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            boxes: Mutex::new(boxes),
            changed: watch::Sender::new(0),
            idling: watch::Sender::new(0),
            commands: Mutex::default(),
            lines: Mutex::default(),
            connections: AtomicU64::default(),
            bytes: AtomicU64::default(),
            shutdown: CancellationToken::new(),
            late: watch::Sender::new(0),
            released: CancellationToken::new(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&serving);
                // A client that hangs up is no fault of the server's.
                conversations.spawn(async move {
                    let _ = Conversation::hold(shared, LineIo::new(socket)).await;
                });
            }
        });
        Self { addr, shared, task }
    }

    pub fn behave(&self, change: impl FnOnce(&mut ImapBehaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    /// Delivers a message and gives its UID.
    pub fn append(&self, folder: &str, raw: &[u8]) -> u32 {
        self.change(folder, |mailbox| mailbox.add(raw))
    }

    pub fn expunge(&self, folder: &str, uid: u32) {
        self.change(folder, |mailbox| mailbox.messages.retain(|message| message.uid != uid));
    }

    /// Gives the folder another UIDVALIDITY and its messages other UIDs, as a restored mailbox has.
    pub fn renumber(&self, folder: &str) {
        self.change(folder, |mailbox| {
            mailbox.uid_validity += 1;
            mailbox.uid_next = 1;
            let messages = std::mem::take(&mut mailbox.messages);
            for message in messages {
                mailbox.add(&message.raw);
            }
        });
    }

    /// The UIDs in a folder.
    pub fn uids(&self, folder: &str) -> Vec<u32> {
        self.with(folder, |mailbox| mailbox.messages.iter().map(|message| message.uid).collect())
    }

    /// The flags of a message.
    pub fn flags(&self, folder: &str, uid: u32) -> Vec<String> {
        self.with(folder, |mailbox| {
            let message = mailbox.messages.iter().find(|message| message.uid == uid).unwrap();
            message.flags.iter().cloned().collect()
        })
    }

    pub fn set_flag(&self, folder: &str, uid: u32, flag: &str) {
        self.change(folder, |mailbox| {
            let message = mailbox.messages.iter_mut().find(|message| message.uid == uid).unwrap();
            message.flags.insert(flag.to_owned());
        });
    }

    /// Waits until the mailboxes are as wanted.
    pub async fn wait_until(&self, wanted: impl Fn(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        while !wanted(self) {
            changed.changed().await.unwrap();
        }
    }

    /// How often a command came, such as `UID FETCH` or `LOGIN`.
    pub fn commands(&self, verb: &str) -> usize {
        self.shared.commands.lock().unwrap().get(verb).copied().unwrap_or(0)
    }

    /// All commands together.
    pub fn all_commands(&self) -> usize {
        self.shared.commands.lock().unwrap().values().sum()
    }

    /// LOGIN and AUTHENTICATE together.
    pub fn logins(&self) -> usize {
        self.commands("LOGIN") + self.commands("AUTHENTICATE")
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes sent to all clients.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Every command line that came, without its tag.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().unwrap().clone()
    }

    /// Waits until a client idles.
    pub async fn wait_until_idling(&self) {
        self.shared.idling.subscribe().wait_for(|idling| *idling > 0).await.unwrap();
    }

    /// Waits until a message is held back.
    pub async fn wait_until_late(&self) {
        self.wait_until_late_times(1).await;
    }

    /// Waits until a message was held back so often.
    pub async fn wait_until_late_times(&self, times: usize) {
        self.shared.late.subscribe().wait_for(|late| *late >= times).await.unwrap();
    }

    /// Sends what is held back.
    pub fn release(&self) {
        self.shared.released.cancel();
    }

    /// Says BYE to every client that idles, now and later.
    pub fn shut_down(&self) {
        self.shared.shutdown.cancel();
    }

    fn change<R>(&self, folder: &str, change: impl FnOnce(&mut Mailbox) -> R) -> R {
        let result = change(self.shared.boxes.lock().unwrap().get_mut(folder).unwrap());
        self.shared.changed.send_modify(|version| *version += 1);
        result
    }

    fn with<R>(&self, folder: &str, look: impl FnOnce(&Mailbox) -> R) -> R {
        look(self.shared.boxes.lock().unwrap().get(folder).unwrap())
    }
}
