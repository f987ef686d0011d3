//! Writes batches of rows, each in a transaction that moves the import on.

use std::collections::{BTreeMap, btree_map::Entry};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, sea_query::Expr,
};
use serde_json::json;

use super::row::{Draft, Header, Members, read};
use crate::{
    app::App,
    clock::Timestamp,
    customers::{
        entity::{
            ImportState, customer,
            import::{Column, Entity, Model},
            import_error,
        },
        rows::{Upserted, upsert},
    },
    db::{Tx, is_transient},
    events::{self, NewEvent},
    http::{problem::FieldError, rows::Row},
    id::new_uuid,
    suppressions::AddressKeys,
};

/// Rows of one transaction: SQLite binds 32,766 values a statement.
const ROWS: usize = 500;
/// Bytes of one transaction's rows, by which memory is bounded when rows are long.
const BYTES: u64 = 1 << 20;
/// Errors that are kept of one import; all are counted.
pub const ERRORS_KEPT: i64 = 10_000;
/// How long a reader is taken to be alive after its last sign, in seconds.
const LEASE_S: i64 = 60;
/// How often a batch is tried when PostgreSQL gives it up for another transaction.
const TRIES: u32 = 5;

/// Rows that were read and are not written yet.
#[derive(Debug, Default)]
pub struct Batch {
    /// By their `ref`, so that concurrent imports lock in one order; of two rows of one customer the later one wins.
    drafts: BTreeMap<String, Draft>,
    errors: Vec<(u64, Option<String>, FieldError)>,
    rows: i64,
    failed: i64,
    bytes: u64,
}

impl Batch {
    /// Adds a row, good or bad.
    pub fn add(&mut self, header: Option<&Header>, row: Row) {
        self.rows += 1;
        self.bytes += row.bytes;
        let line = row.line;
        let fault = |fault: crate::http::rows::Fault| FieldError::new("", fault.code(), fault.to_string());
        let drafted = match row.content {
            Ok(content) => read(header, content),
            Err(one) => Err((None, vec![fault(one)])),
        };
        match drafted {
            Ok(draft) => match self.drafts.entry(draft.known_as.clone()) {
                Entry::Vacant(place) => {
                    place.insert(draft);
                }
                Entry::Occupied(mut place) => {
                    place.insert(draft);
                }
            },
            Err((known_as, wrong)) => {
                self.failed += 1;
                self.errors.extend(wrong.into_iter().map(|error| (line, known_as.clone(), error)));
            }
        }
    }

    /// Whether it is time to write it.
    pub fn is_full(&self) -> bool {
        self.rows as usize >= ROWS || self.bytes >= BYTES
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

/// How far the file is read.
#[derive(Clone, Debug)]
pub struct Position {
    /// Bytes of whole rows.
    pub bytes: i64,
    /// Their hash; none before the first.
    pub digest: Option<String>,
}

/// Writes a batch and moves the import on; none when another reader or a cancellation took the import away.
///
/// # Errors
/// Whatever the database says; nothing is written then.
pub async fn commit(
    app: &App,
    import: &Model,
    header: Option<&Header>,
    batch: &Batch,
    at: &Position,
    tell: bool,
) -> Result<Option<Model>, DbErr> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_commit(app, import, header, batch, at, tell).await {
            Err(error) if is_transient(&error) && tries < TRIES => {}
            done => return done,
        }
    }
}

