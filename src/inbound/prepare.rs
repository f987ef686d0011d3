//! What is done with a message before any transaction: read it, hash it, make its raw bytes durable.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::{
    batch::{AcceptError, Content, Incoming, Source},
    texts::{self, Sms},
    thread::{ARRIVED_AT, Links},
};
use crate::{
    accounts::entity::account,
    app::App,
    broadcasts,
    clock::Timestamp,
    conversations::entity::{Classification, Direction, MessageKind, MessageState, message, raw_message},
    feedback::Heard,
    id::{ConversationId, MessageId},
    instance::instance_id,
    mail::{
        address::Mailbox,
        classify::{self, with_loop_check},
        parse::{Limits, Parsed, Unparsable, parse},
        sms::gateway::Gateway,
        token::Signer,
    },
};

/// How many large messages are written to the object store at once.
const PARALLEL_PUTS: usize = 8;
/// The longest header section that is looked at in a message that cannot be parsed.
const HEADER_MAX: usize = 256 * 1024;
/// The longest indexed text in bytes: PostgreSQL's index entries hold 2,704.
pub(super) const INDEXED_MAX: usize = 998;

/// A message that is ready to be stored.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// Where it was found.
    pub source: Source,
    /// Its row, still without a conversation.
    pub message: message::Model,
    /// Its raw bytes; none of a message that is too large to fetch, unless its header was fetched.
    pub raw: Option<raw_message::Model>,
    /// SHA-256 of the whole message.
    pub sha256: Option<Vec<u8>>,
    /// What it answers.
    pub links: Links,
    /// The report that it is, about a message of ours.
    pub heard: Option<Heard>,
    /// What it is as a gateway's mail.
    pub sms: Option<Sms>,
}

/// What is said of a message that nobody dares to read.
const UNREAD: &str =
    "unreadable: the service ended whenever it read this message; its source is kept as it came";

/// What all messages of a batch share.
struct Shared {
    account: Arc<account::Model>,
    /// How the gateway's mail is read, when the account is for texts.
    gateway: Option<Gateway>,
    signer: Signer,
    instance: String,
    now: Timestamp,
    max_bytes: usize,
}

/// A message that is read but whose bytes are not stored yet.
type Read = (Prepared, Vec<u8>);

/// Reads all messages, several at a time, and makes the large ones durable.
///
/// # Errors
/// When the object store or the database fails, or the process stops.
pub(super) async fn prepare(
    app: &App,
    account: &Arc<account::Model>,
    incoming: Vec<Incoming>,
) -> Result<Vec<Prepared>, AcceptError> {
    let shared = Arc::new(Shared {
        account: Arc::clone(account),
        gateway: texts::gateway(account),
        signer: Signer::new(&app.sealer.derive("message-token")),
        instance: instance_id(app).await?,
        now: app.clock.now(),
        max_bytes: app.config.mail.max_message_bytes,
    });
    let read = read_all(shared, incoming).await?;
    let stored = stream::iter(read).map(|(mut prepared, bytes)| async {
        if prepared.sha256.is_some() || !bytes.is_empty() {
            let sha256 = prepared.sha256.clone().unwrap_or_else(|| Sha256::digest(&bytes).to_vec());
            prepared.raw = Some(app.raw.put_hashed(prepared.message.id, bytes, sha256).await?);
        }
        Ok::<_, AcceptError>(prepared)
    });
    let mut prepared: Vec<Prepared> = stored.buffered(PARALLEL_PUTS).try_collect().await?;
    texts::resolve(app, account, &mut prepared).await?;
    // A report about a broadcast is nobody's work, and needs no conversation.
    let answers = prepared.iter().filter(|one| one.heard.is_none());
    let named = answers.flat_map(|one| one.links.conversations.iter().copied()).collect();
    // On the heap, because every poller's future would carry it otherwise.
    Box::pin(broadcasts::thread::file_answered(app, named)).await?;
    Ok(prepared)
}

/// Splits the batch over the cores; a message never waits for a slow one of another share.
async fn read_all(shared: Arc<Shared>, incoming: Vec<Incoming>) -> Result<Vec<Read>, AcceptError> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let share = incoming.len().div_ceil(cores).max(1);
    // Ids are given in the order of arrival, which is the order of messages everywhere.
    let mut numbered = incoming.into_iter().map(|one| (MessageId::new(shared.now), one)).peekable();
    let mut shares = Vec::with_capacity(cores);
    while numbered.peek().is_some() {
        let share: Vec<_> = numbered.by_ref().take(share).collect();
        let shared = Arc::clone(&shared);
        shares.push(spawn_blocking(move || {
            share.into_iter().map(|(id, one)| read(&shared, id, one)).collect::<Vec<_>>()
        }));
    }
    let mut read = Vec::new();
    for share in shares {
        read.extend(share.await?);
    }
    Ok(read)
}

