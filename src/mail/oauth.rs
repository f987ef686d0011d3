//! OAuth 2.0 access tokens for mailboxes (RFC 6749 §4.4 and §6) and the XOAUTH2 login string.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use url::{Host, Url};

use super::tls::Trust;

/// The most of a token server's answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// How an access token is obtained.
#[derive(Clone)]
pub enum Grant {
    /// The client speaks for itself (RFC 6749 §4.4).
    ClientCredentials,
    /// A refresh token is handed in (RFC 6749 §6); the server may give a new one in return.
    RefreshToken(String),
}

/// A request for an access token.
#[derive(Clone)]
pub struct TokenRequest {
    /// The token endpoint; https, or http on a loopback address.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret, sent in the body (RFC 6749 §2.3.1); public clients have none.
    pub client_secret: Option<String>,
    /// Space-separated scopes.
    pub scope: Option<String>,
    /// Which grant.
    pub grant: Grant,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("token_url", &self.token_url).finish_non_exhaustive()
    }
}

/// An access token as the server gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The bearer token.
    pub access_token: String,
    /// Seconds until it expires, when the server says so.
    pub expires_in_s: Option<u64>,
    /// A refresh token that replaces the one used: it must be saved before the access token is used.
    pub rotated_refresh_token: Option<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_in_s", &self.expires_in_s).finish_non_exhaustive()
    }
}

/// Why there is no access token; the text is for an administrator and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// Trying again later may work: network, time-out, 5xx, 429, `temporarily_unavailable`.
    #[error("the token server gave no token for now: {0}")]
    Temporary(String),
    /// `invalid_grant`: the refresh token is revoked or expired, and somebody must consent again.
    #[error("the token server no longer accepts the grant ({0}): the account must be authorised again")]
    InvalidGrant(String),
    /// The request is wrong until the configuration changes: `invalid_client`, a bad scope, a bad URL.
    #[error("the token server refuses the request: {0}")]
    Rejected(String),
}

impl OauthError {
    /// Whether trying again with the same configuration may work.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary(_))
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default, deserialize_with = "lenient_seconds")]
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Denied {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Asks the token server for an access token; the whole exchange must end within `deadline`.
///
/// # Errors
/// An [`OauthError`] that says whether trying again can help.
pub async fn fetch_token(
    request: &TokenRequest,
    trust: &Trust,
    deadline: Duration,
) -> Result<Token, OauthError> {
    let url = permitted(&request.token_url)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(trust.client_config())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| OauthError::Rejected(error.to_string()))?;
    let exchange = async {
        let answer = client.post(url).form(&form(request)).send().await.map_err(unreachable)?;
        let status = answer.status();
        Ok((status, read_bounded(answer).await?))
    };
    let (status, body) = tokio::time::timeout(deadline, exchange)
        .await
        .map_err(|_| OauthError::Temporary("it did not answer in time".to_owned()))??;
    if status.is_success() { granted(request, &body) } else { Err(denied(status.as_u16(), &body)) }
}

/// The initial response of the XOAUTH2 mechanism, before base64.
#[must_use]
pub fn xoauth2(user: &str, access_token: &str) -> String {
    format!("user={user}\x01auth=Bearer {access_token}\x01\x01")
}

fn permitted(text: &str) -> Result<Url, OauthError> {
    let url = Url::parse(text)
        .map_err(|error| OauthError::Rejected(format!("the token URL is not a URL ({error})")))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
        return Ok(url);
    }
    Err(OauthError::Rejected("the token URL must be https".to_owned()))
}

fn form(request: &TokenRequest) -> Vec<(&'static str, &str)> {
    let mut fields = match &request.grant {
        Grant::ClientCredentials => vec![("grant_type", "client_credentials")],
        Grant::RefreshToken(token) => {
            vec![("grant_type", "refresh_token"), ("refresh_token", token.as_str())]
        }
    };
    fields.push(("client_id", &request.client_id));
    if let Some(secret) = &request.client_secret {
        fields.push(("client_secret", secret));
    }
    if let Some(scope) = &request.scope {
        fields.push(("scope", scope));
    }
    fields
}

