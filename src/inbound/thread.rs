//! Which conversation a message belongs to (DESIGN §4).
//!
//! In this order: our signed token, wherever the message carries it; the ids in In-Reply-To; the ids in References,
//! the last first. A token holds for every account of ours, because only we can make it. Ids are looked for among the
//! messages of the account that received the message, so that nobody gets into another account's conversation by
//! quoting an id. The subject alone never joins a conversation, and `From` proves nothing.
//!
//! A text joins the number's conversation over its account while that is open or was closed lately; a token counts only for a conversation with that number.
//!
//! Reports (bounces, complaints) carry the message they are about: its Message-ID counts like an id in In-Reply-To.

use std::collections::HashMap;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement, Value, sea_query::LockType,
};
use uuid::Uuid;

use super::{
    prepare::{envelope, indexed},
    source::IN_LIST,
};
use crate::{
    clock::Timestamp,
    conversations::{
        entity::{conversation, message},
        texts::goes_on,
    },
    db::among,
    id::{AccountId, ConversationId, UserId},
    mail::{
        classify::Classification,
        parse::{Parsed, attachment},
        token::Signer,
    },
};

/// How many ids of References, from the right, are looked for.
const REFERENCES_MAX: usize = 20;
/// How many ids of In-Reply-To are looked for.
const ANSWERED_MAX: usize = 5;
/// How many embedded messages of a report are read.
const EMBEDDED_MAX: usize = 2;

/// The fields in which servers note where a message came to, whatever To says.
pub(super) const ARRIVED_AT: [&str; 3] = ["delivered-to", "x-original-to", "envelope-to"];

/// What a message says it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Conversations that genuine tokens name, the best first.
    pub conversations: Vec<ConversationId>,
    /// Message-IDs, the best first.
    pub ids: Vec<String>,
}

impl Links {
    /// Collects them from a message.
    pub fn of(parsed: &Parsed, raw: &[u8], signer: &Signer) -> Self {
        let reported = match parsed.class {
            Classification::Bounce | Classification::Complaint => reported(parsed, raw),
            _ => Reported::default(),
        };
        let answered = parsed.in_reply_to.iter().take(ANSWERED_MAX);
        let references = parsed.references.iter().rev().take(REFERENCES_MAX);
        let ids: Vec<&String> = answered.chain(&reported.ids).chain(references).collect();
        let delivered = ARRIVED_AT.iter().filter_map(|name| parsed.headers.get(*name)).flatten();
        let addresses = parsed.to.iter().chain(&parsed.cc).chain(&parsed.reply_to);
        let carriers = ids
            .iter()
            .map(|id| id.as_str())
            .chain(addresses.map(|mailbox| mailbox.address.as_str()))
            .chain(delivered.map(String::as_str))
            .chain(parsed.message_id.as_deref())
            .chain(reported.text.as_deref());
        let mut conversations: Vec<_> = carriers
            .filter_map(|text| signer.verify(text))
            .map(|token| ConversationId(token.conversation))
            .collect();
        conversations.dedup();
        Self { conversations, ids: ids.into_iter().cloned().map(indexed).collect() }
    }
}

/// What a report says of the message that it is about.
#[derive(Default)]
struct Reported {
    ids: Vec<String>,
    /// The text of a report that has no parts (before RFC 3464), in which a token may be quoted.
    text: Option<String>,
}

fn reported(parsed: &Parsed, raw: &[u8]) -> Reported {
    let embedded = parsed.attachments.iter().filter(|part| {
        let (kind, subtype) = part.content_type.split_once('/').unwrap_or_default();
        matches!(
            (kind, subtype),
            ("message", "rfc822" | "global" | "global-headers") | ("text" | "message", "rfc822-headers")
        )
    });
    let embedded = embedded.take(EMBEDDED_MAX).filter_map(|part| attachment(raw, part.index));
    let mut ids: Vec<String> = embedded.filter_map(|part| envelope(&part.bytes)?.message_id).collect();
    let text = parsed.text.clone().filter(|_| ids.is_empty());
    ids.extend(text.as_deref().and_then(quoted_id));
    Reported { ids, text }
}

/// The Message-ID in a header that is quoted in a text.
fn quoted_id(text: &str) -> Option<String> {
    let lines = text.lines().map(|line| line.trim_start_matches(['>', ' ', '\t']));
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("message-id").then_some(value)
    });
    values.find_map(|value| {
        let (id, _) = value.split_once('<')?.1.split_once('>')?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    })
}

/// The conversations that the messages of a batch may belong to.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// The newest message of each Message-ID.
    by_header: HashMap<String, ConversationId>,
    /// The newest conversation with each number.
    by_number: HashMap<String, ConversationId>,
    /// The conversations, as they stand.
    pub known: HashMap<ConversationId, conversation::Model>,
}

