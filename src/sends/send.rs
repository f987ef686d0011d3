//! Sends one message: written outside the transaction, filed and put on its way in it.

use actix_web::HttpResponse;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
};
use serde_json::json;

use super::{
    api::{CreatedMessage, MessageCreate},
    write::{self, Parts},
};
use crate::{
    accounts::{
        addresses::own_addresses,
        entity::{Channel, account},
    },
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{ConversationState, conversation},
        messages::customer_key,
        outbound::{self, Filed},
    },
    events::{self, NewEvent},
    http::{Answer, Caller, Idempotency, Problem, idempotency::Start},
    id::{ConversationId, MessageId},
    suppressions::{AddressKeys, Barred, entity::SuppressionReason},
    templates::entity as template,
};

/// What a send needs to know.
struct Read {
    account: account::Model,
    template: Option<template::Model>,
    /// Why the recipient may not be written to.
    barred: Option<SuppressionReason>,
}

impl Read {
    async fn of(
        app: &App,
        db: &impl ConnectionTrait,
        wanted: &MessageCreate,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        write::check(wanted, &own_addresses(db).await?, now)?;
        let account = account_of(db, wanted).await?;
        write::check_account(&account)?;
        let template = match wanted.template_id {
            None => None,
            Some(id) => {
                let found = template::Entity::find_by_id(id).one(db).await?;
                Some(found.ok_or_else(|| Problem::unknown_reference("/template_id", "template"))?)
            }
        };
        template.as_ref().map_or(Ok(()), write::check_template)?;
        let barred = Barred::among(db, AddressKeys::of(app), [wanted.to.address.as_str()], now).await?;
        Ok(Self { account, template, barred: barred.reason(&wanted.to.address, false, None) })
    }

    fn parts(&self, wanted: &MessageCreate) -> Result<Parts, Problem> {
        write::parts(wanted, &self.account, self.template.as_ref())
    }
}

/// The account that is named, or the only one that sends.
async fn account_of(db: &impl ConnectionTrait, wanted: &MessageCreate) -> Result<account::Model, Problem> {
    if let Some(id) = wanted.account_id {
        let found = account::Entity::find_by_id(id).one(db).await?;
        return found.ok_or_else(|| Problem::unknown_reference("/account_id", "account"));
    }
    let mut in_use = account::Entity::find()
        .filter(account::Column::Channel.eq(Channel::Email))
        .filter(account::Column::State.is_in(write::IN_USE))
        .limit(2)
        .all(db)
        .await?;
    match (in_use.pop(), in_use.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Problem::invalid("/account_id", "required", "no account for e-mail is in use")),
        (Some(_), false) => {
            Err(Problem::invalid("/account_id", "required", "several accounts are in use: name one"))
        }
    }
}

/// What would be sent.
///
/// # Errors
/// Those of [`create`].
pub(super) async fn dry_run(app: &App, wanted: MessageCreate) -> Result<CreatedMessage, Problem> {
    let now = app.clock.now();
    let read = Read::of(app, app.db.read(), &wanted, now).await?;
    let parts = read.parts(&wanted)?;
    Ok(shown(&read, wanted, parts, now))
}

/// Sends, once per idempotency key.
///
/// # Errors
/// `validation_failed` and `unknown_reference` for what cannot be sent.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    wanted: MessageCreate,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let read = Read::of(app, &*work.tx, &wanted, now).await?;
    // Rendering, composing and the object store take their time, and no transaction waits for them.
    let paused = work.pause().await?;
    let parts = read.parts(&wanted)?;
    let begun = begin(&read.account, &wanted, &parts.subject, now);
    let (id, author) = (MessageId::new(now), caller.user_id());
    let letter = write::letter(id, begun.id, author, &wanted, parts.clone());
    let mut filed = outbound::prepare(app, now, &read.account, letter, "/content").await?;
    filed.message.category = Some("transactional".to_owned());
    filed.message.external_ref.clone_from(&wanted.external_ref);
    let not_before = wanted.send_at.filter(|at| *at > now);
    outbound::finish(app, paused, filed, async |tx, filed| {
        // The account may have been taken out of service meanwhile.
        let account = account::Entity::find_by_id(read.account.id).one(tx).await?;
        write::check_account(&account.ok_or_else(|| Problem::unknown_reference("/account_id", "account"))?)?;
        let conversation_id = begun.id;
        let event = begun_event(&begun);
        begun.into_active_model().reset_all().insert(tx).await?;
        events::append(tx, now, vec![event]).await?;
        let header = filed.message.message_id_header.clone();
        let barred = read.barred.map(|reason| reason.words().to_owned());
        let filed = Filed { not_before, barred, ..filed };
        let state = outbound::file(app, tx, now, vec![filed]).await?.pop();
        let sent = CreatedMessage {
            id: Some(id),
            conversation_id: Some(conversation_id),
            state,
            message_id_header: header,
            ..shown(&read, wanted, parts, now)
        };
        Answer::created(format!("/v1/messages/{id}"), &sent)
    })
    .await
}

/// The conversation that a send begins; its message is noted on it when it is filed.
fn begin(
    account: &account::Model,
    wanted: &MessageCreate,
    subject: &str,
    now: Timestamp,
) -> conversation::Model {
    conversation::Model {
        id: ConversationId::new(now),
        account_id: account.id,
        channel: account.channel,
        state: ConversationState::WaitingCustomer,
        subject: subject.to_owned(),
        customer_name: wanted.to.name.clone(),
        customer_address: Some(customer_key(&wanted.to.address)),
        message_count: 0,
        last_message_id: None,
        last_message_at: now,
        last_agent_id: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn begun_event(row: &conversation::Model) -> NewEvent {
    let data = json!({
        "account_id": row.account_id, "state": row.state, "message_count": row.message_count,
        "last_message_id": row.last_message_id,
    });
    NewEvent::new("conversation.created", row.id.uuid(), &data).for_supervisors()
}

fn shown(read: &Read, wanted: MessageCreate, parts: Parts, now: Timestamp) -> CreatedMessage {
    CreatedMessage {
        id: None,
        conversation_id: None,
        account_id: read.account.id,
        template_id: wanted.template_id,
        state: None,
        to: wanted.to,
        subject: parts.subject,
        text: parts.text,
        html: parts.html,
        message_id_header: None,
        send_at: wanted.send_at.filter(|at| *at > now),
        external_ref: wanted.external_ref,
        suppressed_by: read.barred,
        dry_run: wanted.dry_run,
        created_at: now,
    }
}
