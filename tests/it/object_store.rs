//! Large mail in an S3-compatible store: a real S3 server of others' code (moto), over HTTP with signed requests.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    full_loop::make,
    support::{
        Backend, Client,
        mailbox::queue,
        service::{Home, Service},
    },
};

/// An S3 server with one bucket; it ends when this is dropped.
struct S3 {
    child: Child,
    url: String,
}

impl S3 {
    /// None where no Python is named that has one. Once it is named, it must have it.
    async fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("POSTROOM_TEST_PYTHON").filter(|path| !path.is_empty()) else {
            println!("not tried with S3: POSTROOM_TEST_PYTHON names no Python; see tools/setup.sh");
            return None;
        };
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut s3 = Self { child, url: String::new() };
        let mut log = BufReader::new(s3.child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listening = log.find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()));
        s3.url = listening.expect("the S3 server ended before it listened");
        // The pipe must be read on, or the server would block on its log.
        std::thread::spawn(move || log.for_each(drop));
        let made = reqwest::Client::new().put(format!("{}/mails", s3.url)).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        Some(s3)
    }

    /// The keys of all objects, as the server lists them.
    async fn keys(&self) -> Vec<String> {
        let listed =
            reqwest::get(format!("{}/mails?list-type=2", self.url)).await.unwrap().text().await.unwrap();
        listed.split("<Key>").skip(1).map(|key| key.split("</Key>").next().unwrap().to_owned()).collect()
    }

    fn settings(&self) -> [(&str, &str); 5] {
        [
            ("POSTROOM__STORAGE__OBJECT_STORE_URL", "s3://mails/centre"),
            ("POSTROOM__STORAGE__S3_ENDPOINT", &self.url),
            ("POSTROOM__STORAGE__S3_REGION", "eu-central-1"),
            ("POSTROOM__STORAGE__S3_ACCESS_KEY_ID", "postroom"),
            ("POSTROOM__STORAGE__S3_SECRET_ACCESS_KEY", "a secret of the store"),
        ]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn large_mail() -> Vec<u8> {
    let mut mail = b"From: anna@customers.test\r\nTo: post@centre.test\r\nSubject: Plans\r\n\r\n".to_vec();
    for number in 0..3000 {
        mail.extend_from_slice(format!("{number:06} of the many lines of a long message\r\n").as_bytes());
    }
    mail
}

async fn account(admin: &Client) -> String {
    let queue = queue(admin).await;
    let account = json!({ "address": "post@centre.test", "inbound": { "protocol": "push" }, "fallback_queue_id": queue });
    let account = make(admin, "/v1/accounts", account).await;
    admin.post(&format!("/v1/accounts/{account}/activate"), json!({})).await.ok();
    account
}

async fn push(admin: &Client, account: &str, mail: &[u8]) -> crate::support::Reply {
    let request = admin.request(Method::POST, &format!("/v1/accounts/{account}/messages"));
    admin.send(request.header("content-type", "message/rfc822").body(mail.to_vec())).await
}

async fn raw(admin: &Client, message: &Value) -> crate::support::Reply {
    admin.get(&format!("/v1/messages/{}/raw", message.as_str().unwrap())).await
}

async fn large_mail_is_kept_in_s3(backend: Backend) {
    let Some(s3) = S3::start().await else { return };
    let home = Home::new(backend, &s3.settings()).await;
    let service: Service = home.serve();
    let admin = service.admin().await;
    let (account, mail) = (account(&admin).await, large_mail());
    let pushed = push(&admin, &account, &mail).await.ok();
    let id = &pushed["message"]["id"];
    assert_eq!(raw(&admin, id).await.bytes, mail);
    let keys = s3.keys().await;
    assert!(keys.len() == 1 && keys[0].starts_with("centre/"), "{keys:?}");
    // Another process finds it, too.
    service.kill();
    let service = home.serve();
    let admin = service.client(&admin);
    assert_eq!(raw(&admin, id).await.bytes, mail);
    // Without the store nothing is taken in that could be lost, and nothing is half there.
    drop(s3);
    for refused in [push(&admin, &account, &mail).await, raw(&admin, id).await] {
        assert_eq!((refused.status, &refused.body["code"]), (503, &json!("unavailable")), "{refused:?}");
    }
    let listed = admin.get("/v1/conversations").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    // What fits into its row needs no store.
    push(&admin, &account, b"From: anna@customers.test\r\nSubject: Short\r\n\r\nHello\r\n").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_mail_is_kept_in_s3_sqlite() {
    large_mail_is_kept_in_s3(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_mail_is_kept_in_s3_postgres() {
    large_mail_is_kept_in_s3(Backend::Postgres).await;
}