async fn try_commit(
    app: &App,
    import: &Model,
    header: Option<&Header>,
    batch: &Batch,
    at: &Position,
    tell: bool,
) -> Result<Option<Model>, DbErr> {
    let lease_until = app.db.now(&app.clock).await?.plus_s(LEASE_S);
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let done = write_customers(app, &tx, now, import, header, batch).await?;
    write_errors(&tx, now, import, batch).await?;
    let moved = Entity::update_many()
        .col_expr(Column::RowsRead, Expr::val(import.rows_read + batch.rows))
        .col_expr(Column::BytesRead, Expr::val(at.bytes))
        .col_expr(Column::Digest, Expr::val(at.digest.clone()))
        .col_expr(Column::CreatedCount, Expr::val(import.created_count + count(done.created)))
        .col_expr(Column::UpdatedCount, Expr::val(import.updated_count + count(done.updated)))
        .col_expr(Column::FailedCount, Expr::val(import.failed_count + batch.failed))
        .col_expr(Column::ErrorCount, Expr::val(import.error_count + count(batch.errors.len())))
        .col_expr(Column::LeaseUntil, Expr::val(lease_until))
        .col_expr(Column::UpdatedAt, Expr::val(now))
        .filter(mine(import))
        .exec_with_returning(&*tx)
        .await?;
    let Some(moved) = moved.into_iter().next() else {
        tx.rollback().await?;
        return Ok(None);
    };
    if tell {
        events::append(&tx, now, vec![told("import.progressed", &moved)]).await?;
    }
    tx.commit().await?;
    Ok(Some(moved))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The import is still this reader's.
fn mine(import: &Model) -> sea_orm::Condition {
    sea_orm::Condition::all()
        .add(Column::Id.eq(import.id))
        .add(Column::State.eq(ImportState::Running))
        .add(Column::Runs.eq(import.runs))
}

async fn write_customers(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    import: &Model,
    header: Option<&Header>,
    batch: &Batch,
) -> Result<Upserted, DbErr> {
    let members = header.map_or(&[][..], Header::data_members);
    let keys = AddressKeys::of(app);
    // Rows that name the same members make one statement; mostly that is all of them.
    let mut by_members: BTreeMap<Members, Vec<customer::ActiveModel>> = BTreeMap::new();
    for draft in batch.drafts.values() {
        let columns = customer::ActiveModel {
            r#ref: Set(draft.known_as.clone()),
            list_id: Set(import.list_id),
            ..draft.details.clone().columns(&keys)
        };
        by_members.entry(draft.members).or_default().push(columns);
    }
    let mut done = Upserted::default();
    for (named, rows) in by_members {
        let written = upsert(tx, now, rows, &named.columns(), members).await?;
        done.created += written.created;
        done.updated += written.updated;
    }
    Ok(done)
}

async fn write_errors(
    tx: &DatabaseTransaction,
    now: Timestamp,
    import: &Model,
    batch: &Batch,
) -> Result<(), DbErr> {
    let room = usize::try_from(ERRORS_KEPT.saturating_sub(import.error_count)).unwrap_or(0);
    let rows: Vec<_> = batch.errors.iter().take(room).collect();
    for rows in rows.chunks(1000) {
        let rows = rows.iter().map(|(line, known_as, error)| import_error::ActiveModel {
            id: Set(new_uuid(now)),
            import_id: Set(import.id),
            line: Set(i64::try_from(*line).unwrap_or(i64::MAX)),
            customer_ref: Set(known_as.clone()),
            member: Set(error.pointer.strip_prefix('/').map(str::to_owned)),
            code: Set(error.code.clone()),
            detail: Set(error.detail.clone()),
        });
        import_error::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Ends this reader's part with a state; none when the import was taken away.
///
/// # Errors
/// Whatever the database says.
pub async fn settle(
    app: &App,
    import: &Model,
    state: ImportState,
    reason: Option<&str>,
) -> Result<Option<Model>, DbErr> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let ended = Entity::update_many()
        .col_expr(Column::State, Expr::val(state))
        .col_expr(Column::StateReason, Expr::val(reason.map(str::to_owned)))
        .col_expr(Column::LeaseUntil, Expr::val(Timestamp::ZERO))
        .col_expr(Column::UpdatedAt, Expr::val(now))
        .filter(mine(import))
        .exec_with_returning(&*tx)
        .await?;
    let Some(ended) = ended.into_iter().next() else { return Ok(None) };
    let kind = if state == ImportState::Completed { "import.completed" } else { "import.interrupted" };
    events::append(&tx, now, vec![told(kind, &ended)]).await?;
    tx.commit().await?;
    Ok(Some(ended))
}

/// Takes an import for reading, from whoever read it before.
///
/// # Errors
/// `DbErr::RecordNotUpdated` when another one took it at the same moment.
pub async fn take(
    tx: &Tx,
    now: Timestamp,
    lease_from: Timestamp,
    import: &Model,
    size_bytes: Option<i64>,
) -> Result<Model, DbErr> {
    let taken = Entity::update_many()
        .col_expr(Column::State, Expr::val(ImportState::Running))
        .col_expr(Column::StateReason, Expr::val(None::<String>))
        .col_expr(Column::SizeBytes, Expr::val(size_bytes))
        .col_expr(Column::Runs, Expr::val(import.runs + 1))
        .col_expr(Column::LeaseUntil, Expr::val(lease_from.plus_s(LEASE_S)))
        .col_expr(Column::UpdatedAt, Expr::val(now))
        .filter(Column::Id.eq(import.id))
        .filter(Column::State.eq(import.state))
        .filter(Column::Runs.eq(import.runs))
        .exec_with_returning(&**tx)
        .await?;
    let taken = taken.into_iter().next().ok_or(DbErr::RecordNotUpdated)?;
    let kind = if import.rows_read > 0 { "import.resumed" } else { "import.started" };
    events::append(tx, now, vec![told(kind, &taken)]).await?;
    Ok(taken)
}

/// An event of an import: its state and its counts.
pub fn told(kind: &'static str, row: &Model) -> NewEvent {
    let data = json!({
        "id": row.id, "list_id": row.list_id, "state": row.state, "rows_read": row.rows_read,
        "created_count": row.created_count, "updated_count": row.updated_count, "failed_count": row.failed_count,
    });
    NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()
}
