//! What is left of the messages that were exchanged with a customer who was erased.

use std::fmt::Write;

use postroom::{
    clock::Clock,
    conversations::entity::auto_answer,
    customers::erase::texts::empty,
    delivery::entity::{Phase, delivery},
    events::entity as events,
    id::{AccountId, MessageId},
    mail::parse::{Limits, parse},
    work::{distribute::distribute, entity::WorkState},
    workers::Step,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, Statement,
};
use serde_json::{Value, json};

use super::{Office, path_of};
use crate::{
    broadcasts::{self, bounce},
    floor::{Desk, Floor},
    inbound::{push, push::objects},
    on_both,
    support::{
        Backend, Client, TestApp,
        outbound::{send, state, use_sink},
        smtp_sink::{Behaviour, SmtpSink},
        stream::EventStream,
    },
    texts::{NUMBER, account_with, text},
};

/// What names the customer, wherever it stands.
const NAME: &str = "quirk";

/// Every value of every table, bytes in hexadecimal.
async fn everything(app: &TestApp) -> String {
    let (db, backend) = (app.app.db.read(), app.app.db.backend());
    let ask = async |sql: String| db.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
    let (tables, columns) = match backend {
        DbBackend::Postgres => (
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()",
            "SELECT column_name::text FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ",
        ),
        _ => (
            "SELECT name FROM sqlite_schema WHERE type = 'table'",
            "SELECT name FROM pragma_table_info WHERE arg = ",
        ),
    };
    let mut all = String::new();
    for table in ask(tables.to_owned()).await {
        let table: String = table.try_get_by_index(0).unwrap();
        for column in ask(format!("{columns}'{table}'")).await {
            let column: String = column.try_get_by_index(0).unwrap();
            let text = match backend {
                DbBackend::Postgres => format!("\"{column}\"::text"),
                _ => format!("quote(\"{column}\")"),
            };
            for row in ask(format!("SELECT coalesce({text}, '') FROM \"{table}\"")).await {
                let value: String = row.try_get_by_index(0).unwrap();
                writeln!(all, "{table}.{column}: {value}").unwrap();
            }
        }
    }
    all.to_lowercase()
}

/// Where something of the customer stands.
pub async fn traces(app: &TestApp) -> Vec<String> {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let forms = [NAME.to_owned(), hex(NAME), hex("Quirk")];
    let all = everything(app).await;
    assert!(all.contains("outgoing_server.host"), "the tables are read");
    all.lines().filter(|line| forms.iter().any(|form| line.contains(form))).map(str::to_owned).collect()
}

/// Empties until nothing is left to do at the moment.
pub async fn empty_all(app: &TestApp) -> Step {
    loop {
        match empty(app.app.clone()).await.unwrap() {
            Step::Worked(_) => {}
            quiet => return quiet,
        }
    }
}

pub fn mail(message_id: &str, more: &str) -> String {
    format!(
        "From: Anna Quirk <quirk@example.org>\r\nTo: Support <support@example.com>\r\nMessage-ID: <{message_id}>\r\n{more}\
         Subject: Quirk's order\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/html\r\n\r\n<p>I am <b>Quirk</b></p>\r\n\
         --b\r\nContent-Type: text/plain; name=\"quirk.txt\"\r\nContent-Disposition: attachment\r\n\r\nQuirk\r\n--b--\r\n"
    )
}

/// A centre with an agent at work, a customer, and a server that takes mail.
pub struct Centre {
    pub office: Office,
    pub admin: Client,
    pub desk: Desk,
    pub account: AccountId,
    pub customer: Value,
    pub sink: SmtpSink,
}

