//! A reader of the event stream.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use reqwest::Method;
use serde_json::Value;

use super::Client;

type Chunks = Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// The events that a caller may see, as they happen.
pub struct EventStream {
    chunks: Chunks,
    unread: Vec<u8>,
    /// The position of the last event.
    pub last: i64,
}

impl EventStream {
    /// Follows everything after the position `last`.
    pub async fn follow(client: &Client, last: i64) -> Self {
        let request = client.request(Method::GET, "/v1/events/stream");
        Self::open(request.header("Last-Event-ID", last.to_string()), last).await
    }

    /// Follows what happens from now on.
    pub async fn follow_new(client: &Client) -> Self {
        Self::open(client.request(Method::GET, "/v1/events/stream"), 0).await
    }

    async fn open(request: reqwest::RequestBuilder, last: i64) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self { chunks: Box::pin(answer.bytes_stream()), unread: Vec::new(), last }
    }

    /// The next event; none when the service is gone.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                    let event: Value = serde_json::from_str(data).unwrap();
                    let position = event["position"].as_i64().unwrap();
                    assert!(position > self.last, "{position} comes after {}", self.last);
                    self.last = position;
                    return Some(event);
                }
            }
            self.unread.extend(self.chunks.next().await?.ok()?);
        }
    }

    /// The next event of this type; the others are passed over.
    pub async fn wait(&mut self, kind: &str) -> Value {
        self.wait_for(kind, |_| true).await
    }

    /// The next event of this type that is wanted; the others are passed over.
    pub async fn wait_for(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let event = self.next().await.expect("the service is there");
                if event["type"] == kind && wanted(&event) {
                    return event;
                }
            }
        };
        // Only so that a test that fails does not hang.
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        found.unwrap_or_else(|_| panic!("no {kind} came"))
    }
}
