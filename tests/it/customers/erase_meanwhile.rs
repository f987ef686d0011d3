//! What happens between a customer's erasure and the end of it.

use postroom::{
    broadcasts::{
        entity::{broadcast, recipient},
        print::Printer,
        thread::{self, Filing},
    },
    conversations::outbound::Filed,
    customers::{entity::customer, erase::texts::empty, rows::gone_among},
    id::CustomerId,
    workers::Step,
};
use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::{Value, json};

use super::{
    erase_texts::{Centre, empty_all, mail, traces},
    path_of,
};
use crate::{
    broadcasts::{self, bounce, tend_all},
    inbound::{push, push::objects},
    on_both,
    support::{
        TestApp,
        outbound::{send, state},
        smtp_sink::{Act, Rule, Stage},
    },
};

async fn alter(app: &TestApp, sql: &str) {
    let tx = app.app.db.begin().await.unwrap();
    tx.execute_unprepared(sql).await.unwrap();
    tx.commit().await.unwrap();
}

/// A broadcast's message to the customer, written and not filed yet.
async fn written(app: &TestApp, centre: &Centre) -> (Printer, recipient::Model, Filed) {
    let broadcast =
        broadcasts::draft(app, &centre.admin, centre.office.list.parse().unwrap(), json!({})).await;
    broadcasts::act(&centre.admin, &broadcast, "start").await;
    tend_all(app).await;
    let db = app.app.db.read();
    let row = broadcast::Entity::find().one(db).await.unwrap().unwrap();
    let recipient = recipient::Entity::find().one(db).await.unwrap().unwrap();
    let customer = customer::Entity::find_by_id(recipient.customer_id).one(db).await.unwrap().unwrap();
    let printer = Printer::of(&app.app, &row).await.unwrap();
    let printed = printer.print(&recipient, &customer, app.app.clock.now()).unwrap();
    let filed = printer.filed(&app.app, &recipient, &printed).await.unwrap();
    (printer, recipient, filed)
}

on_both! {
    async fn what_an_agent_works_on_is_emptied_when_that_is_done(app) {
        let centre = Centre::open(&app).await;
        let (item, received) = centre.accept(&app, mail("c1@quirk.example", "")).await;
        centre.reply(&item, json!({ "complete": true })).await;
        let sent = centre.write(json!({})).await;
        send(&app).await;
        // As with one who was erased before this was asked for.
        alter(&app, "UPDATE work_items SET state = 'wrapping'").await;
        centre.office.supervisor.post(&format!("{}/erase", path_of(&centre.customer)), json!({})).await.problem(409, "in_use");
        alter(&app, "UPDATE work_items SET state = 'completed'").await;
        centre.erase().await;
        alter(&app, "UPDATE work_items SET state = 'wrapping'").await;
        assert!(matches!(empty_all(&app).await, Step::IdleUntil(_)));
        assert_eq!(centre.message(sent).await["subject"], "", "the other conversation does not wait");
        assert_eq!(centre.message(received["id"].as_str().unwrap()).await["subject"], "Quirk's order");
        assert!(centre.shown().await["texts_erased_at"].is_null());
        alter(&app, "UPDATE work_items SET state = 'completed'").await;
        app.app.clock.advance(std::time::Duration::from_secs(6));
        assert_eq!(empty_all(&app).await, Step::Idle);
        assert_eq!(traces(&app).await, [] as [String; 0]);
    }

    async fn an_answer_that_some_have_is_given_up_not_cancelled(app) {
        let centre = Centre::open(&app).await;
        centre.sink.behave(|b| b.rules.push(Rule::at(Stage::Rcpt, Act::Reply("451 4.2.1 later")).for_recipient("full@example.com")));
        let (item, _) = centre.accept(&app, mail("c1@quirk.example", "")).await;
        let cc = json!({ "complete": true, "cc": [{ "address": "full@example.com" }] });
        let answer = centre.reply(&item, cc).await["message_id"].as_str().unwrap().parse().unwrap();
        send(&app).await;
        assert_eq!(state(&centre.admin, answer).await, "deferred");
        centre.erase().await;
        empty_all(&app).await;
        assert_eq!(state(&centre.admin, answer).await, "expired");
        assert!(!centre.message(answer).await["erased_at"].is_null());
    }

    async fn a_bounce_in_between_does_not_bring_the_address_back(app) {
        let centre = Centre::open(&app).await;
        let id = centre.write(json!({})).await;
        send(&app).await;
        let header = centre.message(id).await["message_id_header"].as_str().unwrap().to_owned();
        centre.erase().await;
        push(&centre.admin, centre.account, bounce("quirk@example.org", "5.1.1", &header)).await.ok();
        let barred = centre.office.supervisor.get("/v1/suppressions").await.ok();
        let barred = barred["items"].as_array().unwrap();
        assert_eq!(barred.len(), 2);
        assert!(barred.iter().all(|row| row["address"].is_null() && row["note"].is_null()), "{barred:?}");
        empty_all(&app).await;
    }

    async fn nothing_is_filed_for_a_customer_who_was_erased_while_it_was_written(app) {
        let centre = Centre::open(&app).await;
        let (printer, recipient, filed) = written(&app, &centre).await;
        centre.erase().await;
        let tx = app.app.db.begin().await.unwrap();
        let filing = thread::file(&tx, app.app.clock.now(), &printer, &recipient, filed).await.unwrap();
        assert_eq!(filing, Filing::Erased);
        // Who sends asks so in its transaction.
        let id: CustomerId = recipient.customer_id;
        assert!(gone_among(&tx, [id]).await.unwrap().contains(&id));
        drop(tx);
        let other = centre.office.customer("K-2", json!({})).await;
        let other: CustomerId = other["id"].as_str().unwrap().parse().unwrap();
        let nobody = CustomerId::new(app.app.clock.now());
        let tx = app.app.db.begin().await.unwrap();
        let gone = gone_among(&tx, [other, nobody]).await.unwrap();
        assert_eq!(gone.into_iter().collect::<Vec<_>>(), [nobody]);
    }

    async fn two_who_erase_the_same_customer_at_once_both_are_told_so(app) {
        let centre = Centre::open(&app).await;
        centre.write(json!({})).await;
        let (one, other) = tokio::join!(centre.erase(), centre.erase());
        assert_eq!(one, other);
        assert_eq!(empty_all(&app).await, Step::Idle);
    }

    async fn an_emptied_message_is_neither_answered_nor_passed_on(app) {
        let centre = Centre::open(&app).await;
        let (item, received) = centre.accept(&app, mail("c1@quirk.example", "")).await;
        let answer = centre.reply(&item, json!({ "complete": true })).await;
        let header = centre.message(answer["message_id"].as_str().unwrap()).await["message_id_header"].clone();
        centre.erase().await;
        empty_all(&app).await;
        let answering = format!("In-Reply-To: <{}>\r\n", header.as_str().unwrap());
        let (again, _) = centre.accept(&app, mail("c2@quirk.example", &answering)).await;
        let body = json!({
            "expected_last_message_id": again["last_message_id"], "message_id": received["id"], "text": "See below",
            "to": [{ "address": "chris@example.com" }],
        });
        let path = format!("/v1/work-items/{}/forward", again["id"].as_str().unwrap());
        centre.desk.client.post(&path, body).await.problem(410, "gone");
    }
}

