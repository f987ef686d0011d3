//! The operation that sends a broadcast to people who look at it before it is begun.

use actix_web::{HttpResponse, post, web};
use sea_orm::{DatabaseTransaction, EntityTrait};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    actions_api::{fits, refuse_obstacles},
    entity::broadcast,
    gather::{self, Sieve, reach},
    print::Printer,
    rules::BroadcastAction,
    settings::find,
};
use crate::{
    accounts::{
        addresses::own_addresses,
        entity::{Channel, account},
    },
    app::App,
    clock::Timestamp,
    conversations::{
        entity::{MessageState, raw_message},
        outbound::{self, Filed},
        recipient::Recipient,
        texts::segments,
    },
    customers::entity::customer,
    http::{
        Answer, Body, Caller, Idempotency, Path, Problem,
        idempotency::{PausedWork, Start, Work},
        problem::FieldError,
    },
    id::{BroadcastId, CustomerId, MessageId},
    sends::{
        begin::{self, About, Beginning, Parts, Place},
        to::MessageTo,
    },
    suppressions::{AddressKeys, Barred, entity::SuppressionReason},
    templates::entity::TemplateCategory,
};

/// What marks a test.
const MARK: &str = "[Test] ";
/// How many pages of customers are looked through for one who would get it.
const PAGES: usize = 40;

/// Who looks at a broadcast, and whose mail it is that they see.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": [{ "address": "editor@example.org" }] }))]
pub struct BroadcastTestSend {
    /// Who gets it, each once.
    #[schema(min_items = 1, max_items = 5)]
    pub to: Vec<MessageTo>,
    /// The customer whom it reads, one of its target; they get nothing. The first who would get it when it is left out.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
}

/// Tests of a broadcast that are on their way.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastTest {
    /// The customer whom they read.
    pub customer_id: CustomerId,
    /// The variant of the template that served; none for its default content.
    #[schema(examples("de"))]
    pub variant: Option<String>,
    /// The subject.
    #[schema(examples("[Test] An offer for Anna Smith"))]
    pub subject: String,
    /// The text.
    pub text: String,
    /// The HTML.
    pub html: Option<String>,
    /// The messages, in the order of `to`.
    pub messages: Vec<BroadcastTestMessage>,
}

/// One test of a broadcast.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastTestMessage {
    /// The message: see `GET /v1/messages/{id}`.
    pub id: MessageId,
    /// Who gets it.
    pub to: MessageTo,
    /// Where it stands; `suppressed` when the address may not be written to.
    pub state: MessageState,
}

/// Send a broadcast to people who look at it, as a customer of its target would get it.
///
/// What `preflight` shows as obstacles is the answer when there are any: 422, and nothing is sent. The subject, or the text of a
/// broadcast by SMS, begins with `[Test]`, the ledger does not count it, and its link to unsubscribe does nothing.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)), request_body = BroadcastTestSend,
    responses((status = 201, description = "They are on their way.", body = BroadcastTest)))]
#[post("/broadcasts/{id}/test-send")]
pub async fn test_send_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
    body: Body<BroadcastTestSend>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let row = find(&*work.tx, *id).await?;
    fits(&row, BroadcastAction::TestSend)?;
    refuse_obstacles(&app, &work.tx, &row).await?;
    let account = account::Entity::find_by_id(row.account_id).one(&*work.tx).await?;
    let account = account.ok_or_else(|| Problem::unknown_reference("/account_id", "account"))?;
    let looking = looking(&app, &work.tx, &account, &body.0.to, now).await?;
    let paused = work.pause().await?;
    let printer = Printer::of(&app, &row).await.map_err(Problem::internal)?;
    let customer = sample(&app, &row, body.0.customer_id, now).await?;
    let parts = parts(&app, &printer, &customer)?;
    let tests = looking.into_iter().map(|Looking { to, place, barred }| Beginning {
        barred,
        id: MessageId::new(now),
        place,
        to,
        parts: parts.clone(),
        files: printer.files().to_vec(),
        fields: Vec::new(),
        author_id: caller.user_id(),
        about: About {
            template_id: Some(row.template_id),
            customer_id: None,
            campaign_id: None,
            category: TemplateCategory::Transactional,
            external_ref: None,
        },
        not_before: None,
        window: None,
    });
    let tests: Vec<Beginning> = tests.collect();
    let shown = |states: Vec<MessageState>| BroadcastTest {
        customer_id: customer.id,
        variant: parts.variant.clone(),
        subject: parts.subject.clone(),
        text: parts.text.clone(),
        html: parts.html.clone(),
        messages: tests
            .iter()
            .zip(body.0.to.iter().cloned())
            .zip(states)
            .map(|((test, to), state)| BroadcastTestMessage { id: test.id, to, state })
            .collect(),
    };
    Box::pin(finish(&app, paused, now, printer.account(), &tests, shown)).await
}

/// Somebody who looks at a broadcast.
#[derive(Debug)]
struct Looking {
    to: Recipient,
    place: Place,
    barred: Option<SuppressionReason>,
}

