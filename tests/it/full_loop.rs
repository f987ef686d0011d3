//! The whole job as processes on real servers: a customer's mail comes through Postfix and Dovecot to an agent, the answer
//! goes back through Postfix, and the customer's next mail finds the same agent.

use std::time::{Duration, Instant};

use mail_parser::{Message, MessageParser};
use serde_json::{Value, json};

use crate::support::{
    Backend, Client,
    dkim::{BOTH, Zone, sign_for, signed_by},
    imap_reader::ImapReader,
    mailbox::{act, draft},
    service::{Home, Service},
    stack::{LMTP, SMTP, Stack},
    stream::EventStream,
};

/// A bound that only a broken service misses; what was measured is printed.
const OFFERED_WITHIN: Duration = Duration::from_secs(10);

pub fn address(domain: &str) -> String {
    format!("{}@{domain}", uuid::Uuid::now_v7().simple())
}

pub async fn make(admin: &Client, path: &str, body: Value) -> String {
    admin.post(path, body).await.ok()["id"].as_str().unwrap().to_owned()
}

/// A contact centre on real servers.
pub struct Centre {
    pub stack: Stack,
    pub admin: Client,
    pub address: String,
    customer: String,
    orders: String,
    /// The records of the keys that sign its mail.
    zone: Zone,
}

impl Centre {
    pub async fn open(stack: Stack, service: &Service, agents: &[String]) -> Self {
        let admin = service.admin().await;
        let group = json!({ "name": "Desk", "member_ids": agents });
        let group = make(&admin, "/v1/agent-groups", group).await;
        let orders = json!({ "name": "Orders", "agent_group_ids": [group] });
        let orders = make(&admin, "/v1/queues", orders).await;
        let (address, customer) = (address("centre.test"), address("customers.test"));
        let zone = sign_for(&admin, "centre.test").await;
        let centre = Self { stack, admin, address, customer, orders, zone };
        centre.set_outgoing_server().await;
        centre.activate_account().await;
        centre
    }

    async fn set_outgoing_server(&self) {
        let server = json!({ "transport": "smtp", "host": "localhost", "port": self.stack.port(SMTP), "security": "starttls" });
        self.admin.put("/v1/outgoing-server", server).await.ok();
        let check = self.admin.post("/v1/outgoing-server/check", json!({})).await.ok();
        assert_eq!(check["ok"], true, "{check}");
    }

    /// Orders go to their queue with priority 2; the rest stays in a queue that nobody serves.
    async fn activate_script(&self) -> String {
        let other = make(&self.admin, "/v1/queues", json!({ "name": "Other" })).await;
        let enqueue = |queue: &str| {
            json!({ "type": "enqueue", "queue_id": queue, "priority": 2,
                "next": { "assigned": "done", "queue_full": "done", "closed": "done" } })
        };
        let definition = json!({ "start": "about", "steps": {
            "about": { "type": "condition", "when": "message.subject|lower|contains('order')",
                "next": { "yes": "orders", "no": "other" } },
            "orders": enqueue(&self.orders),
            "other": enqueue(&other),
            "done": { "type": "end", "result": "done" },
        }});
        let id = make(&self.admin, "/v1/scripts", json!({ "name": "Front", "definition": definition })).await;
        self.admin.post(&format!("/v1/scripts/{id}/versions/1/activate"), json!({})).await.ok();
        id
    }

    async fn activate_account(&self) {
        let mut events = EventStream::follow(&self.admin, 0).await;
        let account = json!({
            "address": self.address, "username": self.address, "display_name": "The centre",
            "password": self.stack.value("POSTROOM_TEST_MAIL_PASSWORD"), "script_id": self.activate_script().await,
            "inbound": { "host": "localhost", "security": "starttls" },
        });
        let id = draft(&self.admin, self.stack.port("POSTROOM_TEST_IMAP"), account).await;
        act(&self.admin, id, "activate").await;
        assert_eq!(events.wait("account.connected").await["data"]["mode"], "idle");
    }

    /// The customer writes; gives the moment at which `server` had taken the mail.
    async fn write(&self, server: &str, header: &str, text: &str) -> Instant {
        let (from, to) = (&self.customer, &self.address);
        let raw = format!(
            "From: Carla Customer <{from}>\r\nTo: {to}\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\n{header}\r\n\r\n{text}\r\n"
        );
        self.stack.connect(server).await.hand_over(from, to, raw.as_bytes()).await;
        Instant::now()
    }

    /// The newest mail in the customer's mailbox, once there are `count`.
    async fn customer_reads(&self, count: usize) -> Vec<u8> {
        let mut mailbox = ImapReader::open(&self.stack, &self.customer).await;
        mailbox.wait_for(count).await;
        let mut mails = mailbox.fetch().await;
        assert_eq!(mails.len(), count);
        let newest = mails.pop().unwrap();
        // Neither Postfix nor Dovecot has broken the signatures.
        assert_eq!(signed_by(&newest, &self.zone, "centre.test"), BOTH);
        newest
    }
}

/// An agent at the desk.
pub struct Agent {
    pub client: Client,
    pub events: EventStream,
}

impl Agent {
    pub async fn ready(service: &Service, name: &str) -> Self {
        let client = service.log_in(name).await;
        client.put("/v1/agents/me/state", json!({ "state": "ready" })).await.ok();
        let events = EventStream::follow(&client, 0).await;
        Self { client, events }
    }

