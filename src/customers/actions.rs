//! What is done with a customer: given up, tried again, to be called back.

use actix_web::{HttpResponse, post, web};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    api::Customer,
    entity::{
        OutcomeCategory,
        customer::{ActiveModel, Model},
        outcome,
    },
    rows::{change, find, told},
    state::{self, CustomerAction},
};
use crate::{
    app::App,
    campaigns::scheduled,
    clock::Timestamp,
    db::Tx,
    events,
    http::{Answer, Body, Caller, Path, Problem},
    id::CustomerId,
};

/// How far ahead a call-back may be, in seconds.
const AHEAD_S: i64 = 5 * 366 * 24 * 3600;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(terminate_customer)
        .service(redial_customer)
        .service(set_customer_callback)
        .service(clear_customer_callback);
}

/// How a customer is given up.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "outcome_code": "no_answer", "note": "Moved away" }))]
pub struct CustomerTerminate {
    /// The code of an outcome.
    #[schema(min_length = 1, max_length = 64, examples("no_answer"))]
    pub outcome_code: String,
    /// More about why.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500, examples("Moved away"))]
    pub note: Option<String>,
}

/// When a customer is to be called back.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "at": "2030-03-01T17:30:00.000Z", "note": "After work, on the mobile" }))]
pub struct CustomerSetCallback {
    /// When: later than now.
    pub at: Timestamp,
    /// What to know then.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500, examples("After work, on the mobile"))]
    pub note: Option<String>,
}

/// One change of where a customer stands.
struct Change<'a> {
    caller: &'a Caller,
    tx: Tx,
    now: Timestamp,
}

impl<'a> Change<'a> {
    async fn begin(app: &App, caller: &'a Caller) -> Result<Self, Problem> {
        Ok(Self { caller, tx: app.db.begin().await?, now: app.clock.now() })
    }

    /// Makes the change, if the customer's state allows it, and answers with the customer.
    async fn make(
        self,
        id: CustomerId,
        action: CustomerAction,
        kind: &'static str,
        columns: impl FnOnce(&Model) -> ActiveModel,
    ) -> Result<HttpResponse, Problem> {
        let row = find(&*self.tx, id).await?;
        state::require(&row, action)?;
        let row = change(&self.tx, self.now, &row, columns(&row)).await?;
        if action == CustomerAction::Terminate
            && row.termination_category == Some(OutcomeCategory::DoNotContact)
        {
            scheduled::cancel_for(&self.tx, self.now, row.id).await?;
        }
        events::append(&self.tx, self.now, vec![told(kind, &row)]).await?;
        self.tx.commit().await?;
        let version = row.version;
        Ok(Answer::ok(&Customer::of(row, self.caller))?.versioned(version).into_response())
    }
}

/// Try a customer no more.
///
/// No message rule fires: rules follow the attempts that a dialler reports. An outcome of the category `do_not_contact` calls
/// off what rules made for them and nobody has sent yet.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)), request_body = CustomerTerminate,
    responses((status = 200, description = "They are given up.", body = Customer, headers(("ETag" = String)))))]
#[post("/customers/{id}/terminate")]
pub async fn terminate_customer(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
    body: Body<CustomerTerminate>,
) -> Result<HttpResponse, Problem> {
    let change = Change::begin(&app, &caller).await?;
    let CustomerTerminate { outcome_code, note } = body.0;
    find(&*change.tx, *id).await?;
    let known = outcome::Entity::find().filter(outcome::Column::Code.eq(&outcome_code));
    let known = known.one(&*change.tx).await?;
    let category = known.ok_or_else(|| Problem::unknown_reference("/outcome_code", "outcome"))?.category;
    let now = change.now;
    let columns = |_: &_| state::terminated(outcome_code, category, note, now);
    change.make(*id, CustomerAction::Terminate, "customer.terminated", columns).await
}

/// Try a customer again who was given up.
///
/// They are `in_progress` then if they were tried before, else `unused`.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, description = "They are tried again.", body = Customer, headers(("ETag" = String)))))]
#[post("/customers/{id}/redial")]
pub async fn redial_customer(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
) -> Result<HttpResponse, Problem> {
    let change = Change::begin(&app, &caller).await?;
    change.make(*id, CustomerAction::Redial, "customer.redialled", state::open_again).await
}

/// Agree on a time to call a customer back.
///
/// A time that was agreed before is forgotten. No message rule fires: rules for `callback_set` are for what a dialler reports.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)), request_body = CustomerSetCallback,
    responses((status = 200, description = "It is agreed.", body = Customer, headers(("ETag" = String)))))]
#[post("/customers/{id}/set-callback")]
pub async fn set_customer_callback(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
    body: Body<CustomerSetCallback>,
) -> Result<HttpResponse, Problem> {
    let change = Change::begin(&app, &caller).await?;
    let CustomerSetCallback { at, note } = body.0;
    find(&*change.tx, *id).await?;
    if at <= change.now {
        return Err(Problem::invalid("/at", "past", "the time is over already"));
    }
    if at > change.now.plus_s(AHEAD_S) {
        return Err(Problem::invalid("/at", "too_far", "it is more than five years ahead"));
    }
    let columns = |_: &_| state::called_back(at, note);
    change.make(*id, CustomerAction::SetCallback, "customer.callback_set", columns).await
}

/// Forget the time that was agreed with a customer.
///
/// They are `in_progress` then if they were tried before, else `unused`.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, description = "It is forgotten.", body = Customer, headers(("ETag" = String)))))]
#[post("/customers/{id}/clear-callback")]
pub async fn clear_customer_callback(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
) -> Result<HttpResponse, Problem> {
    let change = Change::begin(&app, &caller).await?;
    change.make(*id, CustomerAction::ClearCallback, "customer.callback_cleared", state::open_again).await
}
