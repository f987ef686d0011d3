//! A client of the sandbox's own API: the seed does nothing that another client could not do.

use anyhow::{Context, bail};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// A user who is logged in.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    /// Logs in with the password grant.
    pub async fn log_in(url: &str, username: &str, password: &str) -> anyhow::Result<Self> {
        // A proxy from the environment must not see what is said on loopback.
        let http = reqwest::Client::builder().no_proxy().build()?;
        let form = [("grant_type", "password"), ("username", username), ("password", password)];
        let request = http.post(format!("{url}/v1/auth/token")).form(&form);
        let answer = answer(request).await.with_context(|| format!("{username} cannot log in"))?;
        let token = answer["access_token"].as_str().context("the token answer has no token")?.to_owned();
        Ok(Self { http, url: url.to_owned(), token })
    }

    /// The JSON at `path`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(path, self.request(Method::GET, path)).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(path, self.request(Method::POST, path).json(body)).await
    }

    /// Does an action that takes no body.
    pub async fn act(&self, path: &str) -> anyhow::Result<Value> {
        self.send(path, self.request(Method::POST, path)).await
    }

    /// Puts JSON.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(path, self.request(Method::PUT, path).json(body)).await
    }

    /// Changes a resource by merge patch (RFC 7396).
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, path).body(body.to_string());
        self.send(path, request.header("Content-Type", "application/merge-patch+json")).await
    }

    /// Posts a raw mail (RFC 5322).
    pub async fn push(&self, path: &str, mail: Vec<u8>) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).body(mail);
        self.send(path, request.header("Content-Type", "message/rfc822")).await
    }

    /// Posts a file.
    pub async fn file(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).body(bytes);
        self.send(path, request.header("Content-Type", "application/octet-stream")).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/v1{path}", self.url)).bearer_auth(&self.token)
    }

    async fn send(&self, path: &str, request: RequestBuilder) -> anyhow::Result<Value> {
        answer(request).await.with_context(|| path.to_owned())
    }
}

async fn answer(request: RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    Ok(if text.is_empty() { json!(null) } else { serde_json::from_str(&text)? })
}

/// The `id` of a resource.
pub fn id(resource: &Value) -> anyhow::Result<&str> {
    resource["id"].as_str().context("the answer has no id")
}
