//! The schema goes up, down and up again on both databases.

use postroom_migrations::Migrator;
use sea_orm_migration::MigratorTrait;

use crate::support::app::{Backend, fresh_database};

#[tokio::test]
async fn migrations_run_up_down_and_up_again() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_database(backend, dir.path()).await;
        let connection = sea_orm::Database::connect(&url).await.unwrap();
        assert!(Migrator::get_pending_migrations(&connection).await.unwrap().is_empty());
        Migrator::down(&connection, None).await.unwrap();
        assert_eq!(Migrator::get_applied_migrations(&connection).await.unwrap().len(), 0);
        Migrator::up(&connection, None).await.unwrap();
        assert!(Migrator::get_pending_migrations(&connection).await.unwrap().is_empty());
    }
}
