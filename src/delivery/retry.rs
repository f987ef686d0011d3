//! Sending a message again as a new one.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use tokio::task::spawn_blocking;

use super::{
    enqueue::{Outbound, Precedence, enqueue},
    entity::delivery,
    rules::{Recipient, RecipientState},
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::entity::{MessageState, conversation, message},
    dkim::signers::Signers,
    http::{Code, Problem},
    id::MessageId,
    mail::token::Signer,
    raw,
};

/// What the key of the tokens in our Message-IDs is derived for.
const TOKEN_KEY: &str = "message-token";

/// The states from which a message can be sent again.
const RETRYABLE: [MessageState; 4] =
    [MessageState::Failed, MessageState::Expired, MessageState::Uncertain, MessageState::Bounced];

/// The new message's id, header and source, made ready before the transaction.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its id.
    pub id: MessageId,
    header: String,
    raw: raw::entity::Model,
    size_bytes: i64,
}

impl Prepared {
    /// The object that holds its source, when that is large.
    pub fn object(&self) -> Option<String> {
        self.raw.object_key.clone()
    }
}

/// Gives the message a new id, `Message-ID` and `Date`, and signs it with the keys in force now. Its source is durable
/// then, if it is large.
///
/// # Errors
/// `gone` when the old message's source is gone.
pub(super) async fn prepare(app: &App, now: Timestamp, old: &message::Model) -> Result<Prepared, Problem> {
    let raw = app.raw.load(app.db.read(), old.id).await.map_err(Problem::internal)?;
    let raw = raw.ok_or_else(|| Problem::new(Code::Gone, "the message's source is gone"))?;
    let id = MessageId::new(now);
    let header = new_message_id(app, id, old);
    let signers = Signers::of(app, app.db.read()).await?;
    let (domain, new_header) = (domain_of(old).to_owned(), header.clone());
    let signed = spawn_blocking(move || {
        signers.sign(&domain, rehead(&raw, &new_header, now), now.as_millis().div_euclid(1000))
    });
    let raw = signed.await.map_err(Problem::internal)?.map_err(Problem::internal)?;
    let size_bytes = i64::try_from(raw.len()).unwrap_or(i64::MAX);
    Ok(Prepared { id, header, raw: app.raw.put(id, raw).await.map_err(Problem::internal)?, size_bytes })
}

/// Stores and enqueues the new message.
///
/// # Errors
/// `invalid_state` when the message is not in a state that allows it, waits for another try, or was retried before.
pub(super) async fn retry(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    old: message::Model,
    row: delivery::Model,
    new: Prepared,
) -> Result<(), Problem> {
    refuse(tx, &old, &row).await?;
    claim(tx, &old).await?;
    let outbound = Outbound {
        message_id: new.id,
        envelope_from: row.envelope_from,
        recipients: recipients(row.recipients, old.state),
        precedence: match row.precedence {
            0 => Precedence::Answer,
            _ => Precedence::Triggered,
        },
        repeatable: row.repeatable,
        not_before: None,
        window: row.window_calendar_id,
        barred: None,
    };
    store(tx, now, old, new).await?;
    enqueue(app, tx, now, outbound).await?;
    Ok(())
}

/// Two retries at the same moment: one of them finds the version changed.
async fn claim(tx: &DatabaseTransaction, old: &message::Model) -> Result<(), Problem> {
    let claimed = message::Entity::update_many()
        .col_expr(message::Column::Version, Expr::value(old.version + 1))
        .filter(message::Column::Id.eq(old.id))
        .filter(message::Column::Version.eq(old.version))
        .exec(tx)
        .await?;
    if claimed.rows_affected == 1 { Ok(()) } else { Err(DbErr::RecordNotUpdated.into()) }
}

/// Whether the message can be sent again.
///
/// # Errors
/// `invalid_state` when it cannot.
pub(super) async fn refuse(
    db: &impl ConnectionTrait,
    old: &message::Model,
    row: &delivery::Model,
) -> Result<(), Problem> {
    match refusal(db, old, row).await? {
        Some(refusal) => Err(Problem::new(Code::InvalidState, refusal)),
        None => Ok(()),
    }
}

