//! What the sandbox holds at start: a shop's support desk with two agents, and mail that waits for them.

use anyhow::Context;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    client::{Client, id},
    mails,
    people::{ADMIN, AGENTS, PASSWORD},
    samples,
};
use crate::app::App;

/// Fills the service at `url`, as its administrator and its agents would.
pub async fn seed(app: &App, url: &str) -> anyhow::Result<()> {
    let now = app.clock.now();
    let admin = Client::log_in(url, ADMIN, PASSWORD).await?;
    admin.put("/outgoing-server", &json!({ "transport": "capture" })).await?;
    let agents = agent_ids(&admin).await?;
    let german = skills(&admin, &agents).await?;
    let desk = queues(&admin, &agents).await?;
    let class = create(&admin, "/classes", json!({ "name": "Complaint" })).await?;
    let calendar = create(&admin, "/calendars", office_hours()).await?;
    let receipt = receipt(&admin).await?;
    let script = script(&admin, routing(&desk, &german, &class, &calendar, &receipt)).await?;
    let account = account(app, &admin, &desk.general, &script).await?;
    for (username, _) in AGENTS {
        let agent = Client::log_in(url, username, PASSWORD).await?;
        let me = agent.get("/auth/me").await?;
        agent.put(&format!("/agents/{}/state", id(&me)?), &json!({ "state": "ready" })).await?;
    }
    for mail in mails::written_before(now) {
        admin.push(&format!("/accounts/{account}/messages"), mail).await?;
    }
    let texts = text_account(&admin, &desk.general, &script).await?;
    for text in mails::texts_before(now) {
        admin.push(&format!("/accounts/{texts}/messages"), text).await?;
    }
    samples::make(app, &admin).await
}

async fn create(admin: &Client, path: &str, body: Value) -> anyhow::Result<String> {
    Ok(id(&admin.post(path, &body).await?)?.to_owned())
}

/// The agents' ids, in the order of `AGENTS`.
async fn agent_ids(admin: &Client) -> anyhow::Result<Vec<String>> {
    let users = admin.get("/users").await?;
    let users = users["items"].as_array().context("the list of users has no items")?;
    let find = |username: &str| {
        let user = users.iter().find(|user| user["username"] == username);
        Ok(id(user.with_context(|| format!("there is no {username}"))?)?.to_owned())
    };
    AGENTS.iter().map(|(username, _)| find(username)).collect()
}

/// Makes the skill of writing German, which the first agent has well and the second a little; gives its id.
async fn skills(admin: &Client, agents: &[String]) -> anyhow::Result<String> {
    let german = create(admin, "/skills", json!({ "name": "German" })).await?;
    for (agent, level) in agents.iter().zip([9, 3]) {
        let skills = json!({ "skills": [{ "skill_id": german, "level": level }] });
        admin.patch(&format!("/agents/{agent}"), &skills).await?;
    }
    Ok(german)
}

/// The queues' ids.
struct Queues {
    general: String,
    billing: String,
}

/// Makes the group of both agents and the queues that it serves.
async fn queues(admin: &Client, agents: &[String]) -> anyhow::Result<Queues> {
    let group = json!({
        "name": "Support desk", "member_ids": agents, "offer_timeout_s": 600, "capacity": { "email": 2, "sms": 2 },
    });
    let group = create(admin, "/agent-groups", group).await?;
    let queue = |name: &str, distribution: &str| {
        json!({
            "name": name, "agent_group_ids": [group], "distribution": distribution,
            "service_level": { "target_s": 3600, "percent": 80 },
        })
    };
    Ok(Queues {
        general: create(admin, "/queues", queue("General", "longest_idle")).await?,
        billing: create(admin, "/queues", queue("Billing", "best_skill")).await?,
    })
}

