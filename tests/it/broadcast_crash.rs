//! A broadcast under `kill -9`: nobody twice, nobody missing; whoever is uncertain is listed, and there are few of them.

use std::collections::HashMap;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    crash::seed,
    full_loop::make,
    support::{
        Backend, Client,
        mailbox::queue,
        outbound::use_server,
        service::{Home, Service},
        smtp_sink::{Behaviour, SmtpSink},
        stream::EventStream,
    },
};

const KILLS: usize = 10;
const CONNECTIONS: usize = 5;

/// How many get it: few enough for every run, or as many as the environment says.
fn recipients() -> usize {
    std::env::var("POSTROOM_TEST_RECIPIENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

/// Makes a broadcast to so many customers and starts it; gives its id.
async fn begin(admin: &Client, count: usize) -> String {
    let queue = queue(admin).await;
    let account = json!({ "address": "offers@example.org", "inbound": { "protocol": "push" }, "fallback_queue_id": queue });
    let account = make(admin, "/v1/accounts", account).await;
    admin.post(&format!("/v1/accounts/{account}/activate"), json!({})).await.ok();
    let list = make(admin, "/v1/lists", json!({ "name": "Everybody" })).await;
    let import = admin.post(&format!("/v1/lists/{list}/imports"), json!({ "format": "ndjson" })).await.ok();
    let rows: String = (0..count)
        .map(|n| format!("{{\"ref\":\"c{n}\",\"name\":\"Customer {n}\",\"email\":\"c{n}@example.org\"}}\n"))
        .collect();
    let path = format!("/v1/imports/{}/rows", import["id"].as_str().unwrap());
    let put =
        admin.request(reqwest::Method::PUT, &path).header("content-type", "application/x-ndjson").body(rows);
    let imported = admin.send(put).await.ok();
    assert_eq!(imported["created_count"], count, "{imported}");
    let template = json!({ "name": "Offer", "purpose": "general", "subject": "Offer", "text": "Dear {{ customer.name }}" });
    let template = make(admin, "/v1/templates", template).await;
    admin.post(&format!("/v1/templates/{template}/publish"), json!({})).await.ok();
    let broadcast = json!({ "name": "Offer", "target": { "list_id": list }, "template_id": template, "account_id": account });
    let broadcast = make(admin, "/v1/broadcasts", broadcast).await;
    admin.post(&format!("/v1/broadcasts/{broadcast}/start"), json!({})).await.ok();
    broadcast
}

/// The whole ledger: the state of each address.
async fn ledger(admin: &Client, broadcast: &str) -> HashMap<String, String> {
    let (mut states, mut cursor) = (HashMap::new(), String::new());
    loop {
        let page = admin.get(&format!("/v1/broadcasts/{broadcast}/recipients?limit=200{cursor}")).await.ok();
        for row in page["items"].as_array().unwrap() {
            let text = |member: &str| row[member].as_str().unwrap().to_owned();
            assert!(states.insert(text("address"), text("state")).is_none());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return states,
        }
    }
}

async fn nobody_twice_and_nobody_missing(backend: Backend, replicas: usize) {
    let mut rng = StdRng::seed_from_u64(seed());
    let (count, sink) = (recipients(), SmtpSink::start(Behaviour::default()).await);
    let home = Home::new(backend, &[]).await;
    let mut services: Vec<Service> = (0..replicas).map(|_| home.serve()).collect();
    let admin = services[0].admin().await;
    use_server(&admin, json!({ "port": sink.addr.port(), "max_connections": CONNECTIONS })).await;
    let broadcast = begin(&admin, count).await;
    for kill in 1..=KILLS {
        // Spread over the run, at moments that nobody chose.
        let share = count / (KILLS + 1);
        let moment = kill * share + rng.random_range(0..share.max(2) / 2);
        sink.wait_for(moment).await;
        let killed = rng.random_range(0..services.len());
        services.swap_remove(killed).kill();
        // As time would: nobody renews the leases of the dead, and the living renew theirs.
        if replicas == 1 {
            home.expire_leases("broadcast_recipients").await;
        }
        services.push(home.serve());
    }
    // All but those who may be uncertain; a long run outlives the first login.
    sink.wait_for(count - CONNECTIONS * KILLS).await;
    let admin = services[0].admin().await;
    let mut events = EventStream::follow(&admin, 0).await;
    let over = events.wait("broadcast.completed").await;
    let shown = admin.get(&format!("/v1/broadcasts/{broadcast}")).await.ok();
    let ledger = ledger(&admin, &broadcast).await;
    let mut got: HashMap<String, usize> = HashMap::new();
    for mail in sink.received() {
        *got.entry(mail.to[0].clone()).or_default() += 1;
    }
    assert_eq!(ledger.len(), count, "{over}");
    let of = |state: &str| ledger.values().filter(|known| *known == state).count();
    let uncertain = of("uncertain");
    println!("{} received of {count}, {uncertain} uncertain after {KILLS} kills", sink.received().len());
    for (address, state) in &ledger {
        let times = got.get(address).copied().unwrap_or_default();
        match state.as_str() {
            "sent" => assert_eq!(times, 1, "{address} is sent"),
            "uncertain" => assert!(times <= 1, "{address} is uncertain and got it {times} times"),
            other => panic!("{address} is {other}"),
        }
    }
    assert!(uncertain <= CONNECTIONS * KILLS, "{uncertain}");
    assert_eq!(
        (&shown["counts"]["sent"], &shown["counts"]["uncertain"]),
        (&json!(of("sent")), &json!(uncertain))
    );
    let listed: Value =
        admin.get(&format!("/v1/broadcasts/{broadcast}/recipients?state=uncertain&limit=200")).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), uncertain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_a_broadcast_double_nobody_and_lose_nobody_sqlite() {
    nobody_twice_and_nobody_missing(Backend::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_a_broadcast_double_nobody_and_lose_nobody_with_two_replicas_postgres() {
    nobody_twice_and_nobody_missing(Backend::Postgres, 2).await;
}
