//! Outbound truth under `kill -9`: every answer goes out, under one Message-ID, and twice only where its history says so.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    crash::seed,
    support::{
        Backend, Client,
        mailbox::queue,
        outbound::use_server,
        service::{Home, Service},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
        stream::EventStream,
    },
};

const REPLIES: usize = 60;
const KILLS: usize = 4;
/// A kill comes after so many messages: more than may still be on their way from the process before.
const MOMENTS: std::ops::Range<usize> = 6..12;
const CONNECTIONS: usize = 3;

/// An agent with a number of mails to answer.
struct Desk {
    admin: Client,
    agent: Client,
    account: String,
}

impl Desk {
    async fn open(service: &Service) -> Self {
        let admin = service.admin().await;
        let anna = Service::agent(&admin, "anna").await;
        let group = json!({ "name": "Desk", "member_ids": [anna], "capacity": { "email": 1000, "sms": 0 } });
        let group = admin.post("/v1/agent-groups", group).await.ok()["id"].clone();
        let queue = queue(&admin).await;
        admin.patch(&format!("/v1/queues/{queue}"), json!({ "agent_group_ids": [group] })).await.ok();
        let account = json!({ "address": "support@example.org", "inbound": { "protocol": "push" }, "fallback_queue_id": queue });
        let account = admin.post("/v1/accounts", account).await.ok()["id"].as_str().unwrap().to_owned();
        admin.post(&format!("/v1/accounts/{account}/activate"), json!({})).await.ok();
        let agent = service.log_in("anna").await;
        agent.put("/v1/agents/me/state", json!({ "state": "ready" })).await.ok();
        Self { admin, agent, account }
    }

    /// A customer writes, and the agent answers at once; gives the answer.
    async fn answer(&self, number: usize) -> Value {
        let mail = format!(
            "From: c{number}@example.com\r\nTo: support@example.org\r\nMessage-ID: <{number}@example.com>\r\nSubject: x\r\n\r\nHello\r\n"
        );
        let path = format!("/v1/accounts/{}/messages", self.account);
        let push = self.admin.request(reqwest::Method::POST, &path).header("Content-Type", "message/rfc822");
        let pushed = self.admin.send(push.body(mail)).await.ok();
        let item = pushed["work_item_id"].as_str().unwrap();
        let mut events = EventStream::follow(&self.agent, 0).await;
        let is_for_it = |event: &Value| event["data"]["work_item_id"] == item;
        let offer = events.wait_for("offer.created", is_for_it).await;
        let accept = format!("/v1/offers/{}/accept", offer["subject_id"].as_str().unwrap());
        self.agent.post(&accept, json!({})).await.ok();
        let reply = json!({ "expected_last_message_id": pushed["message"]["id"], "text": format!("Answer {number}"), "complete": true });
        self.agent.post(&format!("/v1/work-items/{item}/reply"), reply).await.ok()
    }
}

/// The states that a message went through, and the server's replies between them.
async fn history(admin: &Client, message: &str) -> Vec<String> {
    let page = admin.get(&format!("/v1/messages/{message}/timeline?limit=200")).await.ok();
    page["items"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect()
}

/// Holds the server's answer to a dot after `moment` further messages. Nobody is sending now.
fn hold_at_a_dot(sink: &SmtpSink, moment: usize) {
    let held = Rule::at(Stage::Dot, Act::Late).on_message(sink.commands("MAIL") + moment);
    sink.behave(|behaviour| behaviour.rules = vec![held]);
}

/// Kills the service once it waits for the answer to a dot.
async fn kill_at_a_dot(home: &Home, service: Service, sink: &SmtpSink) {
    sink.wait_until_late().await;
    service.kill();
    // The dot was there: this server has the message, although nobody hears it say so.
    sink.release();
    home.expire_leases("deliveries").await;
}

async fn answers_are_sent_once_or_said_to_be_uncertain(backend: Backend) {
    let mut rng = StdRng::seed_from_u64(seed());
    let sink = SmtpSink::start(Behaviour::default()).await;
    let home = Home::new(backend, &[]).await;
    let mut service = home.serve();
    let desk = Desk::open(&service).await;
    let server = json!({ "port": sink.addr.port(), "max_connections": CONNECTIONS });
    use_server(&desk.admin, server).await;
    desk.admin.post("/v1/outgoing-server/pause", json!({})).await.ok();
    let mut answers = Vec::new();
    for number in 0..REPLIES {
        answers.push(desk.answer(number).await);
    }
    hold_at_a_dot(&sink, rng.random_range(MOMENTS));
    desk.admin.post("/v1/outgoing-server/resume", json!({})).await.ok();
    for kill in 1..=KILLS {
        kill_at_a_dot(&home, service, &sink).await;
        match kill {
            KILLS => sink.behave(|behaviour| behaviour.rules.clear()),
            _ => hold_at_a_dot(&sink, rng.random_range(MOMENTS)),
        }
        service = home.serve();
    }
    let admin = service.client(&desk.admin);
    let mut events = EventStream::follow(&admin, 0).await;
    let mut missing: Vec<&Value> = answers.iter().map(|answer| &answer["message_id"]).collect();
    while !missing.is_empty() {
        let sent = events.wait("message.sent").await;
        missing.retain(|id| **id != sent["subject_id"]);
    }
    let received = sink.received();
    let mut doubles = 0;
    for answer in &answers {
        let id = answer["message_id_header"].as_str().unwrap();
        let is_this = |id_there: &str| id_there.trim_matches(['<', '>']) == id;
        let times = received.iter().filter(|mail| mail.message_id.as_deref().is_some_and(is_this)).count();
        let history = history(&admin, answer["message_id"].as_str().unwrap()).await;
        let uncertain = history.iter().filter(|step| *step == "uncertain").count();
        assert!((1..=1 + uncertain).contains(&times), "received {times} times: {history:?}");
        assert!(history.iter().any(|step| step == "sent"), "{history:?}");
        doubles += times - 1;
    }
    println!("{} messages received of {REPLIES}, {doubles} of them again", received.len());
    assert_eq!(received.len(), REPLIES + doubles);
    assert!(doubles >= KILLS, "{doubles} of {KILLS} kills came between a dot and its answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_answers_go_out_lose_none_and_double_only_uncertain_ones_sqlite() {
    answers_are_sent_once_or_said_to_be_uncertain(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_answers_go_out_lose_none_and_double_only_uncertain_ones_postgres() {
    answers_are_sent_once_or_said_to_be_uncertain(Backend::Postgres).await;
}