/// Those who are named, when they can be written to at all.
async fn looking(
    app: &App,
    tx: &DatabaseTransaction,
    account: &account::Model,
    named: &[MessageTo],
    now: Timestamp,
) -> Result<Vec<Looking>, Problem> {
    let own = own_addresses(tx).await?;
    let (mut all, mut wrong): (Vec<Recipient>, Vec<FieldError>) = Default::default();
    for (at, one) in named.iter().enumerate() {
        let pointer = format!("/to/{at}");
        match one.recipient(account.channel, &pointer, &own) {
            Ok(to) if all.iter().any(|other| other.address == to.address) => {
                wrong.push(FieldError::new(pointer, "duplicate", "each gets it once"));
            }
            Ok(to) => all.push(to),
            Err(error) => wrong.push(error),
        }
    }
    if !wrong.is_empty() {
        return Err(Problem::validation(wrong));
    }
    let addresses = all.iter().map(|to| to.address.as_str());
    let barred = Barred::among(tx, AddressKeys::of(app), addresses, now).await?;
    let mut looking = Vec::with_capacity(all.len());
    for to in all {
        let place = Place::of(tx, account, &to, now).await?;
        looking.push(Looking { place, barred: barred.reason(&to.address, false, None), to });
    }
    Ok(looking)
}

/// The customer who is named, or the first who would get the broadcast.
async fn sample(
    app: &App,
    row: &broadcast::Model,
    named: Option<CustomerId>,
    now: Timestamp,
) -> Result<customer::Model, Problem> {
    let db = app.db.read();
    let lists = gather::lists(db, row).await?;
    if let Some(id) = named {
        let found = customer::Entity::find_by_id(id).one(db).await?;
        let found = found.ok_or_else(|| Problem::unknown_reference("/customer_id", "customer"))?;
        if !lists.contains(&found.list_id) {
            let detail = "the customer is not on a list of the broadcast";
            return Err(Problem::invalid("/customer_id", "not_in_target", detail));
        }
        return Ok(found);
    }
    let sieve = Sieve::of(row, AddressKeys::of(app))
        .map_err(|detail| Problem::invalid("/filter/expression", "invalid_expression", detail))?;
    let mut after = None;
    for _ in 0..PAGES {
        let page = if lists.is_empty() { Vec::new() } else { gather::page(db, &lists, after).await? };
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        if let Some(first) = sieve.sieve(db, page, now).await?.taken.into_iter().next() {
            return Ok(first);
        }
    }
    let detail = "nobody of the target would get it now: name the customer whom it is to read";
    Err(Problem::invalid("/customer_id", "required", detail))
}

/// What the tests say: what the customer would read.
fn parts(app: &App, printer: &Printer, customer: &customer::Model) -> Result<Parts, Problem> {
    let account = printer.account();
    let address = reach(account.channel, customer).0.unwrap_or_default();
    let unsubscribe_url = format!("{}/u/test", app.config.public_url());
    let mut parts = printer
        .parts(customer, address, unsubscribe_url)
        .map_err(|why| Problem::invalid("/customer_id", "render_failed", why.to_string()))?;
    match account.channel {
        Channel::Email => parts.subject.insert_str(0, MARK),
        Channel::Sms => {
            parts.text.insert_str(0, MARK);
            segments(account, &parts.text)
                .map_err(|detail| Problem::invalid("/customer_id", "too_many_segments", detail))?;
        }
    }
    Ok(parts)
}

/// Composes the tests, then files them all; what was made durable for nothing is removed.
async fn finish(
    app: &App,
    paused: PausedWork,
    now: Timestamp,
    account: &account::Model,
    tests: &[Beginning],
    shown: impl FnOnce(Vec<MessageState>) -> BroadcastTest,
) -> Result<HttpResponse, Problem> {
    let mut filed: Vec<Filed> = Vec::with_capacity(tests.len());
    let done = async {
        for test in tests {
            let one = outbound::prepare(app, now, account, test.letter(), "/template_id").await?;
            filed.push(test.remembered(one));
        }
        let work = match paused.resume(&app.db).await? {
            Start::Replay(answer) => return Ok(Err(answer)),
            Start::Run(work) => work,
        };
        let mails = tests.iter().zip(&filed).map(|(test, one)| (test, account, one.clone())).collect();
        let states = begin::file(app, &work.tx, now, mails).await?;
        Ok::<Result<(Box<Work>, Vec<MessageState>), HttpResponse>, Problem>(Ok((work, states)))
    };
    let failed = match done.await {
        // Whether a commit that fails took place nobody knows: the bytes stay.
        Ok(Ok((work, states))) => {
            let answer = Answer::new(actix_web::http::StatusCode::CREATED, &shown(states))?;
            return work.commit(answer).await;
        }
        Ok(Err(before)) => Ok(before),
        Err(problem) => Err(problem),
    };
    for one in &filed {
        app.raw.forget(&raw_message::Model { data: None, ..one.raw.clone() }).await;
    }
    failed
}
