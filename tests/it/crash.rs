//! Nothing lost, nothing twice: the process is killed again and again while mail comes in.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::Duration,
};

use futures::{StreamExt, stream};
use postroom::id::AccountId;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{sync::watch, task::JoinSet};

use crate::support::{
    Backend, Client,
    imap_reader::ImapReader,
    mailbox::{act, draft},
    service::{Home, Service},
    stack::{Handover, LMTP, Stack},
    stream::EventStream,
};

const MAILS: usize = 1_000;
const KILLS: usize = 10;
const MAILBOXES: usize = 4;
/// Small, so that some mails are kept in the database and some in the object store.
const INLINE_MAX_BYTES: &str = "4096";

/// What the random moments come from: printed, and chosen by `POSTROOM_TEST_SEED` to see a run again.
pub fn seed() -> u64 {
    let seed = std::env::var("POSTROOM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("POSTROOM_TEST_SEED={seed}");
    seed
}

/// Every fixture, with the line ends that SMTP wants.
fn fixtures() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    paths.sort();
    assert!(paths.len() > 40);
    paths.iter().map(|path| with_crlf(&std::fs::read(path).unwrap())).collect()
}

fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    for (at, byte) in raw.iter().enumerate() {
        if *byte == b'\n' && (at == 0 || raw[at - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// The fixtures over and over, each time with other bytes at the end; every tenth too large for a row.
fn variation(fixtures: &[Vec<u8>], number: usize) -> Vec<u8> {
    let mut raw = fixtures[number % fixtures.len()].clone();
    let lines = if number.is_multiple_of(10) { 400 } else { number % 7 };
    raw.extend(format!("\r\nVariation {number}\r\n{}", "a line of text\r\n".repeat(lines)).into_bytes());
    raw
}

/// The service under attack: one process on SQLite, two replicas on one PostgreSQL.
struct Attack {
    home: Home,
    stack: Stack,
    replicas: Vec<Service>,
    admin: Client,
    users: Vec<String>,
    accounts: Vec<AccountId>,
    /// What events told of so far, and where they are read on.
    taken: HashSet<Value>,
    last: i64,
    rng: StdRng,
}

/// When a process is killed: after so many further mails …
enum Moment {
    /// … were put into the mailboxes.
    Delivered(usize),
    /// … were taken in.
    Taken(usize),
}

impl Attack {
    async fn prepare(backend: Backend, stack: Stack) -> Self {
        let ca = stack.value("POSTROOM_TEST_CA");
        let settings = [
            ("POSTROOM__MAIL__EXTRA_CA_FILE", &*ca),
            ("POSTROOM__STORAGE__INLINE_MAX_BYTES", INLINE_MAX_BYTES),
        ];
        let home = Home::new(backend, &settings).await;
        let count = if backend == Backend::Postgres { 2 } else { 1 };
        let replicas: Vec<Service> = (0..count).map(|_| home.serve()).collect();
        let admin = replicas[0].admin().await;
        let (mut users, mut accounts) = (Vec::new(), Vec::new());
        for _ in 0..MAILBOXES {
            let user = format!("{}@crash.test", uuid::Uuid::now_v7().simple());
            let changes = json!({ "address": user, "username": user, "password": stack.value("POSTROOM_TEST_MAIL_PASSWORD"),
                "inbound": { "host": "localhost", "security": "tls" } });
            let id = draft(&admin, stack.port("POSTROOM_TEST_IMAPS"), changes).await;
            act(&admin, id, "activate").await;
            users.push(user);
            accounts.push(id);
        }
        let rng = StdRng::seed_from_u64(seed());
        Self { home, stack, replicas, admin, users, accounts, taken: HashSet::new(), last: 0, rng }
    }

    /// Reads the events of one replica until there were `count` mails, or that replica is gone.
    async fn read_until(&mut self, count: usize) {
        let mut events = EventStream::follow(&self.admin, self.last).await;
        while self.taken.len() < count {
            let Some(event) = events.next().await else { break };
            if event["type"] == "message.received" {
                assert!(self.taken.insert(event["subject_id"].clone()), "{event}");
            }
        }
        self.last = events.last;
    }

    /// Kills a replica at a random moment of the next `wave` of mails, and starts another.
    async fn survive(&mut self, wave: Vec<Vec<u8>>) {
        let size = wave.len();
        let moment = match self.rng.random() {
            true => Moment::Delivered(self.rng.random_range(1..=size)),
            false => Moment::Taken(self.rng.random_range(1..=size)),
        };
        let (progress, mut delivered) = watch::channel(0);
        let delivering = tokio::spawn(deliver(self.lmtp().await, self.users.clone(), wave, progress));
        match moment {
            Moment::Delivered(count) => drop(delivered.wait_for(|done| *done >= count).await),
            Moment::Taken(count) => self.read_until(self.taken.len() + count).await,
        }
        let victim = self.rng.random_range(0..self.replicas.len());
        self.replicas.remove(victim).kill();
        // Who else is there loses its leases, too, as one that was stopped for longer than they last.
        self.home.expire_leases("accounts").await;
        delivering.await.unwrap();
        self.disturb().await;
        self.replicas.push(self.home.serve());
        self.admin = self.replicas[0].client(&self.admin);
    }

    async fn lmtp(&self) -> Vec<Handover> {
        let mut connections = Vec::new();
        for _ in &self.users {
            connections.push(self.stack.connect(LMTP).await);
        }
        connections
    }

    /// What other clients and the server do meanwhile: a mailbox is read by another client, or gets another UIDVALIDITY.
    async fn disturb(&mut self) {
        let user = self.users.choose(&mut self.rng).unwrap().clone();
        match self.rng.random_range(0..3) {
            0 => {
                let uid_validity = self.rng.random_range(4711..4_000_000_000_u32).to_string();
                let update = ["mailbox", "update", "-u", &user, "--uid-validity", &uid_validity, "INBOX"];
                tokio::task::block_in_place(|| self.stack.doveadm(&update));
            }
            1 => {
                let mut other = ImapReader::open(&self.stack, &user).await;
                other.run("UID STORE 1:* +FLAGS.SILENT (\\Seen)").await;
            }
            _ => {}
        }
    }

    /// The hashes of what we have of an account, by the bytes that the API gives.
    async fn hashes(&self, account: AccountId) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page =
                self.admin.get(&format!("/v1/messages?account_id={account}&limit=200{cursor}")).await.ok();
            for message in page["items"].as_array().unwrap() {
                let work = message["classification"] != "normal" || message["work_item_id"].is_string();
                assert!(work, "nobody sees {message}");
                ids.push(message["id"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let raws = stream::iter(ids).map(|id| async move {
            let raw = self.admin.get(&format!("/v1/messages/{id}/raw")).await;
            assert_eq!(raw.status, 200);
            hash(&raw.bytes)
        });
        let mut hashes: Vec<String> = raws.buffer_unordered(8).collect().await;
        hashes.sort();
        hashes
    }

    /// Everything that Dovecot has is here once, byte for byte.
    async fn assert_complete(&self) {
        let mut total = 0;
        for (user, account) in self.users.iter().zip(&self.accounts) {
            let mut mailbox = ImapReader::open(&self.stack, user).await;
            let mut wanted: Vec<String> = mailbox.fetch().await.iter().map(|raw| hash(raw)).collect();
            wanted.sort();
            total += wanted.len();
            let (have, want) = (tally(self.hashes(*account).await), tally(wanted));
            assert!(have == want, "{} of {} mails of {account} are here", have.len(), want.len());
        }
        assert_eq!(total, MAILS);
    }
}

fn hash(raw: &[u8]) -> String {
    hex::encode(Sha256::digest(raw))
}

fn tally(hashes: Vec<String>) -> BTreeMap<String, usize> {
    hashes.into_iter().fold(BTreeMap::new(), |mut tally, hash| {
        *tally.entry(hash).or_default() += 1;
        tally
    })
}

/// Puts the mails into the mailboxes in turn, all mailboxes at once.
async fn deliver(
    connections: Vec<Handover>,
    users: Vec<String>,
    mails: Vec<Vec<u8>>,
    progress: watch::Sender<usize>,
) {
    let count = users.len();
    let mut shares = vec![Vec::new(); count];
    mails.into_iter().enumerate().for_each(|(number, mail)| shares[number % count].push(mail));
    let mut tasks = JoinSet::new();
    for ((mut connection, user), share) in connections.into_iter().zip(users).zip(shares) {
        let progress = progress.clone();
        tasks.spawn(async move {
            for mail in share {
                connection.hand_over("customer@example.org", &user, &mail).await;
                progress.send_modify(|done| *done += 1);
            }
        });
    }
    tasks.join_all().await;
}

async fn kills_lose_and_double_nothing(backend: Backend) {
    let Some(stack) = Stack::shared() else { return };
    let fixtures = fixtures();
    let mails: Vec<Vec<u8>> = (0..MAILS).map(|number| variation(&fixtures, number)).collect();
    let mut attack = Attack::prepare(backend, stack).await;
    for wave in mails.chunks(MAILS / KILLS) {
        attack.survive(wave.to_vec()).await;
    }
    let everything = tokio::time::timeout(Duration::from_secs(120), attack.read_until(MAILS)).await;
    assert!(everything.is_ok(), "{} of {MAILS} came", attack.taken.len());
    // Once more from the beginning: every mailbox is listed and compared on a new connection.
    for account in attack.accounts.clone() {
        let mut events = EventStream::follow_new(&attack.admin).await;
        act(&attack.admin, account, "pause").await;
        act(&attack.admin, account, "resume").await;
        events.wait_for("account.connected", |event| event["subject_id"] == json!(account)).await;
    }
    attack.assert_complete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mails_are_each_there_once_after_ten_kills_sqlite() {
    kills_lose_and_double_nothing(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mails_are_each_there_once_after_ten_kills_of_two_replicas_postgres() {
    kills_lose_and_double_nothing(Backend::Postgres).await;
}
