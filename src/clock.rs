//! Time: the instant type that the database and the API share, and the clock that everything reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;

/// An instant, to the millisecond: RFC 3339, in UTC.
// An integer in the database (milliseconds since the Unix epoch), which orders, indexes and does arithmetic the same way in
// SQLite and in PostgreSQL.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    sea_orm::DeriveValueType,
    utoipa::ToSchema,
)]
#[schema(value_type = String, format = "date-time", examples("2026-03-01T09:30:00.000Z"))]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch, also "never leased".
    pub const ZERO: Self = Self(0);

    /// Takes milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The instant `seconds` later (or earlier, when negative).
    pub const fn plus_s(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// The instant `millis` later (or earlier, when negative).
    pub const fn plus_ms(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// How long it is from `earlier` to this instant; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant as a chrono value; the epoch when it is out of chrono's range.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(value: DateTime<Utc>) -> Self {
        Self(value.timestamp_millis())
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = chrono::ParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|at| Self(at.timestamp_millis()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The clock that all code reads; tests freeze it and the sandbox moves it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    frozen_at: Option<i64>,
    offset_ms: AtomicI64,
    moved: watch::Sender<()>,
}

impl Clock {
    /// The system's time.
    pub fn system() -> Self {
        Self::new(None)
    }

    /// A clock that stands still until it is moved.
    pub fn frozen(at: Timestamp) -> Self {
        Self::new(Some(at.0))
    }

    fn new(frozen_at: Option<i64>) -> Self {
        Self(Arc::new(Inner { frozen_at, offset_ms: AtomicI64::new(0), moved: watch::channel(()).0 }))
    }

    /// The present instant.
    #[expect(clippy::disallowed_methods, reason = "the one home of the system's time")]
    pub fn now(&self) -> Timestamp {
        let base = self.0.frozen_at.unwrap_or_else(|| Utc::now().timestamp_millis());
        Timestamp(base.saturating_add(self.offset_ms()))
    }

    /// How far the clock was moved from its base, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.0.offset_ms.load(Ordering::Acquire)
    }

    /// Moves the clock forward and wakes everybody who sleeps on it.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.offset_ms.fetch_add(millis, Ordering::AcqRel);
        self.0.moved.send_replace(());
    }

    /// Returns when the clock has reached `until`.
    pub async fn sleep_until(&self, until: Timestamp) {
        let mut moved = self.0.moved.subscribe();
        loop {
            let left = until.since(self.now());
            if left.is_zero() {
                return;
            }
            if self.0.frozen_at.is_some() {
                let _ = moved.changed().await;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    _ = moved.changed() => {}
                }
            }
        }
    }

    /// Returns when `duration` has passed on this clock, counted from this call.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + '_ {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.sleep_until(self.now().plus_ms(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_as_utc_with_milliseconds() {
        let at: Timestamp = "2026-03-01T10:30:00.5+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-03-01T09:30:00.500Z");
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2026-03-01T09:30:00.500Z\"");
    }

    #[tokio::test]
    async fn a_sleeper_on_a_frozen_clock_wakes_when_it_is_moved_far_enough() {
        let clock = Clock::frozen(Timestamp::from_millis(1_000));
        let sleep = clock.sleep(Duration::from_secs(10));
        tokio::pin!(sleep);
        clock.advance(Duration::from_secs(9));
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
    }
}
