//! Who may get an automatic answer, and how many are enough.

use std::collections::{HashMap, HashSet};

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use thiserror::Error;

use crate::{
    accounts::addresses::own_addresses,
    clock::Timestamp,
    config,
    conversations::{
        entity::{
            auto_answer::{Column, Entity},
            message,
        },
        parsed::parsed,
    },
    db::among,
    id::AccountId,
    mail::{
        address::{Address, Mailbox, comparable},
        classify::{NoAnswer, may_auto_answer},
        compose::reply_recipients,
    },
};

/// The same address gets the same rule's answer from an account once in so many seconds: 7 days (RFC 3834 §2).
pub const ONCE_IN_S: i64 = 7 * 24 * 3600;
const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * 3600;
/// Addresses that one query names.
const ADDRESSES_PER_QUERY: usize = 500;

/// Why a message gets no automatic answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// RFC 3834 says so.
    #[error(transparent)]
    Unanswerable(#[from] NoAnswer),
    /// There is no valid address to answer to.
    #[error("the sender's address is not valid")]
    NoAddress,
    /// The sender had this answer within the last 7 days.
    #[error("the sender had this answer within the last 7 days")]
    AnsweredLately,
    /// The account gives too many automatic answers: it probably talks to a machine.
    #[error("the account gave too many automatic answers within a minute or an hour")]
    AccountBreaker,
    /// The address got too many automatic answers within a day.
    #[error("the sender got too many automatic answers within a day")]
    AddressBreaker,
}

/// How many automatic answers are enough; by default none are sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of one account in a minute.
    pub account_minute: u64,
    /// Of one account in an hour.
    pub account_hour: u64,
    /// Of all accounts to one address in a day.
    pub address_day: u64,
}

impl From<&config::Limits> for Limits {
    fn from(limits: &config::Limits) -> Self {
        Self {
            account_minute: limits.auto_answers_per_minute,
            account_hour: limits.auto_answers_per_hour,
            address_day: limits.auto_answers_per_address_day,
        }
    }
}

/// What is known of earlier automatic answers, for one batch of messages.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    limits: Limits,
    own: Vec<String>,
    lately: HashSet<(AccountId, String, String)>,
    by_account: HashMap<AccountId, Given>,
    to_address: HashMap<String, u64>,
}

/// What one account gave.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    minute: u64,
    hour: u64,
}

