//! The sandbox: started as a process, seeded, with a clock that its clients move, and gone without a trace.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use postroom::clock::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{on_both, support::Client};

/// A sandbox that has said that it is ready.
struct Sandbox {
    child: Child,
    said: Value,
    /// Where it makes its temporary directory.
    dir: TempDir,
}

impl Sandbox {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_postroom"));
        command.env_clear().env("TMPDIR", dir.path()).current_dir(dir.path());
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut log = String::new();
            child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("the sandbox said nothing:\n{log}");
        }
        Self { child, said: serde_json::from_str(&line).unwrap(), dir }
    }

    async fn client(&self, login: &Value) -> Client {
        let form = [
            ("grant_type", "password"),
            ("username", login["username"].as_str().unwrap()),
            ("password", login["password"].as_str().unwrap()),
        ];
        let url = self.said["url"].as_str().unwrap();
        let asked =
            reqwest::Client::new().post(format!("{url}/v1/auth/token")).form(&form).send().await.unwrap();
        let answer: Value = asked.json().await.unwrap();
        Client::new(url, Some(answer["access_token"].as_str().unwrap().to_owned()))
    }

    fn directories(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn instant(clock: &Value) -> Timestamp {
    clock["now"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_sandbox_is_seeded_moves_its_clock_and_leaves_nothing_behind() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut sandbox = Sandbox::start();
    assert_eq!(sandbox.directories(), 1);
    let admin = sandbox.client(&sandbox.said["admin"]).await;
    assert_eq!(
        admin.get("/readyz").await.ok(),
        json!({ "database": true, "migrations": true, "workers": true })
    );
    assert_eq!(admin.get("/v1/openapi.json").await.ok(), postroom::api::document().unwrap());
    let swagger = reqwest::get(sandbox.said["swagger_url"].as_str().unwrap()).await.unwrap();
    assert!(swagger.text().await.unwrap().contains("swagger-ui"));

    let items = admin.get("/v1/work-items").await.ok();
    assert_eq!(items["items"].as_array().unwrap().len(), 9);
    let texts = items["items"].as_array().unwrap().iter().filter(|item| item["channel"] == "sms");
    assert_eq!(texts.count(), 2);
    for login in sandbox.said["agents"].as_array().unwrap() {
        let agent = sandbox.client(login).await;
        assert_eq!(agent.get("/v1/auth/me").await.ok()["user"]["must_change_password"], false);
    }
    sandbox.client(&sandbox.said["supervisor"]).await.get("/v1/queues").await.ok();

    let before = admin.get("/v1/sandbox/clock").await.ok();
    let after = admin.post("/v1/sandbox/clock/advance", json!({ "seconds": 300 })).await.ok();
    assert_eq!(after["ahead_s"], 300);
    assert!(instant(&after).since(instant(&before)).as_secs() >= 300);
    admin.post("/v1/sandbox/clock/advance", json!({ "seconds": 0 })).await.problem(422, "validation_failed");

    assert!(
        Command::new("kill").args(["-TERM", &sandbox.child.id().to_string()]).status().unwrap().success()
    );
    assert!(sandbox.child.wait().unwrap().success());
    assert_eq!(sandbox.directories(), 0);
}

on_both! {
    async fn outside_the_sandbox_there_is_no_clock_to_move(app) {
        let admin = app.admin().await;
        admin.get("/v1/sandbox/clock").await.problem(404, "not_found");
        admin.post("/v1/sandbox/clock/advance", json!({ "seconds": 60 })).await.problem(404, "not_found");
        assert_eq!(app.app.clock.offset_ms(), 0);
    }
}

#[test]
fn the_collection_has_every_operation_by_its_name() {
    let document = postroom::api::document().unwrap();
    let collection = include_str!("../../postman/postroom.postman_collection.json");
    let collection: Value = serde_json::from_str(collection).unwrap();
    let mut names = Vec::new();
    collect_names(&collection["item"], &mut names);
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
    {
        let id = operation["operationId"].as_str().unwrap();
        assert!(names.contains(&id), "the Postman collection has no request {id}");
    }
}

fn collect_names<'a>(items: &'a Value, names: &mut Vec<&'a str>) {
    for item in items.as_array().into_iter().flatten() {
        names.extend(item["name"].as_str().filter(|_| item.get("request").is_some()));
        collect_names(&item["item"], names);
    }
}
