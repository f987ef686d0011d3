//! The event log: order, visibility, and the stream.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use futures::StreamExt;
use postroom::{
    events::{self, NewEvent, vocabulary::VOCABULARY},
    http::caller::Role,
};
use regex::Regex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    architecture::sources,
    on_both,
    support::{Backend, Client, TestApp, stream::EventStream},
};

async fn write(app: &TestApp, events: Vec<NewEvent>) {
    let tx = app.app.db.begin().await.unwrap();
    events::append(&tx, app.app.clock.now(), events).await.unwrap();
    tx.commit().await.unwrap();
}

fn numbered(number: u64) -> NewEvent {
    NewEvent::new("test.happened", Uuid::now_v7(), &json!({ "number": number }))
}

/// Reads a stream until `count` events have come; gives their ids and data.
async fn read(client: &Client, path: &str, last_id: Option<i64>, count: usize) -> Vec<(i64, Value)> {
    let mut request = client.request(reqwest::Method::GET, path);
    if let Some(id) = last_id {
        request = request.header("Last-Event-ID", id);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut bytes, mut text, mut found) = (answer.bytes_stream(), String::new(), Vec::new());
    while found.len() < count {
        // Only so that a test that fails does not hang.
        let more = tokio::time::timeout(Duration::from_secs(60), bytes.next()).await;
        let more = more.unwrap_or_else(|_| panic!("{count} events did not come, but {found:?}"));
        text.push_str(std::str::from_utf8(&more.unwrap().unwrap()).unwrap());
        while let Some((block, rest)) =
            text.split_once("\n\n").map(|(block, rest)| (block.to_owned(), rest.to_owned()))
        {
            text = rest;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                found.push((id.parse().unwrap(), serde_json::from_str(data).unwrap()));
            }
        }
    }
    found
}

fn numbers(events: &[(i64, Value)]) -> Vec<u64> {
    events.iter().map(|(_, event)| event["data"]["number"].as_u64().unwrap()).collect()
}

