//! Trying the outgoing server out: a step-by-step check, and one real mail.

use std::time::{Duration, SystemTime};

use actix_web::{HttpResponse, post, web};
use lettre::{Message, message::Mailbox};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::{
    api::{captures, none},
    entity::outgoing_server,
    find,
    relay::Relay,
};
use crate::{
    accounts::entity::{AccountState, account},
    app::App,
    clock::Timestamp,
    dkim::signers::Signers,
    http::{Answer, Body, Idempotency, Problem, idempotency::Start, problem::ProblemBody},
    id::AccountId,
    mail::{
        check::CheckStep,
        smtp::{self, Connection, Envelope, Outcome},
    },
};

/// What a server that only captures does with mail.
const KEPT: &str = "mail is kept and readable under /v1/outgoing-server/captured";
/// What it does with a test mail: what is kept is always a message of a conversation.
const NOT_KEPT: &str = "the mail was composed; a test mail is not kept";

/// One step of a check.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutgoingServerStep {
    /// Which step: `resolve`, `connect`, `tls`, `ehlo`, `login`; in a test also `auth`, `mail`, `rcpt`, `data`, `dot`;
    /// `capture` where mail is only captured.
    #[schema(examples("login"))]
    pub name: String,
    /// Whether it worked.
    pub ok: bool,
    /// The server's reply code.
    pub code: Option<u16>,
    /// What was found, or why it failed.
    #[schema(examples("logged in"))]
    pub detail: String,
    /// How long the step took, in milliseconds; unknown within a conversation.
    pub duration_ms: Option<u64>,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutgoingServerCheck {
    /// Whether every step worked.
    pub ok: bool,
    /// The steps, up to the first that failed.
    pub steps: Vec<OutgoingServerStep>,
}

/// Who gets the test mail.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": "admin@example.com" }))]
pub struct TestMessageSend {
    /// The recipient.
    #[schema(
        min_length = 3,
        max_length = 254,
        pattern = r"^[^@\s<>\x00-\x20]+@[^@\s<>\x00-\x20]+$",
        examples("admin@example.com")
    )]
    pub to: String,
    /// The account whose address it comes from; the oldest account in use when it is left out.
    #[serde(default)]
    pub from_account_id: Option<AccountId>,
}

/// What became of the test mail.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestMessageReport {
    /// Whether the server took it.
    pub sent: bool,
    /// What happened, in a sentence.
    #[schema(examples("the server took the message: 250 2.0.0 Ok: queued as 4ABC9"))]
    pub result: String,
    /// The conversation with the server.
    pub steps: Vec<OutgoingServerStep>,
}

impl From<CheckStep> for OutgoingServerStep {
    fn from(step: CheckStep) -> Self {
        let CheckStep { name, ok, detail, duration_ms } = step;
        Self { name: name.as_str().into(), ok, code: None, detail, duration_ms: Some(duration_ms) }
    }
}

impl From<smtp::Step> for OutgoingServerStep {
    fn from(step: smtp::Step) -> Self {
        let ok = step.code.is_none_or(|code| code < 400);
        let detail = [step.enhanced.unwrap_or_default(), step.text].join(" ").trim().to_owned();
        Self { name: step.verb.as_str().into(), ok, code: step.code, detail, duration_ms: None }
    }
}

/// Check the outgoing server.
///
/// Resolves its name, connects, secures the connection, says EHLO and logs in, and reports each step. Nothing is sent.
#[utoipa::path(tag = "outgoing server",
    responses((status = 200, description = "The steps, up to the first that failed.", body = OutgoingServerCheck),
        (status = 404, description = "None is set.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/outgoing-server/check")]
pub async fn check_outgoing_server(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read()).await?.ok_or_else(none)?;
    if captures(&row) {
        return Ok(HttpResponse::Ok().json(OutgoingServerCheck { ok: true, steps: vec![captured(KEPT)] }));
    }
    let relay = Relay::of(&app, &row).map_err(Problem::internal)?;
    let steps = smtp::check(&relay.endpoint, &relay.auth, &relay.helo_name, relay.timeouts).await;
    let ok = steps.iter().all(|step| step.ok);
    let steps = steps.into_iter().map(OutgoingServerStep::from).collect();
    Ok(HttpResponse::Ok().json(OutgoingServerCheck { ok, steps }))
}

