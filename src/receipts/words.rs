//! Answers to the words by which people leave, come back and ask for help: under rule 5 of the design, like receipts.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use tokio::task::spawn_blocking;

use super::{
    rules::{Answered, Limits, key},
    send::{filed, note_given},
};
use crate::{
    accounts::entity::account,
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{MessageKind, message},
        outbound::{Letter, Press, file},
    },
    id::{AccountId, MessageId},
    mail::{
        address::Mailbox,
        compose::{AutoSubmitted, Outgoing},
    },
};

/// The answer to a word.
#[derive(Clone, Debug)]
pub struct WordReply {
    /// The text that was the word.
    pub message_id: MessageId,
    /// Who sent it.
    pub number: String,
    /// What kind of word it was, by which answers are counted.
    pub rule: &'static str,
    /// What is answered.
    pub words: String,
}

/// Those of the answers that may be given now: each kind to a number once in 7 days, and not too many in all.
///
/// # Errors
/// Whatever the database says.
pub async fn may_reply_to_words(
    db: &impl ConnectionTrait,
    limits: Limits,
    now: Timestamp,
    account: AccountId,
    wanted: Vec<WordReply>,
) -> Result<Vec<WordReply>, DbErr> {
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let numbers: Vec<String> = wanted.iter().map(|reply| key(&reply.number)).collect();
    let mut answered = Answered::of_numbers(db, limits, now, account, &numbers).await?;
    let mut allowed = Vec::new();
    for reply in wanted {
        match answered.is_due(account, &key(&reply.number), reply.rule) {
            Ok(()) => {
                answered.note(account, &Mailbox::new(None, &reply.number), reply.rule);
                allowed.push(reply);
            }
            Err(reason) => tracing::info!(message = %reply.message_id, %reason, "a word is not answered"),
        }
    }
    Ok(allowed)
}

/// Sends the answers, in the conversations of the texts that asked for them.
///
/// # Errors
/// Whatever the database says.
pub async fn reply_to_words(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    account: &Arc<account::Model>,
    replies: Vec<(WordReply, message::Model)>,
) -> Result<(), DbErr> {
    if replies.is_empty() {
        return Ok(());
    }
    let press = Press::of(app, tx, now).await?;
    let sender = Arc::clone(account);
    // Signing takes its time, and others are served by this thread.
    let printed = spawn_blocking(move || {
        let print = |(reply, message): (WordReply, message::Model)| {
            let id = message.id;
            let printed = press.print(&sender, letter(now, &reply, message));
            (id, reply, printed)
        };
        replies.into_iter().map(print).collect::<Vec<_>>()
    });
    let (mut texts, mut given) = (Vec::new(), Vec::new());
    for (id, reply, printed) in printed.await.map_err(|error| DbErr::Custom(error.to_string()))? {
        match printed {
            Ok(printed) => {
                texts.push(filed(printed));
                given.push((account.id, key(&reply.number), reply.rule.to_owned()));
            }
            // It never stops a mailbox.
            Err(error) => tracing::warn!(message = %id, %error, "a word cannot be answered"),
        }
    }
    note_given(tx, now, given).await?;
    file(app, tx, now, texts).await?;
    Ok(())
}

fn letter(now: Timestamp, reply: &WordReply, message: message::Model) -> Letter {
    Letter {
        id: MessageId::new(now),
        kind: MessageKind::Receipt,
        conversation_id: message.conversation_id,
        work_item_id: None,
        author_id: None,
        new_text: reply.words.clone(),
        quoted_text: String::new(),
        signature: String::new(),
        due: None,
        mail: Outgoing {
            to: vec![Mailbox::new(message.from_name.as_deref(), &reply.number)],
            text: format!("{}\n", reply.words),
            in_reply_to: message.message_id_header,
            auto_submitted: Some(AutoSubmitted::AutoReplied),
            ..Outgoing::default()
        },
    }
}
