//! `Idempotency-Key`: the answer is stored in the very transaction that does the work, so that a repeat finds both or neither.
//!
//! Stored bodies are sealed: they may hold what is shown once and stored nowhere else in clear, such as a new API key.
//! A key belongs to the caller who sent it; requests without a caller have nobody to give a stored answer to, so that
//! theirs are not kept.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, dev::Payload, http::StatusCode, web};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    body::BodyHash,
    caller::Caller,
    etag::etag,
    problem::{Code, Problem},
};
use crate::{
    clock::Timestamp,
    db::{Db, Tx},
    secret::Sealer,
};

/// How long a stored answer is kept, in seconds.
pub const KEPT_S: i64 = 24 * 3600;
/// How long work that cannot be done twice may take, in seconds; after that it is taken to be dead, and done anew.
const RUNNING_S: i64 = 15 * 60;
/// The status of a row whose answer is not there yet.
const RUNNING: i32 = 0;
const MAX_KEY_LENGTH: usize = 255;

/// The keys whose requests run in this process right now.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<HashSet<(String, String)>>>);

/// An answer that can be stored and given again.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    location: Option<String>,
    etag: Option<String>,
    body: Option<serde_json::Value>,
}

impl Answer {
    /// An answer with a body.
    ///
    /// # Errors
    /// `internal_error` when the body cannot be written as JSON.
    pub fn new(status: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(Problem::internal)?;
        Ok(Self { status, location: None, etag: None, body: Some(body) })
    }

    /// 200 with a body.
    ///
    /// # Errors
    /// `internal_error` when the body cannot be written as JSON.
    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::new(StatusCode::OK, body)
    }

    /// 201 with the new resource's path and body.
    ///
    /// # Errors
    /// `internal_error` when the body cannot be written as JSON.
    pub fn created(location: impl Into<String>, body: &impl Serialize) -> Result<Self, Problem> {
        Ok(Self { location: Some(location.into()), ..Self::new(StatusCode::CREATED, body)? })
    }

    /// Adds the ETag of a row's version.
    #[must_use]
    pub fn versioned(self, version: i64) -> Self {
        Self { etag: Some(etag(version)), ..self }
    }

    /// The HTTP answer.
    pub fn into_response(self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if let Some(location) = self.location {
            answer.insert_header(("Location", location));
        }
        if let Some(etag) = self.etag {
            answer.insert_header(("ETag", etag));
        }
        match self.body {
            Some(body) => answer.json(body),
            None => answer.finish(),
        }
    }
}

/// The request's idempotency key, if it has one and a caller to whom it belongs.
#[derive(Debug)]
pub struct Idempotency {
    request: HttpRequest,
    key: Option<(Caller, String)>,
}

/// What a request with a key finds.
#[derive(Debug)]
pub enum Start {
    /// The work was done before: give this answer again.
    Replay(HttpResponse),
    /// The work is to be done now, in this transaction.
    Run(Box<Work>),
}

/// An open transaction in which the request's work is done and its answer stored.
#[derive(Debug)]
pub struct Work {
    /// The transaction.
    pub tx: Tx,
    key: Option<Stored>,
    _guard: Option<Guard>,
}

#[derive(Debug)]
struct Stored {
    sealer: web::Data<Sealer>,
    caller: String,
    key: String,
    request_hash: Vec<u8>,
    now: Timestamp,
}

#[derive(Debug)]
struct Guard(Running, (String, String));

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(mut running) = self.0.0.lock() {
            running.remove(&self.1);
        }
    }
}

impl Idempotency {
    /// Whether the answer is to be stored.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Begins the work of a POST: opens a transaction, or finds the stored answer.
    ///
    /// # Errors
    /// `idempotency_key_reused` for another body, `idempotency_in_progress` while the first request runs.
    pub async fn start(self, db: &Db, now: Timestamp) -> Result<Start, Problem> {
        let Some((caller, key)) = self.key else {
            return Ok(Start::Run(Box::new(Work { tx: db.begin().await?, key: None, _guard: None })));
        };
        let caller = caller.key();
        let sealer = self.request.app_data::<web::Data<Sealer>>().cloned();
        let sealer = sealer.ok_or_else(|| Problem::internal("the sealer is not mounted"))?;
        let guard = self
            .request
            .app_data::<web::Data<Running>>()
            .map(|running| running.enter(&caller, &key))
            .transpose()?;
        let tx = db.begin().await?;
        lock(&tx, &caller, &key).await?;
        let stored = Stored { sealer, request_hash: request_hash(&self.request), caller, key, now };
        let found = stored.find(&tx).await;
        if let Ok(None) = found {
            return Ok(Start::Run(Box::new(Work { tx, key: Some(stored), _guard: guard })));
        }
        // Ended here and not by being dropped, so that the key's lock is free before the answer is given.
        tx.rollback().await?;
        found?.map(Start::Replay).ok_or_else(|| Problem::internal("no answer is stored"))
    }
}

