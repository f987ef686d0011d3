//! The operation that sends up to 500 messages: each is answered on its own, all that can be sent go out together.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use actix_web::{HttpResponse, post, web};
use sea_orm::{DatabaseTransaction, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    api::{CreatedMessage, MessageCreate},
    begin::{self, Beginning, Parts},
    plan::Plan,
    send, write,
};
use crate::{
    accounts::entity::{Channel, account},
    app::App,
    clock::Timestamp,
    conversations::{
        outbound::{self, Filed},
        source::raw_problem,
    },
    customers::rows::gone_among,
    db::among,
    http::{
        Answer, Body, Caller, Code, Idempotency, Problem,
        idempotency::{PausedWork, Start},
        problem::FieldError,
    },
    id::{AccountId, TemplateId, UserId},
    mail::compose::OutgoingAttachment,
    templates::{entity as template, files},
};

/// How many bytes the texts and the HTML of a batch's messages may have together.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Messages to be sent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "messages": [{
    "to": { "address": "anna@example.org" }, "content": { "subject": "Your order", "text": "It left our warehouse." }
}] }))]
pub struct MessageBatchCreate {
    /// The messages.
    #[schema(min_items = 1, max_items = 500)]
    pub messages: Vec<MessageCreate>,
}

/// What became of one message of a batch.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageBatchEntry {
    /// Its place in the batch, from 0.
    #[schema(minimum = 0, examples(0))]
    pub index: usize,
    /// What it would have been answered alone: 201, 200 for a dry run, or the status of the problem.
    #[schema(minimum = 200, maximum = 599, examples(201))]
    pub status: u16,
    /// The message, when it was made.
    pub message: Option<CreatedMessage>,
    /// Why it was not.
    pub problem: Option<MessageBatchProblem>,
}

/// Why a message of a batch was refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageBatchProblem {
    /// The stable name of the problem; see `GET /v1/problems`.
    #[schema(examples("validation_failed"))]
    pub code: String,
    /// What happened.
    pub detail: String,
    /// The single errors, with pointers into this message.
    pub errors: Vec<FieldError>,
}

/// What became of a batch.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageBatch {
    /// How many messages were made.
    #[schema(minimum = 0, examples(1))]
    pub created: usize,
    /// How many were refused.
    #[schema(minimum = 0, examples(0))]
    pub refused: usize,
    /// One entry for each message, in their order.
    pub items: Vec<MessageBatchEntry>,
}

/// A message of the batch, composed.
struct Ready {
    account_id: AccountId,
    begun: Beginning,
    filed: Filed,
    /// What is said of it; its state is known when it is filed.
    shown: CreatedMessage,
}

/// Send up to 500 messages.
///
/// Each one is answered on its own, as `POST /v1/messages` would; one that is refused does not keep the others back. All
/// that can be sent are made in one step, so a repeat with the same `Idempotency-Key` sends nothing again. A body that does
/// not fit its schema is refused as a whole. The texts and the HTML of all messages, dry runs too, have at most 32 MiB
/// together: from the first one that does not fit in they are refused with `batch_too_large`, and are sent in another
/// batch. What a message says is left out of the answer, but of dry runs.
#[utoipa::path(tag = "messages", request_body = MessageBatchCreate,
    responses((status = 200, description = "What became of each.", body = MessageBatch)))]
