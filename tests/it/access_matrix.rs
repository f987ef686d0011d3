//! The role × operation matrix, tried on every operation of the document with every kind of caller.

use std::collections::{BTreeMap, BTreeSet};

use postroom::{
    access::matrix::{Access, MATRIX},
    http::caller::Role,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    answers::Desk,
    floor::Floor,
    on_both,
    support::{Client, TestApp},
};

/// One operation, with a request that names nothing that exists.
struct Operation {
    id: String,
    method: Method,
    template: String,
    path: String,
    content_type: Option<String>,
}

/// What the guard said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Unauthenticated,
    Forbidden,
}

fn operations() -> Vec<Operation> {
    let document = postroom::api::document().unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else { continue };
            let content = operation["requestBody"]["content"].as_object();
            found.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method,
                template: path.clone(),
                path: concrete(path, operation),
                content_type: content.and_then(|content| content.keys().next().cloned()),
            });
        }
    }
    found
}

fn concrete(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters.filter(|parameter| parameter["in"] == "path").fold(path.to_owned(), |path, parameter| {
        let value = if parameter["schema"]["type"] == "integer" {
            "7".to_owned()
        } else {
            uuid::Uuid::now_v7().to_string()
        };
        path.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &value)
    })
}

/// The path with the first letter of each of its parts written as its number: the same to a router (RFC 3986 §2.3).
fn escaped(path: &str) -> String {
    path.split_inclusive('/')
        .map(|part| match part.chars().next() {
            Some(first) if first.is_ascii_alphanumeric() => {
                format!("%{:02X}{}", u32::from(first), &part[1..])
            }
            _ => part.to_owned(),
        })
        .collect()
}

