//! Listing and fetching messages: sizes first, bodies afterwards, many in one command.

use async_imap::imap_proto::{AttributeValue, Response};
use chrono::DateTime;

use super::guard::Budget;
use super::session::Session;
use super::uid_set::uid_sets;
use super::wire::Command;
use super::{ImapError, Timeouts};

/// What a FETCH response needs beside the message itself, in bytes.
const RESPONSE_OVERHEAD: u64 = 1024;
/// What one line of a list needs, in bytes, with keywords by the dozen.
const LIST_ENTRY: u64 = 4096;
/// The most of a header section that is fetched, in bytes: what a command without mail may bring as one literal.
const HEADER_LIMIT: u64 = Budget::SMALL.literal;
/// The longest list, whatever number of messages the server claims to hold.
const LIST_LIMIT: u64 = 1 << 30;

/// A message as the folder lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The UID.
    pub uid: u32,
    /// `RFC822.SIZE`.
    pub size_bytes: u64,
    /// `INTERNALDATE` as milliseconds since 1970, when it can be read.
    pub internal_date_ms: Option<i64>,
    /// Whether `\Deleted` is set.
    pub deleted: bool,
}

/// A message with its raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The UID.
    pub uid: u32,
    /// The message as the server holds it.
    pub raw: Vec<u8>,
    /// `INTERNALDATE` as milliseconds since 1970, when it can be read.
    pub internal_date_ms: Option<i64>,
}

/// How much is fetched at once.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// The largest message that is fetched at all, in bytes.
    pub message_bytes: u64,
    /// The most bytes in one command, unless a single message is larger.
    pub batch_bytes: u64,
    /// The most messages in one command.
    pub batch_messages: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { message_bytes: 50 * 1024 * 1024, batch_bytes: 4 * 1024 * 1024, batch_messages: 200 }
    }
}

/// A list cut into commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batches {
    /// What to fetch, command by command, in the order of the list.
    pub batches: Vec<Vec<Listed>>,
    /// Messages over the limit, which are not fetched.
    pub oversize: Vec<Listed>,
}

impl Batches {
    /// Cuts a list by the limits.
    #[must_use]
    pub fn plan(listed: Vec<Listed>, limits: &FetchLimits) -> Self {
        let mut plan = Self::default();
        let mut batch: Vec<Listed> = Vec::new();
        let mut bytes = 0_u64;
        for message in listed {
            if message.size_bytes > limits.message_bytes {
                plan.oversize.push(message);
                continue;
            }
            let full =
                batch.len() >= limits.batch_messages || bytes + message.size_bytes > limits.batch_bytes;
            if full && !batch.is_empty() {
                plan.batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += message.size_bytes;
            batch.push(message);
        }
        if !batch.is_empty() {
            plan.batches.push(batch);
        }
        plan
    }
}

impl Session {
    /// Lists the messages whose UID is larger than `uid`, in the order of their UIDs.
    ///
    /// # Errors
    /// When the connection is gone or the answer is no list.
    pub async fn list_after(&mut self, uid: u32) -> Result<Vec<Listed>, ImapError> {
        let Some(first) = uid.checked_add(1) else {
            return Ok(Vec::new());
        };
        // What is announced from here on may not be in this list.
        self.wire.grew = false;
        let mut listed = self.list(&format!("{first}:*")).await?;
        // `n:*` gives the last message even when its UID is below n (RFC 3501 §6.4.8).
        listed.retain(|message| message.uid > uid);
        Ok(listed)
    }

    /// Lists every message of the open folder, in the order of their UIDs.
    ///
    /// # Errors
    /// When the connection is gone or the answer is no list.
    pub async fn list_all(&mut self) -> Result<Vec<Listed>, ImapError> {
        self.list_after(0).await
    }

    /// Lists the messages of a UID set.
    pub(super) async fn list(&mut self, set: &str) -> Result<Vec<Listed>, ImapError> {
        const DURING: &str = "a list of messages";
        let total = (Budget::SMALL.total + u64::from(self.wire.exists) * LIST_ENTRY).min(LIST_LIMIT);
        let line = format!("UID FETCH {set} (UID RFC822.SIZE FLAGS INTERNALDATE)");
        let budget = Budget { total, ..Budget::SMALL };
        let command = Command { budget, ..Command::new(DURING, &line, self.timeouts.transfer) };
        let mut listed = Vec::new();
        let done = self.wire.run(command, |response| {
            if let Response::Fetch(_, attributes) = response {
                listed.extend(read_listed(attributes));
            }
        });
        done.await?.ok(DURING)?;
        listed.sort_unstable_by_key(|message| message.uid);
        listed.dedup_by_key(|message| message.uid);
        Ok(listed)
    }

    /// Fetches one batch with `BODY.PEEK[]`, which leaves `\Seen` alone, in the order of their UIDs. A message
    /// that is gone is not in the answer. A literal above `limits.message_bytes` ends the session with [`ImapError::TooLarge`]: fetch the
    /// batch's messages one by one then, to find the one that lies about its size.
    ///
    /// # Errors
    /// When the connection is gone, too slow, or brings more than was listed.
    pub async fn fetch_raw(
        &mut self,
        batch: &[Listed],
        limits: &FetchLimits,
    ) -> Result<Vec<Fetched>, ImapError> {
        let mut fetched = Vec::with_capacity(batch.len());
        let uids: Vec<u32> = batch.iter().map(|message| message.uid).collect();
        let budget = fetch_budget(batch, limits);
        for set in uid_sets(&uids) {
            let line = format!("UID FETCH {set} (UID INTERNALDATE BODY.PEEK[])");
            self.fetch_set(&line, budget, &mut fetched).await?;
        }
        fetched.retain(|message| uids.contains(&message.uid));
        fetched.sort_unstable_by_key(|message| message.uid);
        fetched.dedup_by_key(|message| message.uid);
        Ok(fetched)
    }

