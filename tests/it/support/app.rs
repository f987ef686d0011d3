//! The service on a fresh database and a free port, with a clock that the test moves.

use std::{net::TcpListener, path::Path, time::Duration};

use actix_web::dev::ServerHandle;
use postroom::{
    access::{entity::user, token},
    api,
    app::{App, migrate},
    clock::{Clock, Timestamp},
    config::Config,
    http::caller::Role,
    id::UserId,
    telemetry,
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, Database, EntityTrait, Statement};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::Client;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// One running service. Its background loops run only after `start_workers`.
pub struct TestApp {
    pub app: App,
    pub url: String,
    pub backend: Backend,
    pub dir: TempDir,
    server: ServerHandle,
}

impl TestApp {
    pub async fn start(backend: Backend) -> Self {
        Self::with(backend, Clock::system(), "").await
    }

    /// With a clock that stands still until `app.clock.advance`.
    pub async fn frozen(backend: Backend) -> Self {
        let at: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        Self::with(backend, Clock::frozen(at), "").await
    }

    /// With a clock and further settings in TOML.
    pub async fn with(backend: Backend, clock: Clock, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = fresh_database(backend, dir.path()).await;
        Self::on(backend, clock, settings, dir, &url).await
    }

    /// A further replica on this one's PostgreSQL database, with the same key.
    pub async fn replica(&self) -> Self {
        assert_eq!(self.backend, Backend::Postgres, "SQLite has one process");
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(self.dir.path().join("secret.key"), dir.path().join("secret.key")).unwrap();
        let url = self.app.config.database.url.clone();
        let public = format!("[http]\npublic_url = {:?}", self.app.config.public_url());
        Self::on(self.backend, self.app.clock.clone(), &public, dir, &url).await
    }

    async fn on(backend: Backend, clock: Clock, settings: &str, dir: TempDir, database: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::from_toml(settings).unwrap();
        config.storage.data_dir = dir.path().to_owned();
        config.secrets.key_file = dir.path().join("secret.key");
        config.database.url = database.to_owned();
        config.database.max_connections = 8;
        config.database.migrate_on_start = false;
        config.http.workers = 1;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        if config.http.public_url.is_empty() {
            config.http.public_url.clone_from(&url);
        }
        let app = App::open(config, clock).await.unwrap();
        let server = api::serve(&app, listener, telemetry::start_metrics().unwrap()).unwrap();
        let handle = server.handle();
        tokio::spawn(server);
        Self { app, url, backend, dir, server: handle }
    }

    /// Waits until a transaction on this PostgreSQL database waits for another one's lock.
    pub async fn wait_until_blocked(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let blocked = async {
            loop {
                let statement = Statement::from_string(self.app.db.backend(), sql);
                let row = self.app.db.read().query_one_raw(statement).await.unwrap().unwrap();
                if row.try_get_by_index::<i64>(0).unwrap() > 0 {
                    return;
                }
            }
        };
        // Only so that a test that fails does not hang.
        tokio::time::timeout(Duration::from_secs(60), blocked).await.expect("somebody waits");
    }

    pub fn start_workers(&self) {
        self.app.start();
    }

    /// A client without a token.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url, None)
    }

    pub async fn admin(&self) -> Client {
        self.user(Role::Admin, "admin").await.0
    }

    pub async fn supervisor(&self) -> Client {
        self.user(Role::Supervisor, "supervisor").await.0
    }

    pub async fn agent(&self, name: &str) -> (Client, UserId) {
        self.user(Role::Agent, name).await
    }

    /// A client for the user of this name, who is made when missing.
    pub async fn user(&self, role: Role, name: &str) -> (Client, UserId) {
        use sea_orm::{ColumnTrait, QueryFilter};
        let known = user::Entity::find()
            .filter(user::Column::Username.eq(name))
            .one(self.app.db.read())
            .await
            .unwrap();
        let user = match known {
            Some(user) => user,
            None => self.add_user(role, name).await,
        };
        let (token, _) = token::issue(&self.app, &user).await.unwrap();
        (Client::new(&self.url, Some(token)), user.id)
    }

    async fn add_user(&self, role: Role, name: &str) -> user::Model {
        let now = self.app.clock.now();
        let row = user::ActiveModel {
            id: Set(UserId::new(now)),
            username: Set(name.into()),
            display_name: Set(name.into()),
            email: Set(None),
            role: Set(role),
            password_hash: Set(String::new()),
            must_change_password: Set(false),
            disabled: Set(false),
            last_login_at: Set(None),
            version: Set(1),
            created_at: Set(now),
            updated_at: Set(now),
            deleted_at: Set(None),
        };
        let tx = self.app.db.begin().await.unwrap();
        let user = user::Entity::insert(row).exec_with_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        user
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.app.shutdown.abort();
        drop(self.server.stop(false));
    }
}

/// A migrated database of the test's own, copied from one that is migrated once.
pub async fn fresh_database(backend: Backend, dir: &Path) -> String {
    static SQLITE: OnceCell<TempDir> = OnceCell::const_new();
    static POSTGRES: OnceCell<String> = OnceCell::const_new();
    match backend {
        Backend::Sqlite => {
            let template = SQLITE
                .get_or_init(|| async {
                    let dir = tempfile::tempdir().unwrap();
                    let mut config = Config::from_toml("").unwrap();
                    config.database.url =
                        format!("sqlite://{}?mode=rwc", dir.path().join("postroom.db").display());
                    migrate(&config).await.unwrap();
                    dir
                })
                .await;
            let path = dir.join("postroom.db");
            std::fs::copy(template.path().join("postroom.db"), &path).unwrap();
            format!("sqlite://{}?mode=rwc", path.display())
        }
        Backend::Postgres => {
            let template = POSTGRES
                .get_or_init(|| async {
                    let name = format!("template_{}", Uuid::new_v4().simple());
                    let url = create_database(&name, None).await;
                    let mut config = Config::from_toml("").unwrap();
                    config.database.url = url;
                    migrate(&config).await.unwrap();
                    name
                })
                .await;
            create_database(&format!("test_{}", Uuid::new_v4().simple()), Some(template)).await
        }
    }
}

/// A new PostgreSQL database, empty or copied.
pub async fn create_database(name: &str, template: Option<&str>) -> String {
    let server = std::env::var("POSTROOM_TEST_PG")
        .expect("run the tests with `make test-fast`, which starts PostgreSQL");
    let connection = Database::connect(&server).await.unwrap();
    let from = template.map(|template| format!(" TEMPLATE {template}")).unwrap_or_default();
    connection.execute_unprepared(&format!("CREATE DATABASE {name}{from}")).await.unwrap();
    connection.close().await.unwrap();
    let (base, rest) = server.rsplit_once('/').unwrap();
    match rest.split_once('?') {
        Some((_, parameters)) => format!("{base}/{name}?{parameters}"),
        None => format!("{base}/{name}"),
    }
}
