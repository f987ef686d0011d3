//! The one transaction of a batch: messages, their conversations, raw bytes, sources, work, events and the cursor.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sea_orm::{
    ActiveModelTrait, DatabaseTransaction, DbErr, EntityTrait, InsertMany, IntoActiveModel,
    sea_query::OnConflict,
};
use serde_json::json;

use super::{
    batch::{Accepted, Cursor, Fence, Rekey, Source, Stored},
    prepare::Prepared,
    source,
    texts::{self, Sms},
    thread::Threads,
};
use crate::{
    accounts::{
        entity::{account, source as source_row},
        sms::SmsSettings,
    },
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{Classification, ConversationState, conversation, message, raw_message},
        messages::customer_key,
    },
    events::{self, NewEvent},
    feedback::{self, Heard},
    id::{ConversationId, CustomerId, MessageId, new_uuid},
    mail::sms::keywords::Keyword,
    receipts::reply_to_words,
    work::arrive::{Arrival, arrive},
};

/// How many rows one insert carries: a message has 42 columns, and SQLite takes 32,766 parameters.
const ROWS_PER_INSERT: usize = 400;

/// What moves together with the messages of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks<'a> {
    pub rekeyed: &'a [Rekey],
    pub cursor: Option<&'a Cursor>,
    pub after_fetch_due: bool,
    pub fence: Option<Fence>,
}

/// Conversations as the batch leaves them.
struct Placed {
    arrivals: Vec<Arrival>,
    messages: Vec<message::Model>,
    threads: Threads,
    began: Vec<ConversationId>,
    /// The conversations that were there before.
    touched: Vec<ConversationId>,
}

/// Stores what is not known yet, in the caller's transaction, under a lock on the account.
///
/// # Errors
/// Whatever the database says; `RecordNotUpdated` when the fence does not hold any more.
pub(super) async fn store(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    account: &Arc<account::Model>,
    batch: &[Prepared],
    marks: Marks<'_>,
) -> Result<Accepted, DbErr> {
    let row = source::lock_account(tx, account.id).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the account is gone".into()))?;
    if marks.fence.is_some_and(|fence| !fence.holds(&row)) {
        return Err(DbErr::RecordNotUpdated);
    }
    source::rekey(tx, account.id, marks.rekeyed).await?;
    let fresh = fresh(tx, account, batch).await?;
    let numbers = texts::known(tx, account.id, &fresh).await?;
    let threads = Threads::load(tx, account.id, fresh.iter().map(|one| &one.links), numbers).await?;
    let replies = texts::replies(app, tx, now, account, &fresh).await?;
    let heard: Vec<&Heard> = fresh.iter().filter_map(|one| one.heard.as_ref()).collect();
    let noted = feedback::note(app, tx, now, &heard).await?;
    texts::obey(app, tx, now, &fresh).await?;
    let placed =
        place(now, account, &fresh, threads, &Aside { noted, replied: replies.keys().copied().collect() });
    let stored = placed.messages.iter().map(|message| Stored {
        message_id: message.id,
        conversation_id: message.conversation_id,
        state: message.state,
    });
    let accepted = Accepted { stored: stored.collect(), known: batch.len() - fresh.len() };
    let events = events_of(&placed);
    let to_send: Vec<_> = (placed.messages.iter())
        .filter_map(|message| Some((replies.get(&message.id)?.clone(), message.clone())))
        .collect();
    write_conversations(tx, &placed).await?;
    events::append(tx, now, events).await?;
    let arrived = arrive(app, tx, now, placed.arrivals).await?;
    let messages = placed.messages.into_iter().map(|message| {
        let work_item_id = arrived.items.get(&message.id).copied();
        message::Model { work_item_id, ..message }
    });
    run(tx, inserts(messages)).await?;
    write_sources(tx, now, &fresh, marks.after_fetch_due).await?;
    arrived.answer(app, tx, now).await?;
    reply_to_words(app, tx, now, account, to_send).await?;
    if let Some(cursor) = marks.cursor {
        source::advance(tx, account.id, cursor).await?;
    }
    Ok(accepted)
}

/// Those that are neither taken in already nor twice in the batch.
async fn fresh<'a>(
    tx: &DatabaseTransaction,
    account: &account::Model,
    batch: &'a [Prepared],
) -> Result<Vec<&'a Prepared>, DbErr> {
    let mut seen = source::known(tx, account.id, batch.iter().map(|one| &one.source)).await?;
    let identity = |source: &Source| (source.folder.clone(), source.uid_validity, source.uid);
    Ok(batch.iter().filter(|one| seen.insert(identity(&one.source))).collect())
}

