//! Leases on rows (DESIGN rule 3): claim due rows and commit, work outside any transaction, settle guarded by `attempts`.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement, Value};
use uuid::Uuid;

use crate::{clock::Timestamp, db::Db};

/// The tables whose rows are leased.
const TABLES: [&str; 6] =
    ["accounts", "broadcast_recipients", "broadcasts", "deliveries", "erasures", "work_items"];

/// How many rows one statement renews.
const AT_ONCE: usize = 500;

/// A table whose rows are claimed: it has `due_at` (null when there is nothing to do), `lease_until` and `attempts`.
#[derive(Clone, Copy, Debug)]
pub struct Leased {
    /// The table's name.
    pub table: &'static str,
    /// Its UUID key column.
    pub key: &'static str,
    /// Which rows are taken, as an SQL condition that the index on due rows begins with.
    pub only: &'static str,
    /// The order in which due rows are taken, as SQL.
    pub order_by: &'static str,
}

/// A row that this process holds until `lease_until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The row's key.
    pub key: Uuid,
    /// How often the row has been claimed, this time included: the fence for settling it.
    pub attempts: i64,
}

/// Ends all leases where the database serves one process: whoever held one before this start is dead. They have run out then,
/// which is not the same as having been let go (0).
///
/// # Errors
/// Whatever the database says.
pub async fn release_dead(db: &Db) -> Result<(), DbErr> {
    if db.backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let tx = db.begin().await?;
    for table in TABLES {
        tx.execute_unprepared(&format!("UPDATE {table} SET lease_until = 1 WHERE lease_until > 1")).await?;
    }
    tx.commit().await
}

impl Leased {
    /// Takes up to `limit` rows that are due and that nobody holds, until `now + lease_s` seconds.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn claim(
        &self,
        tx: &DatabaseTransaction,
        now: Timestamp,
        lease_s: i64,
        limit: u32,
    ) -> Result<Vec<Claimed>, DbErr> {
        self.claim_due(tx, now, now, lease_s, limit).await
    }

    /// The same where `due` is told by another clock than the database's, whose time `now` is: rows that are due then.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn claim_due(
        &self,
        tx: &DatabaseTransaction,
        due: Timestamp,
        now: Timestamp,
        lease_s: i64,
        limit: u32,
    ) -> Result<Vec<Claimed>, DbErr> {
        let Self { table, key, only, order_by } = self;
        let backend = tx.get_database_backend();
        let skip = if backend == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
        // Materialised, because PostgreSQL may run a plain subquery with LIMIT once per row and take too many.
        let sql = format!(
            "WITH due AS MATERIALIZED (SELECT {key} FROM {table} WHERE {only} AND due_at <= $3 AND lease_until <= $2 \
              ORDER BY {order_by} LIMIT {limit} {skip}) \
             UPDATE {table} SET lease_until = $1, attempts = attempts + 1 \
             WHERE {key} IN (SELECT {key} FROM due) RETURNING {key}, attempts"
        );
        let values = [now.plus_s(lease_s), now, due].map(|at| at.as_millis().into());
        let rows = tx.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        rows.iter()
            .map(|row| Ok(Claimed { key: row.try_get_by_index(0)?, attempts: row.try_get_by_index(1)? }))
            .collect()
    }

    /// When the next row is due that nobody holds by then.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn next_due(&self, db: &impl ConnectionTrait) -> Result<Option<Timestamp>, DbErr> {
        let Self { table, only, .. } = self;
        let sql = format!(
            "SELECT min(CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END) FROM {table} \
             WHERE {only} AND due_at IS NOT NULL"
        );
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
        let millis = row.map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()?.flatten();
        Ok(millis.map(Timestamp::from_millis))
    }

    /// Which due rows have a lease that ran out: whoever held them died, or lost the database.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn left_behind(&self, tx: &DatabaseTransaction, now: Timestamp) -> Result<Vec<Uuid>, DbErr> {
        let Self { table, key, only, .. } = self;
        let sql = format!(
            "SELECT {key} FROM {table} WHERE {only} AND due_at <= $1 AND lease_until <= $1 AND lease_until > 0"
        );
        let left = Statement::from_sql_and_values(tx.get_database_backend(), sql, [now.as_millis().into()]);
        tx.query_all_raw(left).await?.iter().map(|row| row.try_get_by_index(0)).collect()
    }

    /// Holds rows that are `only` so for longer, until `until`. One that was taken over in the meantime is left alone, and
    /// so is one that a transaction of ours has in its hands right now: to wait for it while holding others would end in
    /// a deadlock with that transaction, and a lease outlives a renewal that is left out.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn renew(
        &self,
        tx: &DatabaseTransaction,
        until: Timestamp,
        held: impl IntoIterator<Item = (Uuid, i64)>,
    ) -> Result<(), DbErr> {
        let Self { table, key, only, .. } = self;
        let backend = tx.get_database_backend();
        let skip = if backend == DbBackend::Postgres { "FOR UPDATE OF leased SKIP LOCKED" } else { "" };
        let held: Vec<(Uuid, i64)> = held.into_iter().collect();
        for held in held.chunks(AT_ONCE) {
            let list: Vec<String> =
                (1..=held.len()).map(|at| format!("(${}, ${})", 2 * at, 2 * at + 1)).collect();
            let sql = format!(
                "WITH held (held_key, fence) AS (VALUES {}), \
                 ours AS MATERIALIZED (SELECT {key} FROM {table} AS leased JOIN held ON {key} = held_key \
                   WHERE attempts = fence AND {only} {skip}) \
                 UPDATE {table} SET lease_until = $1 WHERE {key} IN (SELECT {key} FROM ours)",
                list.join(", ")
            );
            let mut values: Vec<Value> = vec![until.into()];
            values.extend(held.iter().flat_map(|(key, fence)| [(*key).into(), (*fence).into()]));
            tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
        Ok(())
    }
}