impl Centre {
    pub async fn open(app: &TestApp) -> Self {
        let (office, admin, floor) = (Office::open(app).await, app.admin().await, Floor(app));
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&admin, &sink).await;
        let group = floor.group(|_| {}).await;
        let desk = floor.agent("paula", &[group.id]).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        let account = floor.account(Some(queue.id), None).await.id;
        let customer =
            office.customer("K-1", json!({ "name": "Anna Quirk", "email": "Quirk@example.org", "data": { "number": 7, "cat": "Quirky" } })).await;
        Self { office, admin, desk, account, customer, sink }
    }

    /// A mail of the customer is offered to the agent and accepted; gives the item and the mail.
    pub async fn accept(&self, app: &TestApp, raw: String) -> (Value, Value) {
        let pushed = push(&self.admin, self.account, raw).await.ok();
        distribute(app.app.clone()).await.unwrap();
        let offers = self.desk.client.get("/v1/offers?state=pending").await.ok();
        let offer = offers["items"][0]["id"].as_str().unwrap();
        self.desk.client.post(&format!("/v1/offers/{offer}/accept"), json!({})).await.ok();
        let conversation = pushed["conversation_id"].as_str().unwrap();
        let page = self
            .admin
            .get(&format!("/v1/work-items?conversation_id={conversation}&state=assigned"))
            .await
            .ok();
        (page["items"][0].clone(), pushed["message"].clone())
    }

    pub async fn reply(&self, item: &Value, members: Value) -> Value {
        let id = item["id"].as_str().unwrap();
        let mut body = json!({ "expected_last_message_id": item["last_message_id"], "text": "Dear Quirk, it is on its way." });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.desk.client.post(&format!("/v1/work-items/{id}/reply"), body).await.ok()
    }

    /// A send to the customer; gives the message's id.
    pub async fn write(&self, members: Value) -> MessageId {
        let mut body = json!({
            "account_id": self.account, "customer_ref": "K-1", "external_ref": "quirk-1",
            "content": { "subject": "For Quirk", "text": "Dear Quirk" },
        });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let made = self.office.supervisor.post("/v1/messages", body).await.ok();
        made["id"].as_str().unwrap().parse().unwrap()
    }

    pub async fn erase(&self) -> Value {
        self.office.supervisor.post(&format!("{}/erase", path_of(&self.customer)), json!({})).await.ok()
    }

    pub async fn shown(&self) -> Value {
        self.office.supervisor.get(&path_of(&self.customer)).await.ok()
    }

    pub async fn message(&self, id: impl std::fmt::Display) -> Value {
        self.admin.get(&format!("/v1/messages/{id}")).await.ok()
    }
}