on_both! {
    async fn the_list_goes_on_where_it_stopped(app) {
        app.start_workers();
        let admin = app.admin().await;
        write(&app, (0..5).map(numbered).collect()).await;
        // The stream tells when the events have got their positions.
        read(&admin, "/v1/events/stream?after=0", None, 5).await;
        let first = admin.get("/v1/events?limit=3").await.ok();
        assert_eq!((first["items"].as_array().unwrap().len(), &first["has_more"]), (3, &json!(true)));
        let second = admin.get(&format!("/v1/events?limit=3&after={}", first["next_after"])).await.ok();
        let numbers: Vec<_> = second["items"].as_array().unwrap().iter().map(|e| e["data"]["number"].clone()).collect();
        assert_eq!((numbers, &second["has_more"]), (vec![json!(3), json!(4)], &json!(false)));
    }

    async fn a_stream_gives_the_past_then_the_present_without_gap_or_repeat(app) {
        app.start_workers();
        let admin = app.admin().await;
        write(&app, (0..700).map(numbered).collect()).await;
        let reading = tokio::spawn({
            let admin = admin.clone();
            async move { read(&admin, "/v1/events/stream?after=0", None, 1000).await }
        });
        for number in 700..1000 {
            write(&app, vec![numbered(number)]).await;
        }
        let events = reading.await.unwrap();
        assert_eq!(numbers(&events), (0..1000).collect::<Vec<_>>());
        assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let rest = read(&admin, "/v1/events/stream", Some(events[989].0), 10).await;
        assert_eq!(numbers(&rest), (990..1000).collect::<Vec<_>>());
    }

    async fn parallel_writers_never_make_a_reader_miss_an_event(app) {
        app.start_workers();
        let admin = app.admin().await;
        let reading = tokio::spawn(async move { read(&admin, "/v1/events/stream?after=0", None, 400).await });
        let app = std::sync::Arc::new(app);
        let writers = (0..8).map(|writer| {
            let app = std::sync::Arc::clone(&app);
            tokio::spawn(async move {
                for number in 0..50 {
                    write(&app, vec![numbered(writer * 50 + number)]).await;
                }
            })
        });
        futures::future::join_all(writers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
        let mut seen = numbers(&reading.await.unwrap());
        seen.sort_unstable();
        assert_eq!(seen, (0..400).collect::<Vec<_>>());
    }

    async fn a_reader_who_was_there_before_the_log_is_followed_misses_nothing(app) {
        let admin = app.admin().await;
        let mut stream = EventStream::follow_new(&admin).await;
        write(&app, vec![numbered(0)]).await;
        app.start_workers();
        assert_eq!(stream.wait("test.happened").await["data"]["number"], 0);
    }

    async fn agents_see_only_what_concerns_them(app) {
        app.start_workers();
        let (anna, anna_id) = app.agent("anna").await;
        let (_, ben_id) = app.agent("ben").await;
        write(&app, vec![
            numbered(0).for_agent(ben_id),
            numbered(1).for_supervisors(),
            numbered(2).for_admins(),
            numbered(3).for_agent(anna_id),
            numbered(4),
        ]).await;
        assert_eq!(numbers(&read(&anna, "/v1/events/stream?after=0", None, 2).await), [3, 4]);
        assert_eq!(numbers(&read(&app.supervisor().await, "/v1/events/stream?after=0", None, 4).await), [0, 1, 3, 4]);
        assert_eq!(numbers(&read(&app.admin().await, "/v1/events/stream?after=0", None, 5).await), [0, 1, 2, 3, 4]);
        assert_eq!(anna.get("/v1/events").await.ok()["items"].as_array().unwrap().len(), 2);
    }

    async fn a_stream_follows_what_its_reader_may_see_and_ends_when_that_is_nothing(app) {
        app.start_workers();
        let admin = app.admin().await;
        let (sue, id) = app.user(Role::Supervisor, "sue").await;
        let user = format!("/v1/users/{id}");
        let mut stream = EventStream::follow_new(&sue).await;
        write(&app, vec![numbered(1).for_supervisors()]).await;
        assert_eq!(stream.wait("test.happened").await["data"]["number"], 1);
        admin.patch(&user, json!({ "role": "agent" })).await.ok();
        write(&app, vec![numbered(2).for_supervisors(), numbered(3)]).await;
        assert_eq!(stream.wait("test.happened").await["data"]["number"], 3);
        admin.patch(&user, json!({ "disabled": true })).await.ok();
        write(&app, vec![numbered(4)]).await;
        let ended = async { while let Some(event) = stream.next().await { assert_ne!(event["type"], "test.happened") } };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the stream goes on");
    }

    async fn a_ticket_opens_the_stream_once(app) {
        app.start_workers();
        let (anna, _) = app.agent("anna").await;
        write(&app, vec![numbered(7)]).await;
        let ticket = anna.post("/v1/events/ticket", json!(null)).await.ok()["ticket"].as_str().unwrap().to_owned();
        let path = format!("/v1/events/stream?after=0&ticket={ticket}");
        assert_eq!(numbers(&read(&app.anonymous(), &path, None, 1).await), [7]);
        app.anonymous().get(&path).await.problem(401, "unauthenticated");
        let late = anna.post("/v1/events/ticket", json!(null)).await.ok()["ticket"].as_str().unwrap().to_owned();
        app.app.clock.advance(std::time::Duration::from_secs(31));
        app.anonymous().get(&format!("/v1/events/stream?ticket={late}")).await.problem(401, "unauthenticated");
    }

    async fn a_stream_says_at_once_from_where_it_follows(app) {
        app.start_workers();
        let admin = app.admin().await;
        write(&app, vec![numbered(0)]).await;
        let (end, _) = read(&admin, "/v1/events/stream?after=0", None, 1).await[0];
        let answer = admin.request(reqwest::Method::GET, "/v1/events/stream").send().await.unwrap();
        let first = answer.bytes_stream().next().await.unwrap().unwrap();
        assert!(std::str::from_utf8(&first).unwrap().starts_with(&format!("retry: 2000\nid: {end}\n\n")));
    }

    async fn a_type_that_there_is_not_is_refused(app) {
        let admin = app.admin().await;
        for known in ["offer.", "offer.created", "work_item.", "user"] {
            admin.get(&format!("/v1/events?type={known}")).await.ok();
        }
        for unknown in ["offers.", "offer.created.", "nonsense"] {
            admin.get(&format!("/v1/events?type={unknown}")).await.problem(400, "invalid_parameter");
        }
    }

    async fn a_wrong_position_is_refused(app) {
        let admin = app.admin().await;
        let request = admin.request(reqwest::Method::GET, "/v1/events/stream").header("Last-Event-ID", "x");
        admin.send(request).await.problem(400, "invalid_header");
        admin.get("/v1/events?after=-1").await.problem(400, "invalid_parameter");
        app.start_workers();
        write(&app, vec![numbered(0)]).await;
        let (end, _) = read(&admin, "/v1/events/stream?after=0", None, 1).await[0];
        assert_eq!(admin.get(&format!("/v1/events?after={end}")).await.ok()["next_after"], end);
        for path in ["/v1/events?after=", "/v1/events/stream?after="] {
            let refused = admin.get(&format!("{path}{}", end + 1_000_000)).await;
            assert_eq!(refused.body["detail"], "the position is beyond the log; start anew");
            refused.problem(400, "invalid_parameter");
        }
        let beyond = admin.request(reqwest::Method::GET, "/v1/events/stream").header("Last-Event-ID", end + 1_000_000);
        admin.send(beyond).await.problem(400, "invalid_parameter");
        app.anonymous().get("/v1/events/stream").await.problem(401, "unauthenticated");
    }
}

/// Names in two parts that are none of events: what templates and scripts can name, settings, and notes in a trace.
const NO_EVENTS: &[&str] = &[
    "account.address",
    "account.display_name",
    "account.settings",
    "campaign.id",
    "campaign.name",
    "conversation.id",
    "customer.attempts",
    "customer.callback_at",
    "customer.data",
    "customer.database",
    "customer.email",
    "customer.id",
    "customer.locale",
    "customer.nam",
    "customer.name",
    "customer.ref",
    "customer.sms_number",
    "customer.status",
    "customer.x",
    "message.eml",
    "message.has_attachments",
    "message.headers",
    "message.received_at",
    "message.subject",
    "message.text",
    "message.to",
];

#[test]
fn every_type_of_event_that_the_code_can_write_is_in_the_vocabulary_and_no_other() {
    let known: BTreeSet<&str> = VOCABULARY.iter().map(|(name, ..)| *name).collect();
    assert_eq!(known.len(), VOCABULARY.len(), "a type is there twice");
    let resources: BTreeSet<&str> = known.iter().map(|name| name.split('.').next().unwrap()).collect();
    let name = Regex::new(r#""(([a-z_]+)\.[a-z_]+)""#).unwrap();
    let call = Regex::new(r#"(?:NewEvent::new|\bevent|\.tell|\.moved|\.offer)\([^"();]*"([^"]+)""#).unwrap();
    let mut written = BTreeSet::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        if path.ends_with("events/vocabulary.rs") {
            continue;
        }
        written.extend(call.captures_iter(&text).map(|found| found[1].to_owned()));
        let of_known = name.captures_iter(&text).filter(|found| resources.contains(&found[2]));
        written.extend(
            of_known.map(|found| found[1].to_owned()).filter(|name| !NO_EVENTS.contains(&name.as_str())),
        );
    }
    let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
    assert_eq!(written, known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_committed_late_comes_after_those_that_were_seen_before_it() {
    let app = TestApp::start(Backend::Postgres).await;
    app.start_workers();
    let admin = app.admin().await;
    let late = app.app.db.begin().await.unwrap();
    events::append(&late, app.app.clock.now(), vec![numbered(0)]).await.unwrap();
    write(&app, vec![numbered(1)]).await;
    let seen = read(&admin, "/v1/events/stream?after=0", None, 1).await;
    assert_eq!(numbers(&seen), [1]);
    late.commit().await.unwrap();
    let then = read(&admin, "/v1/events/stream", Some(seen[0].0), 1).await;
    assert_eq!(numbers(&then), [0]);
    assert!(then[0].0 > seen[0].0);
}
