//! What the product began with, as one scenario on real servers: a dialler reports attempts, the campaign's rules send, a
//! broadcast goes to exactly the unused and call-back customers, and whoever answers comes to an agent in the right
//! conversation.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    full_loop::{Agent, Centre, address, make},
    support::{
        Backend, Client,
        imap_reader::ImapReader,
        service::{Home, Service},
        stack::{SMTP, Stack},
        stream::EventStream,
    },
};

async fn template(admin: &Client, name: &str) -> String {
    let body = json!({
        "name": name, "purpose": "general", "subject": format!("{name} for {{{{ customer.name }}}}"),
        "text": format!("This is {name}, {{{{ customer.name }}}}.")
    });
    let id = make(admin, "/v1/templates", body).await;
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id
}

/// Customers of one list, at addresses that nobody had before.
async fn customers(admin: &Client, list: &str, count: usize) -> Vec<String> {
    let mut addresses = Vec::new();
    for number in 0..count {
        let address = address("customers.test");
        let body = json!({ "list_id": list, "name": format!("Customer {number}"), "email": address });
        admin.put(&format!("/v1/customers/by-ref/c{number}"), body).await.ok();
        addresses.push(address);
    }
    addresses
}

/// The subjects in a mailbox once there are `count` mails.
async fn subjects(stack: &Stack, address: &str, count: usize) -> Vec<String> {
    let mut mailbox = ImapReader::open(stack, address).await;
    mailbox.wait_for(count).await;
    let subject = |raw: Vec<u8>| {
        mail_parser::MessageParser::default().parse(&raw).unwrap().subject().unwrap().to_owned()
    };
    let mut subjects: Vec<String> = mailbox.fetch().await.into_iter().map(subject).collect();
    subjects.sort_unstable();
    subjects
}

async fn attempt(admin: &Client, customer: usize, body: Value) -> Value {
    admin.post(&format!("/v1/customers/by-ref/c{customer}/attempts"), body).await.ok()
}

/// The customer answers the newest mail; gives what the agent is offered.
async fn answer(centre: &Centre, agent: &mut Agent, from: &str) -> Value {
    let mut mailbox = ImapReader::open(&centre.stack, from).await;
    let raw = mailbox.fetch().await.pop().unwrap();
    let ours = mail_parser::MessageParser::default().parse(&raw).unwrap().message_id().unwrap().to_owned();
    let to = &centre.address;
    let raw = format!(
        "From: {from}\r\nTo: {to}\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\nMessage-ID: <{from}>\r\n\
         Subject: Re: my order\r\nIn-Reply-To: <{ours}>\r\n\r\nPlease call me.\r\n"
    );
    centre.stack.connect(SMTP).await.hand_over(from, to, raw.as_bytes()).await;
    let event = agent.events.wait("offer.created").await;
    let offer = agent.client.get(&format!("/v1/offers/{}", event["subject_id"].as_str().unwrap())).await.ok();
    let accept = format!("/v1/offers/{}/accept", offer["id"].as_str().unwrap());
    agent.client.post(&accept, json!({})).await.ok();
    let conversation = offer["work_item"]["conversation_id"].as_str().unwrap();
    centre.admin.get(&format!("/v1/conversations/{conversation}/messages")).await.ok()
}

/// The campaign with its customers.
struct Autumn {
    centre: Centre,
    campaign: String,
    offer: String,
    people: Vec<String>,
}

impl Autumn {
    async fn begin(centre: Centre) -> Self {
        let admin = &centre.admin;
        let account =
            admin.get(&format!("/v1/accounts?address={}", centre.address)).await.ok()["items"][0]["id"]
                .clone();
        for (code, category) in [("no_answer", "non_contact"), ("sold", "contact")] {
            admin.post("/v1/outcomes", json!({ "code": code, "category": category })).await.ok();
        }
        let (first, missed, offer) =
            (template(admin, "First").await, template(admin, "Missed").await, template(admin, "Offer").await);
        let rules = json!([
            { "name": "first", "trigger": "first_attempt", "template_id": first },
            { "name": "missed", "trigger": "terminated", "match": { "termination_category": "non_contact" }, "template_id": missed },
        ]);
        let campaign = json!({ "name": "Autumn", "email_account_id": account, "message_rules": rules });
        let campaign = make(admin, "/v1/campaigns", campaign).await;
        admin.post(&format!("/v1/campaigns/{campaign}/start"), json!({})).await.ok();
        let list = make(admin, "/v1/lists", json!({ "name": "Autumn", "campaign_id": campaign })).await;
        let people = customers(admin, &list, 6).await;

        Self { people, campaign, offer, centre }
    }

