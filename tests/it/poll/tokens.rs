//! Mailboxes that are opened with access tokens.

use std::sync::{Arc, Mutex};

use postroom::{
    accounts::{entity::account, mailbox::Secrets},
    id::AccountId,
};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{mail, polled};
use crate::support::{
    TestApp,
    imap_server::{ImapBehaviour, ImapServer},
    line_io::LineIo,
    mailbox::{Events, act, draft, raws, read},
};

/// A token server that gives a new refresh token each time, until it refuses.
struct Tokens {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    refuse: Arc<Mutex<bool>>,
    task: JoinHandle<()>,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tokens {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, refuse) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<bool>>::default());
        let (noted, refused) = (Arc::clone(&seen), Arc::clone(&refuse));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let mut io = LineIo::new(socket);
                let mut length = 0;
                while let Some(line) = io.line().await.unwrap().filter(|line| !line.is_empty()) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let form: Vec<(String, String)> =
                    serde_urlencoded::from_bytes(&io.exact(length).await.unwrap()).unwrap();
                let token = form.into_iter().find(|(name, _)| name == "refresh_token").unwrap().1;
                let number = {
                    let mut seen = noted.lock().unwrap();
                    seen.push(token);
                    seen.len()
                };
                let (status, body) = if *refused.lock().unwrap() {
                    ("400 Bad Request", json!({ "error": "invalid_grant" }))
                } else {
                    ("200 OK", json!({ "access_token": "T", "refresh_token": format!("r{number}") }))
                };
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                io.send(format!("{head}{body}")).await.unwrap();
            }
        });
        Self { port, seen, refuse, task }
    }

    fn settings(&self) -> Value {
        json!({
            "password": null, "inbound": { "auth": "xoauth2" },
            "oauth": { "token_url": format!("http://127.0.0.1:{}/token", self.port), "client_id": "c", "refresh_token": "r0" },
        })
    }
}

async fn stored(app: &TestApp, id: AccountId) -> Option<String> {
    let row = account::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap();
    Secrets::open(&app.app.sealer, &row).unwrap().refresh_token
}

polled! {
    async fn a_rotated_refresh_token_is_stored_before_it_is_needed(app) {
        let (admin, tokens) = (app.admin().await, Tokens::start().await);
        let server = ImapServer::start(ImapBehaviour { secret: "T", ..ImapBehaviour::default() }).await;
        server.append("INBOX", &mail(1));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), tokens.settings()).await;
        assert_eq!(act(&admin, id, "check").await["ok"], true);
        assert_eq!(stored(&app, id).await.as_deref(), Some("r1"));
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        assert_eq!(stored(&app, id).await.as_deref(), Some("r2"));
        assert_eq!(*tokens.seen.lock().unwrap(), ["r0", "r1"]);
        assert_eq!(raws(&app, id).await, [mail(1)]);
        assert_eq!(read(&admin, id).await["oauth"]["has_refresh_token"], true);
    }

    async fn a_revoked_grant_fails_the_account_and_is_not_tried_again_and_again(app) {
        let (admin, tokens) = (app.admin().await, Tokens::start().await);
        *tokens.refuse.lock().unwrap() = true;
        let server = ImapServer::start(ImapBehaviour { secret: "T", ..ImapBehaviour::default() }).await;
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), tokens.settings()).await;
        act(&admin, id, "activate").await;
        events.wait("account.failing").await;
        let account = read(&admin, id).await;
        assert_eq!(account["health"]["last_error"]["code"], "invalid_grant");
        assert!(account["state_reason"].as_str().unwrap().contains("authorised again"));
        assert_eq!((tokens.seen.lock().unwrap().len(), server.connections()), (1, 0));
        let report = act(&admin, id, "check").await;
        assert_eq!((&report["ok"], &report["steps"][0]["name"]), (&json!(false), &json!("token")));
    }
}
