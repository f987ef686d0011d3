//! Automatic answers that scripts ask for: who may get one (RFC 3834), and that each goes out once.

use std::collections::HashSet;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, sea_query::OnConflict,
};

use crate::{
    accounts::entity::account,
    clock::Timestamp,
    conversations::entity::{Classification, auto_answer, conversation, message},
    id::{AccountId, TemplateId, WorkItemId},
};

/// The same address gets the same rule's answer once in so many seconds: 7 days (RFC 3834 §2).
pub const ONCE_IN_S: i64 = 7 * 24 * 3600;
/// An account that answers more often than this in an hour is probably talking to a machine.
pub const BREAKER_PER_HOUR: u64 = 500;

/// An automatic answer that a script asked for and that may go out.
#[derive(Clone, Debug)]
pub struct ReceiptWanted {
    /// The account that answers.
    pub account: std::sync::Arc<account::Model>,
    /// The conversation.
    pub conversation: conversation::Model,
    /// The message that is answered.
    pub message: message::Model,
    /// The work item.
    pub work_item_id: WorkItemId,
    /// The template.
    pub template_id: TemplateId,
    /// Which rule answers, for "once per sender and rule".
    pub rule: String,
}

/// What is known of earlier automatic answers, for one batch of messages.
#[derive(Debug, Default)]
pub struct Answered {
    recent: HashSet<(AccountId, String, String)>,
    tripped: HashSet<AccountId>,
}

impl Answered {
    /// Reads what was answered to these addresses by these accounts.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn load(
        db: &impl ConnectionTrait,
        now: Timestamp,
        accounts: &[AccountId],
        addresses: &[String],
    ) -> Result<Self, DbErr> {
        let mut answered = Self::default();
        for addresses in addresses.chunks(500) {
            let rows = auto_answer::Entity::find()
                .filter(auto_answer::Column::AccountId.is_in(accounts.iter().copied()))
                .filter(auto_answer::Column::Address.is_in(addresses))
                .filter(auto_answer::Column::AnsweredAt.gt(now.plus_s(-ONCE_IN_S)))
                .all(db)
                .await?;
            answered.recent.extend(rows.into_iter().map(|row| (row.account_id, row.address, row.rule)));
        }
        for account in accounts {
            let lately = auto_answer::Entity::find()
                .filter(auto_answer::Column::AccountId.eq(*account))
                .filter(auto_answer::Column::AnsweredAt.gt(now.plus_s(-3600)))
                .count(db)
                .await?;
            if lately >= BREAKER_PER_HOUR {
                answered.tripped.insert(*account);
            }
        }
        Ok(answered)
    }

    /// Notes an answer that is on its way.
    pub fn note(&mut self, account: AccountId, address: &str, rule: &str) {
        self.recent.insert((account, address.to_lowercase(), rule.to_owned()));
    }
}

/// Whether a rule may answer the sender of a message automatically; if not, why (RFC 3834 §2).
///
/// # Errors
/// The reason, for the trace.
pub fn may_auto_answer(
    account: &account::Model,
    message: &message::Model,
    rule: &str,
    answered: &Answered,
) -> Result<(), &'static str> {
    if message.classification != Classification::Normal || message.auto_submitted.is_some() {
        return Err("no person wrote the message");
    }
    let Some(address) = message.from_address.as_deref().map(str::to_lowercase) else {
        return Err("the message has no sender");
    };
    if address == account.address.to_lowercase() {
        return Err("the message comes from the account itself");
    }
    let local = address.split('@').next().unwrap_or_default();
    let machines = ["mailer-daemon", "postmaster", "noreply", "no-reply", "do-not-reply", "donotreply"];
    if machines.contains(&local) || local.starts_with("owner-") || local.ends_with("-request") {
        return Err("the sender is a machine");
    }
    if answered.recent.contains(&(account.id, address, rule.to_owned())) {
        return Err("the sender had this answer within the last 7 days");
    }
    if answered.tripped.contains(&account.id) {
        return Err("the account sent too many automatic answers within the last hour");
    }
    Ok(())
}

/// Hands the automatic answers of one transaction over to whoever writes and sends them, and notes them as given.
///
/// # Errors
/// Whatever the database says.
pub async fn hand_over(
    tx: &DatabaseTransaction,
    now: Timestamp,
    wanted: Vec<ReceiptWanted>,
) -> Result<(), DbErr> {
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = wanted.iter().filter_map(|receipt| {
        Some(auto_answer::ActiveModel {
            account_id: Set(receipt.account.id),
            address: Set(receipt.message.from_address.as_deref()?.to_lowercase()),
            rule: Set(receipt.rule.clone()),
            answered_at: Set(now),
        })
    });
    let keys = [auto_answer::Column::AccountId, auto_answer::Column::Address, auto_answer::Column::Rule];
    let once = OnConflict::columns(keys).update_column(auto_answer::Column::AnsweredAt).to_owned();
    auto_answer::Entity::insert_many(rows).on_conflict(once).exec_without_returning(tx).await?;
    write_receipts(tx, now, wanted).await
}

/// THE CALL SITE of the code that renders a receipt and queues it for delivery (`conversations`).
async fn write_receipts(
    _tx: &DatabaseTransaction,
    _now: Timestamp,
    _wanted: Vec<ReceiptWanted>,
) -> Result<(), DbErr> {
    Ok(())
}
