//! Where an account stands, and what moves it.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::LockType,
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    entity::{AccountState, account},
    settings::{Inbound, Protocol},
};
use crate::{
    access::matrix::Access,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Caller, Code, Problem},
    id::AccountId,
};

use AccountState::{Active, Disabled, Draft, Failing, Paused};

/// What can be done with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountAction {
    /// Try the mailbox and report each step.
    Check,
    /// Put a draft into use.
    Activate,
    /// Set it aside.
    Pause,
    /// Put it into use again.
    Resume,
    /// Take it out of use for good.
    Disable,
    /// Look for mail now.
    Poll,
    /// Compare the whole folder now.
    Backfill,
}

use AccountAction::{Activate, Backfill, Check, Disable, Pause, Poll, Resume};

impl AccountAction {
    const ALL: [Self; 7] = [Check, Activate, Pause, Resume, Disable, Poll, Backfill];

    fn operation(self) -> &'static str {
        match self {
            Check => "check_account",
            Activate => "activate_account",
            Pause => "pause_account",
            Resume => "resume_account",
            Disable => "disable_account",
            Poll => "poll_account",
            Backfill => "backfill_account",
        }
    }

    /// Whether an account in this state, with this way in, takes the action.
    fn fits(self, state: AccountState, protocol: Protocol) -> bool {
        match self {
            Check => protocol == Protocol::Imap,
            Activate => state == Draft,
            Pause => matches!(state, Active | Failing),
            Resume => state == Paused,
            Disable => state != Disabled,
            Poll | Backfill => protocol == Protocol::Imap && matches!(state, Active | Failing),
        }
    }
}

/// What the caller can do with the account now.
pub fn allowed_actions(row: &account::Model, caller: &Caller) -> Vec<AccountAction> {
    let protocol = Inbound::of(&row.inbound).protocol;
    let may = |action: &AccountAction| {
        Access::of(action.operation()).is_some_and(|access| access.allows(caller))
            && action.fits(row.state, protocol)
    };
    AccountAction::ALL.into_iter().filter(may).collect()
}

/// Refuses an action that does not fit.
///
/// # Errors
/// `invalid_state`.
pub fn require(action: AccountAction, row: &account::Model) -> Result<(), Problem> {
    let protocol = Inbound::of(&row.inbound).protocol;
    if action.fits(row.state, protocol) {
        return Ok(());
    }
    let detail = match action {
        Check | Poll | Backfill if protocol != Protocol::Imap => "the account has no mailbox to read".into(),
        _ => format!("the account is {}", name(row.state)),
    };
    Err(Problem::new(Code::InvalidState, detail))
}

/// The state as the API writes it.
pub fn name(state: AccountState) -> &'static str {
    match state {
        Draft => "draft",
        Active => "active",
        Failing => "failing",
        Paused => "paused",
        Disabled => "disabled",
    }
}

/// Whether mail is fetched for the account.
pub fn is_polled(row: &account::Model) -> bool {
    matches!(row.state, Active | Failing) && Inbound::of(&row.inbound).protocol == Protocol::Imap
}

/// Reads an account to change it: on PostgreSQL nobody else changes it until the transaction ends.
///
/// # Errors
/// `not_found`.
pub async fn lock(tx: &DatabaseTransaction, id: AccountId) -> Result<account::Model, Problem> {
    let row = account::Entity::find_by_id(id).lock(LockType::Update).one(tx).await?;
    row.ok_or_else(|| Problem::not_found("account"))
}

/// Moves an account to another state, and says so. Whoever polls it learns of it from the event.
///
/// # Errors
/// `RecordNotUpdated` when it is no longer in the state it was read in.
pub async fn move_to(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &account::Model,
    state: AccountState,
    kind: &'static str,
) -> Result<account::Model, DbErr> {
    let mut change = account::ActiveModel {
        state: Set(state),
        state_reason: Set(None),
        failures: Set(0),
        ..Default::default()
    };
    let next = account::Model { state, ..row.clone() };
    change.due_at = Set(is_polled(&next).then_some(now));
    let guarded = account::Entity::update_many()
        .set(change)
        .filter(account::Column::Id.eq(row.id))
        .filter(account::Column::State.eq(row.state));
    let row = guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    events::append(tx, now, vec![event(kind, &row)]).await?;
    Ok(row)
}

/// An event about an account: its id and where it stands.
pub fn event(kind: &'static str, row: &account::Model) -> NewEvent {
    let data = json!({ "state": row.state, "reason": row.state_reason, "version": row.version });
    NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()
}