fn read(shared: &Shared, id: MessageId, incoming: Incoming) -> Read {
    let Incoming { source, content } = incoming;
    match content {
        Content::Raw(raw) => {
            let sha256 = Some(Sha256::digest(&raw).to_vec());
            let size = i64::try_from(raw.len()).unwrap_or(i64::MAX);
            let parsed = parse(&raw, &Limits::default());
            let (mut message, links) = match &parsed {
                Ok(parsed) => shared.parsed(id, parsed, &raw),
                Err(error) => shared.unparsed(id, error, &raw),
            };
            message.size_bytes = size;
            let heard = heard(shared, &message, &raw);
            let gateway = shared.gateway.as_ref().filter(|_| heard.is_none());
            let sms = gateway
                .zip(parsed.ok())
                .and_then(|(gateway, parsed)| texts::read(gateway, &parsed, &mut message));
            (Prepared { source, message, raw: None, sha256, links, heard, sms }, raw)
        }
        Content::Unread(raw) => {
            let sha256 = Some(Sha256::digest(&raw).to_vec());
            let message = message::Model {
                state_reason: Some(UNREAD.to_owned()),
                size_bytes: i64::try_from(raw.len()).unwrap_or(i64::MAX),
                ..bare(id, &shared.account, shared.now)
            };
            let links = Links::default();
            (Prepared { source, message, raw: None, sha256, links, heard: None, sms: None }, raw)
        }
        Content::Oversize { size_bytes, header } => {
            let header = header.unwrap_or_default();
            let (mut message, links) = shared.oversize(id, size_bytes, &header);
            message.size_bytes = size_bytes;
            (Prepared { source, message, raw: None, sha256: None, links, heard: None, sms: None }, header)
        }
    }
}

/// The report about a message of ours that this one is; people's mail is not looked at for it.
fn heard(shared: &Shared, message: &message::Model, raw: &[u8]) -> Option<Heard> {
    let system = |address: &str| {
        let local = address.split('@').next().unwrap_or_default();
        local.eq_ignore_ascii_case("mailer-daemon") || local.eq_ignore_ascii_case("postmaster")
    };
    let may = match message.classification {
        Classification::Bounce | Classification::Complaint => true,
        Classification::Loop => false,
        _ => message.auto_submitted.is_some() || message.from_address.as_deref().is_none_or(system),
    };
    may.then(|| Heard::of(raw, &shared.signer, &addressees(message))).flatten()
}

/// Where a message came to, as far as it tells.
fn addressees(message: &message::Model) -> Vec<String> {
    let to: Vec<Mailbox> = serde_json::from_value(message.to_addresses.clone()).unwrap_or_default();
    let fields = ARRIVED_AT.iter().filter_map(|name| message.headers.get(*name)?.as_array());
    let fields = fields.flatten().filter_map(|value| value.as_str().map(str::to_owned));
    to.into_iter().map(|mailbox| mailbox.address).chain(fields).collect()
}

impl Shared {
    fn parsed(&self, id: MessageId, parsed: &Parsed, raw: &[u8]) -> (message::Model, Links) {
        let links = Links::of(parsed, raw, &self.signer);
        let model = message::Model {
            state: MessageState::Parsed,
            classification: with_loop_check(parsed, &self.instance).into(),
            ..self.model(id, parsed)
        };
        (model, links)
    }

    /// What cannot be parsed may still have a header that can.
    fn unparsed(&self, id: MessageId, error: &Unparsable, raw: &[u8]) -> (message::Model, Links) {
        let (model, links) = self.header_only(id, raw);
        let state_reason = Some(error.to_string());
        (message::Model { state: MessageState::Unparsed, state_reason, ..model }, links)
    }

    fn oversize(&self, id: MessageId, size_bytes: i64, header: &[u8]) -> (message::Model, Links) {
        let (model, links) = self.header_only(id, header);
        let max_bytes = self.max_bytes;
        let why = if u64::try_from(size_bytes).is_ok_and(|size| size <= max_bytes as u64) {
            format!(
                "not_fetched: the mailbox lists a message of {size_bytes} bytes and does not give it as such"
            )
        } else {
            format!(
                "too_large: the message has {size_bytes} bytes, of which {max_bytes} are taken in at most"
            )
        };
        let state_reason = Some(format!("{why}; it is still in the mailbox"));
        (message::Model { state: MessageState::Oversize, state_reason, ..model }, links)
    }

