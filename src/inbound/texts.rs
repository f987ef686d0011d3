//! Texts among the mail of an SMS account: what the gateway's mail is, whose number it is about, and what its words ask for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, JoinType, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::json;

use super::prepare::Prepared;
use crate::{
    accounts::{entity::account, preview_text::seen, sms::SmsSettings},
    app::App,
    broadcasts,
    clock::Timestamp,
    conversations::{
        entity::{Classification, Direction, MessageState, conversation, message},
        texts::newest_of,
    },
    customers::entity::customer,
    db::among,
    feedback::Heard,
    id::{AccountId, ConversationId, MessageId},
    mail::{
        parse::Parsed,
        sms::{
            gateway::{Fate, Gateway, Held},
            inbound::GatewayMail,
            keywords::Keyword,
        },
    },
    receipts::{Limits, WordReply, may_reply_to_words},
    suppressions::{
        AddressKeys,
        bar::{bar, lift_stop},
        entity::SuppressionReason,
    },
};

/// What a gateway's mail is besides its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sms {
    /// Somebody's text.
    Text {
        /// Whose.
        number: String,
        /// What it asks for, when it is one of the words.
        keyword: Option<Keyword>,
    },
    /// What became of a text of ours.
    Receipt {
        /// Whom that was for.
        number: String,
        /// What became of it.
        fate: Fate,
        /// The gateway's word.
        words: String,
    },
}

impl Sms {
    /// The number that it is from or about.
    pub fn number(&self) -> &str {
        match self {
            Self::Text { number, .. } | Self::Receipt { number, .. } => number,
        }
    }

    /// What it asks for.
    pub fn keyword(&self) -> Option<Keyword> {
        match self {
            Self::Text { keyword, .. } => *keyword,
            Self::Receipt { .. } => None,
        }
    }

    /// Whether it is somebody's work: neither a receipt nor one of the words.
    pub fn is_work(&self) -> bool {
        matches!(self, Self::Text { keyword: None, .. })
    }
}

/// How the account's mail is read; none of an account for e-mail. Settings that cannot be used any more read nothing.
pub(super) fn gateway(account: &account::Model) -> Option<Gateway> {
    let settings = SmsSettings::of(account)?;
    Some(settings.gateway().unwrap_or_else(|errors| {
        tracing::error!(account = %account.id, ?errors, "an account's gateway cannot be used");
        Gateway::default()
    }))
}

/// Makes of a gateway's mail the text that it holds. Mail that is neither text nor receipt is kept as `unparsed`, with the
/// reason, so that an agent can open it.
pub(super) fn read(gateway: &Gateway, parsed: &Parsed, row: &mut message::Model) -> Option<Sms> {
    if row.classification == Classification::Loop {
        return None;
    }
    let (address, from, subject, text) = seen(parsed);
    let held = gateway.read(&address, &GatewayMail { from: &from, subject: &subject, text: &text });
    match held {
        Err(why) => {
            row.state = MessageState::Unparsed;
            row.state_reason = Some(format!("{}: {why}", why.code()));
            None
        }
        Ok(Held::Text { number, text, keyword }) => {
            let number = number.to_string();
            row.state_reason = keyword.map(said).map(str::to_owned);
            row.from_address = Some(number.clone());
            row.new_text.clone_from(&text);
            row.text = text;
            // A gateway marks its mail as a machine's, but a person wrote the text.
            row.classification = Classification::Normal;
            row.auto_submitted = None;
            blank(row);
            Some(Sms::Text { number, keyword })
        }
        Ok(Held::Receipt { number, fate, words }) => {
            row.classification = Classification::AutoReply;
            row.state_reason = Some(format!("receipt: {words}"));
            row.from_address = Some(number.to_string());
            blank(row);
            Some(Sms::Receipt { number: number.to_string(), fate, words })
        }
    }
}

/// What a text has not.
fn blank(row: &mut message::Model) {
    row.from_name = None;
    (row.reply_to, row.cc_addresses) = (json!([]), json!([]));
    (row.subject, row.quoted_text, row.signature) = (String::new(), String::new(), String::new());
    row.html = None;
}

const fn said(keyword: Keyword) -> &'static str {
    match keyword {
        Keyword::Stop => "stop_word: the number gets no more texts",
        Keyword::Start => "start_word: the number gets texts again",
        Keyword::Help => "help_word: it is answered with the account's help",
    }
}

/// The newest text to a number that the account sent.
struct Latest {
    id: MessageId,
    sent_at: Timestamp,
    /// Whether it is a recipient's row that nobody has answered to yet.
    of_broadcast: bool,
}

/// Finds who the writers are, what they may answer to, and which texts the receipts are about.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn resolve(
    app: &App,
    account: &account::Model,
    batch: &mut [Prepared],
) -> Result<(), DbErr> {
    let db = app.db.read();
    let numbers: HashSet<String> =
        batch.iter().filter_map(|one| Some(one.sms.as_ref()?.number().to_owned())).collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let keys = AddressKeys::of(app);
    let customers = customers(db, &keys, &numbers).await?;
    let mut latest = HashMap::new();
    for number in &numbers {
        if let Some(found) = latest_to(db, account.id, number, &keys.key(number)).await? {
            latest.insert(number.clone(), found);
        }
    }
    for one in batch {
        let Some(sms) = &one.sms else { continue };
        let found = latest.get(sms.number());
        match sms {
            Sms::Text { number, .. } => {
                if let Some(customer) = customers.get(number) {
                    one.message.customer_id = Some(customer.id);
                    one.message.from_name = Some(customer.name.clone()).filter(|name| !name.is_empty());
                }
                // An answer to a broadcast goes on with it, as its first message.
                if let Some(found) = found.filter(|found| found.of_broadcast) {
                    one.links.conversations.push(ConversationId(found.id.uuid()));
                }
            }
            Sms::Receipt { fate, words, .. } => {
                one.heard = found.map(|found| Heard::receipt(found.id, *fate, words));
            }
        }
    }
    Ok(())
}

