//! An account that this process holds: its lease, its health, and how it is let go.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::LockType,
};
use serde_json::json;

use super::LEASE_S;
use crate::{
    accounts::{
        Health, Inbound,
        entity::{AccountState, account},
        health::{HealthError, PollMode, Suspect},
        mailbox::MailboxError,
        state::{event, is_polled},
    },
    app::App,
    clock::Timestamp,
    db::Tx,
    events::{self, NewEvent},
    inbound::batch::Fence,
};

/// How often a lease is renewed.
const RENEW: Duration = Duration::from_secs(20);
/// So many failures in a row make an account `failing`.
const FAILING_AFTER: i32 = 3;
/// The pause after the first failure, and the longest one, in milliseconds.
const PAUSE_MS: (i64, i64) = (1_000, 300_000);
/// The same where only an administrator can help.
const LONG_PAUSE_MS: (i64, i64) = (300_000, 3_600_000);
/// How many messages that cannot be fetched are remembered.
const SUSPECTS_MAX: usize = 400;
/// So often fetching a message alone fails by its own fault before it is taken in as a stub.
pub(super) const STRIKES: u32 = 4;
/// So often the process ends while it reads a message alone before it is taken in unread.
pub(super) const ENDS: u32 = 2;
/// After so many seconds the trouble with a message is its own, even when no other could be fetched either.
const PATIENCE_S: i64 = 3_600;

/// How the holding of an account ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The process stops, or the account was changed: it can be taken again at once.
    Released,
    /// Another process holds it.
    Lost,
}

/// An account that this process holds.
pub(super) struct Held {
    pub app: App,
    pub account: Arc<account::Model>,
    pub inbound: Inbound,
    attempts: i64,
    health: Mutex<Health>,
    /// The message that is read alone right now, by UIDVALIDITY and UID.
    in_hand: Mutex<Option<(u32, u32)>>,
    /// Whether whoever held the account before died, perhaps of one of the next messages.
    wary: AtomicBool,
    /// Whether the row has something that a success clears.
    troubled: AtomicBool,
}

impl Held {
    pub(super) fn new(app: App, row: account::Model, attempts: i64) -> Self {
        let troubled = row.state == AccountState::Failing || row.failures > 0 || row.poll_requested;
        Self {
            app,
            inbound: Inbound::of(&row.inbound),
            health: Mutex::new(Health::of(&row.health)),
            account: Arc::new(row),
            attempts,
            in_hand: Mutex::default(),
            wary: AtomicBool::new(false),
            troubled: AtomicBool::new(troubled),
        }
    }