#[post("/messages/batch")]
pub async fn create_message_batch(
    app: web::Data<App>,
    caller: Caller,
    body: Body<MessageBatchCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let (mut plans, mut templates) = (Vec::with_capacity(body.0.messages.len()), HashMap::new());
    for wanted in body.0.messages {
        let mut plan = single(Plan::of(&app, &*work.tx, &wanted, now).await)?;
        plan.iter_mut().for_each(|plan| share_template(plan, &mut templates));
        plans.push((plan, wanted));
    }
    share_places(plans.iter_mut().filter_map(|(plan, _)| plan.as_mut().ok()));
    let paused = work.pause().await?;
    // The files of a template are read once for all messages of the batch.
    let mut files = HashMap::new();
    for template in plans.iter().filter_map(|(plan, _)| plan.as_ref().ok()?.template.as_ref()) {
        if let Entry::Vacant(place) = files.entry(template.id) {
            place.insert(files::load(&app, template).await.map_err(raw_problem)?);
        }
    }
    let (mut entries, mut ready, mut room) =
        (Vec::with_capacity(plans.len()), Vec::new(), Room(Some(MOST_BYTES)));
    for (index, (plan, wanted)) in plans.into_iter().enumerate() {
        let made = match plan {
            Ok(plan) => {
                let files = wanted.template_id.and_then(|id| files.get(&id).cloned()).unwrap_or_default();
                single(Box::pin(make(&app, now, caller.user_id(), plan, wanted, files, &mut room)).await)
            }
            Err(problem) => Ok(Err(problem)),
        };
        match made {
            Ok(Ok(Made::Ready(one))) => ready.push((index, *one)),
            Ok(Ok(Made::Shown(shown))) => entries.push(MessageBatchEntry::shown(index, 200, *shown)),
            Ok(Err(problem)) => entries.push(MessageBatchEntry::refused(index, &problem)),
            Err(problem) => {
                app.raw.drop_objects(objects(&ready)).await;
                return Err(problem);
            }
        }
    }
    Box::pin(finish(&app, paused, now, entries, ready)).await
}

/// Several texts to one number are in one conversation.
fn share_places<'a>(plans: impl Iterator<Item = &'a mut Plan>) {
    let mut places = HashMap::new();
    for plan in plans.filter(|plan| plan.channel == Channel::Sms) {
        let first = places.entry((plan.account.id, plan.to.address.clone())).or_insert(plan.place);
        plan.place = *first;
    }
}

/// A template that several messages are made from is kept once.
fn share_template(plan: &mut Plan, known: &mut HashMap<TemplateId, Arc<template::Model>>) {
    if let Some(template) = &mut plan.template {
        *template = known.entry(template.id).or_insert_with(|| Arc::clone(template)).clone();
    }
}

/// How many bytes more a batch may say; none when a message has not fitted in.
struct Room(Option<usize>);

impl Room {
    /// Whoever gets several messages gets them in their order: none follows one that does not fit.
    fn take(&mut self, parts: &Parts) -> Result<(), Problem> {
        let bytes = parts.text.len() + parts.html.as_ref().map_or(0, String::len);
        self.0 = self.0.and_then(|left| left.checked_sub(bytes));
        self.check()
    }

    fn check(&self) -> Result<(), Problem> {
        let detail =
            "the messages before have nearly all of the 32 MiB of a batch: send this one in another batch";
        self.0.map(|_| ()).ok_or_else(|| Problem::new(Code::BatchTooLarge, detail))
    }
}

/// What one message came to before the transaction.
enum Made {
    Ready(Box<Ready>),
    Shown(Box<CreatedMessage>),
}

/// A problem of one message is its own; one of ours is everybody's.
fn single<T>(result: Result<T, Problem>) -> Result<Result<T, Problem>, Problem> {
    match result {
        Err(problem) if problem.code.status() >= 500 => Err(problem),
        other => Ok(other),
    }
}

async fn make(
    app: &App,
    now: Timestamp,
    author: Option<UserId>,
    plan: Plan,
    wanted: MessageCreate,
    files: Vec<OutgoingAttachment>,
    room: &mut Room,
) -> Result<Made, Problem> {
    room.check()?;
    let parts = plan.parts(&wanted)?;
    room.take(&parts)?;
    if wanted.dry_run {
        plan.fields(plan.category(&wanted))?;
        return Ok(Made::Shown(Box::new(send::shown(&plan, &wanted, parts, now))));
    }
    let mut begun = Beginning { files, ..send::beginning(&plan, &wanted, parts, author, now)? };
    let filed = outbound::prepare(app, now, &plan.account, begun.letter(), "/content").await?;
    let filed = begun.remembered(filed);
    let shown = CreatedMessage {
        id: Some(begun.id),
        conversation_id: Some(begun.place.conversation_id),
        message_id_header: filed.message.message_id_header.clone(),
        text: None,
        html: None,
        ..send::shown(&plan, &wanted, begun.let_go(), now)
    };
    Ok(Made::Ready(Box::new(Ready { account_id: plan.account.id, begun, filed, shown })))
}