async fn set_phase(app: &TestApp, id: MessageId, phase: Phase) {
    let tx = app.app.db.begin().await.unwrap();
    let change = delivery::ActiveModel { phase: Set(phase), ..Default::default() };
    delivery::Entity::update_many()
        .set(change)
        .filter(delivery::Column::MessageId.eq(id))
        .exec(&*tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// What was exchanged: the agent's item, the customer's mail, and messages of ours.
struct Exchanged {
    item: Value,
    received: Value,
    answer: MessageId,
    taken: MessageId,
    later: MessageId,
}

impl Centre {
    /// The customer writes and is answered, gets sends and a broadcast, of which a report comes back.
    async fn exchange(&self, app: &TestApp) -> Exchanged {
        let (item, received) = self.accept(app, mail("c1@quirk.example", "")).await;
        let path = format!("/v1/work-items/{}", item["id"].as_str().unwrap());
        self.desk.client.post(&format!("{path}/notes"), json!({ "text": "Quirk rang" })).await.ok();
        self.desk.client.put(&format!("{path}/draft"), json!({ "text": "Dear Quirk" })).await.ok();
        let erase = format!("{}/erase", path_of(&self.customer));
        let refused = self.office.supervisor.post(&erase, json!({})).await;
        refused.problem(409, "in_use");
        assert!(refused.body["detail"].as_str().unwrap().contains(item["id"].as_str().unwrap()));
        assert_eq!(self.shown().await["erased_at"], Value::Null);

        let answer = self.reply(&item, json!({ "complete": true })).await;
        let answer = answer["message_id"].as_str().unwrap().parse().unwrap();
        let taken = self.write(json!({})).await;
        let later = self.write(json!({ "send_at": app.app.clock.now().plus_s(3600) })).await;
        send(app).await;
        let broadcast =
            broadcasts::draft(app, &self.admin, self.office.list.parse().unwrap(), json!({})).await;
        broadcasts::act(&self.admin, &broadcast, "start").await;
        broadcasts::finish(app, &self.admin, &broadcast).await;
        let received_by_server = self.sink.received();
        assert_eq!(received_by_server.len(), 3);
        let sent = parse(&received_by_server[2].raw, &Limits::default()).unwrap();
        let report = bounce("quirk@example.org", "4.2.2", &sent.message_id.unwrap());
        push(&self.admin, self.account, report).await.ok();
        let answered = auto_answer::Model {
            account_id: self.account,
            address: "quirk@example.org".to_owned(),
            rule: "receipt".to_owned(),
            answered_at: app.app.clock.now(),
        };
        let tx = app.app.db.begin().await.unwrap();
        auto_answer::Entity::insert(answered.into_active_model()).exec_without_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        Exchanged { item, received, answer, taken, later }
    }

    /// What the API shows of it afterwards.
    async fn is_empty(&self, exchanged: &Exchanged) {
        let received = exchanged.received["id"].as_str().unwrap();
        let shown = self.message(received).await;
        assert_eq!(
            (&shown["text"], &shown["from"], &shown["attachments"]),
            (&json!(""), &Value::Null, &json!([]))
        );
        assert!(!shown["erased_at"].is_null());
        for what in ["raw", "attachments/1"] {
            self.admin.get(&format!("/v1/messages/{received}/{what}")).await.problem(410, "gone");
        }
        for (id, expected) in
            [(exchanged.answer, "sent"), (exchanged.taken, "sent"), (exchanged.later, "cancelled")]
        {
            assert_eq!(state(&self.admin, id).await, expected);
        }
        let steps = self.admin.get(&format!("/v1/messages/{}/timeline", exchanged.taken)).await.ok();
        let steps = steps["items"].as_array().unwrap();
        assert!(steps.iter().any(|step| step["step"] == "dot" && step["code"] == 250));
        let path = format!("/v1/work-items/{}", exchanged.item["id"].as_str().unwrap());
        let item = self.admin.get(&path).await.ok();
        assert_eq!((&item["state"], &item["subject"]), (&json!("completed"), &json!("")));
        assert_eq!(self.admin.get(&format!("{path}/trace")).await.ok()["items"], json!([]));
    }
}

/// Nothing is left in any table, nor in the object store; what comes later finds its way.
async fn nothing_is_left(backend: Backend) {
    let app = TestApp::with(backend, Clock::system(), "[storage]\ninline_max_bytes = 400\n").await;
    let centre = Centre::open(&app).await;
    let exchanged = centre.exchange(&app).await;
    assert!(objects(&app) > 0);
    assert!(traces(&app).await.len() > 20, "there is something to erase");

    let erased = centre.erase().await;
    assert_eq!((erased["erased_at"].is_null(), &erased["texts_erased_at"]), (false, &Value::Null));
    assert_eq!(empty_all(&app).await, Step::Idle);
    assert_eq!(traces(&app).await, [] as [String; 0]);
    assert_eq!(objects(&app), 0);
    assert!(!centre.shown().await["texts_erased_at"].is_null());
    let told = events::Entity::find().filter(events::Column::Kind.starts_with("customer."));
    let told = told.order_by_asc(events::Column::Seq).all(app.app.db.read()).await.unwrap();
    let kinds: Vec<_> = told.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["customer.created", "customer.erased", "customer.texts_erased"]);
    centre.is_empty(&exchanged).await;

    let answer = centre.message(exchanged.answer).await;
    let answering = format!("In-Reply-To: <{}>\r\n", answer["message_id_header"].as_str().unwrap());
    let (again, _) = centre.accept(&app, mail("c2@quirk.example", &answering)).await;
    assert_eq!(again["conversation_id"], exchanged.item["conversation_id"]);
    assert_eq!(
        (&again["subject"], &again["customer_address"]),
        (&json!("Quirk's order"), &json!("quirk@example.org"))
    );
    let found = centre.admin.get("/v1/conversations?customer_address=quirk@example.org").await.ok();
    assert_eq!(found["items"][0]["id"], again["conversation_id"], "the conversation is theirs again");
    let path = format!("/v1/work-items/{}", again["id"].as_str().unwrap());
    centre.desk.client.post(&format!("{path}/complete"), json!({})).await.ok();
    let back = centre.office.customer("K-1", json!({ "email": "quirk@example.org" })).await;
    centre.office.supervisor.post(&format!("{}/erase", path_of(&back)), json!({})).await.ok();
    assert_eq!(empty_all(&app).await, Step::Idle);
    assert_eq!(traces(&app).await, [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_erased_customer_is_left_in_any_table_sqlite() {
    nothing_is_left(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_erased_customer_is_left_in_any_table_postgres() {
    nothing_is_left(Backend::Postgres).await;
}

on_both! {
    async fn what_comes_in_before_the_texts_are_emptied_stays(app) {
        let centre = Centre::open(&app).await;
        let (item, _) = centre.accept(&app, mail("c1@quirk.example", "")).await;
        let answer = centre.reply(&item, json!({ "complete": true })).await;
        let ours = centre.message(answer["message_id"].as_str().unwrap()).await["message_id_header"].as_str().unwrap().to_owned();
        centre.erase().await;
        let (again, new) = centre.accept(&app, mail("c2@quirk.example", &format!("In-Reply-To: <{ours}>\r\n"))).await;
        assert_eq!(again["conversation_id"], item["conversation_id"]);
        empty_all(&app).await;
        assert!(!centre.shown().await["texts_erased_at"].is_null());
        let shown = centre.message(new["id"].as_str().unwrap()).await;
        assert_eq!((&shown["subject"], &shown["erased_at"]), (&json!("Quirk's order"), &Value::Null));
        let item = centre.admin.get(&format!("/v1/work-items/{}", again["id"].as_str().unwrap())).await.ok();
        assert_eq!((&item["state"], &item["subject"]), (&json!("assigned"), &json!("Quirk's order")));
        let conversation = centre.admin.get(&format!("/v1/conversations/{}", item["conversation_id"].as_str().unwrap())).await.ok();
        assert_eq!((&conversation["subject"], &conversation["customer_address"]), (&json!(""), &json!("quirk@example.org")));
    }

    async fn a_message_that_is_being_sent_is_emptied_when_that_is_settled(app) {
        let centre = Centre::open(&app).await;
        let id = centre.write(json!({})).await;
        set_phase(&app, id, Phase::Dot).await;
        centre.erase().await;
        assert!(matches!(empty_all(&app).await, Step::IdleUntil(_)));
        assert_eq!(centre.message(id).await["subject"], "For Quirk");
        assert!(centre.shown().await["texts_erased_at"].is_null());
        set_phase(&app, id, Phase::Idle).await;
        app.app.clock.advance(std::time::Duration::from_secs(6));
        assert_eq!(empty_all(&app).await, Step::Idle);
        let admin = app.admin().await;
        let shown = admin.get(&format!("/v1/messages/{id}")).await.ok();
        assert_eq!((&shown["subject"], &shown["state"], &shown["to"]), (&json!(""), &json!("cancelled"), &json!([])));
    }

    async fn a_failed_message_that_was_erased_is_not_sent_again(app) {
        let centre = Centre::open(&app).await;
        let id = centre.write(json!({})).await;
        let tx = app.app.db.begin().await.unwrap();
        let failed = "UPDATE messages SET state = 'failed'";
        tx.execute_unprepared(failed).await.unwrap();
        tx.execute_unprepared("UPDATE deliveries SET due_at = NULL").await.unwrap();
        tx.commit().await.unwrap();
        let path = format!("/v1/messages/{id}");
        centre.erase().await;
        // Somebody is quicker than the worker: the copy goes the same way, and no further than the suppression.
        let copy = centre.admin.post(&format!("{path}/retry"), json!({})).await.ok();
        empty_all(&app).await;
        for id in [id.to_string(), copy["message_id"].as_str().unwrap().to_owned()] {
            assert!(!centre.message(&id).await["erased_at"].is_null());
            assert_eq!(centre.admin.get(&format!("/v1/messages/{id}/delivery")).await.ok()["allowed_actions"], json!([]));
            centre.admin.post(&format!("/v1/messages/{id}/retry"), json!({})).await.problem(409, "invalid_state");
        }
        send(&app).await;
        assert!(centre.sink.received().is_empty());
    }

    async fn of_two_customers_with_one_address_only_what_was_sent_to_the_one_is_emptied(app) {
        let centre = Centre::open(&app).await;
        centre.office.customer("K-2", json!({ "name": "Ben Quirk", "email": "quirk@example.org" })).await;
        let (first, second) = (centre.write(json!({})).await, centre.write(json!({ "customer_ref": "K-2" })).await);
        let first_header = centre.message(first).await["message_id_header"].as_str().unwrap().to_owned();
        let answers = [mail("c1@quirk.example", ""), mail("c2@quirk.example", &format!("In-Reply-To: <{first_header}>\r\n"))];
        let mut received = Vec::new();
        for answer in answers {
            let (item, message) = centre.accept(&app, answer).await;
            centre.reply(&item, json!({ "complete": true })).await;
            received.push(message);
        }
        assert_eq!(received[1]["conversation_id"], centre.message(first).await["conversation_id"]);
        centre.erase().await;
        empty_all(&app).await;
        assert!(!centre.shown().await["texts_erased_at"].is_null());
        assert_eq!(centre.message(first).await["subject"], "");
        assert_eq!(centre.message(second).await["subject"], "For Quirk");
        for message in received {
            assert_eq!(centre.message(message["id"].as_str().unwrap()).await["subject"], "Quirk's order");
        }
    }

    async fn texts_of_an_erased_customer_are_emptied_too(app) {
        let centre = Centre::open(&app).await;
        centre.office.customer("K-2", json!({ "sms_number": NUMBER })).await;
        let texts = account_with(&centre.admin, json!({})).await;
        let text = text(&centre.admin, texts, NUMBER, "Quirk here").await;
        let tx = app.app.db.begin().await.unwrap();
        tx.execute_unprepared("UPDATE work_items SET state = 'completed'").await.unwrap();
        tx.commit().await.unwrap();
        let page = centre.office.supervisor.get("/v1/customers?ref=K-2").await;
        let page = if page.status == 200 { page.ok() } else { centre.office.supervisor.get("/v1/customers").await.ok() };
        let other = page["items"].as_array().unwrap().iter().find(|one| one["ref"] == "K-2").unwrap();
        centre.office.supervisor.post(&format!("{}/erase", path_of(other)), json!({})).await.ok();
        empty_all(&app).await;
        let shown = centre.message(text["message"]["id"].as_str().unwrap()).await;
        assert_eq!((&shown["text"], &shown["from"]), (&json!(""), &Value::Null));
        assert!(!shown["erased_at"].is_null());
    }

    async fn who_has_no_messages_is_erased_at_once(app) {
        let centre = Centre::open(&app).await;
        let erased = centre.erase().await;
        assert_eq!(erased["texts_erased_at"], erased["erased_at"]);
        let told = events::Entity::find().filter(events::Column::Kind.eq("customer.texts_erased"));
        assert!(told.one(app.app.db.read()).await.unwrap().is_some());
        assert_eq!(empty_all(&app).await, Step::Idle);
    }

    async fn an_erasure_goes_on_though_the_record_is_deleted(app) {
        let centre = Centre::open(&app).await;
        let id = centre.write(json!({})).await;
        centre.erase().await;
        assert_eq!(centre.office.supervisor.delete(&path_of(&centre.customer)).await.status, 204);
        assert_eq!(empty_all(&app).await, Step::Idle);
        assert_eq!(centre.message(id).await["subject"], "");
        assert_eq!(traces(&app).await, [] as [String; 0]);
    }

    async fn what_a_report_says_of_an_erased_message_is_not_kept(app) {
        let centre = Centre::open(&app).await;
        let id = centre.write(json!({})).await;
        send(&app).await;
        let header = centre.message(id).await["message_id_header"].as_str().unwrap().to_owned();
        centre.erase().await;
        empty_all(&app).await;
        push(&centre.admin, centre.account, bounce("quirk@example.org", "5.1.1", &header)).await.ok();
        let shown = centre.message(id).await;
        assert_eq!((&shown["state"], &shown["state_reason"]), (&json!("bounced"), &json!("")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_service_empties_the_texts_by_itself() {
    let app = TestApp::start(Backend::Sqlite).await;
    let centre = Centre::open(&app).await;
    let (item, _) = centre.accept(&app, mail("c1@quirk.example", "")).await;
    centre.reply(&item, json!({ "complete": true })).await;
    assert_eq!(item["state"], json!(WorkState::Assigned));
    app.start_workers();
    let mut events = EventStream::follow_new(&centre.office.supervisor).await;
    centre.erase().await;
    events.wait("customer.texts_erased").await;
    assert!(!centre.shown().await["texts_erased_at"].is_null());
}