/// Whoever files a broadcast's message at the same moment is waited for, and what they filed is emptied, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcasts_message_that_is_filed_at_the_same_moment_is_emptied_postgres() {
    let app = TestApp::start(crate::support::Backend::Postgres).await;
    let centre = Centre::open(&app).await;
    let (printer, recipient, filed) = written(&app, &centre).await;
    let tx = app.app.db.begin().await.unwrap();
    let filing = thread::file(&tx, app.app.clock.now(), &printer, &recipient, filed).await.unwrap();
    assert_eq!(filing, Filing::Done);
    let filed = async {
        app.wait_until_blocked().await;
        tx.commit().await.unwrap();
    };
    tokio::join!(centre.erase(), filed);
    assert_eq!(empty_all(&app).await, Step::Idle);
    assert_eq!(traces(&app).await, [] as [String; 0]);
}

/// An object that cannot be removed is tried again later, without a rush.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_in_trouble_puts_an_erasure_off() {
    let clock = postroom::clock::Clock::system();
    let app =
        TestApp::with(crate::support::Backend::Sqlite, clock, "[storage]\ninline_max_bytes = 10\n").await;
    let centre = Centre::open(&app).await;
    let id = centre.write(json!({})).await;
    assert_eq!(objects(&app), 1);
    let objects_dir = app.dir.path().join("objects");
    let away = app.dir.path().join("away");
    std::fs::rename(&objects_dir, &away).unwrap();
    // No directory: whatever is looked for in it is neither there nor missing.
    std::fs::write(&objects_dir, "").unwrap();
    centre.erase().await;
    assert_eq!(empty(app.app.clone()).await.unwrap(), Step::Worked(1));
    assert!(!centre.message(id).await["erased_at"].is_null(), "the texts are gone already");
    empty(app.app.clone()).await.unwrap_err();
    let Step::IdleUntil(at) = empty(app.app.clone()).await.unwrap() else { panic!("it waits") };
    assert!(at > app.app.clock.now().plus_s(20));
    assert_eq!(centre.shown().await["texts_erased_at"], Value::Null);
    std::fs::remove_file(&objects_dir).unwrap();
    std::fs::rename(&away, &objects_dir).unwrap();
    app.app.clock.advance(std::time::Duration::from_secs(31));
    assert_eq!(empty_all(&app).await, Step::Idle);
    assert_eq!(objects(&app), 0);
}