/// Files what is ready and stores the answer in one transaction; what was made durable for nothing is removed.
async fn finish(
    app: &App,
    paused: PausedWork,
    now: Timestamp,
    entries: Vec<MessageBatchEntry>,
    ready: Vec<(usize, Ready)>,
) -> Result<HttpResponse, Problem> {
    let (stored, mut left) = (objects(&ready), Vec::new());
    let answer =
        outbound::finish(app, paused, stored, async |tx| file(app, tx, now, entries, ready, &mut left).await);
    let answer = answer.await?;
    app.raw.drop_objects(left).await;
    Ok(answer)
}

/// The objects that hold the bytes of large mails.
fn objects(ready: &[(usize, Ready)]) -> Vec<String> {
    ready.iter().filter_map(|(_, one)| one.filed.object()).collect()
}

/// Files the messages whose accounts still send; `left` gets the objects of the others.
async fn file(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    mut entries: Vec<MessageBatchEntry>,
    ready: Vec<(usize, Ready)>,
    left: &mut Vec<String>,
) -> Result<Answer, Problem> {
    let ids = ready.iter().map(|(_, one)| one.account_id);
    let accounts = match ready.as_slice() {
        [] => Vec::new(),
        _ => account::Entity::find().filter(among(account::Column::Id, ids)).all(tx).await?,
    };
    let gone = gone_among(tx, ready.iter().filter_map(|(_, one)| one.begun.about.customer_id)).await?;
    let (mut going, mut mails) = (Vec::new(), Vec::new());
    for (index, Ready { account_id, begun, filed, shown }) in ready {
        // The account may have been taken out of service meanwhile.
        let account = accounts.iter().find(|account| account.id == account_id);
        let account = account.ok_or_else(|| Problem::unknown_reference("/account_id", "account"));
        match account
            .and_then(|account| write::check_account(account, shown.channel, "/account_id").map(|()| account))
            .and_then(|account| write::check_customer(&gone, begun.about.customer_id).map(|()| account))
        {
            Ok(account) => {
                going.push((index, begun, account, shown));
                mails.push(filed);
            }
            Err(problem) => {
                left.extend(filed.object());
                entries.push(MessageBatchEntry::refused(index, &problem));
            }
        }
    }
    let mails = going.iter().zip(mails).map(|((_, begun, account, _), filed)| (begun, *account, filed));
    let states = begin::file(app, tx, now, mails.collect()).await?;
    for ((index, .., shown), state) in going.into_iter().zip(states) {
        entries.push(MessageBatchEntry::shown(index, 201, CreatedMessage { state: Some(state), ..shown }));
    }
    entries.sort_by_key(|entry| entry.index);
    let created = entries.iter().filter(|entry| entry.status == 201).count();
    let refused = entries.iter().filter(|entry| entry.problem.is_some()).count();
    Answer::ok(&MessageBatch { created, refused, items: entries })
}

impl MessageBatchEntry {
    fn shown(index: usize, status: u16, message: CreatedMessage) -> Self {
        Self { index, status, message: Some(message), problem: None }
    }

    fn refused(index: usize, problem: &Problem) -> Self {
        let told = MessageBatchProblem {
            code: problem.code.name().to_owned(),
            detail: problem.detail.clone(),
            errors: problem.errors.clone(),
        };
        Self { index, status: problem.code.status(), message: None, problem: Some(told) }
    }
}
