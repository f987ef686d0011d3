//! Takes a report in: the attempt, the customer's new status and what the rules send, in one transaction.

use actix_web::HttpResponse;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QuerySelect,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    api::{Attempt, AttemptAnswer, AttemptCreate, AttemptCustomer},
    files::Files,
    fire::Case,
    status::{self, Ending, Happened},
};
use crate::{
    app::App,
    campaigns::{
        entity::{attempt, campaign},
        scheduled,
    },
    clock::Timestamp,
    conversations::outbound::Press,
    customers::entity::{OutcomeCategory, customer, customer_list, outcome},
    events::{self, NewEvent},
    http::{Answer, Caller, Code, Idempotency, Problem, idempotency::Start, problem::FieldError},
    id::{AttemptId, CustomerId},
};

/// How far ahead a call-back may be agreed, in seconds.
const AHEAD_S: i64 = 5 * 366 * 24 * 3600;
/// How much a dialler's clock may be ahead of ours, in seconds.
const CLOCKS_DIFFER_S: i64 = 300;

/// Whose attempt is reported.
pub(super) enum Whose {
    /// By id.
    Id(CustomerId),
    /// By what other systems know them by.
    Ref(String),
}

/// Takes a report in, or gives the answer that it was given before.
///
/// # Errors
/// `not_found`, `gone`, `validation_failed`, `unknown_reference`, `attempt_ref_reused`.
pub(super) async fn take(
    app: &App,
    caller: &Caller,
    whose: Whose,
    report: AttemptCreate,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    check(&report, now)?;
    // Read before the transaction, because it may have to be written first.
    let press = Press::of(app, app.db.read(), now).await?;
    let files = Files::of_rules(app, &whose, &report).await?;
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let tx = &work.tx;
    let before = lock(tx, whose).await?;
    let hash = hash_of(&report)?;
    if let Some(known) = known(tx, before.id, &report.attempt_ref).await? {
        if known.request_hash != hash {
            let detail = "another report has this attempt_ref; each attempt has its own";
            return Err(Problem::new(Code::AttemptRefReused, detail));
        }
        return work.commit(Answer::ok(&known.answer)?).await;
    }
    if before.erased_at.is_some() {
        return Err(Problem::new(Code::Gone, "the customer was erased"));
    }
    let location = format!("/v1/customers/{}/attempts", before.id);
    let taken = Taken { app, tx, now, press: &press, caller, files: &files };
    let answer = Box::pin(taken.follow(before, report, hash)).await?;
    work.commit(Answer::created(location, &answer)?).await
}

/// A report that is taken in.
struct Taken<'a> {
    app: &'a App,
    tx: &'a DatabaseTransaction,
    now: Timestamp,
    press: &'a Press,
    caller: &'a Caller,
    files: &'a Files,
}

impl Taken<'_> {
    /// Does what follows from the report of a customer as they were `before`; gives the stored answer.
    async fn follow(
        &self,
        before: customer::Model,
        report: AttemptCreate,
        request_hash: String,
    ) -> Result<Value, Problem> {
        let Self { app, tx, now, press, caller, files } = *self;
        let (campaign, list, ending) = read(tx, &before, &report).await?;
        let attempted_at = report.attempted_at.unwrap_or(now);
        let mut customer = before.clone();
        let happened = status::apply(&mut customer, &ending, attempted_at, now);
        store_customer(tx, &before, &customer).await?;
        if happened.leave_alone {
            scheduled::cancel_for(tx, now, customer.id).await?;
        }
        let author_id = caller.user_id();
        let (customer_now, list, campaign) = (&customer, &list, &campaign);
        let case = Case { app, tx, now, press, customer: customer_now, list, campaign, author_id, files };
        let (messages, skipped) = case.fire(&happened, &ending).await?;
        let row = attempt::Model {
            id: AttemptId::new(now),
            customer_id: customer.id,
            campaign_id: Some(campaign.id),
            attempt_ref: report.attempt_ref,
            number: customer.attempt_count,
            outcome_code: ending.code,
            outcome_category: ending.category,
            request_hash,
            answer: Value::Null,
            attempted_at,
            created_at: now,
        };
        let attempt = Attempt::from(row.clone());
        let answer = AttemptAnswer { attempt, customer: AttemptCustomer::from(customer), messages, skipped };
        let event = reported(&answer, &happened);
        let answer = serde_json::to_value(&answer).map_err(Problem::internal)?;
        let row = attempt::Model { answer: answer.clone(), ..row };
        row.into_active_model().reset_all().insert(tx).await?;
        events::append(tx, now, vec![event]).await?;
        Ok(answer)
    }
}

