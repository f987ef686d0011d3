//! Writes receipts and puts them on their way, in the transaction that took the answered messages in.

use std::sync::Arc;

use sea_orm::{ActiveValue::Set, DatabaseTransaction, DbErr, EntityTrait, sea_query::OnConflict};
use sha2::{Digest, Sha256};

use super::rules::key;
use crate::{
    accounts::entity::account,
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{MessageKind, auto_answer, message, raw_message},
        outbound::{Filed, Letter, Press, Printed, file},
        parsed::parsed,
    },
    id::{MessageId, WorkItemId},
    mail::{
        address::Mailbox,
        compose::{AutoSubmitted, ComposeError, Outgoing, answer_references, reply_subject},
    },
    pending::instance_id,
};

/// What a receipt says: a rendered template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The subject; empty for the answered message's with `Re:`.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same in HTML.
    pub html: Option<String>,
}

/// A receipt that may be sent: see [`super::Answered::may_send`].
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The account that answers.
    pub account: Arc<account::Model>,
    /// The message that is answered.
    pub message: message::Model,
    /// The work item that the script runs for.
    pub work_item_id: WorkItemId,
    /// Whom `may_send` gave.
    pub to: Mailbox,
    /// Which rule answers: the script's step.
    pub rule: String,
    /// What it says.
    pub content: Content,
}

/// Writes the receipts, notes them as given and enqueues them; gives the ids of the messages made, in order.
///
/// Their bytes stay in the database whatever their size, because no transaction waits for the object store. What cannot
/// be composed is logged and left out: a receipt never stops a mailbox.
///
/// # Errors
/// Whatever the database says.
pub async fn send(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    receipts: Vec<Receipt>,
) -> Result<Vec<MessageId>, DbErr> {
    if receipts.is_empty() {
        return Ok(Vec::new());
    }
    note_given(tx, now, &receipts).await?;
    let press = Press::new(app, instance_id(tx).await?, now);
    let mut mails = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        match write(&press, now, receipt) {
            Ok(mail) => mails.push(mail),
            Err(error) => tracing::warn!(%error, "a receipt could not be composed"),
        }
    }
    let ids = mails.iter().map(|mail| mail.message.id).collect();
    file(app, tx, now, mails).await?;
    Ok(ids)
}

async fn note_given(tx: &DatabaseTransaction, now: Timestamp, receipts: &[Receipt]) -> Result<(), DbErr> {
    // One statement may not touch a row twice.
    let mut rows: Vec<auto_answer::Model> = receipts
        .iter()
        .map(|receipt| auto_answer::Model {
            account_id: receipt.account.id,
            address: key(&receipt.to.address),
            rule: receipt.rule.clone(),
            answered_at: now,
        })
        .collect();
    rows.sort_by(|a, b| (a.account_id, &a.address, &a.rule).cmp(&(b.account_id, &b.address, &b.rule)));
    rows.dedup();
    let rows = rows.into_iter().map(|row| auto_answer::ActiveModel {
        account_id: Set(row.account_id),
        address: Set(row.address),
        rule: Set(row.rule),
        answered_at: Set(row.answered_at),
    });
    use auto_answer::Column::{AccountId, Address, AnsweredAt, Rule};
    let again = OnConflict::columns([AccountId, Address, Rule]).update_column(AnsweredAt).to_owned();
    auto_answer::Entity::insert_many(rows).on_conflict(again).exec_without_returning(tx).await?;
    Ok(())
}

fn write(press: &Press, now: Timestamp, receipt: Receipt) -> Result<Filed, ComposeError> {
    let Receipt { account, message, work_item_id, to, content, .. } = receipt;
    let subject = match content.subject.trim() {
        "" => reply_subject(&message.subject),
        // A rendered value may hold line breaks; a subject is one line.
        given => given.split(char::is_control).collect::<Vec<_>>().join(" "),
    };
    let mail = Outgoing {
        to: vec![to],
        subject,
        text: content.text.clone(),
        html: content.html,
        in_reply_to: message.message_id_header.clone(),
        references: answer_references(&parsed(&message)),
        auto_submitted: Some(AutoSubmitted::AutoReplied),
        // Exchange does not know Auto-Submitted.
        headers: vec![("X-Auto-Response-Suppress".to_owned(), "All".to_owned())],
        ..Outgoing::default()
    };
    let letter = Letter {
        id: MessageId::new(now),
        kind: MessageKind::Receipt,
        conversation_id: message.conversation_id,
        work_item_id: Some(work_item_id),
        author_id: None,
        new_text: content.text,
        quoted_text: String::new(),
        signature: String::new(),
        mail,
    };
    let Printed { message, raw, envelope_from, recipients } = press.print(&account, letter)?;
    let raw = raw_message::Model {
        message_id: message.id,
        size_bytes: message.size_bytes,
        sha256: Sha256::digest(&raw).to_vec(),
        data: Some(raw),
        object_key: None,
    };
    Ok(Filed { message, raw, envelope_from, recipients })
}
