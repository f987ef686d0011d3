//! Published templates that are revised: a draft takes their place, and what has begun stays with what it began with.

use postroom::{
    clock::Clock,
    mail::parse::{Limits, parse},
    templates::entity::{Column, Entity},
};
use reqwest::Method;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::{
    broadcasts::{act, finish, tend_all},
    inbound::{account, push::objects},
    on_both,
    support::{
        Backend, Client, TestApp,
        customers::{list, person, store},
        outbound::use_sink,
        smtp_sink::{Behaviour, SmtpSink},
    },
};

/// A published template; gives its path.
async fn published(admin: &Client, members: Value) -> String {
    let mut body = json!({ "name": "Offer", "subject": "An offer", "text": "The first text" });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let path = admin.post("/v1/templates", body).await.header("location").to_owned();
    admin.post(&format!("{path}/publish"), json!({})).await.ok();
    path
}

async fn revise(admin: &Client, path: &str) -> String {
    let made = admin.post(&format!("{path}/revise"), json!({})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.header("location").to_owned()
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// What a send of the template would say.
async fn says(admin: &Client, path: &str) -> Value {
    let body =
        json!({ "to": { "address": "anna@example.org" }, "template_id": id_of(path), "dry_run": true });
    admin.post("/v1/messages", body).await.ok()["text"].as_str().unwrap().trim().into()
}

async fn attach(admin: &Client, path: &str, name: &str, bytes: &'static [u8]) -> String {
    let upload = admin.request(Method::POST, &format!("/v1/uploads?filename={name}"));
    let upload = admin.send(upload.header("content-type", "text/plain").body(bytes)).await.ok();
    let file = admin.post(&format!("{path}/attachments"), json!({ "upload_id": upload["id"] })).await.ok();
    file["id"].as_str().unwrap().to_owned()
}

/// The text and the files of each mail.
fn mails(sink: &SmtpSink) -> Vec<(String, Vec<String>)> {
    let read = |raw: &[u8]| {
        let mail = parse(raw, &Limits::default()).unwrap();
        let files = mail.attachments.into_iter().filter_map(|file| file.filename).collect();
        (mail.text.unwrap_or_default().trim().to_owned(), files)
    };
    sink.received().iter().map(|one| read(&one.raw)).collect()
}

on_both! {
    async fn a_revision_takes_the_place_of_its_template(app) {
        let admin = app.admin().await;
        account(&app, "support@example.com").await;
        let path = published(&admin, json!({ "description": "For all" })).await;
        let draft = revise(&admin, &path).await;
        let shown = admin.get(&draft).await.ok();
        assert_eq!((&shown["revises"], &shown["state"], &shown["revision"]), (&json!(id_of(&path)), &json!("draft"), &json!(0)));
        assert_eq!((&shown["text"], &shown["description"]), (&json!("The first text"), &json!("For all")));
        admin.patch(&draft, json!({ "text": "The second text", "subject": "Another offer" })).await.ok();
        assert_eq!(says(&admin, &path).await, "The first text");
        assert_eq!(admin.get(&path).await.ok()["text"], "The first text");

        let taken = admin.post(&format!("{draft}/publish"), json!({})).await.ok();
        assert_eq!((&taken["id"], &taken["name"], &taken["revision"]), (&json!(id_of(&path)), &json!("Offer"), &json!(2)));
        assert_eq!((&taken["text"], &taken["state"], &taken["revises"]), (&json!("The second text"), &json!("published"), &Value::Null));
        assert_eq!(says(&admin, &path).await, "The second text");
        admin.get(&draft).await.problem(404, "not_found");
        let third = revise(&admin, &path).await;
        assert_eq!(admin.get(&third).await.ok()["subject"], "Another offer");
    }

    async fn only_a_published_template_is_revised_and_by_one_draft_at_a_time(app) {
        let admin = app.admin().await;
        let made = admin.post("/v1/templates", json!({ "name": "New", "subject": "s", "text": "t" })).await;
        let new = made.header("location").to_owned();
        admin.post(&format!("{new}/revise"), json!({})).await.problem(409, "invalid_state");
        admin.post(&format!("/v1/templates/{}/revise", uuid::Uuid::now_v7()), json!({})).await.problem(404, "not_found");
        let path = published(&admin, json!({})).await;
        let actions = |shown: &Value| shown["allowed_actions"].as_array().unwrap().contains(&json!("revise"));
        assert!(actions(&admin.get(&path).await.ok()));
        let draft = revise(&admin, &path).await;
        assert!(!actions(&admin.get(&draft).await.ok()));
        let again = admin.post(&format!("{path}/revise"), json!({})).await;
        again.problem(409, "already_exists");
        assert!(again.body["detail"].as_str().unwrap().contains(id_of(&draft)));
        admin.post(&format!("{draft}/revise"), json!({})).await.problem(409, "invalid_state");
        assert_eq!(admin.delete(&draft).await.status, 204);
        let draft = revise(&admin, &path).await;
        for (members, pointer) in [(json!({ "channel": "sms", "subject": "" }), "/channel"), (json!({ "purpose": "receipt" }), "/purpose")] {
            let moved = admin.patch(&draft, members).await;
            moved.problem(422, "validation_failed");
            assert_eq!(moved.pointers(), [pointer]);
        }
        admin.patch(&draft, json!({ "text": "{{ nobody.knows }}" })).await.ok();
        admin.post(&format!("{draft}/publish"), json!({})).await.problem(422, "validation_failed");
        admin.patch(&draft, json!({ "text": "good" })).await.ok();
        admin.post(&format!("{path}/archive"), json!({})).await.ok();
        admin.post(&format!("{draft}/publish"), json!({})).await.problem(409, "invalid_state");
        assert_eq!(admin.get(&draft).await.ok()["text"], "good", "nothing is lost");
        admin.post(&format!("{path}/revise"), json!({})).await.problem(409, "invalid_state");
        assert_eq!(admin.delete(&path).await.status, 204);
        admin.get(&draft).await.problem(404, "not_found");
    }

    async fn two_who_revise_at_once_begin_one_draft(app) {
        let admin = app.admin().await;
        let path = published(&admin, json!({})).await;
        let revise = format!("{path}/revise");
        let (one, other) = tokio::join!(admin.post(&revise, json!({})), admin.post(&revise, json!({})));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
        let template: postroom::id::TemplateId = id_of(&path).parse().unwrap();
        let drafts = Entity::find().filter(Column::Revises.eq(template)).all(app.app.db.read()).await.unwrap();
        assert_eq!(drafts.len(), 1);
    }

    async fn a_request_to_revise_that_is_repeated_gives_the_same_draft(app) {
        let admin = app.admin().await;
        let path = published(&admin, json!({})).await;
        let keyed = || admin.request(Method::POST, &format!("{path}/revise")).header("Idempotency-Key", "k").json(&json!({}));
        let first = admin.send(keyed()).await.ok();
        assert_eq!(admin.send(keyed()).await.ok(), first);
    }

    async fn a_draft_that_something_refers_to_is_not_taken_over(app) {
        let admin = app.admin().await;
        let path = published(&admin, json!({})).await;
        let draft = revise(&admin, &path).await;
        let rule = json!({ "name": "Hello", "trigger": "first_attempt", "channel": "email", "template_id": id_of(&draft) });
        let campaign = json!({ "name": "Autumn", "message_rules": [rule] });
        let made = admin.post("/v1/campaigns", campaign).await;
        let campaign = made.header("location").to_owned();
        made.ok();
        admin.post(&format!("{draft}/publish"), json!({})).await.problem(409, "in_use");
        assert_eq!(admin.get(&path).await.ok()["revision"], 1);
        let second = published(&admin, json!({ "name": "Second" })).await;
        let its_draft = revise(&admin, &second).await;
        let rules = json!({ "message_rules": [{ "name": "Hello", "trigger": "first_attempt", "channel": "email", "template_id": id_of(&its_draft) }] });
        admin.patch(&campaign, rules).await.ok();
        admin.post(&format!("{second}/archive"), json!({})).await.ok();
        admin.delete(&second).await.problem(409, "in_use");
        assert_eq!(admin.delete(&campaign).await.status, 204);
        assert_eq!(admin.post(&format!("{draft}/publish"), json!({})).await.ok()["revision"], 2);
    }
}

/// A broadcast that has begun says what its template said then, with the files of then; the next one says what is new.
async fn what_has_begun_stays(backend: Backend) {
    let app = TestApp::with(backend, Clock::system(), "[storage]\ninline_max_bytes = 10\n").await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    use_sink(&admin, &sink).await;
    let account = account(&app, "offers@example.com").await;
    let made = admin
        .post("/v1/templates", json!({ "name": "Offer", "subject": "s", "text": "The first text" }))
        .await;
    let path = made.header("location").to_owned();
    attach(&admin, &path, "old.txt", b"an old file").await;
    let kept = attach(&admin, &path, "both.txt", b"a file that stays").await;
    admin.post(&format!("{path}/publish"), json!({})).await.ok();
    let list_id = list(&app.app, "March", None).await;
    store(&app.app, vec![person(&app.app, list_id, 1)]).await;
    let broadcast = |name: &str| json!({ "name": name, "target": { "list_id": list_id }, "template_id": id_of(&path), "account_id": account.id });
    let first =
        admin.post("/v1/broadcasts", broadcast("First")).await.ok()["id"].as_str().unwrap().to_owned();
    act(&admin, &first, "start").await;
    tend_all(&app).await;

    let draft = revise(&admin, &path).await;
    let files = admin.get(&draft).await.ok()["attachments"].clone();
    assert_ne!(files[1]["id"], json!(kept), "a file belongs to one template");
    admin.delete(&format!("{draft}/attachments/{}", files[0]["id"].as_str().unwrap())).await;
    attach(&admin, &draft, "new.txt", b"the new file").await;
    admin.patch(&draft, json!({ "text": "The second text" })).await.ok();
    let taken = admin.post(&format!("{draft}/publish"), json!({})).await.ok();
    let names: Vec<_> =
        taken["attachments"].as_array().unwrap().iter().map(|file| file["filename"].clone()).collect();
    assert_eq!(names, ["both.txt", "new.txt"]);
    let file = format!("{path}/attachments/{}", taken["attachments"][0]["id"].as_str().unwrap());
    assert_eq!(admin.get(&file).await.bytes, b"a file that stays");

    finish(&app, &admin, &first).await;
    let second =
        admin.post("/v1/broadcasts", broadcast("Second")).await.ok()["id"].as_str().unwrap().to_owned();
    act(&admin, &second, "start").await;
    finish(&app, &admin, &second).await;
    let both = [("The first text", ["old.txt", "both.txt"]), ("The second text", ["both.txt", "new.txt"])];
    let both = both.map(|(text, files)| (text.to_owned(), files.map(str::to_owned).to_vec()));
    assert_eq!(mails(&sink), both);
    assert_eq!(objects(&app), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_that_has_begun_stays_with_its_revision_sqlite() {
    what_has_begun_stays(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_that_has_begun_stays_with_its_revision_postgres() {
    what_has_begun_stays(Backend::Postgres).await;
}
