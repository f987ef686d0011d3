//! Sends an answer: written outside the transaction, filed and put on its way in it.

use std::sync::Arc;

use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::{
    bodies::Wanted,
    desk::at_desk_of,
    files,
    original::Original,
    texts,
    write::{self, Recipients},
};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    conversations::{
        drafts,
        entity::{Direction, MessageKind, MessageState, conversation, message, upload},
        outbound::{self, Filed, Letter},
        recipient::Recipient,
    },
    db::among,
    http::{Answer, Caller, Code, Idempotency, Problem, idempotency::Start},
    id::{ConversationId, MessageId, WorkItemId},
    mail::{address::Mailbox, sms::segments::Segments},
    suppressions::{AddressKeys, Barred},
    work::{act::complete, entity::work_item, journal::Journal, state},
};

/// An answer that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub struct SentAnswer {
    /// The new message: see `GET /v1/messages/{id}`.
    pub message_id: MessageId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// The work item.
    pub work_item_id: WorkItemId,
    /// A reply or a forward.
    pub kind: MessageKind,
    /// Where it stands: `queued`, or `held` while there is no outgoing server.
    pub state: MessageState,
    /// Who gets it.
    pub to: Vec<Recipient>,
    /// Who gets a copy.
    pub cc: Vec<Recipient>,
    /// Who gets a hidden copy.
    pub bcc: Vec<Recipient>,
    /// Its subject.
    #[schema(examples("Re: Where is my order?"))]
    pub subject: String,
    /// Its Message-ID, without angle brackets.
    pub message_id_header: String,
    /// What it takes, when it is a text.
    pub segments: Option<Segments>,
    /// Whether the work item was completed with it.
    pub completed: bool,
    /// When it was written.
    pub created_at: Timestamp,
}

/// An answer that was found fit to be written.
enum Begun {
    Text(Box<Letter>, Segments),
    Mail(Recipients),
}

/// Answers on a work item, once per idempotency key.
///
/// # Errors
/// Those of [`at_desk_of`], [`Original::load`], [`files::check`] and [`write::recipients`]; `conversation_changed`.
pub(super) async fn answer(
    app: &App,
    caller: &Caller,
    id: WorkItemId,
    wanted: Wanted,
    idempotency: Idempotency,
) -> Result<actix_web::HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let (item, agent) = at_desk_of(&work.tx, id, caller).await?;
    let original = Arc::new(Original::load(&*work.tx, item, wanted.message_id).await?);
    refuse_stale(&*work.tx, &original.item, &wanted).await?;
    let (id, wanted) = (MessageId::new(now), Arc::new(wanted));
    let begun = match texts::is_text(&original) {
        true => {
            let (letter, segments) = texts::letter(id, &original, &wanted, agent)?;
            Begun::Text(Box::new(letter), segments)
        }
        false => Begun::Mail(write::recipients(&original, &wanted)?),
    };
    files::check(&*work.tx, caller, &original, &wanted, app.config.limits.max_attachments_bytes).await?;
    // Making HTML safe, composing and the object store take their time, and no transaction waits for them.
    let paused = work.pause().await?;
    let (letter, segments) = match begun {
        Begun::Text(letter, segments) => (*letter, Some(segments)),
        Begun::Mail(recipients) => {
            let (original, wanted) = (Arc::clone(&original), Arc::clone(&wanted));
            let written =
                spawn_blocking(move || write::letter(id, &original, &wanted, agent, recipients)).await;
            (written.map_err(Problem::internal)?, None)
        }
    };
    let letter = write::attach(letter, files::load(app, caller, &original, &wanted).await?);
    let filed = outbound::prepare(app, now, &original.account, letter, "/attachment_ids").await?;
    outbound::finish(app, paused, filed.object(), async |tx| {
        let sent = file(app, tx, now, caller, &wanted, &original.item, filed).await?;
        let sent = SentAnswer { segments, ..sent };
        Answer::created(format!("/v1/messages/{}", sent.message_id), &sent)
    })
    .await
}

/// An answer must have seen what the customer wrote last; our own answers, and machines' answers to them, change nothing.
async fn refuse_stale(
    db: &impl ConnectionTrait,
    item: &work_item::Model,
    wanted: &Wanted,
) -> Result<(), Problem> {
    let last = item.last_message_id;
    let Some(expected) = wanted.expected.filter(|expected| *expected != last) else { return Ok(()) };
    let found = message::Entity::find_by_id(expected)
        .filter(message::Column::ConversationId.eq(item.conversation_id))
        .one(db)
        .await?;
    let unknown = || Problem::unknown_reference("/expected_last_message_id", "message in the conversation");
    if is_after(db, &found.ok_or_else(unknown)?, last).await? {
        return Ok(());
    }
    let detail = format!("the customer's newest message is {last}: read it first");
    Err(Problem::new(Code::ConversationChanged, detail))
}

