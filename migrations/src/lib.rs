//! The schema of Postroom's database. One file per migration; each is plain SQL that both databases understand,
//! with placeholders for the few types that differ (see [`sql`]).
//!
//! Conventions: ids are UUIDv7; `*_at` columns are milliseconds since the Unix epoch; `version` is the row's ETag;
//! unique constraints are named `uq_{table}__{column}`, which the API turns into a JSON pointer.

#![expect(
    elided_lifetimes_in_paths,
    reason = "`MigrationTrait` is declared with its lifetime left out, and must be met so"
)]

use sea_orm_migration::prelude::*;

mod m0001_access;
mod m0002_events;
mod m0003_routing;
mod m0004_accounts;
mod m0005_conversations;
mod m0006_work;
mod m0007_delivery;
mod m0008_suppressions;
mod m0009_customers;
mod m0010_broadcasts;
mod m0011_each_reason;
mod m0012_since_resumed;
mod m0013_sender_accounts;
mod m0014_exact_rates;
mod m0015_erased_texts;
mod m0016_template_revisions;
mod sql;

/// All migrations, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_access::Migration),
            Box::new(m0002_events::Migration),
            Box::new(m0003_routing::Migration),
            Box::new(m0004_accounts::Migration),
            Box::new(m0005_conversations::Migration),
            Box::new(m0006_work::Migration),
            Box::new(m0007_delivery::Migration),
            Box::new(m0008_suppressions::Migration),
            Box::new(m0009_customers::Migration),
            Box::new(m0010_broadcasts::Migration),
            Box::new(m0011_each_reason::Migration),
            Box::new(m0012_since_resumed::Migration),
            Box::new(m0013_sender_accounts::Migration),
            Box::new(m0014_exact_rates::Migration),
            Box::new(m0015_erased_texts::Migration),
            Box::new(m0016_template_revisions::Migration),
        ]
    }
}
