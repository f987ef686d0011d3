//! Access tokens from a token server.

use std::time::Duration;

use postroom::mail::oauth::{Grant, OauthError, Token, TokenRequest, fetch_token};
use tokio::net::TcpListener;

use crate::support::line_io::LineIo;
use crate::support::tls_fixture::plain_trust;

const DEADLINE: Duration = Duration::from_secs(10);

fn request(listener: &TcpListener, grant: Grant) -> TokenRequest {
    TokenRequest {
        token_url: format!("http://{}/token", listener.local_addr().unwrap()),
        client_id: "client one".to_owned(),
        client_secret: Some("hush&=".to_owned()),
        scope: Some("mail.read".to_owned()),
        grant,
    }
}

/// Answers one request and gives the form that it brought.
async fn answer_once(listener: &TcpListener, status: &str, body: &str) -> Vec<(String, String)> {
    let (socket, _) = listener.accept().await.unwrap();
    let mut io = LineIo::new(socket);
    let mut length = 0;
    while let Some(line) = io.line().await.unwrap().filter(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let form = io.exact(length).await.unwrap();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    io.send(format!("{head}{body}")).await.unwrap();
    serde_urlencoded::from_bytes(&form).unwrap()
}

async fn ask(grant: Grant, status: &str, body: &str) -> (Result<Token, OauthError>, Vec<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = request(&listener, grant);
    let trust = plain_trust();
    tokio::join!(fetch_token(&request, &trust, DEADLINE), answer_once(&listener, status, body))
}

fn value<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn a_client_gets_a_token_for_its_own_credentials() {
    let (token, form) =
        ask(Grant::ClientCredentials, "200 OK", r#"{"access_token":"T","expires_in":60}"#).await;
    let token = token.unwrap();
    assert_eq!((token.access_token.as_str(), token.expires_in_s), ("T", Some(60)));
    assert_eq!(token.rotated_refresh_token, None);
    assert_eq!(value(&form, "grant_type"), Some("client_credentials"));
    assert_eq!(value(&form, "client_id"), Some("client one"));
    assert_eq!(value(&form, "client_secret"), Some("hush&="));
    assert_eq!(value(&form, "scope"), Some("mail.read"));
}

#[tokio::test]
async fn a_rotated_refresh_token_is_handed_over() {
    let grant = Grant::RefreshToken("old".to_owned());
    let (token, form) = ask(grant, "200 OK", r#"{"access_token":"T","refresh_token":"new"}"#).await;
    assert_eq!(token.unwrap().rotated_refresh_token.as_deref(), Some("new"));
    assert_eq!(value(&form, "grant_type"), Some("refresh_token"));
    assert_eq!(value(&form, "refresh_token"), Some("old"));
}

#[tokio::test]
async fn a_revoked_grant_is_told_from_a_server_that_is_down() {
    let denied = r#"{"error":"invalid_grant","error_description":"revoked"}"#;
    let (token, _) = ask(Grant::RefreshToken("old".to_owned()), "400 Bad Request", denied).await;
    assert_eq!(token, Err(OauthError::InvalidGrant("invalid_grant: revoked".to_owned())));
    let (token, _) = ask(Grant::ClientCredentials, "503 Service Unavailable", "busy").await;
    assert!(token.unwrap_err().is_temporary());
    let (token, _) = ask(Grant::ClientCredentials, "200 OK", "<html>").await;
    assert!(token.unwrap_err().is_temporary());
}

#[tokio::test]
async fn a_token_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = request(&listener, Grant::ClientCredentials);
    let token = fetch_token(&request, &plain_trust(), Duration::from_millis(50)).await;
    assert!(token.unwrap_err().is_temporary());
}