    /// Waits for an offer, prints how long it took, and gives it with its work item.
    async fn offered(&mut self, since: Instant, way: &str) -> Value {
        let event = self.events.wait("offer.created").await;
        let took = since.elapsed();
        println!("offered {} ms after {way} had taken the mail", took.as_millis());
        assert!(took < OFFERED_WITHIN, "{took:?}");
        let offer = self.client.get(&format!("/v1/offers/{}", event["subject_id"].as_str().unwrap())).await;
        offer.ok()
    }

    async fn accept(&self, offer: &Value) -> Value {
        let path = format!("/v1/offers/{}/accept", offer["id"].as_str().unwrap());
        self.client.post(&path, json!({})).await.ok()["work_item"].clone()
    }

    /// Replies and completes the item.
    async fn reply(&self, item: &Value, text: &str) -> Value {
        let reply =
            json!({ "expected_last_message_id": item["last_message_id"], "text": text, "complete": true });
        self.client.post(&format!("/v1/work-items/{}/reply", item["id"].as_str().unwrap()), reply).await.ok()
    }
}

/// The reply says what it answers, and reads as it was written.
fn assert_is_answer(mail: &Message<'_>, sent: &Value, question: &str, text: &str) {
    assert_eq!(mail.message_id(), sent["message_id_header"].as_str());
    assert_eq!(mail.in_reply_to().as_text(), Some(question));
    let references = mail.references().as_text_list().unwrap();
    assert_eq!(references.last().map(AsRef::as_ref), Some(question), "{references:?}");
    assert_eq!(mail.subject(), Some("Re: My order"));
    let body = mail.body_text(0).unwrap().replace("\r\n", "\n");
    assert!(body.starts_with(text), "{body}");
}

async fn steps_of(client: &Client, message: &Value) -> Vec<String> {
    let path = format!("/v1/messages/{}/timeline?limit=200", message["message_id"].as_str().unwrap());
    let page = client.get(&path).await.ok();
    page["items"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect()
}

async fn the_job_runs(backend: Backend) {
    let Some(stack) = Stack::shared() else { return };
    let ca = stack.value("POSTROOM_TEST_CA");
    let home = Home::new(backend, &[("POSTROOM__MAIL__EXTRA_CA_FILE", &ca)]).await;
    let service = home.serve();
    let admin = service.admin().await;
    let agents = [Service::agent(&admin, "anna").await, Service::agent(&admin, "ben").await];
    let centre = Centre::open(stack, &service, &agents).await;
    let mut anna = Agent::ready(&service, "anna").await;

    let wrote =
        centre.write(SMTP, "Message-ID: <q1@customers.test>\r\nSubject: My order", "Where is it?").await;
    let offer = anna.offered(wrote, "Postfix").await;
    assert_eq!(
        (&offer["work_item"]["queue_id"], &offer["work_item"]["priority"]),
        (&json!(centre.orders), &json!(2))
    );
    let item = anna.accept(&offer).await;
    // Ben is idle from here on, Anna only when she has answered.
    let mut ben = Agent::ready(&service, "ben").await;
    let text = "It left our warehouse.\n.\nGrüße, Anna";
    let sent = anna.reply(&item, text).await;
    let raw = centre.customer_reads(1).await;
    let mail = MessageParser::default().parse(&raw).unwrap();
    assert_is_answer(&mail, &sent, "q1@customers.test", text);
    let mut events = EventStream::follow(&centre.admin, 0).await;
    assert_eq!(events.wait("message.sent").await["subject_id"], sent["message_id"]);
    let steps = steps_of(&centre.admin, &sent).await;
    let told = ["created", "queued", "connect", "ehlo", "tls", "mail", "rcpt", "data", "dot", "sent"];
    assert!(told.iter().all(|step| steps.iter().any(|said| said == step)), "{steps:?}");

    // The customer answers: the same conversation, new work, Anna first although Ben has been idle for longer.
    let ours = mail.message_id().unwrap();
    let header = format!(
        "Message-ID: <q2@customers.test>\r\nIn-Reply-To: <{ours}>\r\nReferences: <q1@customers.test> <{ours}>\r\nSubject: Re: My order"
    );
    let wrote = centre.write(SMTP, &header, "Still not here.").await;
    let offer = anna.offered(wrote, "Postfix").await;
    let again = &offer["work_item"];
    assert_eq!(again["conversation_id"], item["conversation_id"]);
    assert_ne!(again["id"], item["id"]);
    assert_eq!(again["last_agent_id"], json!(agents[0]));
    let again = anna.accept(&offer).await;
    let sent = anna.reply(&again, "We look into it.").await;
    let raw = centre.customer_reads(2).await;
    let mail = MessageParser::default().parse(&raw).unwrap();
    assert_is_answer(&mail, &sent, "q2@customers.test", "We look into it.");

    // Mail without a past goes to the one who has been idle for longest.
    let mut watcher = ImapReader::open(&centre.stack, &centre.address).await;
    let watching = tokio::spawn(async move {
        watcher.wait_for(3).await;
        Instant::now()
    });
    let wrote =
        centre.write(LMTP, "Message-ID: <q3@customers.test>\r\nSubject: Another order", "Hello").await;
    let offer = ben.offered(wrote, "Dovecot").await;
    // Dovecot itself waits before it tells.
    let told = watching.await.unwrap().saturating_duration_since(wrote);
    println!("another idling client was told after {} ms", told.as_millis());
    assert_ne!(offer["work_item"]["conversation_id"], item["conversation_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customers_mail_is_answered_and_the_next_one_comes_back_to_the_same_agent_sqlite() {
    the_job_runs(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customers_mail_is_answered_and_the_next_one_comes_back_to_the_same_agent_postgres() {
    the_job_runs(Backend::Postgres).await;
}
