//! The audit log: who did what, and what was refused.
//!
//! Changes of users, keys and tokens are recorded in their own transaction ([`Actor::record`]). Every other operation
//! that succeeds, and every one that is refused with 403, is noted by the guard after its answer is made; the handler's
//! transaction is over by then, so these entries are queued and written in batches. A stop writes what is queued; a
//! `kill -9` can lose at most the last second of them.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::{Payload, ServiceResponse},
    http::{Method, header::LOCATION},
};
use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{entity::audit_entry, matrix::Access};
use crate::{
    app::App,
    clock::Timestamp,
    http::{
        Problem,
        caller::{Caller, Role},
        problem::RequestId,
    },
    id::AuditId,
    workers::Step,
};

/// Operations whose handlers write a fuller entry themselves, and the ticket that every reconnect of a stream takes.
const NOT_NOTED: &[&str] = &[
    "issue_token",
    "revoke_token",
    "change_password",
    "create_user",
    "update_user",
    "delete_user",
    "reset_user_password",
    "create_api_key",
    "update_api_key",
    "revoke_api_key",
    "rotate_signing_key",
    "create_event_ticket",
];
/// What agents do all day under these scopes is in the event log and the traces of the work itself.
const AGENTS_DAILY_WORK: &[&str] = &["work:write", "agents:write"];
/// Entries that wait before further ones are written by the request that makes them.
const CAPACITY: usize = 10_000;
const BATCH: usize = 500;
const PAUSE: Duration = Duration::from_secs(1);

/// How an operation ended.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    sea_orm::EnumIter,
    sea_orm::DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditOutcome)]
pub enum Outcome {
    /// It was done.
    Succeeded,
    /// The credentials were not right.
    Failed,
    /// The caller may not do it.
    Denied,
}

/// Who acts, for the audit log.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    id: Option<Uuid>,
    name: String,
    request_id: Option<String>,
}

/// One entry to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The `operationId`.
    pub action: String,
    /// The kind of resource, and which.
    pub subject: Option<(String, String)>,
    /// How it ended.
    pub outcome: Outcome,
    /// More; never texts of customers, never secrets.
    pub details: Value,
}

/// Entries that wait to be written.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: VecDeque<audit_entry::ActiveModel>,
    closed: bool,
}

impl Actor {
    /// A part of the service itself, or the command line.
    pub fn system(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Who sent this request.
    pub fn of(request: &HttpRequest) -> Self {
        let extensions = request.extensions();
        let caller = extensions.get::<Caller>();
        Self {
            id: caller.map(|caller| caller.id),
            name: caller.map_or_else(String::new, |caller| caller.name.clone()),
            request_id: extensions.get::<RequestId>().map(|id| id.0.clone()),
        }
    }

    /// The same request, made by somebody who has just proved who they are.
    #[must_use]
    pub fn known_as(self, id: impl Into<Uuid>, name: &str) -> Self {
        Self { id: Some(id.into()), name: name.to_owned(), ..self }
    }

    /// The id of the user or API key.
    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Records a success in the transaction of the change itself.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn record(
        &self,
        tx: &DatabaseTransaction,
        now: Timestamp,
        action: &str,
        subject: (&str, impl std::fmt::Display),
        details: Value,
    ) -> Result<(), DbErr> {
        let subject = Some((subject.0.to_owned(), subject.1.to_string()));
        let entry = Entry { action: action.to_owned(), subject, outcome: Outcome::Succeeded, details };
        audit_entry::Entity::insert(self.row(now, entry)).exec_without_returning(tx).await?;
        Ok(())
    }

    /// Queues an entry; when the queue is full it is written at once. A failure to write it is logged.
    pub async fn note(&self, app: &App, entry: Entry) {
        let Err(row) = app.access.audit.push(self.row(app.clock.now(), entry)) else { return };
        if let Err(error) = write(app, vec![*row]).await {
            tracing::error!(%error, "an audit entry was lost");
        }
    }

    fn row(&self, now: Timestamp, entry: Entry) -> audit_entry::ActiveModel {
        let (subject_type, subject_id) = entry.subject.unzip();
        audit_entry::ActiveModel {
            id: Set(AuditId::new(now)),
            at: Set(now),
            actor_id: Set(self.id),
            actor_name: Set(self.name.clone()),
            action: Set(entry.action),
            subject_type: Set(subject_type),
            subject_id: Set(subject_id),
            outcome: Set(entry.outcome),
            details: Set(entry.details),
            request_id: Set(self.request_id.clone()),
        }
    }
}

impl FromRequest for Actor {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Ok(Self::of(request)))
    }
}