async fn read_bounded(mut answer: reqwest::Response) -> Result<Vec<u8>, OauthError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(OauthError::Temporary("its answer is far too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn granted(request: &TokenRequest, body: &[u8]) -> Result<Token, OauthError> {
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| OauthError::Temporary("its answer is not a token response".to_owned()))?;
    let used = match &request.grant {
        Grant::RefreshToken(token) => Some(token),
        Grant::ClientCredentials => None,
    };
    Ok(Token {
        access_token: granted.access_token,
        expires_in_s: granted.expires_in,
        rotated_refresh_token: granted.refresh_token.filter(|new| used.is_some_and(|old| old != new)),
    })
}

fn denied(status: u16, body: &[u8]) -> OauthError {
    let Ok(denied) = serde_json::from_slice::<Denied>(body) else {
        let reason = format!("it answered HTTP {status}");
        let wrong = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
        return if wrong { OauthError::Rejected(reason) } else { OauthError::Temporary(reason) };
    };
    let mut reason = denied.error.clone();
    if !denied.error_description.is_empty() {
        reason.push_str(": ");
        reason.extend(denied.error_description.chars().take(300).filter(|c| !c.is_control()));
    }
    match denied.error.as_str() {
        "invalid_grant" => OauthError::InvalidGrant(reason),
        "temporarily_unavailable" | "server_error" | "slow_down" => OauthError::Temporary(reason),
        _ if status >= 500 || status == 429 => OauthError::Temporary(reason),
        _ => OauthError::Rejected(reason),
    }
}

fn unreachable(error: reqwest::Error) -> OauthError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason.push_str(": ");
        reason.push_str(&inner.to_string());
        cause = inner.source();
    }
    OauthError::Temporary(reason)
}

/// Some servers send the seconds as a string.
fn lenient_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(grant: Grant) -> TokenRequest {
        TokenRequest {
            token_url: "https://login.example/token".to_owned(),
            client_id: "client".to_owned(),
            client_secret: Some("hush".to_owned()),
            scope: None,
            grant,
        }
    }

    #[test]
    fn plain_http_is_only_for_this_machine() {
        assert!(permitted("https://login.example/token").is_ok());
        assert!(permitted("http://127.0.0.1:8080/token").is_ok());
        assert!(permitted("http://[::1]/token").is_ok());
        assert!(permitted("http://login.example/token").is_err());
        assert!(permitted("http://localhost.example/token").is_err());
        assert!(permitted("not a url").is_err());
    }

    #[test]
    fn only_a_changed_refresh_token_counts_as_rotated() {
        let body = br#"{"access_token":"a","expires_in":"3600","refresh_token":"new"}"#;
        let with = |old: &str| granted(&request(Grant::RefreshToken(old.to_owned())), body).unwrap();
        assert_eq!(with("old").rotated_refresh_token.as_deref(), Some("new"));
        assert_eq!(with("new").rotated_refresh_token, None);
        assert_eq!(with("old").expires_in_s, Some(3600));
    }

    #[test]
    fn an_error_says_whether_trying_again_can_help() {
        assert!(matches!(denied(400, br#"{"error":"invalid_grant"}"#), OauthError::InvalidGrant(_)));
        assert!(matches!(denied(401, br#"{"error":"invalid_client"}"#), OauthError::Rejected(_)));
        assert!(denied(503, b"busy").is_temporary());
        assert!(denied(429, br#"{"error":"too_many"}"#).is_temporary());
        assert!(!denied(404, b"<html>").is_temporary());
    }

    #[test]
    fn nothing_printed_for_debugging_holds_a_secret() {
        let token = Token {
            access_token: "s3cret".to_owned(),
            expires_in_s: None,
            rotated_refresh_token: Some("s3cret".to_owned()),
        };
        let printed = format!("{:?}{token:?}", request(Grant::RefreshToken("s3cret".to_owned())));
        assert!(!printed.contains("s3cret") && !printed.contains("hush"));
    }

    #[test]
    fn the_xoauth2_string_has_the_published_form() {
        assert_eq!(xoauth2("a@b", "tok"), "user=a@b\x01auth=Bearer tok\x01\x01");
    }
}
