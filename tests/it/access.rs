//! Logging in, users, API keys, tokens that were tampered with, the audit log.

mod api_keys;
mod audit;
mod login;
mod tokens;
mod users;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, TestApp};

const PASSWORD: &str = "correct horse battery";

/// Makes a user with [`PASSWORD`]; gives its path.
async fn make_user(admin: &Client, name: &str, role: &str) -> String {
    let body = json!({ "username": name, "display_name": name, "role": role, "password": PASSWORD });
    let made = admin.post("/v1/users", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.header("location").to_owned()
}

/// Asks for tokens.
async fn token(app: &TestApp, form: &[(&str, &str)]) -> Reply {
    token_over(&app.anonymous(), form).await
}

/// Asks for tokens with a client that is there already, for requests at the same moment.
async fn token_over(client: &Client, form: &[(&str, &str)]) -> Reply {
    client.send(client.request(Method::POST, "/v1/auth/token").form(form)).await
}

async fn log_in(app: &TestApp, name: &str, password: &str) -> Reply {
    token(app, &[("grant_type", "password"), ("username", name), ("password", password)]).await
}

async fn refresh(app: &TestApp, given: &str) -> Reply {
    token(app, &[("grant_type", "refresh_token"), ("refresh_token", given)]).await
}

fn client(app: &TestApp, tokens: &Value) -> Client {
    Client::new(&app.url, Some(tokens["access_token"].as_str().unwrap().to_owned()))
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}