impl Running {
    fn enter(&self, caller: &str, key: &str) -> Result<Guard, Problem> {
        let entry = (caller.to_owned(), key.to_owned());
        let mut running =
            self.0.lock().map_err(|_| Problem::internal("the set of running keys is poisoned"))?;
        if running.insert(entry.clone()) { Ok(Guard(self.clone(), entry)) } else { Err(in_progress()) }
    }
}

/// Work that goes on outside any transaction; its key stays taken in this process.
#[derive(Debug)]
pub struct PausedWork {
    key: Option<Stored>,
    guard: Option<Guard>,
    is_marked: bool,
}

impl PausedWork {
    /// Opens a transaction again, in which the answer is stored; or finds the answer that another replica has stored
    /// meanwhile.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn resume(self, db: &Db) -> Result<Start, Problem> {
        let tx = db.begin().await?;
        if let Some(stored) = &self.key {
            wait_for_lock(&tx, &stored.caller, &stored.key).await?;
            if self.is_marked {
                stored.forget(&tx).await?;
            } else if let Some(answer) = stored.find(&tx).await? {
                tx.rollback().await?;
                return Ok(Start::Replay(answer));
            }
        }
        Ok(Start::Run(Box::new(Work { tx, key: self.key, _guard: self.guard })))
    }

    /// Gives up work that came to nothing, so that it can be done under the same key.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn give_up(self, db: &Db) -> Result<(), Problem> {
        if let Some(stored) = self.key.as_ref().filter(|_| self.is_marked) {
            let tx = db.begin().await?;
            stored.forget(&tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

impl Work {
    /// Ends the transaction, so that none is held while the network is asked.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn pause(self) -> Result<PausedWork, Problem> {
        let Self { tx, key, _guard: guard } = self;
        tx.commit().await?;
        Ok(PausedWork { key, guard, is_marked: false })
    }

    /// The same for work that cannot be undone once it is begun: until it ends, other replicas refuse the key too.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn pause_marked(self) -> Result<PausedWork, Problem> {
        if let Some(stored) = &self.key {
            stored.insert(&self.tx, RUNNING, None).await?;
        }
        Ok(PausedWork { is_marked: true, ..self.pause().await? })
    }

    /// Stores the answer, commits it together with the work, and gives it.
    ///
    /// # Errors
    /// Whatever the database says; nothing is kept then.
    pub async fn commit(self, answer: Answer) -> Result<HttpResponse, Problem> {
        if let Some(stored) = &self.key {
            stored.save(&self.tx, &answer).await?;
        }
        self.tx.commit().await?;
        Ok(answer.into_response())
    }
}

impl Stored {
    fn purpose(&self) -> String {
        format!("idempotency:{}:{}", self.caller, self.key)
    }

    async fn find(&self, tx: &Tx) -> Result<Option<HttpResponse>, Problem> {
        let sql = "SELECT request_hash, status, location, etag, body_sealed, created_at FROM idempotency_keys \
                   WHERE caller = $1 AND key = $2";
        let values = [self.caller.clone().into(), self.key.clone().into()];
        let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        let Some(row) = tx.query_one_raw(statement).await? else { return Ok(None) };
        let created_at: i64 = row.try_get_by_index(5)?;
        if Timestamp::from_millis(created_at).plus_s(KEPT_S) <= self.now {
            self.forget(tx).await?;
            return Ok(None);
        }
        if row.try_get_by_index::<Vec<u8>>(0)? != self.request_hash {
            return Err(Problem::new(
                Code::IdempotencyKeyReused,
                "the key belongs to a request with another path or body",
            ));
        }
        let status: i32 = row.try_get_by_index(1)?;
        if status == RUNNING {
            if Timestamp::from_millis(created_at).plus_s(RUNNING_S) > self.now {
                return Err(in_progress());
            }
            self.forget(tx).await?;
            return Ok(None);
        }
        let sealed: Option<Vec<u8>> = row.try_get_by_index(4)?;
        let body = sealed.map(|sealed| self.sealer.open_text(&self.purpose(), &sealed)).transpose();
        let body = body.map_err(Problem::internal)?;
        let answer = Answer {
            status: u16::try_from(status)
                .ok()
                .and_then(|s| StatusCode::from_u16(s).ok())
                .unwrap_or(StatusCode::OK),
            location: row.try_get_by_index(2)?,
            etag: row.try_get_by_index(3)?,
            body: body.map(|text| serde_json::from_str(&text)).transpose().map_err(Problem::internal)?,
        };
        let mut response = answer.into_response();
        let replayed = actix_web::http::header::HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert(actix_web::http::header::HeaderName::from_static("idempotent-replayed"), replayed);
        Ok(Some(response))
    }