/// What is nobody's work although it came.
struct Aside {
    /// Messages of ours whose reports are noted, and whom they went to.
    noted: HashMap<MessageId, Option<CustomerId>>,
    /// Texts whose word gets an answer.
    replied: HashSet<MessageId>,
}

impl Aside {
    /// The customer whose mail a report is about: what is known of them stands in it.
    fn customer_of(&self, one: &Prepared) -> Option<CustomerId> {
        *self.noted.get(&one.heard.as_ref()?.about)?
    }

    fn holds(&self, one: &Prepared) -> bool {
        // What a machine of ours sent and what a report said of it is noted already.
        let noted = one.heard.as_ref().is_some_and(|heard| self.noted.contains_key(&heard.about));
        let word = one.sms.as_ref().is_some_and(|sms| match sms.keyword() {
            // Whoever asks for help again wants more than the same answer.
            Some(Keyword::Help) => self.replied.contains(&one.message.id),
            _ => !sms.is_work(),
        });
        noted || word
    }
}

/// Gives every message its conversation, in the order of arrival.
fn place(
    now: Timestamp,
    account: &Arc<account::Model>,
    fresh: &[&Prepared],
    mut threads: Threads,
    aside: &Aside,
) -> Placed {
    let (mut arrivals, mut messages, mut began) = (Vec::new(), Vec::with_capacity(fresh.len()), Vec::new());
    let mut touched: Vec<ConversationId> = Vec::new();
    let mut seen = HashSet::new();
    let since = SmsSettings::of(account).map_or(now, |settings| settings.reopened_since(now));
    for one in fresh {
        let mut message = one.message.clone();
        let number = one.sms.as_ref().map(Sms::number);
        let found = match number {
            Some(number) => threads.with_number(&one.links, account.id, number, since),
            None => threads.find(&one.links),
        };
        let id = found.unwrap_or_else(|| ConversationId::new(now));
        let noted = aside.holds(one);
        let last_agent_id = number.and_then(|number| threads.last_agent_of(number));
        let conversation = threads.known.entry(id).or_insert_with(|| conversation::Model {
            last_agent_id,
            ..begin(id, now, account, &message, noted)
        });
        if seen.insert(id) {
            match found {
                Some(_) => {
                    touched.push(id);
                    conversation.version += 1;
                }
                None => began.push(id),
            }
        }
        let arrives = !noted && arrives(message.classification, found.is_some());
        message.conversation_id = id;
        message.customer_id = message.customer_id.or_else(|| aside.customer_of(one));
        join(conversation, &message, arrives, now);
        if arrives {
            arrivals.push(Arrival {
                account: Arc::clone(account),
                conversation: conversation.clone(),
                begins_conversation: found.is_none(),
                message: message.clone(),
            });
        }
        threads.note(&message, number);
        messages.push(message);
    }
    Placed { arrivals, messages, threads, began, touched }
}

/// Whether a message becomes work: see the module `inbound` for why.
fn arrives(class: Classification, continues: bool) -> bool {
    match class {
        Classification::Loop => false,
        Classification::AutoReply => !continues,
        Classification::Normal
        | Classification::List
        | Classification::Bounce
        | Classification::Complaint => true,
    }
}

