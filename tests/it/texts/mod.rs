//! Texts (SMS): what a gateway mails comes to an agent, and what we say goes to its address for the number.

mod accounts;
mod answers;
mod broadcasts;
mod inbound;
mod seed;
mod sends;

use postroom::{
    accounts::entity::account,
    http::caller::Role,
    id::{AccountId, UserId},
    mail::parse::{Limits, Parsed, parse},
};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::{
    answers::Desk,
    inbound::push,
    support::{Client, Reply, TestApp, smtp_sink::SmtpSink},
};

pub const NUMBER: &str = "+447700900123";
pub const AT_GATEWAY: &str = "447700900123@gw.test";

/// An account for texts in use, with these settings of its gateway besides the destination `@gw.test`.
pub async fn account_with(admin: &Client, members: Value) -> AccountId {
    let mut sms = json!({ "destination": "@gw.test", "country_code": "44" });
    sms.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let queue = admin.post("/v1/queues", json!({ "name": "Texts" })).await.ok()["id"].clone();
    let account = json!({
        "channel": "sms", "address": "texts@example.com", "display_name": "Shop", "inbound": { "protocol": "push" },
        "fallback_queue_id": queue, "sms": sms,
    });
    let id = admin.post("/v1/accounts", account).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/accounts/{id}/activate"), json!({})).await.ok();
    id.parse().unwrap()
}

/// The gateway hands over a text of this number.
pub async fn text(admin: &Client, account: AccountId, number: &str, words: &str) -> Value {
    let digits = number.trim_start_matches('+');
    mail(admin, account, &format!("{digits}@gw.test"), "SMS", words).await.ok()
}

pub async fn mail(admin: &Client, account: AccountId, from: &str, subject: &str, words: &str) -> Reply {
    let raw = format!(
        "From: {from}\r\nTo: texts@example.com\r\nSubject: {subject}\r\nAuto-Submitted: auto-generated\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{words}\r\n"
    );
    push(admin, account, raw).await
}

/// An agent with a text at the desk.
pub async fn desk(app: &TestApp, sms: Value, words: &str) -> Desk {
    let admin = app.admin().await;
    let id = account_with(&admin, sms).await;
    let row = account::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap();
    let (agent, agent_id): (Client, UserId) = app.user(Role::Agent, "paula").await;
    let pushed = text(&admin, id, NUMBER, words).await;
    let conversation = pushed["conversation_id"].as_str().unwrap().to_owned();
    let message = pushed["message"]["id"].as_str().unwrap().to_owned();
    let desk =
        Desk { agent, agent_id, admin, account: row.into(), conversation, message, item: String::new() };
    let item = desk.assign(app, desk.agent_id).await;
    Desk { item, ..desk }
}

/// What the gateway got, oldest first.
pub fn got(sink: &SmtpSink) -> Vec<(String, Parsed)> {
    let read = |raw: &[u8]| parse(raw, &Limits::default()).unwrap();
    sink.received().iter().map(|mail| (mail.to.join(","), read(&mail.raw))).collect()
}

/// The words that the gateway got, each with the address.
pub fn said(sink: &SmtpSink) -> Vec<(String, String)> {
    let words = |mail: &Parsed| mail.text.clone().unwrap_or_default().trim_end().replace("\r\n", "\n");
    got(sink).iter().map(|(to, mail)| (to.clone(), words(mail))).collect()
}

pub fn to_gateway(words: &str) -> (String, String) {
    (AT_GATEWAY.to_owned(), words.to_owned())
}

pub async fn work_of(admin: &Client, conversation: &str) -> Vec<Value> {
    let page = admin.get(&format!("/v1/work-items?conversation_id={conversation}")).await.ok();
    page["items"].as_array().unwrap().clone()
}
