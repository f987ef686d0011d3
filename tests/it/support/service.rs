//! The program as processes of its own, which can be killed and started again on the same data.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use reqwest::Method;
use sea_orm::ConnectionTrait;
use tempfile::TempDir;

use super::{Backend, Client, app::fresh_database};

const ADMIN: &str = "root";
const PASSWORD: &str = "a password for tests";

/// A database, a data directory and settings: what a process is started on.
pub struct Home {
    pub dir: TempDir,
    database: String,
    settings: Vec<(String, String)>,
}

impl Home {
    /// With further settings as environment variables, and an administrator made by the command line.
    pub async fn new(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let database = fresh_database(backend, dir.path()).await;
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let home = Self { dir, database, settings };
        tokio::task::block_in_place(|| home.create_admin());
        home
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postroom"));
        command.env_clear().current_dir(self.dir.path()).env("DATABASE_URL", &self.database);
        command.env("POSTROOM__STORAGE__DATA_DIR", self.dir.path());
        command.env("POSTROOM__AUTH__FIRST_ADMIN", "");
        command.env("POSTROOM__HTTP__LISTEN", "127.0.0.1:0").env("POSTROOM__HTTP__WORKERS", "1");
        // Tokens stay good when the next process listens at another port.
        command.env("POSTROOM__HTTP__PUBLIC_URL", "http://postroom.test");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    fn create_admin(&self) {
        let mut command = self.command();
        command.args(["create-admin", "--username", ADMIN, "--password-stdin"]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Starts a process; when this returns it listens.
    pub fn serve(&self) -> Service {
        tokio::task::block_in_place(|| Service::start(self.command()))
    }

    /// Lets all leases on `table` run out, as time would after their holder died. A process on SQLite needs no such help: it
    /// knows that it is alone.
    pub async fn expire_leases(&self, table: &str) {
        if self.database.starts_with("sqlite") {
            return;
        }
        let connection = sea_orm::Database::connect(&self.database).await.unwrap();
        let sql = format!("UPDATE {table} SET lease_until = 1 WHERE lease_until > 1");
        connection.execute_unprepared(&sql).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A process that listens; it is killed when this is dropped.
pub struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn start(mut command: Command) -> Self {
        let child = command.arg("serve").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut service = Self { child, url: String::new() };
        let mut log = BufReader::new(service.child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        loop {
            let Some(Ok(line)) = log.next() else {
                panic!("the service ended before it listened:\n{}", seen.join("\n"))
            };
            if let Some((_, url)) = line.split_once("listening url=") {
                service.url = url.trim().trim_matches('"').to_owned();
                // The pipe must be read on, or the service would block on its log.
                std::thread::spawn(move || {
                    let troubled = |line: &String| line.contains(" WARN ") || line.contains(" ERROR ");
                    log.map_while(Result::ok).filter(troubled).for_each(|line| eprintln!("{line}"));
                });
                return service;
            }
            seen.push(line);
        }
    }

    /// `kill -9`: nothing more is written, nothing said good-bye to.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A client who logs in with user name and password.
    pub async fn log_in(&self, username: &str) -> Client {
        let anonymous = Client::new(&self.url, None);
        let form = [("grant_type", "password"), ("username", username), ("password", PASSWORD)];
        let answer = anonymous.send(anonymous.request(Method::POST, "/v1/auth/token").form(&form)).await.ok();
        Client::new(&self.url, Some(answer["access_token"].as_str().unwrap().to_owned()))
    }

    pub async fn admin(&self) -> Client {
        self.log_in(ADMIN).await
    }

    /// The same user at this process: tokens outlive the process that gave them.
    pub fn client(&self, before: &Client) -> Client {
        Client::new(&self.url, Some(before.token().to_owned()))
    }

    /// Makes an agent, who can log in; gives the id.
    pub async fn agent(admin: &Client, name: &str) -> String {
        let user = serde_json::json!({ "username": name, "display_name": name, "role": "agent", "password": PASSWORD });
        admin.post("/v1/users", user).await.ok()["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