async fn ask(client: &Client, operation: &Operation) -> Verdict {
    let mut request = client.request(operation.method.clone(), &operation.path);
    if let Some(kind) = &operation.content_type {
        request = request.header("content-type", kind).body("{}");
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert!(status < 500, "{} answers {status}", operation.id);
    if status != 401 && status != 403 {
        // The body is left unread: a stream of events has no end.
        return Verdict::Passed;
    }
    let problem: Value = answer.json().await.unwrap();
    let refusal = format!("may not call {}", operation.id);
    match problem["code"].as_str().unwrap() {
        "unauthenticated" => Verdict::Unauthenticated,
        "forbidden" if problem["detail"].as_str().unwrap().ends_with(&refusal) => Verdict::Forbidden,
        // A handler's own refusal, such as `not_yours`: the guard let it pass.
        _ => Verdict::Passed,
    }
}

async fn key(app: &TestApp, admin: &Client, scope: &str) -> Client {
    let made =
        admin.post("/v1/api-keys", json!({ "name": format!("for {scope}"), "scopes": [scope] })).await.ok();
    Client::new(&app.url, Some(made["secret"].as_str().unwrap().to_owned()))
}

/// What agents share: none of it is somebody's own.
const SHARED: [&str; 6] =
    ["get_agent", "get_agent_group", "get_class", "get_queue", "get_queue_stats", "get_skill"];
/// Who may read these their own tests say.
const ELSEWHERE: [&str; 2] = ["get_message_delivery", "get_message_timeline"];

/// A body that the operation takes from the agent whose things these are.
fn body(operation: &str, last_message: &str) -> Value {
    match operation {
        "set_agent_state" => json!({ "state": "ready" }),
        "replace_draft" => json!({ "kind": "reply", "text": "x" }),
        "create_conversation_note" | "create_work_item_note" => json!({ "text": "x" }),
        "reply_work_item" | "reply_all_work_item" => {
            json!({ "text": "x", "expected_last_message_id": last_message })
        }
        "forward_work_item" => json!({ "to": [{ "address": "ben@example.net" }] }),
        "set_work_item_outcome" => json!({ "code": "resolved" }),
        "snooze_work_item" => json!({ "until": "2026-03-03T09:00:00Z" }),
        "transfer_work_item" => json!({ "agent_id": uuid::Uuid::now_v7() }),
        _ => json!({}),
    }
}

#[test]
fn the_matrix_and_the_document_have_the_same_operations() {
    let rows: Vec<&str> = MATRIX.iter().map(|(id, _)| *id).collect();
    let rows_once: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(rows.len(), rows_once.len(), "an operation has two rows");
    let operations = operations();
    let documented: BTreeSet<&str> = operations.iter().map(|operation| operation.id.as_str()).collect();
    assert_eq!(operations.len(), documented.len(), "an operationId is used twice");
    assert_eq!(rows_once, documented);
}

on_both! {
    async fn an_agent_gets_at_nothing_of_another_agents(app) {
        let app = TestApp::frozen(app.backend).await;
        let (desk, floor) = (Desk::new(&app).await, Floor(&app));
        let group = floor.group(|_| {}).await;
        let queue = floor.queue(&[group.id], |_| {}).await;
        floor.agent("paula", &[group.id]).await;
        let ben = floor.agent("ben", &[]).await.client;
        floor.item(&floor.account(Some(queue.id), None).await, "offered").await;
        assert_eq!(floor.distribute().await, 1);
        let (sent, _) = desk.sent("reply", json!({})).await;
        let last = desk.last_message().await;
        desk.agent.put(&desk.path("draft"), body("replace_draft", &last)).await.ok();
        let upload = desk.upload(&desk.agent, "a.txt", "text/plain", b"x".to_vec()).await.ok();
        let id = |value: &Value| value.as_str().unwrap().to_owned();
        let of_paula = BTreeMap::from([
            ("work-items", desk.item.clone()),
            ("conversations", desk.conversation.clone()),
            ("messages", id(&sent["message_id"])),
            ("uploads", id(&upload["id"])),
            ("offers", floor.offers().await[0].id.to_string()),
            ("agents", desk.agent_id.to_string()),
        ]);
        let things = async || {
            let mut seen = Vec::new();
            for (kind, id) in &of_paula {
                let reader = if matches!(*kind, "uploads" | "offers") { &desk.agent } else { &desk.admin };
                seen.push(reader.get(&format!("/v1/{kind}/{id}")).await.ok());
            }
            for sub in ["trace", "draft"] {
                seen.push(desk.agent.get(&desk.path(sub)).await.ok());
            }
            seen.push(json!(desk.messages().await));
            seen
        };
        let before = things().await;
        for operation in operations().iter().filter(|operation| operation.template.contains("/{id}")) {
            let by_agents = matches!(Access::of(&operation.id), Some(Access::Roles(roles, _)) if roles.contains(&Role::Agent));
            if !by_agents || SHARED.contains(&operation.id.as_str()) || ELSEWHERE.contains(&operation.id.as_str()) {
                continue;
            }
            let kind = operation.template.trim_start_matches("/v1/").split('/').next().unwrap();
            let mut path = operation.template.replace("{id}", &of_paula[kind]).replace("{number}", "0");
            if operation.id == "get_reply_template" {
                path.push_str("?kind=reply");
            }
            let mut request = ben.request(operation.method.clone(), &path);
            if operation.content_type.is_some() {
                request = request.json(&body(&operation.id, &last));
            }
            let answer = ben.send(request).await;
            assert!(matches!(answer.status, 403 | 404 | 409), "{} answers {}: {}", operation.id, answer.status, answer.body);
        }
        assert_eq!(things().await, before);
    }

    async fn an_escaped_path_is_the_same_operation(app) {
        app.start_workers();
        let (agent, _) = app.agent("anna").await;
        for mut operation in operations() {
            operation.path = escaped(&operation.path);
            let (stranger, colleague) = match Access::of(&operation.id).unwrap() {
                Access::Public => (Verdict::Passed, Verdict::Passed),
                Access::Anyone | Access::Users => (Verdict::Unauthenticated, Verdict::Passed),
                Access::Roles(roles, _) if roles.contains(&Role::Agent) => (Verdict::Unauthenticated, Verdict::Passed),
                Access::Roles(..) => (Verdict::Unauthenticated, Verdict::Forbidden),
            };
            assert_eq!(ask(&app.anonymous(), &operation).await, stranger, "{} anonymous", operation.path);
            assert_eq!(ask(&agent, &operation).await, colleague, "{} agent", operation.path);
        }
    }

    async fn every_operation_lets_in_whom_the_matrix_names_and_nobody_else(app) {
        app.start_workers();
        let admin = app.admin().await;
        let (supervisor, (agent, _)) = (app.supervisor().await, app.agent("anna").await);
        let mut keys = BTreeMap::new();
        for scope in Access::scopes() {
            keys.insert(scope, key(&app, &admin, scope).await);
        }
        for operation in operations() {
            let access = Access::of(&operation.id).unwrap();
            let let_in = |roles: &[&str], role: &str| match access {
                Access::Public | Access::Anyone | Access::Users => Verdict::Passed,
                Access::Roles(..) if roles.contains(&role) => Verdict::Passed,
                Access::Roles(..) => Verdict::Forbidden,
            };
            let roles: Vec<String> = match access {
                Access::Roles(roles, _) => roles.iter().map(|role| format!("{role:?}")).collect(),
                _ => Vec::new(),
            };
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            let stranger = if access == Access::Public { Verdict::Passed } else { Verdict::Unauthenticated };
            assert_eq!(ask(&app.anonymous(), &operation).await, stranger, "{} anonymous", operation.id);
            let nobody = Client::new(&app.url, Some("prk_made-up".into()));
            assert_eq!(ask(&nobody, &operation).await, stranger, "{} unknown key", operation.id);
            assert_eq!(ask(&admin, &operation).await, Verdict::Passed, "{} admin", operation.id);
            assert_eq!(ask(&supervisor, &operation).await, let_in(&roles, "Supervisor"), "{} supervisor", operation.id);
            assert_eq!(ask(&agent, &operation).await, let_in(&roles, "Agent"), "{} agent", operation.id);
            for (scope, client) in &keys {
                let expected = match access {
                    Access::Public | Access::Anyone => Verdict::Passed,
                    Access::Roles(_, needed) if needed == *scope => Verdict::Passed,
                    Access::Users | Access::Roles(..) => Verdict::Forbidden,
                };
                assert_eq!(ask(client, &operation).await, expected, "{} key with {scope}", operation.id);
            }
        }
    }
}
