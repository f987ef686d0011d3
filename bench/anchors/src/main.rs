//! Bare programs to measure beside.
//!
//! ```text
//! anchors intake ADDRESS USER PASSWORD FILE   fetch, parse and store a mailbox: one connection, 100 rows a transaction
//! anchors http   PORT FILE                    actix-web: GET /json, GET /row/{id} of a SQLite table
//! anchors claim  FILE COUNT                   take the oldest of 200,000 waiting rows, a durable transaction each
//! ```
//!
//! `intake` and `claim` print one line of JSON: `{"n": …, "secs": …}`.

mod http;
mod intake;

use std::{env, error::Error, time::Instant};

use rusqlite::Connection;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SCHEMA: &str = "
    CREATE TABLE message (id INTEGER PRIMARY KEY, queue TEXT, status INT, received INT, msgid TEXT, sender TEXT,
        subject TEXT, raw BLOB);
    CREATE UNIQUE INDEX message_msgid ON message (msgid);
    CREATE INDEX message_queue ON message (queue, status, received);";
const INSERT: &str = "INSERT OR IGNORE INTO message (queue, status, received, msgid, sender, subject, raw) \
    VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6)";

/// A new database; `sync` as in `PRAGMA synchronous`.
fn create(file: &str, sync: &str) -> Result<Connection> {
    let db = Connection::open(file)?;
    db.execute_batch(&format!("PRAGMA journal_mode = WAL; PRAGMA synchronous = {sync}; {SCHEMA}"))?;
    Ok(db)
}

fn report(n: usize, since: Instant) {
    println!("{{\"n\": {n}, \"secs\": {:.4}}}", since.elapsed().as_secs_f64());
}

fn claim(file: &str, count: usize) -> Result<()> {
    let mut db = create(file, "FULL")?;
    let tx = db.transaction()?;
    tx.execute_batch("CREATE TABLE job (id INTEGER PRIMARY KEY, queue TEXT, status INT, received INT, agent INT, subject TEXT)")?;
    for id in 1..=200_000 {
        let sql = "INSERT INTO job VALUES (?1, 'billing', 0, ?1, NULL, 'Where is my order')";
        tx.prepare_cached(sql)?.execute([id])?;
    }
    tx.execute_batch("CREATE INDEX job_queue ON job (queue, status, received)")?;
    tx.commit()?;
    let mut next = db.prepare(
        "UPDATE job SET status = 1, agent = ?1 WHERE id = (SELECT id FROM job WHERE queue = 'billing' AND status = 0 \
         ORDER BY received LIMIT 1) RETURNING id, subject",
    )?;
    let since = Instant::now();
    for agent in 0..count {
        next.query_row([agent % 50], |row| row.get::<_, i64>(0))?;
    }
    report(count, since);
    Ok(())
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["intake", address, user, password, file] => intake::run(address, user, password, file),
        ["http", port, file] => http::run(port.parse()?, file),
        ["claim", file, count] => claim(file, count.parse()?),
        _ => Err("see the top of src/main.rs".into()),
    }
}
