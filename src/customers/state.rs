//! Where customers stand: what can be done with one, and where they stand then. No I/O.

use sea_orm::ActiveValue::Set;
use serde::Serialize;
use utoipa::ToSchema;

use super::entity::{CustomerStatus, OutcomeCategory, customer};
use crate::{
    access::matrix::Access,
    clock::Timestamp,
    http::{Caller, Code, Problem},
};

/// What can be done with a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CustomerAction {
    /// Try them no more.
    Terminate,
    /// Try them again, though they were given up.
    Redial,
    /// Agree on a time to call back.
    SetCallback,
    /// Forget that time.
    ClearCallback,
    /// Remove what is known of them.
    Erase,
}

use CustomerAction::{ClearCallback, Erase, Redial, SetCallback, Terminate};

impl CustomerAction {
    const ALL: [Self; 5] = [Terminate, Redial, SetCallback, ClearCallback, Erase];

    const fn operation(self) -> &'static str {
        match self {
            Terminate => "terminate_customer",
            Redial => "redial_customer",
            SetCallback => "set_customer_callback",
            ClearCallback => "clear_customer_callback",
            Erase => "erase_customer",
        }
    }

    const fn participle(self) -> &'static str {
        match self {
            Terminate => "terminated",
            Redial => "tried again",
            SetCallback => "called back",
            ClearCallback => "relieved of a call-back",
            Erase => "erased",
        }
    }

    fn fits(self, row: &customer::Model) -> bool {
        let is_terminated = row.status == CustomerStatus::Terminated;
        row.erased_at.is_none()
            && match self {
                Terminate | SetCallback => !is_terminated,
                Redial => is_terminated,
                ClearCallback => row.status == CustomerStatus::Callback,
                Erase => true,
            }
    }
}

/// What this caller can do with the customer.
pub fn allowed(row: &customer::Model, caller: &Caller) -> Vec<CustomerAction> {
    let may = |action: &CustomerAction| {
        action.fits(row) && Access::of(action.operation()).is_some_and(|access| access.allows(caller))
    };
    CustomerAction::ALL.into_iter().filter(may).collect()
}

/// Passes when the customer's state lets the action be done.
///
/// # Errors
/// `invalid_state`.
pub fn require(row: &customer::Model, action: CustomerAction) -> Result<(), Problem> {
    require_known(row)?;
    if action.fits(row) {
        return Ok(());
    }
    let status = serde_json::to_value(row.status).unwrap_or_default();
    let detail = format!("a customer who is {status} cannot be {}", action.participle());
    Err(Problem::new(Code::InvalidState, detail))
}

/// Passes unless the customer was erased.
///
/// # Errors
/// `invalid_state`.
pub fn require_known(row: &customer::Model) -> Result<(), Problem> {
    match row.erased_at {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::InvalidState, "the customer was erased")),
    }
}

/// The customer is given up with an outcome.
pub fn terminated(
    code: String,
    category: OutcomeCategory,
    note: Option<String>,
    now: Timestamp,
) -> customer::ActiveModel {
    customer::ActiveModel {
        status: Set(CustomerStatus::Terminated),
        termination_code: Set(Some(code)),
        termination_category: Set(Some(category)),
        termination_note: Set(note),
        terminated_at: Set(Some(now)),
        ..without_callback(CustomerStatus::Terminated)
    }
}

/// The customer is to be called back.
pub fn called_back(at: Timestamp, note: Option<String>) -> customer::ActiveModel {
    customer::ActiveModel {
        status: Set(CustomerStatus::Callback),
        callback_at: Set(Some(at)),
        callback_note: Set(note),
        ..Default::default()
    }
}

/// The customer is to be tried as if nothing had been agreed or given up.
pub fn open_again(row: &customer::Model) -> customer::ActiveModel {
    let tried = row.attempt_count > 0;
    customer::ActiveModel {
        termination_code: Set(None),
        termination_category: Set(None),
        termination_note: Set(None),
        terminated_at: Set(None),
        ..without_callback(if tried { CustomerStatus::InProgress } else { CustomerStatus::Unused })
    }
}

fn without_callback(status: CustomerStatus) -> customer::ActiveModel {
    customer::ActiveModel {
        status: Set(status),
        callback_at: Set(None),
        callback_note: Set(None),
        ..Default::default()
    }
}
