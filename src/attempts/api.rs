//! Operations on attempts.

use actix_web::{HttpResponse, get, post, web};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::report::{self, Whose};
use crate::{
    app::App,
    campaigns::{entity::attempt, rules::RuleTrigger},
    clock::Timestamp,
    conversations::{entity::MessageState, recipient::Recipient},
    customers::entity::{CustomerStatus, OutcomeCategory, customer},
    http::{Body, Caller, Idempotency, PageQuery, Path, Problem, Query},
    id::{AttemptId, CampaignId, ConversationId, CustomerId, ListId, MessageId, RuleId, TemplateId},
    suppressions::entity::SuppressionReason,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(create_attempt).service(create_attempt_by_ref).service(list_attempts);
}

/// What is to become of a customer after an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptNext {
    /// They are given up.
    #[serde(default)]
    #[schema(default = false)]
    pub terminate: bool,
    /// When they are to be called back; at most five years ahead.
    #[serde(default)]
    pub callback_at: Option<Timestamp>,
    /// About the call-back.
    #[serde(default)]
    #[schema(max_length = 2000, examples("After work, on the mobile"))]
    pub callback_note: Option<String>,
}

/// One try at reaching a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "attempt_ref": "call-9001", "campaign_id": "019aa1b2-0000-7000-8000-000000000001", "outcome_code": "no_answer",
    "next": { "terminate": true }
}))]
pub struct AttemptCreate {
    /// What the dialler knows it by: a repetition under the same one changes nothing.
    #[schema(min_length = 1, max_length = 200, examples("call-9001"))]
    pub attempt_ref: String,
    /// The campaign that it was made for; its rules fire, or those of the customer's list.
    pub campaign_id: CampaignId,
    /// What came of it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100, examples("no_answer"))]
    pub outcome_code: Option<String>,
    /// When it was made; now when it is left out.
    #[serde(default)]
    pub attempted_at: Option<Timestamp>,
    /// What is to become of the customer; an outcome of the category `do_not_contact` always gives them up.
    #[serde(default)]
    pub next: Option<AttemptNext>,
}

/// An attempt as it was reported.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// The attempt's id.
    pub id: AttemptId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The campaign that it was made for.
    pub campaign_id: Option<CampaignId>,
    /// What the dialler knows it by.
    #[schema(examples("call-9001"))]
    pub attempt_ref: String,
    /// Which one of the customer's it is, from 1.
    #[schema(minimum = 1, examples(1))]
    pub number: i64,
    /// What came of it.
    #[schema(examples("no_answer"))]
    pub outcome_code: Option<String>,
    /// What that means.
    pub outcome_category: Option<OutcomeCategory>,
    /// When it was made.
    pub attempted_at: Timestamp,
    /// When it was reported.
    pub created_at: Timestamp,
}

/// Where a customer stands after an attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AttemptCustomer {
    /// The customer's id.
    pub id: CustomerId,
    /// What other systems know them by.
    #[schema(examples("C-1001"))]
    pub r#ref: String,
    /// The list that they are on.
    pub list_id: ListId,
    /// Where they stand.
    pub status: CustomerStatus,
    /// How often they were tried.
    #[schema(minimum = 0, examples(1))]
    pub attempts: i64,
    /// When they were last tried.
    pub last_attempt_at: Option<Timestamp>,
    /// When they are to be called back.
    pub callback_at: Option<Timestamp>,
    /// About the call-back.
    pub callback_note: Option<String>,
    /// The outcome with which they were given up.
    #[schema(examples("no_answer"))]
    pub termination_code: Option<String>,
    /// What that means.
    pub termination_category: Option<OutcomeCategory>,
}

/// A message that a rule sends.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AttemptMessage {
    /// The rule.
    pub rule_id: RuleId,
    /// Its name.
    #[schema(examples("We tried to reach you"))]
    pub name: String,
    /// What it waited for.
    pub trigger: RuleTrigger,
    /// The message: see `GET /v1/messages/{id}`.
    pub message_id: MessageId,
    /// The conversation that it begins.
    pub conversation_id: ConversationId,
    /// What it was made from.
    pub template_id: TemplateId,
    /// Its subject.
    #[schema(examples("We tried to reach you"))]
    pub subject: String,
    /// Who gets it.
    pub to: Recipient,
    /// Where it stands.
    pub state: MessageState,
    /// When it is to be sent, if not at once.
    pub send_at: Option<Timestamp>,
}

