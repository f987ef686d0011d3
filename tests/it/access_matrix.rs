//! The role × operation matrix, tried on every operation of the document with every kind of caller.

use std::collections::{BTreeMap, BTreeSet};

use postroom::access::matrix::{Access, MATRIX};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{Client, TestApp},
};

/// One operation, with a request that names nothing that exists.
struct Operation {
    id: String,
    method: Method,
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