/// Whether a message came into the conversation after another one that was received.
///
/// A mail gets its id when it is read, and an answer of ours may be stored before it: ids tell the order among mails only.
async fn is_after(db: &impl ConnectionTrait, one: &message::Model, other: MessageId) -> Result<bool, DbErr> {
    if one.direction == Direction::Inbound {
        return Ok(one.id > other);
    }
    let conversation = conversation::Entity::find_by_id(one.conversation_id).one(db).await?;
    if conversation.is_some_and(|row| row.last_message_id == Some(one.id)) {
        return Ok(true);
    }
    let answered = message::Entity::find_by_id(other).one(db).await?.and_then(|row| row.message_id_header);
    let answers: Vec<String> = serde_json::from_value(one.in_reply_to.clone()).unwrap_or_default();
    Ok(answered.is_some_and(|answered| answers.contains(&answered)))
}

/// The transaction's part: everything is checked again, now under the locks.
async fn file(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    caller: &Caller,
    wanted: &Wanted,
    seen: &work_item::Model,
    filed: Filed,
) -> Result<SentAnswer, Problem> {
    if wanted.complete {
        // The agent, who will have less to do, is locked between the conversation and the item, as everywhere.
        state::lock_conversation(tx, seen.conversation_id).await?;
        state::lock_agents(tx, [caller.agent_id()?]).await?;
    }
    let (item, _) = at_desk_of(tx, seen.id, caller).await?;
    refuse_stale(tx, &item, wanted).await?;
    use_up(tx, caller, wanted).await?;
    let message = filed.message.clone();
    refuse_stopped(app, tx, now, &message).await?;
    let states = outbound::file(app, tx, now, vec![filed]).await?;
    state::note_answered(tx, &item, now).await?;
    drafts::discard(tx, item.id).await?;
    if wanted.complete {
        let mut journal = Journal::new(now);
        complete(tx, &mut journal, item.id, caller, wanted.outcome_code.clone()).await?;
        journal.write(tx).await?;
    }
    let sent = states.first().copied().unwrap_or(message.state);
    Ok(shown(message, item.id, sent, wanted))
}

/// Whoever sent a stop word gets no texts, not even an agent's.
async fn refuse_stopped(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    message: &message::Model,
) -> Result<(), Problem> {
    if message.channel != Channel::Sms {
        return Ok(());
    }
    let to: Vec<Mailbox> = serde_json::from_value(message.to_addresses.clone()).unwrap_or_default();
    let numbers = || to.iter().map(|one| one.address.as_str());
    let barred = Barred::among(tx, AddressKeys::of(app), numbers(), now).await?;
    if numbers().any(|number| barred.has_stopped(number)) {
        let detail = "the number sent a stop word: nothing is sent to it until it sends a start word";
        return Err(Problem::new(Code::NumberStopped, detail));
    }
    Ok(())
}

/// An upload goes out once.
async fn use_up(tx: &DatabaseTransaction, caller: &Caller, wanted: &Wanted) -> Result<(), Problem> {
    if wanted.attachment_ids.is_empty() {
        return Ok(());
    }
    let used = upload::Entity::delete_many()
        .filter(among(upload::Column::Id, wanted.attachment_ids.iter().copied()))
        .filter(upload::Column::OwnerId.eq(caller.id))
        .exec(tx)
        .await?;
    if used.rows_affected == wanted.attachment_ids.len() as u64 {
        Ok(())
    } else {
        Err(Problem::unknown_reference("/attachment_ids", "upload of yours"))
    }
}

fn shown(message: message::Model, item: WorkItemId, state: MessageState, wanted: &Wanted) -> SentAnswer {
    let people = |column| serde_json::from_value(column).unwrap_or_default();
    SentAnswer {
        message_id: message.id,
        conversation_id: message.conversation_id,
        work_item_id: item,
        kind: message.kind,
        state,
        to: people(message.to_addresses),
        cc: people(message.cc_addresses),
        bcc: people(message.bcc_addresses),
        subject: message.subject,
        message_id_header: message.message_id_header.unwrap_or_default(),
        segments: None,
        completed: wanted.complete,
        created_at: message.created_at,
    }
}