/// Why a rule sends nothing.
///
/// - `campaign_not_active`: the campaign is a draft, suspended or stopped.
/// - `list_inactive`: the customer's list is inactive.
/// - `no_match`: what was reported is not what the rule waits for.
/// - `customer_terminated`: the customer had been given up before.
/// - `do_not_contact`: the customer wants no contact, and the rule does not name that ending.
/// - `too_many_segments`: the text would take more segments than the account allows.
/// - `template_not_published`: its template was archived or is still a draft.
/// - `no_unsubscribe_link`: marketing needs a link to unsubscribe with, and receivers would not take one of this
///   installation.
/// - `no_sender_account`: the campaign has no account to send from.
/// - `account_not_in_use`: the account is not in use.
/// - `no_address`: the customer has no address, or none that can be written to.
/// - `once`: the customer has got it before.
/// - `suppressed`: the address may not be written to; `suppressed_by` says why.
/// - `window_never_opens`: its calendar does not open within 400 days.
/// - `missing_field`: a field that the template needs has no value.
/// - `render_failed`: the template cannot be filled in for this customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The campaign is a draft, suspended or stopped.
    CampaignNotActive,
    /// The customer's list is inactive.
    ListInactive,
    /// What was reported is not what the rule waits for.
    NoMatch,
    /// The customer had been given up before.
    CustomerTerminated,
    /// The customer wants no contact.
    DoNotContact,
    /// The text would take more segments than the account allows.
    TooManySegments,
    /// Its template is not published.
    TemplateNotPublished,
    /// Marketing needs a link to unsubscribe with that receivers take.
    NoUnsubscribeLink,
    /// The campaign has no account to send from.
    NoSenderAccount,
    /// The account is not in use.
    AccountNotInUse,
    /// The customer has no address.
    NoAddress,
    /// The customer has got it before.
    Once,
    /// The address may not be written to.
    Suppressed,
    /// Its calendar does not open within 400 days.
    WindowNeverOpens,
    /// A field that the template needs has no value.
    MissingField,
    /// The template cannot be filled in.
    RenderFailed,
}

/// A rule that waits for what happened and sends nothing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SkippedRule {
    /// The rule.
    pub rule_id: RuleId,
    /// Its name.
    #[schema(examples("We tried to reach you"))]
    pub name: String,
    /// What it waits for.
    pub trigger: RuleTrigger,
    /// Why it sends nothing.
    pub reason: SkipReason,
    /// The same in words.
    #[schema(examples("the customer has got it before"))]
    pub detail: String,
    /// Why the address may not be written to.
    pub suppressed_by: Option<SuppressionReason>,
}

/// What followed from an attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AttemptAnswer {
    /// The attempt.
    pub attempt: Attempt,
    /// Where the customer stands now.
    pub customer: AttemptCustomer,
    /// What is sent.
    pub messages: Vec<AttemptMessage>,
    /// The rules that wait for what happened and send nothing.
    pub skipped: Vec<SkippedRule>,
}

/// One page of attempts.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptList {
    /// The attempts, oldest first.
    pub items: Vec<Attempt>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

impl From<attempt::Model> for Attempt {
    fn from(row: attempt::Model) -> Self {
        Self {
            id: row.id,
            customer_id: row.customer_id,
            campaign_id: row.campaign_id,
            attempt_ref: row.attempt_ref,
            number: row.number,
            outcome_code: row.outcome_code,
            outcome_category: row.outcome_category,
            attempted_at: row.attempted_at,
            created_at: row.created_at,
        }
    }
}

impl From<customer::Model> for AttemptCustomer {
    fn from(row: customer::Model) -> Self {
        Self {
            id: row.id,
            r#ref: row.r#ref,
            list_id: row.list_id,
            status: row.status,
            attempts: row.attempt_count,
            last_attempt_at: row.last_attempt_at,
            callback_at: row.callback_at,
            callback_note: row.callback_note,
            termination_code: row.termination_code,
            termination_category: row.termination_category,
        }
    }
}

/// Report one try at reaching a customer.
///
/// In one step it notes the attempt, moves the customer on, and sends what the message rules say. A repetition of the same
/// report gives the same answer with 200; another report under the same `attempt_ref` is refused with
/// `attempt_ref_reused`.
#[utoipa::path(tag = "campaigns", params(("id" = CustomerId, Path)), request_body = AttemptCreate,
    responses(
        (status = 200, description = "It was reported before; this was the answer.", body = AttemptAnswer),
        (status = 201, description = "What followed from it.", body = AttemptAnswer, headers(("Location" = String)))))]
#[post("/customers/{id}/attempts")]
pub async fn create_attempt(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
    body: Body<AttemptCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    Box::pin(report::take(&app, &caller, Whose::Id(*id), body.0, idempotency)).await
}

/// Report one try at reaching a customer whom other systems know by a reference.
///
/// The same as `POST /v1/customers/{id}/attempts`.
#[utoipa::path(tag = "campaigns", params(("ref" = String, Path, min_length = 1, max_length = 128,
    pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$", example = "C-4711")), request_body = AttemptCreate,
    responses(
        (status = 200, description = "It was reported before; this was the answer.", body = AttemptAnswer),
        (status = 201, description = "What followed from it.", body = AttemptAnswer, headers(("Location" = String)))))]
#[post("/customers/by-ref/{ref}/attempts")]
pub async fn create_attempt_by_ref(
    app: web::Data<App>,
    caller: Caller,
    known_as: Path<String>,
    body: Body<AttemptCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let whose = Whose::Ref(known_as.to_string());
    Box::pin(report::take(&app, &caller, whose, body.0, idempotency)).await
}

/// List the attempts at reaching a customer.
#[utoipa::path(tag = "campaigns", params(("id" = CustomerId, Path), PageQuery),
    responses((status = 200, description = "One page.", body = AttemptList)))]
#[get("/customers/{id}/attempts")]
pub async fn list_attempts(
    app: web::Data<App>,
    id: Path<CustomerId>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let known = customer::Entity::find_by_id(*id).one(app.db.read()).await?;
    known.ok_or_else(|| Problem::not_found("customer"))?;
    let select = attempt::Entity::find().filter(attempt::Column::CustomerId.eq(*id));
    let found = page.0.fetch(app.db.read(), select, attempt::Column::Id, None).await?.map(Attempt::from);
    Ok(HttpResponse::Ok().json(AttemptList { items: found.items, next_cursor: found.next_cursor }))
}
