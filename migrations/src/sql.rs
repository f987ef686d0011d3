//! Runs SQL that is written once for both databases.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

/// Runs the statements of `text`, which are separated by `;` at a line's end.
///
/// `{uuid}`, `{json}`, `{bytes}` and `{serial}` stand for the types that differ between the databases.
pub async fn run(manager: &SchemaManager<'_>, text: &str) -> Result<(), DbErr> {
    let types = match manager.get_database_backend() {
        DbBackend::Postgres => [
            ("{uuid}", "UUID"),
            ("{json}", "JSONB"),
            ("{bytes}", "BYTEA"),
            ("{serial}", "BIGSERIAL PRIMARY KEY"),
        ],
        _ => [
            ("{uuid}", "BLOB"),
            ("{json}", "TEXT"),
            ("{bytes}", "BLOB"),
            ("{serial}", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        ],
    };
    let text =
        types.iter().fold(text.to_owned(), |text, (placeholder, name)| text.replace(placeholder, name));
    for statement in text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}

/// Drops tables, in the order given.
pub async fn drop_tables(manager: &SchemaManager<'_>, tables: &[&str]) -> Result<(), DbErr> {
    for table in tables {
        manager.get_connection().execute_unprepared(&format!("DROP TABLE {table}")).await?;
    }
    Ok(())
}

/// Declares a migration from its SQL, and the tables it makes (dropped in this order when it is undone) or the SQL that
/// undoes it.
macro_rules! migration {
    ($up:expr, drops $tables:expr) => {
        crate::sql::migration!(@ $up, manager => crate::sql::drop_tables(manager, &$tables));
    };
    ($up:expr, undone by $down:expr) => {
        crate::sql::migration!(@ $up, manager => crate::sql::run(manager, $down));
    };
    (@ $up:expr, $manager:ident => $undo:expr) => {
        use sea_orm_migration::prelude::*;

        /// The migration.
        #[derive(DeriveMigrationName)]
        pub struct Migration;

        #[async_trait::async_trait]
        impl MigrationTrait for Migration {
            async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
                crate::sql::run(manager, $up).await
            }

            async fn down(&self, $manager: &SchemaManager) -> Result<(), DbErr> {
                $undo.await
            }
        }
    };
}
pub(crate) use migration;