    /// The first attempt sends A; giving up for no answer sends B; for a contact, nothing, and it says why.
    async fn attempts(&self) {
        let Self { centre, campaign, people, .. } = self;
        let admin = &centre.admin;
        let tried = attempt(
            admin,
            0,
            json!({ "attempt_ref": "1", "campaign_id": campaign, "outcome_code": "no_answer" }),
        )
        .await;
        assert_eq!(tried["messages"].as_array().unwrap().len(), 1, "{tried}");
        let given_up = json!({ "attempt_ref": "2", "campaign_id": campaign, "outcome_code": "no_answer", "next": { "terminate": true } });
        let given_up = attempt(admin, 0, given_up).await;
        assert_eq!(given_up["messages"].as_array().unwrap().len(), 1, "{given_up}");
        assert_eq!(given_up["customer"]["status"], "terminated");
        let sold = json!({ "attempt_ref": "1", "campaign_id": campaign, "outcome_code": "sold", "next": { "terminate": true } });
        let sold = attempt(admin, 1, sold).await;
        assert_eq!(sold["messages"].as_array().unwrap().len(), 1, "only the first attempt's: {sold}");
        assert_eq!(sold["skipped"][0]["reason"], "no_match", "{sold}");
        assert_eq!(
            subjects(&centre.stack, &people[0], 2).await,
            ["First for Customer 0", "Missed for Customer 0"]
        );
        assert_eq!(subjects(&centre.stack, &people[1], 1).await, ["First for Customer 1"]);
    }

    /// Of the others one is to be called back, one has been tried, two are unused.
    async fn broadcast(&self) {
        let Self { centre, campaign, people, offer } = self;
        let admin = &centre.admin;
        let callback = json!({ "attempt_ref": "1", "campaign_id": campaign, "next": { "callback_at": "2030-01-01T09:00:00Z" } });
        attempt(admin, 2, callback).await;
        attempt(admin, 3, json!({ "attempt_ref": "1", "campaign_id": campaign })).await;
        let mut events = EventStream::follow_new(admin).await;
        let broadcast =
            json!({ "name": "Offer", "target": { "campaign_id": campaign }, "template_id": offer });
        let broadcast = make(admin, "/v1/broadcasts", broadcast).await;
        admin.post(&format!("/v1/broadcasts/{broadcast}/start"), json!({})).await.ok();
        let over = tokio::time::timeout(Duration::from_secs(60), events.wait("broadcast.completed")).await;
        assert_eq!(over.expect("it ends")["data"]["state"], "completed");
        let shown = admin.get(&format!("/v1/broadcasts/{broadcast}")).await.ok();
        assert_eq!(
            (&shown["counts"]["sent"], &shown["excluded"]),
            (&json!(3), &json!({ "status": 3 })),
            "{shown}"
        );
        assert_eq!(
            subjects(&centre.stack, &people[2], 2).await,
            ["First for Customer 2", "Offer for Customer 2"]
        );
        for number in [4, 5] {
            assert_eq!(
                subjects(&centre.stack, &people[number], 1).await,
                [format!("Offer for Customer {number}")]
            );
        }
        for number in [0, 1, 3] {
            let got = subjects(&centre.stack, &people[number], 1).await;
            assert!(got.iter().all(|subject| !subject.starts_with("Offer")), "{got:?}");
        }
    }

    /// Whoever answers comes to an agent in the conversation that begins with what they answer.
    async fn answers(&self, anna: &mut Agent) {
        let Self { centre, people, .. } = self;
        let thread = answer(centre, anna, &people[4]).await;
        assert_eq!(
            (&thread["items"][0]["kind"], thread["items"].as_array().unwrap().len()),
            (&json!("broadcast"), 2),
            "{thread}"
        );
        let thread = answer(centre, anna, &people[1]).await;
        assert_eq!(
            (&thread["items"][0]["kind"], &thread["items"][1]["direction"]),
            (&json!("direct"), &json!("inbound")),
            "{thread}"
        );
    }
}

async fn the_campaign_runs(backend: Backend) {
    let Some(stack) = Stack::shared() else { return };
    let ca = stack.value("POSTROOM_TEST_CA");
    let home = Home::new(backend, &[("POSTROOM__MAIL__EXTRA_CA_FILE", &ca)]).await;
    let service = home.serve();
    let admin = service.admin().await;
    let agents = [Service::agent(&admin, "anna").await];
    let centre = Centre::open(stack, &service, &agents).await;
    let mut anna = Agent::ready(&service, "anna").await;
    let autumn = Autumn::begin(centre).await;
    autumn.attempts().await;
    autumn.broadcast().await;
    autumn.answers(&mut anna).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_and_broadcasts_send_what_they_should_and_answers_come_to_an_agent_sqlite() {
    the_campaign_runs(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_and_broadcasts_send_what_they_should_and_answers_come_to_an_agent_postgres() {
    the_campaign_runs(Backend::Postgres).await;
}
