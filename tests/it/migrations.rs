//! The schema goes up, down and up again on both databases.

use postroom::{
    app::{App, migrate},
    clock::Clock,
    config::Config,
};
use postroom_migrations::Migrator;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
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

/// Undoes this migration and all that came after it.
async fn before(connection: &DatabaseConnection, name: &str) {
    let later = Migrator::migrations().iter().rev().position(|one| one.name() == name).unwrap();
    Migrator::down(connection, Some(u32::try_from(later).unwrap() + 1)).await.unwrap();
}

#[tokio::test]
async fn what_was_published_by_an_earlier_version_is_kept_with_each_revision() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_database(backend, dir.path()).await;
        let connection = sea_orm::Database::connect(&url).await.unwrap();
        before(&connection, "m0016_template_revisions").await;
        let id = match backend {
            Backend::Sqlite => format!("x'{:032x}'", 1),
            Backend::Postgres => format!("'{:032x}'", 1),
        };
        for statement in [
            format!(
                "INSERT INTO templates (id, name, description, channel, purpose, category, subject, text, html, variants, fields, partials, attachments, revision, state, version, created_at, updated_at) \
                VALUES ({id}, 'Offer', '', 'email', 'general', 'marketing', 'a subject', 'a text', NULL, '[1]', '[2]', '{{}}', '[3]', 2, 'published', 1, 0, 0)"
            ),
            format!(
                "INSERT INTO template_revisions (template_id, revision, partials, published_at) VALUES ({id}, 1, '{{}}', 0), ({id}, 2, '{{}}', 0)"
            ),
        ] {
            connection.execute_unprepared(&statement).await.unwrap();
        }
        Migrator::up(&connection, None).await.unwrap();
        let sql = "SELECT count(*) FROM template_revisions WHERE category = 'marketing' AND subject = 'a subject' AND text = 'a text' \
                   AND html IS NULL AND CAST(variants AS TEXT) = '[1]' AND CAST(fields AS TEXT) = '[2]' AND CAST(attachments AS TEXT) = '[3]'";
        let row = connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql));
        assert_eq!(row.await.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap(), 2);
    }
}

#[tokio::test]
async fn whoever_was_erased_by_an_earlier_version_is_seen_to() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_database(backend, dir.path()).await;
        let connection = sea_orm::Database::connect(&url).await.unwrap();
        before(&connection, "m0015_erased_texts").await;
        let id = |number: u32| match backend {
            Backend::Sqlite => format!("x'{number:032x}'"),
            Backend::Postgres => format!("'{number:032x}'"),
        };
        let (list, account, first, second) = (id(1), id(2), id(10), id(11));
        let (conversation, shared, erased, other) = (id(3), id(4), id(5), id(6));
        let mut sql = vec![
            format!(
                "INSERT INTO customer_lists (id, name, description, state, version, created_at, updated_at) VALUES ({list}, 'l', '', 'active', 1, 0, 0)"
            ),
            format!(
                "INSERT INTO accounts (id, channel, address, display_name, description, username, inbound, signature_text, signature_html, script_settings, state, health, lease_until, attempts, failures, poll_requested, version, created_at, updated_at) \
                VALUES ({account}, 'email', 'a@example.com', '', '', '', '{{}}', '', '', '{{}}', 'active', '{{}}', 0, 0, 0, FALSE, 1, 0, 0)"
            ),
        ];
        for (customer, erased_at) in [(&erased, "7"), (&other, "NULL")] {
            sql.push(format!("INSERT INTO customers (id, ref, list_id, name, telephones, data, status, erased_at, version, created_at, updated_at) \
                VALUES ({customer}, {}, {list}, '', '[]', '{{}}', 'terminated', {erased_at}, 1, 0, 0)", customer.replace('x', "")));
        }
        for of in [&conversation, &shared] {
            sql.push(format!("INSERT INTO conversations (id, account_id, channel, state, subject, message_count, last_message_at, version, created_at, updated_at) \
                VALUES ({of}, {account}, 'email', 'closed', '', 1, 0, 1, 0, 0)"));
        }
        for (message, of, to) in
            [(first, &conversation, &erased), (second, &shared, &erased), (id(12), &shared, &other)]
        {
            sql.push(format!("INSERT INTO messages (id, conversation_id, account_id, direction, channel, kind, state, classification, in_reply_to, reference_ids, reply_to, to_addresses, cc_addresses, bcc_addresses, subject, text, new_text, quoted_text, signature, attachments, headers, size_bytes, customer_id, version, created_at, updated_at) \
                VALUES ({message}, {of}, {account}, 'outbound', 'email', 'direct', 'sent', 'normal', '[]', '[]', '[]', '[]', '[]', '[]', '', '', '', '', '', '[]', '{{}}', 0, {to}, 1, 0, 0)"));
        }
        for statement in sql {
            connection.execute_unprepared(&statement).await.unwrap();
        }
        Migrator::up(&connection, None).await.unwrap();
        let count = async |condition: &str| {
            let sql = format!(
                "SELECT count(*) FROM erasure_conversations JOIN erasures USING (customer_id) WHERE asked_at = 7 AND {condition}"
            );
            let row =
                connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql));
            row.await.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap()
        };
        assert_eq!(
            count(&format!("customer_id = {erased} AND conversation_id = {conversation} AND whole")).await,
            1
        );
        assert_eq!(
            count(&format!("customer_id = {erased} AND conversation_id = {shared} AND NOT whole")).await,
            1
        );
        assert_eq!(count("TRUE").await, 2);
    }
}