fn office_hours() -> Value {
    json!({
        "name": "Office hours", "timezone": "Europe/Berlin",
        "entries": [
            { "name": "Weekdays", "kind": "open", "rule": {
                "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00" } },
            { "name": "New Year", "kind": "holiday", "rule": { "type": "yearly", "month": 1, "day": 1 }, "priority": 10 },
        ],
    })
}

async fn receipt(admin: &Client) -> anyhow::Result<String> {
    let template = json!({
        "name": "Out of hours", "purpose": "receipt",
        "subject": "We have your message: {{ message.subject }}",
        "text": "Thank you for writing to {{ account.display_name }}. We are back on the next working day from eight.\n",
    });
    let template = create(admin, "/templates", template).await?;
    admin.act(&format!("/templates/{template}/publish")).await?;
    Ok(template)
}

/// Complaints first, bills to their own queue (German ones to whom writes German), and a receipt out of hours.
fn routing(queues: &Queues, german: &str, class: &str, calendar: &str, receipt: &str) -> Value {
    let enqueue = |queue: &str, skills: Value| {
        let next = json!({ "assigned": "done", "queue_full": "anywhere", "closed": "anywhere" });
        json!({ "type": "enqueue", "queue_id": queue, "skills": skills, "next": next })
    };
    json!({
        "start": "hours",
        "steps": {
            "hours": { "type": "on_date", "calendar_id": calendar,
                "next": { "open": "sort", "closed": "receipt", "New Year": "receipt" } },
            "receipt": { "type": "send_template", "template_id": receipt,
                "next": { "sent": "sort", "not_sent": "sort" } },
            "sort": { "type": "switch",
                "cases": [
                    { "when": "message.subject|lower|contains('complaint')", "label": "complaint" },
                    { "when": "message.subject|lower|contains('rechnung')", "label": "german_bill" },
                    { "when": "message.subject|lower|contains('invoice')", "label": "bill" },
                ],
                "next": { "complaint": "mark", "german_bill": "german", "bill": "billing", "otherwise": "general" } },
            "mark": { "type": "set_class", "class_id": class, "next": { "done": "hurry" } },
            "hurry": { "type": "set_priority", "priority": 1, "next": { "done": "general" } },
            "general": enqueue(&queues.general, json!([])),
            "billing": enqueue(&queues.billing, json!([])),
            "german": enqueue(&queues.billing, json!([{ "skill_id": german, "min_level": 5 }])),
            "anywhere": { "type": "enqueue", "next": { "assigned": "done" } },
            "done": { "type": "end", "result": "done" },
        },
    })
}

async fn script(admin: &Client, definition: Value) -> anyhow::Result<String> {
    let script =
        create(admin, "/scripts", json!({ "name": "Support desk", "definition": definition })).await?;
    admin.act(&format!("/scripts/{script}/versions/1/activate")).await?;
    Ok(script)
}

async fn account(app: &App, admin: &Client, queue: &str, script: &str) -> anyhow::Result<Uuid> {
    let account = json!({
        "address": "support@shop.test", "display_name": "Paper Lantern Support",
        "inbound": { "protocol": "push" }, "script_id": script, "fallback_queue_id": queue,
        "signature_text": "Paper Lantern, 12 Harbour Street",
    });
    let made = create(admin, "/accounts", account).await?;
    let account = samples::FIRST;
    samples::rename(app, &[("accounts", "id")], made.parse()?, account).await?;
    admin.act(&format!("/accounts/{account}/activate")).await?;
    Ok(account)
}

/// The account for texts; its gateway mails from and reads at `number@sms.test`.
async fn text_account(admin: &Client, queue: &str, script: &str) -> anyhow::Result<String> {
    let account = json!({
        "channel": "sms", "address": "texts@shop.test", "display_name": "Paper Lantern",
        "inbound": { "protocol": "push" }, "script_id": script, "fallback_queue_id": queue,
        "sms": { "destination": "@sms.test", "country_code": "44" },
    });
    let account = create(admin, "/accounts", account).await?;
    admin.act(&format!("/accounts/{account}/activate")).await?;
    Ok(account)
}