    /// Notes something; it is written with the next renewal of the lease.
    pub(super) fn note<R>(&self, change: impl FnOnce(&mut Health) -> R) -> R {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that the row has something that a success clears.
    pub(super) fn trouble(&self) {
        self.troubled.store(true, Ordering::Release);
    }

    /// Notes whether whoever held the account before died.
    pub(super) fn be_wary(&self, wary: bool) {
        self.wary.store(wary, Ordering::Release);
    }

    /// Whether the next messages are to be read one by one.
    pub(super) fn is_wary(&self) -> bool {
        self.wary.load(Ordering::Acquire)
    }

    /// How often the process ended while it read a message alone.
    pub(super) fn ended(&self, uid_validity: u32, uid: u32) -> u32 {
        self.note(|health| find(health, uid_validity, uid).map_or(0, |at| health.suspects[at].ended))
    }

    /// Notes that a message is read now: should the process end meanwhile, that counts against the message, and is durable
    /// when this returns.
    ///
    /// # Errors
    /// `RecordNotUpdated` when another process has taken the account.
    pub(super) async fn take_in_hand(&self, uid_validity: u32, uid: u32) -> Result<(), DbErr> {
        *self.in_hand() = Some((uid_validity, uid));
        if self.renew().await? { Ok(()) } else { Err(DbErr::RecordNotUpdated) }
    }

    /// Notes that the process outlived the message.
    pub(super) fn put_down(&self) {
        *self.in_hand() = None;
    }

    fn in_hand(&self) -> MutexGuard<'_, Option<(u32, u32)>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The health as it is written: as if the process ended now.
    fn column(&self) -> serde_json::Value {
        let mut health = self.note(|health| health.clone());
        if let Some((uid_validity, uid)) = *self.in_hand() {
            let at = find(&health, uid_validity, uid).unwrap_or_else(|| {
                let since = self.app.clock.now();
                health.suspects.push(Suspect { uid_validity, uid, failures: 0, ended: 0, since });
                health.suspects.len() - 1
            });
            health.suspects[at].ended += 1;
        }
        health.column()
    }

    /// How often fetching a message alone failed by its own fault.
    pub(super) fn strikes(&self, uid_validity: u32, uid: u32) -> u32 {
        self.note(|health| find(health, uid_validity, uid).map_or(0, |at| health.suspects[at].failures))
    }

    /// When a suspect's turn is: the one that failed last comes last. None for a message that is not suspected.
    pub(super) fn turn(&self, uid_validity: u32, uid: u32) -> Option<usize> {
        self.note(|health| find(health, uid_validity, uid))
    }

    /// Whether a message could not be fetched for so long that it can only be its own fault.
    pub(super) fn is_overdue(&self, uid_validity: u32, uid: u32) -> bool {
        let now = self.app.clock.now();
        let overdue = |suspect: &Suspect| suspect.since.plus_s(PATIENCE_S) <= now;
        self.note(|health| find(health, uid_validity, uid).is_some_and(|at| overdue(&health.suspects[at])))
    }

    /// Suspects a message, and counts further failures of one that is suspected already; its turn is last now.
    pub(super) fn suspect(&self, uid_validity: u32, uid: u32, failures: u32) {
        let since = self.app.clock.now();
        self.note(|health| {
            let known = find(health, uid_validity, uid).map(|at| health.suspects.remove(at));
            let mut suspect = known.unwrap_or(Suspect { uid_validity, uid, failures: 0, ended: 0, since });
            suspect.failures = suspect.failures.saturating_add(failures);
            if health.suspects.len() < SUSPECTS_MAX {
                health.suspects.push(suspect);
            }
        });
    }

    /// Whether `more` suspects are more than can be remembered.
    pub(super) fn is_crowded(&self, more: usize) -> bool {
        self.note(|health| health.suspects.len() + more > SUSPECTS_MAX)
    }

    /// Forgets suspects, other than those that `keep` names.
    pub(super) fn retain_suspects(&self, keep: impl Fn(u32, u32) -> bool) {
        self.note(|health| health.suspects.retain(|suspect| keep(suspect.uid_validity, suspect.uid)));
    }

    /// Renews the lease for as long as this process holds it.
    pub(super) async fn keep(&self) -> End {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW) => {}
                () = self.app.clock.sleep(RENEW) => {}
            }
            match self.renew().await {
                Ok(true) => {}
                Ok(false) => return End::Lost,
                Err(error) => tracing::warn!(account = %self.account.id, %error, "a lease was not renewed"),
            }
        }
    }

    /// Writes the health and renews the lease; false when another process has taken it.
    pub(super) async fn renew(&self) -> Result<bool, DbErr> {
        let until = self.app.db.now(&self.app.clock).await?.plus_s(LEASE_S);
        // Under the row's lock: what another renewal is about to write must not be older than this.
        let tx = self.app.db.begin().await?;
        if self.lock(&tx).await?.is_none() {
            return Ok(false);
        }
        let change = account::ActiveModel {
            lease_until: Set(until),
            health: Set(self.column()),
            ..Default::default()
        };
        let done = self.guarded(change).exec(&*tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected == 1)
    }

    fn guarded(&self, change: account::ActiveModel) -> sea_orm::UpdateMany<account::Entity> {
        account::Entity::update_many()
            .set(change)
            .filter(account::Column::Id.eq(self.account.id))
            .filter(account::Column::Attempts.eq(self.attempts))
    }

    /// Under which lease and settings this session reads the mailbox.
    pub(super) fn fence(&self) -> Fence {
        Fence { attempts: self.attempts, version: self.account.version }
    }

    /// Begins a write of what this session found, and keeps the account from changing until it ends.
    ///
    /// # Errors
    /// `RecordNotUpdated` when the fence does not hold any more.
    pub(super) async fn begin(&self) -> Result<Tx, DbErr> {
        let tx = self.app.db.begin().await?;
        let row = self.lock(&tx).await?.filter(|row| self.fence().holds(row));
        row.map(|_| tx).ok_or(DbErr::RecordNotUpdated)
    }

    /// Whether the settings are still those that this session began with, and the account is to be polled.
    pub(super) async fn is_current(&self) -> Result<bool, DbErr> {
        let row = account::Entity::find_by_id(self.account.id).one(self.app.db.read()).await?;
        Ok(row.is_some_and(|row| row.version == self.account.version && is_polled(&row)))
    }

    /// The mailbox was read to its end: the account works. `mode` is given once for each connection.
    pub(super) async fn succeeded(&self, mode: Option<PollMode>) -> Result<(), DbErr> {
        let now = self.app.clock.now();
        self.note(|health| {
            health.last_success_at = Some(now);
            if let Some(mode) = mode {
                (health.mode, health.connected_since) = (Some(mode), Some(now));
                health.logins += 1;
            }
        });
        if mode.is_none() && !self.troubled.load(Ordering::Acquire) {
            return Ok(());
        }
        let tx = self.app.db.begin().await?;
        let Some(row) = self.lock(&tx).await? else { return Ok(()) };
        let recovered = row.state == AccountState::Failing;
        let mut change = account::ActiveModel {
            failures: Set(0),
            poll_requested: Set(false),
            health: Set(self.column()),
            ..Default::default()
        };
        let mut news = Vec::new();
        if recovered {
            change.state = Set(AccountState::Active);
            change.state_reason = Set(None);
            let row = account::Model { state: AccountState::Active, state_reason: None, ..row.clone() };
            news.push(event("account.recovered", &row));
        }
        if let Some(mode) = mode {
            let data = json!({ "mode": mode });
            news.push(NewEvent::new("account.connected", row.id.uuid(), &data).for_supervisors());
        }
        self.guarded(change).exec(&*tx).await?;
        events::append(&tx, now, news).await?;
        tx.commit().await?;
        self.troubled.store(false, Ordering::Release);
        Ok(())
    }

    /// The row, unless another process has taken it.
    async fn lock(&self, tx: &DatabaseTransaction) -> Result<Option<account::Model>, DbErr> {
        let row = account::Entity::find_by_id(self.account.id).lock(LockType::Update).one(tx).await?;
        Ok(row.filter(|row| row.attempts == self.attempts))
    }

    /// Lets the account go.
    pub(super) async fn settle(&self, end: Result<End, MailboxError>) -> Result<(), DbErr> {
        if matches!(end, Ok(End::Lost)) {
            tracing::warn!(account = %self.account.id, "another process polls the account");
            return Ok(());
        }
        let (at, now) = (self.app.clock.now(), self.app.db.now(&self.app.clock).await?);
        self.put_down();
        self.note(|health| (health.mode, health.connected_since) = (None, None));
        let tx = self.app.db.begin().await?;
        let Some(row) = self.lock(&tx).await? else { return Ok(()) };
        let mut change = account::ActiveModel {
            // As if it had run out: whoever comes next is as wary.
            lease_until: Set(Timestamp::from_millis(self.is_wary().into())),
            due_at: Set(is_polled(&row).then_some(now)),
            ..Default::default()
        };
        // What failed with settings that are no longer in force says nothing about the new ones.
        let failure = end.err().filter(|_| row.version == self.account.version && is_polled(&row));
        if let Some(error) = failure {
            let news = self.failed(&row, &error, (at, now), &mut change);
            events::append(&tx, at, news.into_iter().collect()).await?;
        }
        change.health = Set(self.column());
        self.guarded(change).exec(&*tx).await?;
        tx.commit().await
    }

    fn failed(
        &self,
        row: &account::Model,
        error: &MailboxError,
        (at, now): (Timestamp, Timestamp),
        change: &mut account::ActiveModel,
    ) -> Option<NewEvent> {
        let failures = row.failures.saturating_add(1);
        let (code, detail) = (error.code(), error.to_string());
        tracing::warn!(account = %row.id, code, failures, "a mailbox cannot be read");
        metrics::counter!("postroom_poll_failures_total", "code" => code).increment(1);
        let pause = pause_ms(failures, error.needs_administrator(), rand::random());
        change.failures = Set(failures);
        change.poll_requested = Set(false);
        change.due_at = Set(Some(now.plus_ms(pause)));
        self.note(|health| {
            health.last_error = Some(HealthError { code: code.into(), detail: detail.clone(), at });
        });
        let failing = row.state == AccountState::Failing;
        if !failing && failures < FAILING_AFTER && !error.needs_administrator() {
            return None;
        }
        change.state = Set(AccountState::Failing);
        change.state_reason = Set(Some(detail.clone()));
        let now_failing =
            account::Model { state: AccountState::Failing, state_reason: Some(detail), ..row.clone() };
        (!failing).then(|| event("account.failing", &now_failing))
    }
}

fn find(health: &Health, uid_validity: u32, uid: u32) -> Option<usize> {
    health.suspects.iter().position(|suspect| suspect.uid_validity == uid_validity && suspect.uid == uid)
}

/// How long to wait after so many failures in a row; `jitter` between 0 and 1 keeps accounts from moving in step.
fn pause_ms(failures: i32, needs_administrator: bool, jitter: f64) -> i64 {
    let (first, longest) = if needs_administrator { LONG_PAUSE_MS } else { PAUSE_MS };
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(0).min(20);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    let percent = 50 + (jitter.clamp(0.0, 1.0) * 50.0) as i64;
    whole * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_longest_one_and_vary_by_half() {
        assert_eq!(pause_ms(1, false, 1.0), 1_000);
        assert_eq!(pause_ms(1, false, 0.0), 500);
        assert_eq!(pause_ms(4, false, 1.0), 8_000);
        assert_eq!(pause_ms(i32::MAX, false, 1.0), 300_000);
        assert_eq!(pause_ms(1, true, 1.0), 300_000);
        assert_eq!(pause_ms(9, true, 1.0), 3_600_000);
    }
}