impl Queue {
    fn push(&self, row: audit_entry::ActiveModel) -> Result<(), Box<audit_entry::ActiveModel>> {
        match self.waiting.lock() {
            Ok(mut waiting) if !waiting.closed && waiting.rows.len() < CAPACITY => {
                waiting.rows.push_back(row)
            }
            _ => return Err(Box::new(row)),
        }
        self.wake.notify_one();
        Ok(())
    }

    fn take(&self) -> Vec<audit_entry::ActiveModel> {
        let Ok(mut waiting) = self.waiting.lock() else { return Vec::new() };
        let count = waiting.rows.len().min(BATCH);
        waiting.rows.drain(..count).collect()
    }

    fn put_back(&self, rows: Vec<audit_entry::ActiveModel>) {
        let Ok(mut waiting) = self.waiting.lock() else { return };
        for row in rows.into_iter().rev() {
            waiting.rows.push_front(row);
        }
    }

    fn close(&self) {
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.closed = true;
        }
    }
}

/// Notes what an operation did, once its answer is known.
pub async fn note_answer<B>(app: &App, operation: &str, access: Access, answer: &ServiceResponse<B>) {
    let request = answer.request();
    let Some(outcome) = outcome_of(request, operation, access, answer) else { return };
    let parameters: serde_json::Map<String, Value> =
        request.match_info().iter().map(|(name, value)| (name.to_owned(), clip(value).into())).collect();
    let entry = Entry {
        action: operation.to_owned(),
        subject: subject_of(request, answer),
        outcome,
        details: json!({ "status": answer.status().as_u16(), "path": parameters, "made": location(answer) }),
    };
    Actor::of(request).note(app, entry).await;
}

fn outcome_of<B>(
    request: &HttpRequest,
    operation: &str,
    access: Access,
    answer: &ServiceResponse<B>,
) -> Option<Outcome> {
    if answer.status() == 403 {
        return Some(Outcome::Denied);
    }
    let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let replayed = answer.headers().contains_key("idempotent-replayed");
    if !answer.status().is_success() || !changes || replayed || NOT_NOTED.contains(&operation) {
        return None;
    }
    let agent = request.extensions().get::<Caller>().is_some_and(|caller| caller.role == Role::Agent);
    let daily = access.scope().is_some_and(|scope| AGENTS_DAILY_WORK.contains(&scope));
    (!(agent && daily)).then_some(Outcome::Succeeded)
}

/// The resource: named in the path, or what was made when the path names none.
fn subject_of<B>(request: &HttpRequest, answer: &ServiceResponse<B>) -> Option<(String, String)> {
    let kind = request.path().strip_prefix("/v1/")?.split('/').next()?;
    let made = location(answer).and_then(|path| path.rsplit('/').next());
    let named = request.match_info().iter().next().map(|(_, value)| value);
    Some((kind.replace('-', "_"), clip(named.or(made)?)))
}

/// Where what was made is found.
fn location<B>(answer: &ServiceResponse<B>) -> Option<&str> {
    answer.headers().get(LOCATION)?.to_str().ok()
}

/// Path parameters are the client's; an entry keeps no more of them than an id's length.
fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

async fn write(app: &App, rows: Vec<audit_entry::ActiveModel>) -> Result<(), DbErr> {
    let tx = app.db.begin().await?;
    audit_entry::Entity::insert_many(rows).exec_without_returning(&*tx).await?;
    tx.commit().await
}

/// Writes one batch of the queued entries.
///
/// # Errors
/// Whatever the database says; the entries are kept for the next try.
pub async fn write_batch(app: App) -> anyhow::Result<Step> {
    let rows = app.access.audit.take();
    if rows.is_empty() {
        return Ok(Step::Idle);
    }
    let count = rows.len();
    if let Err(error) = write(&app, rows.clone()).await {
        app.access.audit.put_back(rows);
        return Err(error.into());
    }
    Ok(Step::Worked(count))
}

/// Starts the writer; at the soft stop it closes the queue and writes what is left.
pub fn start(app: &App) {
    let app = app.clone();
    let tasks = app.tasks.clone();
    tasks.spawn("audit", async move {
        while !app.shutdown.is_stopping() {
            tokio::select! {
                () = app.access.audit.wake.notified() => {}
                () = app.shutdown.stopping() => break,
            }
            if let Err(error) = drain(&app).await {
                tracing::error!(error = format!("{error:#}"), "audit entries wait: they cannot be written");
                app.access.audit.wake.notify_one();
            }
            // One write for all that comes within the pause.
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = app.shutdown.stopping() => {}
            }
        }
        app.access.audit.close();
        drain(&app).await
    });
}

async fn drain(app: &App) -> anyhow::Result<()> {
    while write_batch(app.clone()).await? != Step::Idle {}
    Ok(())
}
