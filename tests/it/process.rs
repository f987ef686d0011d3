//! The program as a process: settings, start, stop.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::support::app::{Backend, fresh_database};

fn postroom(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postroom"));
    command.env_clear().current_dir(dir).env("POSTROOM__STORAGE__DATA_DIR", dir.join("data"));
    command.env("POSTROOM__HTTP__LISTEN", "127.0.0.1:0");
    command
}

fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// A service that listens; its address is read from its log.
struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn start(command: &mut Command) -> Self {
        let child = command.arg("serve").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut service = Self { child, url: String::new() };
        let mut log = BufReader::new(service.child.stderr.take().unwrap());
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the service ended before it listened:\n{seen}");
            seen.push_str(&line);
            if let Some((_, url)) = line.split_once("listening url=") {
                service.url = url.trim().trim_matches('"').to_owned();
                // The pipe must be read on, or the service would block on its log.
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return service;
            }
        }
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn settings_are_shown_without_secrets_and_errors_name_key_and_origin() {
    let dir = tempfile::tempdir().unwrap();
    let (good, text) =
        run(postroom(dir.path()).arg("check-config").env("POSTROOM__SECRETS__KEY", "c2VjcmV0"));
    assert!(good && text.contains("\"listen\": \"127.0.0.1:0\"") && !text.contains("c2VjcmV0"), "{text}");
    let (good, text) = run(postroom(dir.path()).arg("check-config").env("POSTROOM__HTTP__PORT", "80"));
    assert!(!good && text.contains("http.port") && text.contains("POSTROOM__"), "{text}");
    std::fs::write(dir.path().join("wrong.toml"), "[database]\nmax_connections = \"many\"\n").unwrap();
    let (good, text) = run(postroom(dir.path()).args(["--config", "wrong.toml", "check-config"]));
    assert!(!good && text.contains("database.max_connections") && text.contains("wrong.toml"), "{text}");
    let (good, text) = run(postroom(dir.path()).args(["--config", "missing.toml", "check-config"]));
    assert!(!good && text.contains("missing.toml"), "{text}");
}

#[test]
fn an_unusable_data_directory_or_database_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (good, text) = run(postroom(dir.path())
        .arg("serve")
        .env("POSTROOM__STORAGE__DATA_DIR", dir.path().join("file/data")));
    assert!(!good && text.contains("storage.data_dir"), "{text}");
    let nowhere = "postgres://nobody@127.0.0.1:1/none";
    let (good, text) = run(postroom(dir.path())
        .arg("serve")
        .env("DATABASE_URL", nowhere)
        .env("POSTROOM__DATABASE__ACQUIRE_TIMEOUT_S", "2"));
    assert!(!good && text.contains("database.url"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    use sea_orm::ConnectionTrait;
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let url = fresh_database(backend, &dir.path().join("data")).await;
        let connection = sea_orm::Database::connect(&url).await.unwrap();
        connection
            .execute_unprepared(
                "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 0)",
            )
            .await
            .unwrap();
        connection.close().await.unwrap();
        let (good, text) = run(postroom(dir.path()).arg("serve").env("DATABASE_URL", &url));
        assert!(!good && text.contains("m9999_future"), "{text}");
    }
}

#[test]
fn the_service_starts_on_an_empty_directory_and_ends_softly() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::start(&mut postroom(dir.path()));
    assert!(dir.path().join("data/postroom.db").exists() && dir.path().join("data/secret.key").exists());
    let answer = get(&format!("{}/readyz", service.url));
    assert!(answer.contains("\"workers\":true"), "{answer}");
    service.signal("-TERM");
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn a_second_signal_ends_the_service_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::start(&mut postroom(dir.path()));
    // A stream keeps the soft stop waiting for its client.
    service.signal("-TERM");
    service.signal("-TERM");
    let ended = std::time::Instant::now();
    service.child.wait().unwrap();
    assert!(ended.elapsed() < Duration::from_secs(9), "the second signal did not cut the drain short");
}

/// One GET over a plain socket: this test has no async runtime.
fn get(url: &str) -> String {
    use std::io::Write;
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