/// Why a message cannot be sent again; none when it can.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn refusal(
    db: &impl ConnectionTrait,
    old: &message::Model,
    row: &delivery::Model,
) -> Result<Option<&'static str>, DbErr> {
    if old.erased_at.is_some() {
        return Ok(Some("the message was erased with what was known of the customer"));
    }
    if !RETRYABLE.contains(&old.state) {
        return Ok(Some("only a message that failed, expired, bounced or is uncertain is sent again"));
    }
    if row.due_at.is_some() {
        return Ok(Some("the message is being tried again already"));
    }
    let retried = message::Entity::find().filter(message::Column::RetryOf.eq(old.id)).count(db).await?;
    Ok((retried > 0).then_some("the message was sent again already: retry the newer one"))
}

/// Those whom the message did not reach; all of them when it came back after it was taken.
fn recipients(known: serde_json::Value, was: MessageState) -> Vec<String> {
    let known: Vec<Recipient> = serde_json::from_value(known).unwrap_or_default();
    let missing = |one: &Recipient| was == MessageState::Bounced || one.state != RecipientState::Sent;
    known.into_iter().filter(missing).map(|one| one.address).collect()
}

async fn store(
    tx: &DatabaseTransaction,
    now: Timestamp,
    old: message::Model,
    new: Prepared,
) -> Result<(), Problem> {
    let (old_id, conversation_id) = (old.id, old.conversation_id);
    let row = message::ActiveModel {
        id: Set(new.id),
        state: Set(MessageState::Queued),
        state_reason: Set(None),
        message_id_header: Set(Some(new.header)),
        size_bytes: Set(new.size_bytes),
        retry_of: Set(Some(old_id)),
        send_at: Set(None),
        dated_at: Set(Some(now)),
        sent_at: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..message::ActiveModel::from(old).reset_all()
    };
    message::Entity::insert(row).exec_without_returning(tx).await?;
    raw::entity::Entity::insert(new.raw.into_active_model()).exec_without_returning(tx).await?;
    conversation::Entity::update_many()
        .col_expr(conversation::Column::MessageCount, Expr::col(conversation::Column::MessageCount).add(1))
        .filter(conversation::Column::Id.eq(conversation_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// A Message-ID with our signed token, at the sender's domain.
fn new_message_id(app: &App, id: MessageId, old: &message::Model) -> String {
    let signer = Signer::new(&app.sealer.derive(TOKEN_KEY));
    signer.message_id(id.uuid(), old.conversation_id.uuid(), domain_of(old))
}

/// The sender's domain.
fn domain_of(old: &message::Model) -> &str {
    let domain = old.from_address.as_deref().and_then(|address| address.rsplit_once('@'));
    domain.map_or("localhost", |(_, domain)| domain)
}

/// The same message under another `Message-ID` and `Date`, without the signatures over these; everything else stays byte for
/// byte.
fn rehead(raw: &[u8], message_id: &str, now: Timestamp) -> Vec<u8> {
    let date = now.to_chrono().to_rfc2822();
    let mut new = format!("Message-ID: <{message_id}>\r\nDate: {date}\r\n").into_bytes();
    let mut dropping = false;
    let mut rest = raw;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
        let continues = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        dropping = if continues { dropping } else { is_replaced(line) };
        if !dropping {
            new.extend_from_slice(line);
        }
        rest = after;
    }
    new.extend_from_slice(rest);
    new
}

fn is_replaced(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    ["message-id", "date", "dkim-signature"].iter().any(|replaced| name.trim().eq_ignore_ascii_case(replaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_id_and_the_date_of_a_retried_message_are_new() {
        let old = b"DKIM-Signature: v=1;\r\n b=xyz\r\nFrom: a@x\r\nMESSAGE-ID:\r\n <old@x>\r\nDate: then\r\nSubject: date: x\r\n\r\nMessage-ID: body\r\n\xff";
        let new = rehead(old, "new@x", Timestamp::from_millis(1_772_355_600_000));
        let expected = b"Message-ID: <new@x>\r\nDate: Sun, 1 Mar 2026 09:00:00 +0000\r\nFrom: a@x\r\nSubject: date: x\r\n\r\n\
            Message-ID: body\r\n\xff";
        assert_eq!(String::from_utf8_lossy(&new), String::from_utf8_lossy(expected));
    }
}
