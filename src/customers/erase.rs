//! Erasing what is known of a customer.

mod entity;
pub mod texts;

use actix_web::{HttpResponse, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::json;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

use super::{
    api::Customer,
    entity::{
        CustomerStatus,
        customer::{ActiveModel, Model},
        import_error,
    },
    rows::{change, find_locked, told},
};
use crate::{
    accounts::entity::Channel,
    app::App,
    broadcasts::ledger,
    campaigns::entity::attempt,
    clock::Timestamp,
    db::Gate,
    events,
    http::{Answer, Caller, Path, Problem},
    id::CustomerId,
    suppressions::erase::keep_only_keys,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(erase_customer);
}

/// Erase what is known of a customer.
///
/// Name, addresses, numbers, language, data and notes are gone; the `ref` is replaced by one that says nothing; the customer is
/// terminated. Attempts are still counted, but what was answered to them is gone. A suppression is kept for each address, as a
/// keyed hash without the address itself, so that nothing is sent there even when another import brings the address back.
///
/// The messages that were exchanged with them are emptied in the background: texts, names, addresses, files and sources, what
/// servers said, notes, and what scripts saw. `texts_erased_at` and the event `customer.texts_erased` tell when that is done.
/// Where another customer has the same address, only what was sent to this one. What is unsent is called off. Ids, times,
/// states and counts stay, and so does what comes in later. While a work item of theirs is not done, it is refused.
///
/// Answers that are kept for repeated requests, and uploads, are gone after 24 hours. The audit log keeps a `ref` that a call
/// named. It cannot be undone. Doing it again changes nothing.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, description = "Nothing is known of them any more.", body = Customer, headers(("ETag" = String)))))]
#[post("/customers/{id}/erase")]
pub async fn erase_customer(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
) -> Result<HttpResponse, Problem> {
    let tx = app.db.begin().await?;
    // Before any row is locked, as everywhere.
    Gate::Sends.shut(&tx).await?;
    let mut row = find_locked(&tx, *id).await?;
    // After all that this had to wait for: it is later than what they wrote.
    let now = app.clock.now();
    if row.erased_at.is_none() {
        row = erase(&tx, now, &row).await?;
        let mut news = vec![told("customer.erased", &row)];
        news.extend(row.texts_erased_at.map(|_| told("customer.texts_erased", &row)));
        events::append(&tx, now, news).await?;
    }
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Customer::of(row, &caller))?.versioned(version).into_response())
}

async fn erase(tx: &DatabaseTransaction, now: Timestamp, row: &Model) -> Result<Model, Problem> {
    // First, because whoever files a broadcast's message holds its row: what they filed is there then.
    ledger::forget(tx, row.id).await?;
    let texts_erased_at = if texts::note(tx, now, row).await? { None } else { Some(now) };
    let nothing = ActiveModel { texts_erased_at: Set(texts_erased_at), ..nothing_known(row, now) };
    let erased = change(tx, now, row, nothing).await?;
    let addresses = [(&row.email_key, Channel::Email), (&row.sms_key, Channel::Sms)];
    let addresses = addresses.into_iter().filter_map(|(key, channel)| Some((key.clone()?, channel)));
    keep_only_keys(tx, now, &addresses.collect::<Vec<_>>()).await?;
    let answers = attempt::ActiveModel { answer: Set(json!({ "erased": true })), ..Default::default() };
    attempt::Entity::update_many()
        .set(answers)
        .filter(attempt::Column::CustomerId.eq(row.id))
        .exec(tx)
        .await?;
    let reports = import_error::ActiveModel { customer_ref: Set(None), ..Default::default() };
    import_error::Entity::update_many()
        .set(reports)
        .filter(import_error::Column::CustomerRef.eq(&row.r#ref))
        .exec(tx)
        .await?;
    Ok(erased)
}

fn nothing_known(row: &Model, now: Timestamp) -> ActiveModel {
    ActiveModel {
        // 122 random bits: nobody finds out from it who it was.
        r#ref: Set(format!("erased-{}", Uuid::new_v4())),
        name: Set(String::new()),
        email: Set(None),
        email_key: Set(None),
        sms_number: Set(None),
        sms_key: Set(None),
        telephones: Set(json!([])),
        locale: Set(None),
        data: Set(json!({})),
        status: Set(CustomerStatus::Terminated),
        callback_at: Set(None),
        callback_note: Set(None),
        termination_note: Set(None),
        terminated_at: Set(Some(row.terminated_at.unwrap_or(now))),
        erased_at: Set(Some(now)),
        ..Default::default()
    }
}