impl Answered {
    /// Reads what was answered before to the senders of these messages, with as many queries for many as for one.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn load(
        db: &impl ConnectionTrait,
        limits: Limits,
        now: Timestamp,
        messages: &[&message::Model],
    ) -> Result<Self, DbErr> {
        let own = own_addresses(db).await?;
        let mut answered = Self::new(limits, own);
        let senders = messages.iter().filter_map(|message| answered.recipient(message).ok());
        let senders: HashSet<String> = senders.map(|sender| key(&sender.address)).collect();
        let senders: Vec<String> = senders.into_iter().collect();
        for senders in senders.chunks(ADDRESSES_PER_QUERY) {
            answered.load_addresses(db, now, senders).await?;
        }
        let accounts: HashSet<AccountId> = messages.iter().map(|message| message.account_id).collect();
        answered.load_accounts(db, now, accounts.into_iter().collect()).await?;
        Ok(answered)
    }

    /// Reads what the account answered to these numbers before.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(super) async fn of_numbers(
        db: &impl ConnectionTrait,
        limits: Limits,
        now: Timestamp,
        account: AccountId,
        numbers: &[String],
    ) -> Result<Self, DbErr> {
        let mut answered = Self::new(limits, Vec::new());
        for numbers in numbers.chunks(ADDRESSES_PER_QUERY) {
            answered.load_addresses(db, now, numbers).await?;
        }
        answered.load_accounts(db, now, vec![account]).await?;
        Ok(answered)
    }

    /// As if nothing was ever answered.
    pub fn new(limits: Limits, own: Vec<String>) -> Self {
        Self { limits, own, lately: HashSet::new(), by_account: HashMap::new(), to_address: HashMap::new() }
    }

    async fn load_addresses(
        &mut self,
        db: &impl ConnectionTrait,
        now: Timestamp,
        addresses: &[String],
    ) -> Result<(), DbErr> {
        let rows = Entity::find()
            .filter(among(Column::Address, addresses))
            .filter(Column::AnsweredAt.gt(now.plus_s(-ONCE_IN_S)))
            .all(db)
            .await?;
        for row in rows {
            if row.answered_at > now.plus_s(-DAY_S) {
                *self.to_address.entry(row.address.clone()).or_default() += 1;
            }
            self.lately.insert((row.account_id, row.address, row.rule));
        }
        Ok(())
    }

    /// A row is written again after 7 days at the earliest, so those of the last hour are all that were given in it.
    async fn load_accounts(
        &mut self,
        db: &impl ConnectionTrait,
        now: Timestamp,
        accounts: Vec<AccountId>,
    ) -> Result<(), DbErr> {
        for (seconds, count) in [
            (MINUTE_S, (|given: &mut Given| &mut given.minute) as fn(&mut Given) -> &mut u64),
            (HOUR_S, |given| &mut given.hour),
        ] {
            let rows: Vec<(AccountId, i64)> = Entity::find()
                .select_only()
                .column(Column::AccountId)
                .column_as(Column::AnsweredAt.count(), "given")
                .filter(among(Column::AccountId, accounts.iter().copied()))
                .filter(Column::AnsweredAt.gt(now.plus_s(-seconds)))
                .group_by(Column::AccountId)
                .into_tuple()
                .all(db)
                .await?;
            for (account, given) in rows {
                *count(self.by_account.entry(account).or_default()) =
                    u64::try_from(given).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Whether `rule` may answer the message; if so, whom.
    ///
    /// # Errors
    /// Why not: for the work item's trace.
    pub fn may_send(&self, message: &message::Model, rule: &str) -> Result<Mailbox, Reason> {
        let to = self.recipient(message)?;
        self.is_due(message.account_id, &key(&to.address), rule)?;
        Ok(to)
    }

    /// Whether the account may give an address or a number this answer now.
    pub(super) fn is_due(&self, account: AccountId, address: &str, rule: &str) -> Result<(), Reason> {
        if self.lately.contains(&(account, address.to_owned(), rule.to_owned())) {
            return Err(Reason::AnsweredLately);
        }
        if self.to_address.get(address).copied().unwrap_or_default() >= self.limits.address_day {
            return Err(Reason::AddressBreaker);
        }
        let given = self.by_account.get(&account).copied().unwrap_or_default();
        if given.minute >= self.limits.account_minute || given.hour >= self.limits.account_hour {
            return Err(Reason::AccountBreaker);
        }
        Ok(())
    }

    /// Notes an answer that is to be sent, so that the rest of the batch counts it.
    pub fn note(&mut self, account: AccountId, to: &Mailbox, rule: &str) {
        let address = key(&to.address);
        let given = self.by_account.entry(account).or_default();
        given.minute += 1;
        given.hour += 1;
        *self.to_address.entry(address.clone()).or_default() += 1;
        self.lately.insert((account, address, rule.to_owned()));
    }

    /// Whom a machine may answer (RFC 3834 §2 and §4), leaving aside what it answered before.
    fn recipient(&self, message: &message::Model) -> Result<Mailbox, Reason> {
        let mail = parsed(message);
        may_auto_answer(&mail, &self.own)?;
        let (to, _) = reply_recipients(&mail, &self.own, false);
        let to = to.into_iter().next().ok_or(Reason::NoAddress)?;
        let address = Address::parse(comparable(&to.address).trim()).map_err(|_| Reason::NoAddress)?;
        Ok(Mailbox { address: address.to_string(), ..to })
    }
}

/// The form in which addresses are counted: in lower case and without a `+tag`, which costs a sender nothing to change.
pub(super) fn key(address: &str) -> String {
    let address = comparable(address).to_lowercase();
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{}@{domain}", local.split('+').next().unwrap_or(local)),
        None => address,
    }
}