    async fn forget(&self, tx: &Tx) -> Result<(), Problem> {
        let sql = "DELETE FROM idempotency_keys WHERE caller = $1 AND key = $2";
        let values = [self.caller.clone().into(), self.key.clone().into()];
        tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
        Ok(())
    }

    async fn save(&self, tx: &Tx, answer: &Answer) -> Result<(), Problem> {
        self.insert(tx, i32::from(answer.status.as_u16()), Some(answer)).await
    }

    async fn insert(&self, tx: &Tx, status: i32, answer: Option<&Answer>) -> Result<(), Problem> {
        let sql = "INSERT INTO idempotency_keys (caller, key, request_hash, status, location, etag, body_sealed, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let body = answer.and_then(|answer| answer.body.as_ref()).map(ToString::to_string);
        let sealed = body.map(|body| self.sealer.seal(&self.purpose(), body.as_bytes())).transpose();
        let values = [
            self.caller.clone().into(),
            self.key.clone().into(),
            self.request_hash.clone().into(),
            status.into(),
            answer.and_then(|answer| answer.location.clone()).into(),
            answer.and_then(|answer| answer.etag.clone()).into(),
            sealed.map_err(Problem::internal)?.into(),
            self.now.as_millis().into(),
        ];
        tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
        Ok(())
    }
}

/// Another replica may run the same key: on PostgreSQL a lock that ends with the transaction keeps it out.
async fn lock(tx: &Tx, caller: &str, key: &str) -> Result<(), Problem> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let (sql, number) = ("SELECT pg_try_advisory_xact_lock($1)", lock_number(caller, key));
    let row =
        tx.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [number.into()])).await?;
    let locked = row.map(|row| row.try_get_by_index::<bool>(0)).transpose()?.unwrap_or(false);
    if locked { Ok(()) } else { Err(in_progress()) }
}

/// The same for work that is half done: it waits for the short transaction of a repeat, which has nothing to do.
async fn wait_for_lock(tx: &Tx, caller: &str, key: &str) -> Result<(), Problem> {
    if tx.get_database_backend() == DbBackend::Postgres {
        let (sql, number) = ("SELECT pg_advisory_xact_lock($1)", lock_number(caller, key));
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [number.into()])).await?;
    }
    Ok(())
}

fn lock_number(caller: &str, key: &str) -> i64 {
    let digest = Sha256::digest(format!("{caller}\n{key}"));
    digest.iter().take(8).fold(0_i64, |number, byte| (number << 8) | i64::from(*byte))
}

fn in_progress() -> Problem {
    Problem::new(Code::IdempotencyInProgress, "try again when the first request has ended").retry_after(1)
}

fn request_hash(request: &HttpRequest) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(request.method().as_str());
    hash.update(request.uri().to_string());
    if let Some(body) = request.extensions().get::<BodyHash>() {
        hash.update(body.0);
    }
    hash.finalize().to_vec()
}

impl FromRequest for Idempotency {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        let key = match request.headers().get("idempotency-key").map(|value| value.to_str()) {
            None => Ok(None),
            Some(Ok(text)) if (1..=MAX_KEY_LENGTH).contains(&text.len()) => Ok(Some(text.to_owned())),
            Some(_) => {
                Err(Problem::new(Code::InvalidHeader, "Idempotency-Key is 1 to 255 visible ASCII characters"))
            }
        };
        std::future::ready(key.map(|key| Self { request: request.clone(), key: caller.zip(key) }))
    }
}