impl Threads {
    /// Reads, and on PostgreSQL locks, every conversation that one of the links may mean, and those with numbers.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(super) async fn load<'a>(
        tx: &DatabaseTransaction,
        account: AccountId,
        links: impl Iterator<Item = &'a Links>,
        by_number: HashMap<String, ConversationId>,
    ) -> Result<Self, DbErr> {
        let (mut wanted, mut ids) = (Vec::new(), Vec::new());
        for links in links {
            wanted.extend(links.conversations.iter().copied());
            ids.extend(links.ids.iter().map(String::as_str));
        }
        ids.sort_unstable();
        ids.dedup();
        let mut threads = Self { by_number, ..Self::default() };
        for ids in ids.chunks(IN_LIST) {
            threads.by_header.extend(newest(tx, account, ids).await?);
        }
        wanted.extend(threads.by_header.values().copied());
        wanted.extend(threads.by_number.values().copied());
        // Everybody locks in the order of ids, so that two batches cannot wait for each other.
        wanted.sort_unstable();
        wanted.dedup();
        for ids in wanted.chunks(IN_LIST) {
            let rows = conversation::Entity::find()
                .filter(among(conversation::Column::Id, ids.iter().copied()))
                .order_by_asc(conversation::Column::Id)
                .lock(LockType::NoKeyUpdate)
                .all(tx)
                .await?;
            threads.known.extend(rows.into_iter().map(|row| (row.id, row)));
        }
        Ok(threads)
    }

    /// The conversation that the links mean.
    pub(super) fn find(&self, links: &Links) -> Option<ConversationId> {
        let by_token = links.conversations.iter().find(|id| self.known.contains_key(id));
        by_token.or_else(|| links.ids.iter().find_map(|id| self.by_header.get(id))).copied()
    }

    /// The conversation of a text: one with the number that a token names, or the number's own while it is open or was
    /// closed lately.
    pub(super) fn with_number(
        &self,
        links: &Links,
        account: AccountId,
        number: &str,
        since: Timestamp,
    ) -> Option<ConversationId> {
        let is_theirs = |row: &conversation::Model| {
            row.account_id == account && row.customer_address.as_deref() == Some(number)
        };
        let named = links.conversations.iter().find(|id| self.known.get(id).is_some_and(is_theirs));
        let goes_on = |id: &&ConversationId| self.known.get(id).is_some_and(|row| goes_on(row, since));
        named.or_else(|| self.by_number.get(number).filter(goes_on)).copied()
    }

    /// Who last had a conversation with the number.
    pub(super) fn last_agent_of(&self, number: &str) -> Option<UserId> {
        self.known.get(self.by_number.get(number)?)?.last_agent_id
    }

    /// Notes a message of this batch, so that later ones can answer it; of a text with its number.
    pub(super) fn note(&mut self, message: &message::Model, number: Option<&str>) {
        if let Some(number) = number {
            self.by_number.insert(number.to_owned(), message.conversation_id);
        }
        if let Some(header) = &message.message_id_header {
            self.by_header.insert(header.clone(), message.conversation_id);
        }
    }
}

/// The conversations of the account's newest messages with these ids: a sender may have used one again and again.
async fn newest(
    tx: &DatabaseTransaction,
    account: AccountId,
    ids: &[&str],
) -> Result<Vec<(String, ConversationId)>, DbErr> {
    let rows: Vec<String> = (0..ids.len()).map(|row| format!("(${})", row + 2)).collect();
    let sql = format!(
        "WITH wanted (header) AS (VALUES {}) SELECT header, (SELECT conversation_id FROM messages \
         WHERE message_id_header = header AND account_id = $1 ORDER BY id DESC LIMIT 1) FROM wanted",
        rows.join(", ")
    );
    let ids = ids.iter().map(|id| Value::from(*id));
    let values = std::iter::once(Value::from(account.uuid())).chain(ids);
    let found = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let mut newest = Vec::new();
    for row in tx.query_all_raw(found).await? {
        let conversation: Option<Uuid> = row.try_get_by_index(1)?;
        if let Some(conversation) = conversation {
            newest.push((row.try_get_by_index(0)?, ConversationId(conversation)));
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::parse::{Limits, parse};

    fn links(raw: &str, signer: &Signer) -> Links {
        Links::of(&parse(raw.as_bytes(), &Limits::default()).unwrap(), raw.as_bytes(), signer)
    }

    #[test]
    fn ids_are_tried_from_in_reply_to_and_then_references_from_the_right() {
        let raw = "In-Reply-To: <c@x>\nReferences: <a@x> <b@x>\n\nhello";
        assert_eq!(links(raw, &Signer::new(&[1; 32])).ids, ["c@x", "b@x", "a@x"]);
    }

    #[test]
    fn only_a_genuine_token_names_a_conversation() {
        let (ours, theirs) = (Signer::new(&[1; 32]), Signer::new(&[2; 32]));
        let conversation = ConversationId(uuid::Uuid::from_u128(7));
        let id = ours.message_id(uuid::Uuid::from_u128(8), conversation.uuid(), "example.com");
        let raw = format!("References: <{id}> <later@x>\nSubject: Re: x\n\nhello");
        assert_eq!(links(&raw, &ours).conversations, [conversation]);
        assert!(links(&raw, &theirs).conversations.is_empty());
    }

    #[test]
    fn a_bounce_without_parts_is_tied_by_the_id_it_quotes() {
        assert_eq!(quoted_id("It failed:\n> Message-Id: <a@x>\n> Subject: y").as_deref(), Some("a@x"));
        assert_eq!(quoted_id("no header here <a@x>"), None);
    }
}