    /// Fetches the beginning of a message's header section, for a message that is too large to be fetched whole; none
    /// when the server does not give it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn fetch_header(&mut self, uid: u32) -> Result<Option<Vec<u8>>, ImapError> {
        const DURING: &str = "a fetch of a header";
        let line = format!("UID FETCH {uid} (UID BODY.PEEK[HEADER]<0.{HEADER_LIMIT}>)");
        let mut header = None;
        let done = self.wire.run(Command::new(DURING, &line, self.timeouts.transfer), |response| {
            if let Response::Fetch(_, attributes) = response {
                header = read_header(attributes, uid).or(header.take());
            }
        });
        // A server that refuses has said so in order.
        Ok(done.await?.ok.then_some(header).flatten())
    }

    async fn fetch_set(
        &mut self,
        line: &str,
        budget: Budget,
        fetched: &mut Vec<Fetched>,
    ) -> Result<(), ImapError> {
        const DURING: &str = "a fetch of messages";
        let Timeouts { transfer, .. } = self.timeouts;
        let command = Command { budget, ..Command::new(DURING, line, transfer) };
        let done = self.wire.run(command, |response| {
            if let Response::Fetch(_, attributes) = response {
                fetched.extend(read_fetched(attributes));
            }
        });
        done.await?.ok(DURING).map(drop)
    }
}

/// Servers may be wrong about `RFC822.SIZE`, which some only estimate: twice the sum is allowed.
fn fetch_budget(batch: &[Listed], limits: &FetchLimits) -> Budget {
    let listed: u64 = batch.iter().map(|message| message.size_bytes).sum();
    let overhead = RESPONSE_OVERHEAD * (batch.len() as u64 + 1);
    let total = listed * 2 + overhead + Budget::SMALL.total;
    Budget { literal: limits.message_bytes, total }
}

fn read_listed(attributes: &[AttributeValue<'_>]) -> Option<Listed> {
    let (mut uid, mut size, mut date, mut flags) = (None, None, None, None);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::Rfc822Size(value) => size = Some(u64::from(*value)),
            AttributeValue::InternalDate(value) => date = internal_date_ms(value),
            AttributeValue::Flags(value) => flags = Some(value),
            _ => {}
        }
    }
    let has = |flag: &str| flags.is_some_and(|flags| flags.iter().any(|f| f.eq_ignore_ascii_case(flag)));
    Some(Listed {
        // A FETCH without a size is another client's flag change, told to us on the way.
        uid: uid?,
        size_bytes: size?,
        internal_date_ms: date,
        deleted: has("\\Deleted"),
    })
}

fn read_fetched(attributes: &[AttributeValue<'_>]) -> Option<Fetched> {
    let (mut uid, mut raw, mut date) = (None, None, None);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::InternalDate(value) => date = internal_date_ms(value),
            AttributeValue::BodySection { section: None, data: Some(data), .. } => raw = Some(data.to_vec()),
            _ => {}
        }
    }
    Some(Fetched { uid: uid?, raw: raw?, internal_date_ms: date })
}

fn read_header(attributes: &[AttributeValue<'_>], wanted: u32) -> Option<Vec<u8>> {
    let is_wanted =
        attributes.iter().any(|attribute| matches!(attribute, AttributeValue::Uid(uid) if *uid == wanted));
    attributes.iter().filter(|_| is_wanted).find_map(|attribute| match attribute {
        AttributeValue::BodySection { section: Some(_), data: Some(data), .. } => Some(data.to_vec()),
        _ => None,
    })
}

/// RFC 3501 §9 `date-time`: `17-Jul-1996 02:44:25 -0700`, the day padded with a space.
fn internal_date_ms(text: &str) -> Option<i64> {
    let date = DateTime::parse_from_str(text.trim(), "%e-%b-%Y %H:%M:%S %z").ok()?;
    Some(date.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: u32, size_bytes: u64) -> Listed {
        Listed { uid, size_bytes, internal_date_ms: None, deleted: false }
    }

    fn uids(batch: &[Listed]) -> Vec<u32> {
        batch.iter().map(|message| message.uid).collect()
    }

    #[test]
    fn batches_keep_to_bytes_and_count_and_set_the_oversize_aside() {
        let limits = FetchLimits { message_bytes: 100, batch_bytes: 50, batch_messages: 3 };
        let sizes = [10, 10, 10, 10, 45, 100, 101, 1];
        let listed = (1..).zip(sizes).map(|(uid, size)| message(uid, size)).collect();
        let plan = Batches::plan(listed, &limits);
        let seen: Vec<_> = plan.batches.iter().map(|batch| uids(batch)).collect();
        assert_eq!(seen, vec![vec![1, 2, 3], vec![4], vec![5], vec![6], vec![8]]);
        assert_eq!(uids(&plan.oversize), vec![7]);
    }

    #[test]
    fn an_internal_date_is_read_with_either_padding() {
        assert_eq!(internal_date_ms("17-Jul-1996 02:44:25 -0700"), Some(837_596_665_000));
        assert_eq!(internal_date_ms(" 1-Jan-1970 00:00:01 +0000"), Some(1000));
        assert_eq!(internal_date_ms("yesterday"), None);
    }
}