/// Send a test mail.
///
/// One mail is really sent, now and whatever the server's state, and the conversation is shown. A server that only
/// captures sends nothing; the test mail is of no conversation and is not kept.
#[utoipa::path(tag = "outgoing server", request_body = TestMessageSend,
    responses((status = 200, description = "What became of it.", body = TestMessageReport),
        (status = 404, description = "None is set.", body = ProblemBody, content_type = "application/problem+json")))]
#[post("/outgoing-server/send-test")]
pub async fn send_test_message(
    app: web::Data<App>,
    body: Body<TestMessageSend>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let row = find(app.db.read()).await?.ok_or_else(none)?;
    let from = sender(&app, body.0.from_account_id).await?;
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    // Nothing holds a transaction over the network: the key stays taken meanwhile.
    let paused = work.pause_marked().await?;
    let report = match send_test(&app, &row, &from, &body.0.to, now).await {
        Ok(report) => report,
        Err(problem) => {
            paused.give_up(&app.db).await?;
            return Err(problem);
        }
    };
    match paused.resume(&app.db).await? {
        Start::Replay(answer) => Ok(answer),
        Start::Run(work) => work.commit(Answer::ok(&report)?).await,
    }
}

async fn sender(app: &App, account_id: Option<AccountId>) -> Result<String, Problem> {
    let found = match account_id {
        Some(id) => account::Entity::find_by_id(id)
            .one(app.db.read())
            .await?
            .ok_or_else(|| Problem::unknown_reference("/from_account_id", "account"))?,
        None => account::Entity::find()
            .filter(account::Column::State.ne(AccountState::Disabled))
            .order_by_asc(account::Column::Id)
            .one(app.db.read())
            .await?
            .ok_or_else(|| {
                Problem::invalid("/from_account_id", "required", "there is no account to send from")
            })?,
    };
    Ok(found.address)
}

async fn send_test(
    app: &App,
    row: &outgoing_server::Model,
    from: &str,
    to: &str,
    now: Timestamp,
) -> Result<TestMessageReport, Problem> {
    let bad_address = |_| Problem::invalid("/to", "invalid_address", "this address cannot be sent to");
    let envelope = Envelope::new(Some(from.to_owned()), vec![to.to_owned()]).map_err(bad_address)?;
    let raw = test_mail(from, to, now)?;
    let signers = Signers::of(app, app.db.read()).await?;
    let domain = from.rsplit_once('@').map_or_else(String::new, |(_, domain)| domain.to_owned());
    let signed = spawn_blocking(move || signers.sign(&domain, raw, now.as_millis().div_euclid(1000))).await;
    let raw = signed.map_err(Problem::internal)?.map_err(Problem::internal)?;
    if captures(row) {
        let result = "the outgoing server only captures mail: nothing was sent".to_owned();
        return Ok(TestMessageReport { sent: false, result, steps: vec![captured(NOT_KEPT)] });
    }
    let relay = Relay::of(app, row).map_err(Problem::internal)?;
    let connected = Connection::connect(&relay.endpoint, &relay.auth, &relay.helo_name, relay.timeouts).await;
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(failed) => {
            let steps = failed.steps.into_iter().map(OutgoingServerStep::from).collect();
            return Ok(TestMessageReport { sent: false, result: failed.error.to_string(), steps });
        }
    };
    let report = connection.send(&envelope, &raw, std::future::ready(Ok::<(), String>(()))).await;
    connection.quit().await;
    let sent = matches!(report.outcome, Outcome::Accepted { .. });
    let steps = report.steps.into_iter().map(OutgoingServerStep::from).collect();
    Ok(TestMessageReport { sent, result: report.outcome.to_string(), steps })
}

fn test_mail(from: &str, to: &str, now: Timestamp) -> Result<Vec<u8>, Problem> {
    let mailbox = |pointer: &str, address: &str| {
        let invalid = |_| Problem::invalid(pointer, "invalid_address", "this address cannot be sent to");
        address.parse().map(|address| Mailbox::new(None, address)).map_err(invalid)
    };
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    let mail = Message::builder()
        .from(mailbox("/from_account_id", from)?)
        .to(mailbox("/to", to)?)
        .subject("Test of the outgoing server")
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(None)
        .body("This mail shows that Postroom can send through its outgoing server.\r\n".to_owned());
    Ok(mail.map_err(Problem::internal)?.formatted())
}

fn captured(detail: &str) -> OutgoingServerStep {
    let (name, detail) = ("capture".into(), detail.into());
    OutgoingServerStep { name, ok: true, code: None, detail, duration_ms: None }
}
