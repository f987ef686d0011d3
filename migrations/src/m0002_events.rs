//! The event log. `seq` is given when an event is written, `position` when it is known to be committed.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

/// The migration.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let position = match manager.get_database_backend() {
            // Transactions commit out of order: positions are given afterwards, by one process at a time.
            DbBackend::Postgres => "BIGINT",
            // There is one writer, so the order of writing is the order of committing.
            _ => "INTEGER GENERATED ALWAYS AS (seq) VIRTUAL",
        };
        crate::sql::run(manager, &UP.replace("{position}", position)).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            let waiting = "CREATE INDEX ix_events__unplaced ON events (seq) WHERE position IS NULL";
            manager.get_connection().execute_unprepared(waiting).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::sql::drop_tables(manager, &["events"]).await
    }
}

const UP: &str = "
CREATE TABLE events (
    seq {serial},
    position {position},
    id {uuid} NOT NULL,
    type TEXT NOT NULL,
    at BIGINT NOT NULL,
    subject_id {uuid} NOT NULL,
    audience TEXT NOT NULL,
    agent_id {uuid},
    data {json} NOT NULL
);
CREATE UNIQUE INDEX uq_events__position ON events (position);
";