/// The customers of these numbers; one that several customers have is nobody's.
async fn customers(
    db: &impl ConnectionTrait,
    keys: &AddressKeys,
    numbers: &HashSet<String>,
) -> Result<HashMap<String, customer::Model>, DbErr> {
    let by_key: HashMap<String, &String> = numbers.iter().map(|number| (keys.key(number), number)).collect();
    let asked: Vec<String> = by_key.keys().cloned().collect();
    let (mut found, mut shared) = (HashMap::new(), HashSet::new());
    for asked in asked.chunks(500) {
        let rows = customer::Entity::find().filter(among(customer::Column::SmsKey, asked.iter().cloned()));
        for row in rows.all(db).await? {
            let Some(number) = row.sms_key.as_ref().and_then(|key| by_key.get(key)) else { continue };
            if found.insert((*number).clone(), row).is_some() {
                shared.insert((*number).clone());
            }
        }
    }
    found.retain(|number, _| !shared.contains(number));
    Ok(found)
}

async fn latest_to(
    db: &impl ConnectionTrait,
    account: AccountId,
    number: &str,
    key: &str,
) -> Result<Option<Latest>, DbErr> {
    let single = latest_single(db, account, number).await?;
    let broadcast = broadcasts::thread::latest_to(db, account, key).await?;
    let broadcast = broadcast.map(|(id, sent_at)| Latest { id, sent_at, of_broadcast: true });
    Ok([single, broadcast].into_iter().flatten().max_by_key(|found| (found.sent_at, !found.of_broadcast)))
}

async fn latest_single(
    db: &impl ConnectionTrait,
    account: AccountId,
    number: &str,
) -> Result<Option<Latest>, DbErr> {
    use MessageState::{Bounced, Complained, Delivered, Sent, Uncertain};
    let to_conversation = message::Entity::belongs_to(conversation::Entity)
        .from(message::Column::ConversationId)
        .to(conversation::Column::Id);
    let found: Option<(MessageId, Option<Timestamp>, Timestamp)> = message::Entity::find()
        .join(JoinType::InnerJoin, to_conversation.into())
        .select_only()
        .columns([message::Column::Id, message::Column::SentAt, message::Column::UpdatedAt])
        .filter(conversation::Column::CustomerAddress.eq(number))
        .filter(conversation::Column::AccountId.eq(account))
        .filter(message::Column::Direction.eq(Direction::Outbound))
        .filter(message::Column::State.is_in([Sent, Uncertain, Delivered, Bounced, Complained]))
        .order_by_desc(message::Column::Id)
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    Ok(found.map(|(id, sent_at, updated_at)| Latest {
        id,
        sent_at: sent_at.unwrap_or(updated_at),
        of_broadcast: false,
    }))
}

/// The newest conversation with each number of the batch.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn known(
    tx: &DatabaseTransaction,
    account: AccountId,
    fresh: &[&Prepared],
) -> Result<HashMap<String, ConversationId>, DbErr> {
    let numbers: HashSet<&str> = fresh.iter().filter_map(|one| Some(one.sms.as_ref()?.number())).collect();
    newest_of(tx, account, &numbers.into_iter().collect::<Vec<_>>()).await
}

/// What words are answered, by message, each number at most once in 7 days; what is not answered and asks for help is work
/// after all.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn replies(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    account: &Arc<account::Model>,
    fresh: &[&Prepared],
) -> Result<HashMap<MessageId, WordReply>, DbErr> {
    let asking = fresh.iter().filter_map(|one| Some((*one, one.sms.as_ref()?.keyword()?)));
    let asking: Vec<(&Prepared, Keyword)> = asking.collect();
    let Some(settings) = SmsSettings::of(account).filter(|_| !asking.is_empty()) else {
        return Ok(HashMap::new());
    };
    let wanted = asking.into_iter().filter_map(|(one, keyword)| {
        Some(WordReply {
            message_id: one.message.id,
            number: one.message.from_address.clone()?,
            rule: match keyword {
                Keyword::Stop => "sms:stop",
                Keyword::Start => "sms:start",
                Keyword::Help => "sms:help",
            },
            words: settings.reply_to(keyword)?.to_owned(),
        })
    });
    let limits = Limits::from(&app.config.limits);
    let allowed = may_reply_to_words(tx, limits, now, account.id, wanted.collect()).await?;
    Ok(allowed.into_iter().map(|reply| (reply.message_id, reply)).collect())
}

/// Does what the words ask for, in the order in which they came.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn obey(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    fresh: &[&Prepared],
) -> Result<(), DbErr> {
    for sms in fresh.iter().filter_map(|one| one.sms.as_ref()) {
        match sms.keyword() {
            Some(Keyword::Stop) => {
                bar(app, tx, now, sms.number(), SuppressionReason::Stopped, "by a stop word in a text")
                    .await?;
            }
            Some(Keyword::Start) => lift_stop(app, tx, now, sms.number()).await?,
            Some(Keyword::Help) | None => {}
        }
    }
    Ok(())
}