    fn header_only(&self, id: MessageId, raw: &[u8]) -> (message::Model, Links) {
        match envelope(raw) {
            Some(parsed) => {
                // The rest of the message is not known, so only what its header says of its kind counts.
                let envelope = Parsed {
                    text: None,
                    new_text: None,
                    quoted_text: None,
                    signature: None,
                    html: None,
                    attachments: Vec::new(),
                    ..parsed
                };
                self.parsed(id, &envelope, raw)
            }
            None => (bare(id, &self.account, self.now), Links::default()),
        }
    }

    fn model(&self, id: MessageId, parsed: &Parsed) -> message::Model {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        message::Model {
            message_id_header: parsed.message_id.clone().map(indexed),
            in_reply_to: to_json(&parsed.in_reply_to),
            reference_ids: to_json(&parsed.references),
            from_name: parsed.from.as_ref().and_then(|from| from.name.clone()),
            from_address: sender(parsed).map(|from| from.address.clone()),
            reply_to: to_json(&parsed.reply_to),
            to_addresses: to_json(&parsed.to),
            cc_addresses: to_json(&parsed.cc),
            subject: text(&parsed.subject),
            text: text(&parsed.text),
            new_text: text(&parsed.new_text),
            quoted_text: text(&parsed.quoted_text),
            signature: text(&parsed.signature),
            html: parsed.html.clone(),
            attachments: to_json(&parsed.attachments),
            headers: to_json(&parsed.headers),
            auto_submitted: auto_submitted(parsed),
            dated_at: parsed.sent_at.map(Timestamp::from_millis),
            ..bare(id, &self.account, self.now)
        }
    }
}

/// A message of which nothing is known but that it came.
pub(super) fn bare(id: MessageId, account: &account::Model, now: Timestamp) -> message::Model {
    message::Model {
        id,
        conversation_id: ConversationId(uuid::Uuid::nil()),
        account_id: account.id,
        work_item_id: None,
        direction: Direction::Inbound,
        channel: account.channel,
        kind: MessageKind::Customer,
        state: MessageState::Unparsed,
        state_reason: None,
        classification: Classification::Normal,
        message_id_header: None,
        in_reply_to: json!([]),
        reference_ids: json!([]),
        from_name: None,
        from_address: None,
        reply_to: json!([]),
        to_addresses: json!([]),
        cc_addresses: json!([]),
        bcc_addresses: json!([]),
        subject: String::new(),
        text: String::new(),
        new_text: String::new(),
        quoted_text: String::new(),
        signature: String::new(),
        html: None,
        attachments: json!([]),
        headers: json!({}),
        size_bytes: 0,
        author_id: None,
        auto_submitted: None,
        category: None,
        external_ref: None,
        retry_of: None,
        template_id: None,
        customer_id: None,
        campaign_id: None,
        send_at: None,
        dated_at: None,
        received_at: Some(now),
        sent_at: None,
        erased_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// Reads only the header section of a message; none when there is nothing in it.
pub(super) fn envelope(raw: &[u8]) -> Option<Parsed> {
    let raw = &raw[..raw.len().min(HEADER_MAX)];
    let ends = [&b"\n\n"[..], b"\n\r\n"].map(|blank| {
        raw.windows(blank.len()).position(|bytes| bytes == blank).map_or(raw.len(), |at| at + blank.len())
    });
    parse(&raw[..ends[0].min(ends[1])], &Limits::default()).ok()
}

fn sender(parsed: &Parsed) -> Option<&Mailbox> {
    parsed.from.as_ref().or(parsed.sender.as_ref())
}

/// RFC 3834 §5: the keyword, when it says that no person sent the message.
fn auto_submitted(parsed: &Parsed) -> Option<String> {
    let value = parsed.headers.get("auto-submitted")?.first()?;
    let keyword = value.split([';', '(', ' ', '\t']).next()?.trim().to_ascii_lowercase();
    (!keyword.is_empty() && keyword != "no").then_some(keyword)
}

fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Cut to what an index can hold.
pub(super) fn indexed(mut text: String) -> String {
    if text.len() > INDEXED_MAX {
        let end = (0..=INDEXED_MAX).rfind(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

impl From<classify::Classification> for Classification {
    fn from(class: classify::Classification) -> Self {
        use classify::Classification as Mail;
        match class {
            Mail::Normal => Self::Normal,
            Mail::AutoReply => Self::AutoReply,
            Mail::Bounce => Self::Bounce,
            Mail::Complaint => Self::Complaint,
            Mail::List => Self::List,
            Mail::Loop => Self::Loop,
        }
    }
}
