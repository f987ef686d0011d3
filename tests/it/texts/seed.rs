//! One loop on real servers: a text comes in through the gateway's mail, an agent answers, the answer and then a broadcast
//! arrive in the gateway's mailbox at the number's address.

use std::time::Duration;

use serde_json::json;

use crate::{
    full_loop::{Agent, make},
    support::{
        Backend,
        imap_reader::ImapReader,
        mailbox::{act, draft},
        service::{Home, Service},
        stack::{SMTP, Stack},
        stream::EventStream,
    },
};

/// The words in the gateway's mailbox for a number, once there are `count`.
async fn gateway_got(stack: &Stack, address: &str, count: usize) -> Vec<String> {
    let mut mailbox = ImapReader::open(stack, address).await;
    mailbox.wait_for(count).await;
    let words = |raw: Vec<u8>| {
        let mail = mail_parser::MessageParser::default().parse(&raw).unwrap();
        mail.body_text(0).unwrap().trim_end().to_owned()
    };
    mailbox.fetch().await.into_iter().map(words).collect()
}

async fn the_loop_runs(backend: Backend) {
    let Some(stack) = Stack::shared() else { return };
    let ca = stack.value("POSTROOM_TEST_CA");
    let home = Home::new(backend, &[("POSTROOM__MAIL__EXTRA_CA_FILE", &ca)]).await;
    let service = home.serve();
    let admin = service.admin().await;
    let agent = Service::agent(&admin, "anna").await;
    let server =
        json!({ "transport": "smtp", "host": "localhost", "port": stack.port(SMTP), "security": "starttls" });
    admin.put("/v1/outgoing-server", server).await.ok();
    let group = make(&admin, "/v1/agent-groups", json!({ "name": "Desk", "member_ids": [agent] })).await;
    let queue = make(&admin, "/v1/queues", json!({ "name": "Texts", "agent_group_ids": [group] })).await;
    // Twelve random digits after a country code: nobody's number, and a mailbox that nobody had before.
    let digits = format!("99{:012}", uuid::Uuid::now_v7().as_u128() % 1_000_000_000_000);
    let at_gateway = format!("{digits}@customers.test");
    let address = crate::full_loop::address("centre.test");
    let account = json!({
        "channel": "sms", "address": address, "username": address, "fallback_queue_id": queue,
        "password": stack.value("POSTROOM_TEST_MAIL_PASSWORD"), "inbound": { "host": "localhost", "security": "starttls" },
        "sms": { "destination": "@customers.test" },
    });
    let mut events = EventStream::follow(&admin, 0).await;
    let account = draft(&admin, stack.port("POSTROOM_TEST_IMAP"), account).await;
    act(&admin, account, "activate").await;
    events.wait("account.connected").await;
    let mut anna = Agent::ready(&service, "anna").await;

    let raw = format!(
        "From: {at_gateway}\r\nTo: {address}\r\nDate: Mon, 02 Mar 2026 09:00:00 +0000\r\nMessage-ID: <{digits}@gw>\r\n\
         Subject: SMS\r\n\r\nWhere is my order?\r\n"
    );
    stack.connect(SMTP).await.hand_over(&at_gateway, &address, raw.as_bytes()).await;
    let event = anna.events.wait("offer.created").await;
    let offer = event["subject_id"].as_str().unwrap();
    let item =
        anna.client.post(&format!("/v1/offers/{offer}/accept"), json!({})).await.ok()["work_item"].clone();
    assert_eq!((&item["channel"], &item["customer_address"]), (&json!("sms"), &json!(format!("+{digits}"))));
    let reply = json!({ "expected_last_message_id": item["last_message_id"], "text": "On Monday. – Anna", "complete": true });
    let reply =
        anna.client.post(&format!("/v1/work-items/{}/reply", item["id"].as_str().unwrap()), reply).await.ok();
    assert_eq!(reply["segments"]["encoding"], "ucs2");
    assert_eq!(gateway_got(&stack, &at_gateway, 1).await, ["On Monday. – Anna"]);

    let list = make(&admin, "/v1/lists", json!({ "name": "Numbers" })).await;
    let customer = json!({ "list_id": list, "name": "Carla", "sms_number": format!("+{digits}") });
    admin.put("/v1/customers/by-ref/c1", customer).await.ok();
    let template = json!({ "name": "News", "channel": "sms", "text": "News for {{ customer.name }}" });
    let template = make(&admin, "/v1/templates", template).await;
    admin.post(&format!("/v1/templates/{template}/publish"), json!({})).await.ok();
    let mut events = EventStream::follow_new(&admin).await;
    let broadcast = json!({ "name": "News", "channel": "sms", "target": { "list_id": list }, "template_id": template, "account_id": account });
    let broadcast = make(&admin, "/v1/broadcasts", broadcast).await;
    admin.post(&format!("/v1/broadcasts/{broadcast}/start"), json!({})).await.ok();
    let over = tokio::time::timeout(Duration::from_secs(60), events.wait("broadcast.completed")).await;
    assert_eq!(over.expect("it ends")["data"]["state"], "completed");
    assert_eq!(gateway_got(&stack, &at_gateway, 2).await, ["On Monday. – Anna", "News for Carla"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_answered_and_a_broadcast_follows_at_the_numbers_address_sqlite() {
    the_loop_runs(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_answered_and_a_broadcast_follows_at_the_numbers_address_postgres() {
    the_loop_runs(Backend::Postgres).await;
}
