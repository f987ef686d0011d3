//! Writes receipts and puts them on their way, in the transaction that took the answered messages in.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect, sea_query::OnConflict,
};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::task::spawn_blocking;

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
    db::among,
    id::{AccountId, MessageId, TemplateId, WorkItemId},
    mail::{
        address::Mailbox,
        compose::{AutoSubmitted, ComposeError, Outgoing, answer_references, reply_subject},
    },
    templates::{
        entity::{self as template, TemplateState},
        render::{
            AccountContext, Context, ConversationContext, MessageContext, PersonContext, RenderError, render,
        },
    },
};

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
    pub template_id: TemplateId,
}

/// Why a receipt that may be sent cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsent {
    /// There is no such template any more, or it was archived.
    #[error("the template is not published")]
    NoTemplate,
    /// The template cannot be rendered.
    #[error("the template: {0}")]
    Render(#[from] RenderError),
    /// What it gave is no mail.
    #[error(transparent)]
    Compose(#[from] ComposeError),
}

/// Writes the receipts, notes them as given and enqueues them; gives each one's message, in order.
///
/// Their bytes stay in the database whatever their size, because no transaction waits for the object store. A receipt
/// that cannot be written never stops a mailbox: it is left out, and its place says why.
///
/// # Errors
/// Whatever the database says.
pub async fn send(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    receipts: Vec<Receipt>,
) -> Result<Vec<Result<MessageId, Unsent>>, DbErr> {
    if receipts.is_empty() {
        return Ok(Vec::new());
    }
    let press = Press::of(app, tx, now).await?;
    let templates = templates_of(tx, &receipts).await?;
    // Signing takes its time, and others are served by this thread.
    let written = spawn_blocking(move || {
        let write = |receipt: Receipt| {
            let template = templates.get(&receipt.template_id).ok_or(Unsent::NoTemplate);
            let written = template.and_then(|template| write(&press, now, &receipt, template));
            (receipt, written)
        };
        receipts.into_iter().map(write).collect::<Vec<_>>()
    });
    let written = written.await.map_err(|error| DbErr::Custom(error.to_string()))?;
    let (mut mails, mut given, mut results) = (Vec::new(), Vec::new(), Vec::with_capacity(written.len()));
    for (receipt, written) in &written {
        results.push(written.clone().map(|mail| {
            let id = mail.message.id;
            mails.push(mail);
            given.push(receipt);
            id
        }));
    }
    let given =
        given.into_iter().map(|one: &Receipt| (one.account.id, key(&one.to.address), one.rule.clone()));
    note_given(tx, now, given.collect()).await?;
    file(app, tx, now, mails).await?;
    Ok(results)
}

async fn templates_of(
    tx: &DatabaseTransaction,
    receipts: &[Receipt],
) -> Result<HashMap<TemplateId, template::Model>, DbErr> {
    let ids: HashSet<TemplateId> = receipts.iter().map(|receipt| receipt.template_id).collect();
    let rows = template::Entity::find()
        .filter(among(template::Column::Id, ids))
        .filter(template::Column::State.eq(TemplateState::Published))
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Which of these templates are published: only those are sent.
///
/// # Errors
/// Whatever the database says.
pub async fn published(
    db: &impl ConnectionTrait,
    ids: HashSet<TemplateId>,
) -> Result<HashSet<TemplateId>, DbErr> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let found: Vec<TemplateId> = template::Entity::find()
        .select_only()
        .column(template::Column::Id)
        .filter(among(template::Column::Id, ids))
        .filter(template::Column::State.eq(TemplateState::Published))
        .into_tuple()
        .all(db)
        .await?;
    Ok(found.into_iter().collect())
}

/// Notes which account gave whom which rule's answer.
pub(super) async fn note_given(
    tx: &DatabaseTransaction,
    now: Timestamp,
    mut given: Vec<(AccountId, String, String)>,
) -> Result<(), DbErr> {
    if given.is_empty() {
        return Ok(());
    }
    // One statement may not touch a row twice.
    given.sort_unstable();
    given.dedup();
    let rows = given.into_iter().map(|(account_id, address, rule)| auto_answer::ActiveModel {
        account_id: Set(account_id),
        address: Set(address),
        rule: Set(rule),
        answered_at: Set(now),
    });
    use auto_answer::Column::{AccountId, Address, AnsweredAt, Rule};
    let again = OnConflict::columns([AccountId, Address, Rule]).update_column(AnsweredAt).to_owned();
    auto_answer::Entity::insert_many(rows).on_conflict(again).exec_without_returning(tx).await?;
    Ok(())
}

/// Forgets which automatic answers these addresses were given.
///
/// # Errors
/// Whatever the database says.
pub async fn forget(tx: &DatabaseTransaction, addresses: &[&str]) -> Result<(), DbErr> {
    let keys = addresses.iter().map(|address| key(address));
    auto_answer::Entity::delete_many().filter(among(auto_answer::Column::Address, keys)).exec(tx).await?;
    Ok(())
}

fn write(
    press: &Press,
    now: Timestamp,
    receipt: &Receipt,
    template: &template::Model,
) -> Result<Filed, Unsent> {
    let Receipt { account, message, .. } = receipt;
    let rendered = render(template, &context(account, message))?;
    let subject = match rendered.subject.as_str() {
        "" => reply_subject(&message.subject),
        given => given.to_owned(),
    };
    let mail = Outgoing {
        to: vec![receipt.to.clone()],
        subject,
        text: rendered.text.clone(),
        html: rendered.html,
        in_reply_to: message.message_id_header.clone(),
        references: answer_references(&parsed(message)),
        auto_submitted: Some(AutoSubmitted::AutoReplied),
        // Exchange does not know Auto-Submitted.
        headers: vec![("X-Auto-Response-Suppress".to_owned(), "All".to_owned())],
        ..Outgoing::default()
    };
    let letter = Letter {
        id: MessageId::new(now),
        kind: MessageKind::Receipt,
        conversation_id: message.conversation_id,
        work_item_id: Some(receipt.work_item_id),
        author_id: None,
        new_text: rendered.text,
        quoted_text: String::new(),
        signature: String::new(),
        due: None,
        mail,
    };
    Ok(filed(press.print(account, letter)?))
}

/// A printed mail whose bytes go into their row.
pub(super) fn filed(printed: Printed) -> Filed {
    let Printed { message, raw, envelope_from, recipients } = printed;
    let raw = raw_message::Model {
        message_id: message.id,
        size_bytes: message.size_bytes,
        sha256: Sha256::digest(&raw).to_vec(),
        data: Some(raw),
        object_key: None,
    };
    Filed { message, raw, envelope_from, recipients, not_before: None, window: None, barred: None }
}

/// What the template may read.
fn context(account: &account::Model, message: &message::Model) -> Context {
    Context {
        message: MessageContext {
            subject: message.subject.clone(),
            from: PersonContext {
                name: message.from_name.clone().unwrap_or_default(),
                address: message.from_address.clone().unwrap_or_default(),
            },
            received_at: message.received_at.unwrap_or(message.created_at),
        },
        account: AccountContext {
            address: account.address.clone(),
            display_name: account.display_name.clone(),
        },
        conversation: ConversationContext { id: message.conversation_id },
    }
}
