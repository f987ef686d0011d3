//! PostgreSQL's advisory locks, by number. SQLite has one writer: there the transaction is the lock.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};

/// What only one transaction does at a time. The compiler refuses a number that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Lock {
    /// Migrating: "postroom" in ASCII.
    Migrations = 0x706f_7374_726f_6f6d,
    /// Giving events their positions: "prm:evts".
    Positions = 0x7072_6d3a_6576_7473,
    /// Making a key that signs access tokens: "postkeys".
    SigningKeys = 0x706f_7374_6b65_7973,
    /// What [`super::Gate::Sends`] lets through or keeps out: "prm:send".
    Sends = 0x7072_6d3a_7365_6e64,
}

impl Lock {
    /// Waits for the lock and holds it until the transaction ends.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn take(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        self.run(tx, "SELECT pg_advisory_xact_lock($1)").await
    }

    /// The same, together with others who share it.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn share(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        self.run(tx, "SELECT pg_advisory_xact_lock_shared($1)").await
    }

    async fn run(self, tx: &DatabaseTransaction, sql: &str) -> Result<(), DbErr> {
        if tx.get_database_backend() == DbBackend::Postgres {
            let number = self as i64;
            tx.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [number.into()]))
                .await?;
        }
        Ok(())
    }
}
