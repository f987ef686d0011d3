//! Pushed messages: the way in for MTAs and gateways, and the sandbox's.

use std::sync::Arc;

use actix_web::HttpResponse;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};

use super::{
    accept::accept_within,
    api::PushedMessage,
    batch::{AcceptError, Content, Incoming, Source},
    prepare::{Prepared, prepare},
    source,
};
use crate::{
    accounts::entity::{AccountState, account},
    app::App,
    clock::Timestamp,
    conversations::{entity::message, messages::MessageSummary},
    http::{
        Answer, Code, Idempotency, Problem,
        idempotency::{Start, Work},
    },
    id::{AccountId, ConversationId, MessageId, WorkItemId},
    work::entity::{WorkState, work_item},
};

/// The folder of pushed messages in `inbound_sources`.
pub const FOLDER: &str = "push";
/// Pushed messages are numbered once and for all.
const UID_VALIDITY: i64 = 1;

/// Takes in one raw message through the very code that polled mail takes.
///
/// # Errors
/// `not_found`, `invalid_state` for an account that is not in use, and those of the idempotency key.
pub(super) async fn push(
    app: &App,
    account: AccountId,
    raw: Vec<u8>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let row = account::Entity::find_by_id(account).one(app.db.read()).await?;
    let row = Arc::new(usable(row)?);
    let source = Source { folder: FOLDER.into(), uid_validity: UID_VALIDITY, uid: 0, internal_date: now };
    let incoming = vec![Incoming { source, content: Content::Raw(raw) }];
    let mut prepared = prepare(app, &row, incoming).await?;
    let started = match idempotency.start(&app.db, now).await {
        Ok(Start::Run(work)) => take_in(app, now, work, &mut prepared).await,
        Ok(Start::Replay(answer)) => Ok(Taken::Before(answer)),
        Err(problem) => Err(problem),
    };
    match started {
        // Whether a commit that fails took place nobody knows: the bytes stay.
        Ok(Taken::Now(work, answer)) => work.commit(answer).await,
        Ok(Taken::Before(answer)) => {
            forget(app, &prepared).await;
            Ok(answer)
        }
        Err(problem) => {
            forget(app, &prepared).await;
            Err(problem)
        }
    }
}

/// What became of a message before the commit.
enum Taken {
    /// The request was answered before.
    Before(HttpResponse),
    /// It is stored in this transaction, and this is to be said of it.
    Now(Box<Work>, Answer),
}

async fn take_in(
    app: &App,
    now: Timestamp,
    work: Box<Work>,
    prepared: &mut [Prepared],
) -> Result<Taken, Problem> {
    let [one] = prepared else { return Err(Problem::internal("one message was pushed")) };
    let account = Arc::new(usable(source::lock_account(&work.tx, one.message.account_id).await?)?);
    one.source.uid = source::next_uid(&work.tx, account.id, FOLDER, UID_VALIDITY).await?;
    let accepted = Box::pin(accept_within(app, &work.tx, now, &account, one)).await;
    let accepted = accepted.map_err(AcceptError::from)?;
    let stored =
        accepted.stored.first().ok_or_else(|| Problem::internal("a new number was known already"))?;
    let message = stored_message(&work.tx, stored.message_id).await?;
    let work_item_id = match message.work_item_id {
        Some(id) => Some(id),
        None => open_item(&work.tx, stored.conversation_id).await?,
    };
    let body = PushedMessage {
        conversation_id: stored.conversation_id,
        work_item_id,
        message: MessageSummary::from(message),
    };
    Ok(Taken::Now(work, Answer::created(format!("/v1/messages/{}", stored.message_id), &body)?))
}

fn usable(account: Option<account::Model>) -> Result<account::Model, Problem> {
    let account = account.ok_or_else(|| Problem::not_found("account"))?;
    match account.state {
        AccountState::Active | AccountState::Failing => Ok(account),
        AccountState::Draft | AccountState::Paused | AccountState::Disabled => {
            Err(Problem::new(Code::InvalidState, "the account is not active"))
        }
    }
}

async fn stored_message(tx: &DatabaseTransaction, id: MessageId) -> Result<message::Model, DbErr> {
    let row = message::Entity::find_by_id(id).one(tx).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the message that was just stored".into()))
}

async fn open_item(
    tx: &DatabaseTransaction,
    conversation: ConversationId,
) -> Result<Option<WorkItemId>, DbErr> {
    let open = work_item::Entity::find()
        .filter(work_item::Column::ConversationId.eq(conversation))
        .filter(work_item::Column::State.is_not_in(WorkState::DONE));
    Ok(open.one(tx).await?.map(|item| item.id))
}

async fn forget(app: &App, prepared: &[Prepared]) {
    for raw in prepared.iter().filter_map(|one| one.raw.as_ref()) {
        app.raw.forget(raw).await;
    }
}
