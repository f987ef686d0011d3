//! The one way in for mail.

use std::sync::Arc;

use sea_orm::{DatabaseTransaction, DbErr, RuntimeErr, TransactionTrait};

use super::{
    batch::{AcceptError, Accepted, Batch},
    prepare::{Prepared, bare, prepare},
    store::{Marks, store, unused},
    thread::Links,
};
use crate::{
    accounts::entity::account, app::App, clock::Timestamp, conversations::entity::message, db::is_transient,
};

/// How often a batch is tried again that PostgreSQL gave up for a deadlock.
const RETRIES: usize = 5;

/// Takes in a batch of messages in one transaction, together with the folder's cursor.
///
/// Messages that are known already are left out, so that a batch can be handed over again after a crash. When the
/// database refuses the batch for what is in it, its messages are taken in one by one, and the one that cannot be
/// stored as it is becomes `unparsed` without texts.
///
/// # Errors
/// When the database or the object store fails, or the batch's fence does not hold any more: then nothing is stored, or, of a batch that was refused for what is in
/// it, some messages are and the cursor has not moved.
pub async fn accept(app: &App, account: Arc<account::Model>, batch: Batch) -> Result<Accepted, AcceptError> {
    take_in(app, &account, read(app, &account, batch).await?).await
}

/// A batch whose messages are read and whose large ones are durable; nothing of it is in the database yet.
#[derive(Debug)]
pub struct ReadBatch {
    messages: Vec<Prepared>,
    /// Everything but the messages.
    rest: Batch,
}

/// The first half of [`accept`], which needs no transaction: so one batch can be read while another is written.
///
/// # Errors
/// When the object store fails.
pub async fn read(
    app: &App,
    account: &Arc<account::Model>,
    mut batch: Batch,
) -> Result<ReadBatch, AcceptError> {
    let incoming = std::mem::take(&mut batch.incoming);
    Ok(ReadBatch { messages: prepare(app, account, incoming).await?, rest: batch })
}

/// The second half of [`accept`].
///
/// # Errors
/// As [`accept`].
pub async fn take_in(
    app: &App,
    account: &Arc<account::Model>,
    batch: ReadBatch,
) -> Result<Accepted, AcceptError> {
    let ReadBatch { messages, rest: Batch { rekeyed, cursor, after_fetch_due, fence, .. } } = batch;
    let marks = Marks { rekeyed: &rekeyed, cursor: cursor.as_ref(), after_fetch_due, fence };
    let accepted = match commit(app, account, &messages, marks).await {
        Err(error) if is_refusal(&error) && !messages.is_empty() => {
            tracing::warn!(%error, account = %account.id, "a batch was refused and is taken in one by one");
            one_by_one(app, account, &messages, marks).await
        }
        done => done,
    }?;
    for row in unused(&messages, &accepted) {
        app.raw.forget(row).await;
    }
    Ok(accepted)
}

async fn commit(
    app: &App,
    account: &Arc<account::Model>,
    batch: &[Prepared],
    marks: Marks<'_>,
) -> Result<Accepted, DbErr> {
    let mut tries = 0;
    loop {
        // On the heap, because every poller's future would carry it otherwise.
        let done = Box::pin(async {
            let tx = app.db.begin().await?;
            let accepted = store(app, &tx, app.clock.now(), account, batch, marks).await?;
            tx.commit().await?;
            Ok(accepted)
        });
        match done.await {
            Err(error) if is_transient(&error) && tries < RETRIES => tries += 1,
            done => return done,
        }
    }
}

/// Stores one message in a transaction that does more, as [`accept`] does: what the database refuses is stored without its
/// texts, and what it gives up for another transaction is tried again. The caller has locked the account.
///
/// # Errors
/// Whatever the database says; what the transaction did before stays.
pub(super) async fn accept_within(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    account: &Arc<account::Model>,
    one: &Prepared,
) -> Result<Accepted, DbErr> {
    let (mut tries, mut bare) = (0, None);
    loop {
        let batch = std::slice::from_ref(bare.as_ref().unwrap_or(one));
        let savepoint = tx.begin().await?;
        match store(app, &savepoint, now, account, batch, Marks::default()).await {
            Ok(accepted) => {
                savepoint.commit().await?;
                return Ok(accepted);
            }
            Err(error) => {
                savepoint.rollback().await?;
                if is_refusal(&error) && bare.is_none() {
                    tracing::error!(%error, message = %one.message.id, "a message is stored without its texts");
                    bare = Some(without_texts(one, account));
                } else if is_transient(&error) && tries < RETRIES {
                    tries += 1;
                } else {
                    return Err(error);
                }
            }
        }
    }
}

async fn one_by_one(
    app: &App,
    account: &Arc<account::Model>,
    batch: &[Prepared],
    marks: Marks<'_>,
) -> Result<Accepted, DbErr> {
    let mut all = Accepted::default();
    let alone = Marks { rekeyed: &[], cursor: None, ..marks };
    for one in batch {
        let done = match commit(app, account, std::slice::from_ref(one), alone).await {
            Err(error) if is_refusal(&error) => {
                tracing::error!(%error, message = %one.message.id, "a message is stored without its texts");
                commit(app, account, &[without_texts(one, account)], alone).await
            }
            done => done,
        }?;
        all.stored.extend(done.stored);
        all.known += done.known;
    }
    commit(app, account, &[], marks).await?;
    Ok(all)
}

/// The message with nothing in it that a database could refuse.
fn without_texts(one: &Prepared, account: &account::Model) -> Prepared {
    let message = message::Model {
        size_bytes: one.message.size_bytes,
        state_reason: Some("not_storable: the database refused what was read from the message".into()),
        ..bare(one.message.id, account, one.message.created_at)
    };
    Prepared { message, links: Links::default(), ..one.clone() }
}

/// Whether the database understood the write and refuses the data in it.
fn is_refusal(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let Some(code) = error.as_database_error().and_then(|error| error.code()) else { return false };
    match code.parse::<u32>() {
        // SQLite, the low byte: too big, constraint, type mismatch, out of range.
        Ok(code) if code < 10_000 => matches!(code & 0xff, 18 | 19 | 20 | 25),
        // PostgreSQL, the class: data exception, integrity constraint, program limit.
        _ => ["22", "23", "54"].iter().any(|class| code.len() == 5 && code.starts_with(class)),
    }
}
