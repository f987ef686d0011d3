//! The database: SQLite embedded (one writer, readers in parallel) or PostgreSQL, behind one pair of calls.

mod lock;
mod script;

use std::{ops::Deref, sync::Arc, time::Duration};

use sea_orm::{
    ColumnTrait, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction,
    DbBackend, DbErr, ExprTrait, IntoSimpleExpr, RuntimeErr, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait, Value,
    sea_query::Expr,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Notify;

use crate::{
    clock::{Clock, Timestamp},
    config,
};
pub use lock::Lock;
pub use script::{Done, Script, Step};

/// How much of the database the writer and each of the readers keep in memory, in KiB. The file is not mapped besides: each
/// connection's map would count as the process's memory, and grow with the file.
const WRITER_CACHE: u32 = 8 << 10;
const READER_CACHE: u32 = 1 << 10;

/// The pools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    committed: Arc<Notify>,
}

/// A write transaction; rolled back when dropped without `commit`.
#[derive(Debug)]
pub struct Tx {
    inner: DatabaseTransaction,
    committed: Arc<Notify>,
}

impl Db {
    /// Opens the database that the configuration names.
    ///
    /// # Errors
    /// When it cannot be reached or opened.
    pub async fn connect(settings: &config::Database) -> Result<Self, DbErr> {
        let (writer, reader) = if settings.url.starts_with("postgres") {
            let pool = postgres(settings).await?;
            (pool.clone(), pool)
        } else {
            let writer = sqlite(settings, 1, false).await?;
            (writer, sqlite(settings, settings.max_connections, true).await?)
        };
        Ok(Self { writer, reader, committed: Arc::new(Notify::new()) })
    }

    /// Opens one writing connection only, which makes a missing SQLite file: for migrations.
    ///
    /// # Errors
    /// When it cannot be reached or opened.
    pub async fn connect_writer(settings: &config::Database) -> Result<DatabaseConnection, DbErr> {
        if settings.url.starts_with("postgres") {
            postgres(settings).await
        } else {
            sqlite(settings, 1, false).await
        }
    }

    /// Which of the two databases this is.
    pub fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }

    /// A connection for reading committed data.
    pub fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Begins a write transaction (`BEGIN IMMEDIATE` on SQLite, so that it never fails half-way for a lock).
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn begin(&self) -> Result<Tx, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: (self.backend() == DbBackend::Sqlite)
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let inner = self.writer.begin_with_options(options).await?;
        Ok(Tx { inner, committed: Arc::clone(&self.committed) })
    }

    /// Woken after every commit of this process; the event log reads on then.
    pub fn committed(&self) -> &Notify {
        &self.committed
    }

    /// The database's time, moved as far as the clock was moved: the time of leases, the same for all replicas.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn now(&self, clock: &Clock) -> Result<Timestamp, DbErr> {
        if self.backend() == DbBackend::Sqlite {
            return Ok(clock.now());
        }
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let row = self.reader.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        let millis: i64 = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
        Ok(Timestamp::from_millis(millis).plus_ms(clock.offset_ms()))
    }
}

impl Tx {
    /// Makes the changes durable.
    ///
    /// # Errors
    /// Whatever the database says; the changes are undone then.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.inner.commit().await?;
        self.committed.notify_waiters();
        self.committed.notify_one();
        Ok(())
    }

    /// Makes changes durable that the event log tells nothing of.
    ///
    /// # Errors
    /// Whatever the database says; the changes are undone then.
    pub async fn commit_untold(self) -> Result<(), DbErr> {
        self.inner.commit().await
    }

    /// Undoes the changes and frees the locks before it returns; a dropped transaction does so some time later.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.inner.rollback().await
    }
}

/// A door that many transactions pass together and that one can shut for itself: whoever shut it knows when it commits
/// that all who passed before have committed, and that those who come later see what it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Every send that begins passes, before it locks a row; what must hold for all sends that begin later shuts it.
    Sends,
}

impl Gate {
    /// Passes together with others, until the transaction ends.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn pass(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        self.lock().share(tx).await
    }

    /// Waits for those who passed, and keeps others out until the transaction ends.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn shut(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        self.lock().take(tx).await
    }

    const fn lock(self) -> Lock {
        match self {
            Self::Sends => Lock::Sends,
        }
    }
}

impl Deref for Tx {
    type Target = DatabaseTransaction;
    fn deref(&self) -> &DatabaseTransaction {
        &self.inner
    }
}

fn options(settings: &config::Database, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(&settings.url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(settings.acquire_timeout_s))
        .connect_timeout(Duration::from_secs(settings.acquire_timeout_s))
        .test_before_acquire(false)
        .sqlx_logging(false);
    options
}

async fn sqlite(
    settings: &config::Database,
    connections: u32,
    read_only: bool,
) -> Result<DatabaseConnection, DbErr> {
    let mut options = options(settings, connections);
    options.idle_timeout(None).max_lifetime(None).map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite =
            sqlite.create_if_missing(!read_only).busy_timeout(Duration::from_secs(15)).foreign_keys(true);
        let sqlite = sqlite
            .statement_cache_capacity(500)
            // Negative: in KiB instead of pages.
            .pragma("cache_size", format!("-{}", if read_only { READER_CACHE } else { WRITER_CACHE }));
        if read_only {
            return sqlite.pragma("query_only", "on");
        }
        sqlite.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
    });
    Database::connect(options).await
}

async fn postgres(settings: &config::Database) -> Result<DatabaseConnection, DbErr> {
    let mut options = options(settings, settings.max_connections);
    options.map_sqlx_postgres_opts(|postgres| {
        postgres
            .application_name("postroom")
            .options([("synchronous_commit", "on")])
            .statement_cache_capacity(500)
    });
    Database::connect(options).await
}

/// A condition that has the value in the statement's text. A bound one is not known yet when the statement is planned, so
/// that no index on a part of the table (`WHERE state = 'queued'`) could be chosen for good.
pub fn literally<C: ColumnTrait>(column: C, value: impl Into<Value>) -> Expr {
    column.into_simple_expr().eq(Expr::Constant(value.into()))
}

/// The longest list that [`in_list`] fills up.
const PADDED: usize = 512;

/// Values for an `IN` list, the last one repeated until their number is a power of two: so lists of all lengths make a few
/// different statements only, which the database has planned before. Long lists are left as they are: databases bind a
/// limited number of values.
pub fn in_list<T: Clone>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    if let Some(last) = values.last().cloned().filter(|_| values.len() <= PADDED) {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// A condition that the column has one of any number of values: [`in_list`] in short.
pub fn among<V: Into<Value> + Clone>(column: impl ColumnTrait, values: impl IntoIterator<Item = V>) -> Expr {
    column.is_in(in_list(values))
}

/// Whether a write may simply be tried again: PostgreSQL gave it up for a deadlock or a serialisation failure.
pub fn is_transient(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "40P01" || code == "40001")
}

#[cfg(test)]
mod tests {
    use super::in_list;

    #[test]
    fn a_list_is_filled_up_with_its_last_value() {
        assert_eq!(in_list([1, 2, 3, 4, 5]), [1, 2, 3, 4, 5, 5, 5, 5]);
        assert_eq!(in_list([7]), [7]);
        assert_eq!(in_list(0..600).len(), 600);
        assert_eq!(in_list::<u8>([]), [0_u8; 0]);
    }
}
