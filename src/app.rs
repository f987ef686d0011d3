//! The application: what every handler and worker shares, and its start and stop.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use postroom_migrations::Migrator;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use sea_orm_migration::{MigratorTrait, SchemaManager};
use tokio::sync::OnceCell;

use crate::{
    access,
    clock::Clock,
    config::Config,
    db::{Db, Lock},
    delivery::Connections,
    dkim::signers::Keyring,
    events::Tail,
    instance,
    mail::tls::Trust,
    outgoing::relay::Authorities,
    raw::RawStore,
    scripts::{self, library::Library},
    secret::Sealer,
    shutdown::Shutdown,
    work::claims::Claims,
    workers::{self, Tasks, Wakes},
};

/// How long a soft stop waits for work to end.
pub const DRAIN: Duration = Duration::from_secs(10);

/// What every handler and worker shares. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// The parts of the application.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Seals stored secrets.
    pub sealer: Sealer,
    /// The raw bytes of messages.
    pub raw: RawStore,
    /// The installation's id once it was read: see `instance`.
    pub instance_id: OnceCell<String>,
    /// New events of the log.
    pub tail: Tail,
    /// What `access` keeps in memory: verified tokens, queued audit entries.
    pub access: access::Memory,
    /// Claims that wait to be taken together.
    pub claims: Claims,
    /// Scripts, calendars and variables in force.
    pub scripts: Library,
    /// Who vouches for the outgoing server's certificate.
    pub authorities: Authorities,
    /// The keys that sign mail, opened.
    pub dkim: Keyring,
    /// Open connections to the outgoing server.
    pub connections: Connections,
    /// The certificate authorities that mail servers are believed by, once they were read.
    trust: OnceLock<Trust>,
    /// The workers' wake-up calls.
    pub wakes: Arc<Wakes>,
    /// The background tasks.
    pub tasks: Tasks,
    /// The two stops.
    pub shutdown: Shutdown,
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Opens everything that the settings name and brings the database up to date; starts nothing.
    ///
    /// # Errors
    /// When the data directory, the key or the database cannot be used, or the database is newer than this program.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let dir = &config.storage.data_dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("storage.data_dir: {} cannot be made", dir.display()))?;
        let sealer = if config.secrets.key.0.is_empty() {
            Sealer::from_file(&config.secrets.key_file)?
        } else {
            Sealer::from_base64(&config.secrets.key.0)?
        };
        if config.database.migrate_on_start {
            migrate(&config).await?;
        }
        let db =
            Db::connect(&config.database).await.context("database.url: the database cannot be opened")?;
        refuse_newer(db.read()).await?;
        let raw = RawStore::open(&config.storage)
            .context("storage.object_store_url: the object store cannot be opened")?;
        let tail = Tail::open(&db).await.context("the event log cannot be read")?;
        let shutdown = Shutdown::default();
        let app = Self(Arc::new(Shared {
            config,
            db,
            clock,
            sealer,
            raw,
            instance_id: OnceCell::new(),
            tail,
            access: access::Memory::default(),
            claims: Claims::default(),
            scripts: Library::default(),
            authorities: Authorities::default(),
            dkim: Keyring::default(),
            connections: Connections::default(),
            trust: OnceLock::new(),
            wakes: Arc::default(),
            tasks: Tasks::new(shutdown.clone()),
            shutdown,
        }));
        scripts::bootstrap::default_script(&app).await.context("the default script cannot be made")?;
        // Read here, so that no transaction waits for another that would make it.
        instance::instance_id(&app).await.context("the installation's id cannot be read")?;
        Ok(app)
    }

    /// The system's certificate authorities and those of `mail.extra_ca_file`; read once.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn trust(&self) -> anyhow::Result<Trust> {
        if let Some(trust) = self.trust.get() {
            return Ok(trust.clone());
        }
        let file = &self.config.mail.extra_ca_file;
        let extra = if file.as_os_str().is_empty() {
            None
        } else {
            Some(std::fs::read_to_string(file).context("mail.extra_ca_file cannot be read")?)
        };
        let trust = Trust::new(extra.as_deref()).context("mail.extra_ca_file")?;
        Ok(self.trust.get_or_init(|| trust).clone())
    }

    /// Starts the background loops.
    pub fn start(&self) {
        workers::start(self);
    }

    /// Ends the background loops: softly, and after 10 seconds at once.
    pub async fn stop(&self) {
        self.shutdown.stop();
        if tokio::time::timeout(DRAIN, self.tasks.ended()).await.is_err() {
            tracing::warn!("work did not end in time and was cut off");
            self.shutdown.abort();
            self.tasks.ended().await;
        }
    }
}

/// Brings the database up to date.
///
/// # Errors
/// When the database cannot be reached, a migration fails, or it holds migrations that this program does not know.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let connect = || Db::connect_writer(&config.database);
    let db = connect().await.context("database.url: the database cannot be opened")?;
    if db.get_database_backend() != DbBackend::Postgres {
        refuse_newer(&db).await?;
        Migrator::up(&db, None).await.context("a migration failed")?;
        return Ok(db.close().await?);
    }
    // Replicas that start together migrate one after the other; the lock ends with its transaction, or the process.
    let keeper = connect().await.context("database.url: the database cannot be opened")?;
    let turn = keeper.begin().await?;
    Lock::Migrations.take(&turn).await.context("the migrations' lock")?;
    refuse_newer(&db).await?;
    Migrator::up(&db, None).await.context("a migration failed")?;
    turn.rollback().await?;
    keeper.close().await?;
    Ok(db.close().await?)
}

/// Refuses a database that a newer version of this program has migrated; one that is not migrated yet is none.
async fn refuse_newer(db: &DatabaseConnection) -> anyhow::Result<()> {
    let table = Migrator::migration_table_name().to_string();
    if !SchemaManager::new(db).has_table(&table).await.context("the database's migrations cannot be read")? {
        return Ok(());
    }
    let known: Vec<String> =
        Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let applied = Statement::from_string(db.get_database_backend(), format!("SELECT version FROM {table}"));
    for row in db.query_all_raw(applied).await.context("the database's migrations cannot be read")? {
        let version: String = row.try_get_by_index(0)?;
        anyhow::ensure!(
            known.contains(&version),
            "the database holds migration {version} of a newer version of this program"
        );
    }
    Ok(())
}
