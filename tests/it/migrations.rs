//! The schema goes up, down and up again on both databases.

use postroom::{
    app::{App, migrate},
    clock::Clock,
    config::Config,
};
use postroom_migrations::Migrator;
use sea_orm::{ConnectionTrait, Statement};
use sea_orm_migration::MigratorTrait;

use crate::support::app::{Backend, create_database, fresh_database};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_migrate_one_after_the_other() {
    let name = format!("together_{}", uuid::Uuid::new_v4().simple());
    let mut config = Config::from_toml("").unwrap();
    config.database.url = create_database(&name, None).await;
    let starts = (0..4).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { migrate(&config).await })
    });
    for start in futures::future::join_all(starts).await {
        start.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_database_of_the_future_is_refused_even_when_nothing_is_to_be_migrated() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_database(backend, dir.path()).await;
        let connection = sea_orm::Database::connect(&url).await.unwrap();
        let future = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 0)";
        connection.execute_unprepared(future).await.unwrap();
        for migrate_on_start in [false, true] {
            let mut config = Config::from_toml("").unwrap();
            config.storage.data_dir = dir.path().to_owned();
            config.secrets.key_file = dir.path().join("secret.key");
            config.database.url.clone_from(&url);
            config.database.migrate_on_start = migrate_on_start;
            let refused = App::open(config, Clock::system()).await.unwrap_err();
            assert!(format!("{refused:#}").contains("m9999_future"), "{refused:#}");
        }
    }
}

#[tokio::test]
async fn counts_by_queue_and_by_retried_message_need_not_read_their_tables() {
    let dir = tempfile::tempdir().unwrap();
    let url = fresh_database(Backend::Sqlite, dir.path()).await;
    let connection = sea_orm::Database::connect(&url).await.unwrap();
    for (condition, index) in [
        ("FROM work_items WHERE queue_id IN ('a', 'b') AND state = 'queued'", "ix_work_items__length"),
        ("FROM messages WHERE retry_of = 'a'", "ix_messages__retry_of"),
    ] {
        let plan = format!("EXPLAIN QUERY PLAN SELECT count(*) {condition}");
        let plan = Statement::from_string(connection.get_database_backend(), plan);
        let rows = connection.query_all_raw(plan).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{condition}: {steps:?}");
    }
}