/// Rules that the schema cannot say, before anything is read.
fn check(report: &AttemptCreate, now: Timestamp) -> Result<(), Problem> {
    let mut errors = Vec::new();
    let mut wrong =
        |pointer: &str, code: &str, detail: &str| errors.push(FieldError::new(pointer, code, detail));
    if report.attempted_at.is_some_and(|at| at > now.plus_s(CLOCKS_DIFFER_S)) {
        wrong("/attempted_at", "in_the_future", "an attempt is reported when it has been made");
    }
    if let Some(next) = &report.next {
        if next.terminate && next.callback_at.is_some() {
            wrong("/next/callback_at", "not_both", "a customer who is given up is not called back");
        }
        if next.callback_note.is_some() && next.callback_at.is_none() {
            wrong("/next/callback_note", "needs_callback", "a note goes with callback_at");
        }
        if next.callback_at.is_some_and(|at| at > now.plus_s(AHEAD_S)) {
            wrong("/next/callback_at", "too_large", "it is more than five years ahead");
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

/// The customer, whom nobody else changes until the transaction ends: the first lock that a report takes.
async fn lock(tx: &DatabaseTransaction, whose: Whose) -> Result<customer::Model, Problem> {
    let select = match whose {
        Whose::Id(id) => customer::Entity::find_by_id(id),
        Whose::Ref(known) => customer::Entity::find().filter(customer::Column::Ref.eq(known)),
    };
    select.lock_exclusive().one(tx).await?.ok_or_else(|| Problem::not_found("customer"))
}

async fn known(
    tx: &DatabaseTransaction,
    id: CustomerId,
    attempt_ref: &str,
) -> Result<Option<attempt::Model>, DbErr> {
    attempt::Entity::find()
        .filter(attempt::Column::CustomerId.eq(id))
        .filter(attempt::Column::AttemptRef.eq(attempt_ref))
        .one(tx)
        .await
}

/// What was reported, to know a repetition from another report.
fn hash_of(report: &AttemptCreate) -> Result<String, Problem> {
    let text = serde_json::to_vec(report).map_err(Problem::internal)?;
    Ok(hex::encode(Sha256::digest(text)))
}

async fn read(
    tx: &DatabaseTransaction,
    customer: &customer::Model,
    report: &AttemptCreate,
) -> Result<(campaign::Model, customer_list::Model, Ending), Problem> {
    // Shared, so that a campaign is not suspended or stopped between this and what its rules send.
    let campaign = campaign::Entity::find_by_id(report.campaign_id).lock_shared().one(tx).await?;
    let campaign = campaign.ok_or_else(|| Problem::unknown_reference("/campaign_id", "campaign"))?;
    let list = customer_list::Entity::find_by_id(customer.list_id).one(tx).await?;
    let list = list.ok_or_else(|| Problem::internal("a customer is on no list"))?;
    let category = match &report.outcome_code {
        None => None,
        Some(code) => {
            let found = outcome::Entity::find().filter(outcome::Column::Code.eq(code)).one(tx).await?;
            Some(found.ok_or_else(|| Problem::unknown_reference("/outcome_code", "outcome"))?.category)
        }
    };
    let next = report.next.clone().unwrap_or_default();
    if category == Some(OutcomeCategory::DoNotContact) && next.callback_at.is_some() {
        let detail = "a customer who wants no contact is not called back";
        return Err(Problem::invalid("/next/callback_at", "not_both", detail));
    }
    let ending = Ending {
        code: report.outcome_code.clone(),
        category,
        terminate: next.terminate,
        callback_at: next.callback_at,
        callback_note: next.callback_note,
    };
    Ok((campaign, list, ending))
}

async fn store_customer(
    tx: &DatabaseTransaction,
    before: &customer::Model,
    after: &customer::Model,
) -> Result<(), DbErr> {
    use sea_orm::ActiveValue::Set;
    let change = customer::ActiveModel {
        status: Set(after.status),
        callback_at: Set(after.callback_at),
        callback_note: Set(after.callback_note.clone()),
        termination_code: Set(after.termination_code.clone()),
        termination_category: Set(after.termination_category),
        termination_note: Set(after.termination_note.clone()),
        terminated_at: Set(after.terminated_at),
        attempt_count: Set(after.attempt_count),
        last_attempt_at: Set(after.last_attempt_at),
        version: Set(after.version),
        updated_at: Set(after.updated_at),
        ..Default::default()
    };
    let guarded = customer::Entity::update_many()
        .set(change)
        .filter(customer::Column::Id.eq(before.id))
        .filter(customer::Column::Version.eq(before.version));
    if guarded.exec(tx).await?.rows_affected == 1 { Ok(()) } else { Err(DbErr::RecordNotUpdated) }
}

fn reported(answer: &AttemptAnswer, happened: &Happened) -> NewEvent {
    let (attempt, customer) = (&answer.attempt, &answer.customer);
    let data = json!({
        "customer_id": customer.id, "campaign_id": attempt.campaign_id, "number": attempt.number,
        "outcome_code": attempt.outcome_code, "status": customer.status, "triggers": happened.triggers,
        "message_count": answer.messages.len(), "skipped_count": answer.skipped.len(),
    });
    NewEvent::new("attempt.reported", attempt.id.uuid(), &data).for_supervisors()
}