fn begin(
    id: ConversationId,
    now: Timestamp,
    account: &account::Model,
    first: &message::Model,
    noted: bool,
) -> conversation::Model {
    let looped = noted || first.classification == Classification::Loop;
    conversation::Model {
        id,
        account_id: account.id,
        channel: account.channel,
        state: if looped { ConversationState::Closed } else { ConversationState::Open },
        subject: first.subject.clone(),
        customer_name: first.from_name.clone(),
        customer_address: first.from_address.as_deref().map(customer_key),
        message_count: 0,
        last_message_id: None,
        last_message_at: now,
        last_agent_id: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn join(conversation: &mut conversation::Model, message: &message::Model, arrives: bool, now: Timestamp) {
    conversation.message_count += 1;
    conversation.updated_at = now;
    if arrives {
        conversation.state = ConversationState::Open;
    }
    if message.classification != Classification::Loop {
        conversation.last_message_id = Some(message.id);
        conversation.last_message_at = now;
    }
    let writer = message.from_address.as_deref().map(customer_key);
    // Nobody knows whose it is: it had no sender, or they were erased.
    if conversation.customer_address.is_none() && arrives {
        conversation.customer_address.clone_from(&writer);
        if conversation.subject.is_empty() {
            conversation.subject.clone_from(&message.subject);
        }
    }
    if writer.is_some() && writer == conversation.customer_address && message.from_name.is_some() {
        conversation.customer_name.clone_from(&message.from_name);
    }
}

async fn write_conversations(tx: &DatabaseTransaction, placed: &Placed) -> Result<(), DbErr> {
    let known = &placed.threads.known;
    let ids = placed.began.iter().chain(&placed.touched);
    for statement in inserts(ids.filter_map(|id| known.get(id)).cloned()) {
        statement.on_conflict(joined()).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// The raw bytes, and where each message was found.
async fn write_sources(
    tx: &DatabaseTransaction,
    now: Timestamp,
    fresh: &[&Prepared],
    after_fetch_due: bool,
) -> Result<(), DbErr> {
    run(tx, inserts(fresh.iter().filter_map(|one| one.raw.clone()))).await?;
    let sources = fresh.iter().map(|one| source_row::Model {
        id: new_uuid(now),
        account_id: one.message.account_id,
        folder: one.source.folder.clone(),
        uid_validity: one.source.uid_validity,
        uid: one.source.uid,
        message_id: one.message.id,
        size_bytes: one.message.size_bytes,
        internal_date: one.source.internal_date,
        raw_sha256: one.sha256.clone(),
        after_fetch_due,
    });
    run(tx, inserts(sources)).await
}

/// What a message changes of a conversation that was there before, and that is locked since it was read.
fn joined() -> OnConflict {
    use conversation::Column::*;
    OnConflict::column(Id)
        .update_columns([State, Subject, CustomerName, CustomerAddress])
        .update_columns([MessageCount, LastMessageId, LastMessageAt, Version, UpdatedAt])
        .to_owned()
}

/// The few statements that insert `rows`: made before the first wait, so that no borrowed iterator lives across it.
fn inserts<M>(rows: impl Iterator<Item = M>) -> Vec<InsertMany<<M::Entity as EntityTrait>::ActiveModel>>
where
    M: IntoActiveModel<<M::Entity as EntityTrait>::ActiveModel> + sea_orm::ModelTrait,
    <M::Entity as EntityTrait>::ActiveModel: ActiveModelTrait<Entity = M::Entity>,
{
    let mut rows = rows.map(IntoActiveModel::into_active_model).peekable();
    let mut statements = Vec::new();
    while rows.peek().is_some() {
        statements.push(M::Entity::insert_many(rows.by_ref().take(ROWS_PER_INSERT)));
    }
    statements
}

async fn run<A: ActiveModelTrait>(
    tx: &DatabaseTransaction,
    statements: Vec<InsertMany<A>>,
) -> Result<(), DbErr> {
    for statement in statements {
        statement.exec_without_returning(tx).await?;
    }
    Ok(())
}

/// One event per message, one per conversation. Only the agent who had a conversation last learns of it.
fn events_of(placed: &Placed) -> Vec<NewEvent> {
    let agents: HashMap<ConversationId, _> =
        placed.threads.known.iter().map(|(id, row)| (*id, row.last_agent_id)).collect();
    let seen_by = |event: NewEvent, id: &ConversationId| match agents.get(id).copied().flatten() {
        Some(agent) => event.for_agent(agent),
        None => event.for_supervisors(),
    };
    let conversation = |kind: &'static str, id: &ConversationId| {
        let row = placed.threads.known.get(id)?;
        let data = json!({
            "account_id": row.account_id, "state": row.state, "message_count": row.message_count,
            "last_message_id": row.last_message_id,
        });
        Some(seen_by(NewEvent::new(kind, id.uuid(), &data), id))
    };
    let began = placed.began.iter().filter_map(|id| conversation("conversation.created", id));
    let updated = placed.touched.iter().filter_map(|id| conversation("conversation.updated", id));
    let received = placed.messages.iter().map(|message| {
        let data = json!({
            "conversation_id": message.conversation_id, "account_id": message.account_id,
            "state": message.state, "classification": message.classification,
        });
        seen_by(NewEvent::new("message.received", message.id.uuid(), &data), &message.conversation_id)
    });
    began.chain(updated).chain(received).collect()
}

/// The rows of objects that were stored in vain, because their messages were known already.
pub(super) fn unused<'a>(
    batch: &'a [Prepared],
    accepted: &Accepted,
) -> impl Iterator<Item = &'a raw_message::Model> {
    let stored: HashSet<_> = accepted.stored.iter().map(|one| one.message_id).collect();
    batch.iter().filter(move |one| !stored.contains(&one.message.id)).filter_map(|one| one.raw.as_ref())
}
