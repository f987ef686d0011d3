//! The operation that sends one message, and what it takes and shows.

use actix_web::{HttpResponse, post, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{batch::create_message_batch, send, test_send::test_send_template, to::MessageTo};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    conversations::{entity::MessageState, recipient::Recipient},
    http::{Body, Caller, Idempotency, Problem},
    id::{AccountId, CampaignId, ConversationId, CustomerId, MessageId, TemplateId},
    mail::sms::segments::Segments,
    suppressions::entity::SuppressionReason,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(create_message).service(create_message_batch).service(test_send_template);
}

/// Whether people asked for a message.
///
/// - `transactional`: it belongs to something they did.
/// - `marketing`: it advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageCategory {
    /// It belongs to something they did.
    Transactional,
    /// It advertises.
    Marketing,
}

/// A message to be sent: either from a template or with the content that is given.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "to": { "name": "Anna Smith", "address": "anna@example.org" },
    "content": { "subject": "Your order 4711", "text": "It left our warehouse this morning." },
    "external_ref": "order-4711"
}))]
pub struct MessageCreate {
    /// What it is sent over; when it is left out, what `to`, the template or the account is for, and else e-mail.
    #[serde(default)]
    pub channel: Option<Channel>,
    /// Who gets it; left out when a customer is named.
    #[serde(default)]
    pub to: Option<MessageTo>,
    /// The customer who gets it, at their e-mail address or their number for texts.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// The same by what other systems know them by.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200, examples("C-1001"))]
    pub customer_ref: Option<String>,
    /// The campaign that it is sent for: its account is the sender, and whoever may not be written to for it gets nothing.
    #[serde(default)]
    pub campaign_id: Option<CampaignId>,
    /// The account that it is sent from; needed when there are several and no campaign.
    #[serde(default)]
    pub account_id: Option<AccountId>,
    /// A published template of the purpose `general`.
    #[serde(default)]
    pub template_id: Option<TemplateId>,
    /// Values of the template's fields, by name.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({ "order": 4711 }))]
    pub variables: Map<String, Value>,
    /// The language that the template is to speak; the customer's when it is left out.
    #[serde(default)]
    #[schema(max_length = 35, pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", examples("de-AT"))]
    pub locale: Option<String>,
    /// Whether people asked for it, when its content is given; `transactional` when it is left out. Marketing has
    /// `{{ unsubscribe_url }}` in its text and its HTML, where the recipient's own link is put.
    #[serde(default)]
    pub category: Option<MessageCategory>,
    /// What it says, instead of a template.
    #[serde(default)]
    pub content: Option<MessageContent>,
    /// When it is sent; at once when it is left out or past. At most a year ahead.
    #[serde(default)]
    pub send_at: Option<Timestamp>,
    /// What the caller knows it by: `GET /v1/messages?external_ref=` finds it.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200, examples("order-4711"))]
    pub external_ref: Option<String>,
    /// Only say what would be sent.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
}

/// What a message says.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageContent {
    /// The subject: one line. A text (SMS) has none, mail needs one.
    #[serde(default)]
    #[schema(max_length = 900, default = "", examples("Your order 4711"))]
    pub subject: String,
    /// The text; made from the HTML when it is left out.
    #[serde(default)]
    #[schema(max_length = 500_000, default = "", examples("It left our warehouse this morning."))]
    pub text: String,
    /// The same in HTML; scripts, forms and the like are taken out. A text (SMS) has none.
    #[serde(default)]
    #[schema(max_length = 500_000, examples("<p>It left our warehouse <b>this morning</b>.</p>"))]
    pub html: Option<String>,
}

impl MessageCreate {
    /// A message of these words to somebody.
    pub(super) fn saying(to: MessageTo, channel: Channel, words: &str) -> Self {
        let subject = if channel == Channel::Email { words.to_owned() } else { String::new() };
        let content = MessageContent { subject, text: words.to_owned(), html: None };
        Self {
            channel: Some(channel),
            to: Some(to),
            customer_id: None,
            customer_ref: None,
            campaign_id: None,
            account_id: None,
            template_id: None,
            variables: Map::new(),
            locale: None,
            category: None,
            content: Some(content),
            send_at: None,
            external_ref: None,
            dry_run: false,
        }
    }
}

/// A message that is on its way, or would be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CreatedMessage {
    /// The message: see `GET /v1/messages/{id}`. None of a dry run.
    pub id: Option<MessageId>,
    /// The conversation that it begins, or goes on with: a text belongs to the number's. None of a dry run.
    pub conversation_id: Option<ConversationId>,
    /// What it is sent over.
    pub channel: Channel,
    /// The account that it is sent from.
    pub account_id: AccountId,
    /// The template that it was made from.
    pub template_id: Option<TemplateId>,
    /// The variant of the template that served; none for its default content.
    #[schema(examples("de"))]
    pub variant: Option<String>,
    /// The customer who gets it.
    pub customer_id: Option<CustomerId>,
    /// The campaign that it is sent for.
    pub campaign_id: Option<CampaignId>,
    /// Whether people asked for it.
    pub category: MessageCategory,
    /// Where it stands: `queued`, `scheduled`, `held` while there is no outgoing server, or `suppressed`. None of a dry run.
    pub state: Option<MessageState>,
    /// Who gets it.
    pub to: Recipient,
    /// Its subject.
    #[schema(examples("Your order 4711"))]
    pub subject: String,
    /// Its text. None in the answer to a batch, where only dry runs say it: `GET /v1/messages/{id}` does.
    pub text: Option<String>,
    /// Its HTML. None in the answer to a batch, as its text.
    pub html: Option<String>,
    /// What it takes, when it is a text (SMS).
    pub segments: Option<Segments>,
    /// Its Message-ID, without angle brackets. None of a dry run.
    pub message_id_header: Option<String>,
    /// When it is to be sent, if not at once.
    pub send_at: Option<Timestamp>,
    /// What the caller knows it by.
    pub external_ref: Option<String>,
    /// Why the recipient may not be written to: then nothing is sent, and the state is `suppressed`.
    pub suppressed_by: Option<SuppressionReason>,
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Send one message.
///
/// It begins a conversation: an answer to it becomes a work item like any other mail. A text goes to a number (or a
/// customer's `sms_number`) through the gateway of an account for SMS, in the number's conversation, and never twice. Follow it with
/// `GET /v1/messages/{id}/timeline`; while it is not sent, `POST /v1/messages/{id}/cancel` calls it off. With `dry_run`
/// the answer is 200 and shows what would be sent.
#[utoipa::path(tag = "messages", request_body = MessageCreate,
    responses(
        (status = 200, description = "A dry run: nothing was sent.", body = CreatedMessage),
        (status = 201, description = "It is on its way.", body = CreatedMessage, headers(("Location" = String)))))]
#[post("/messages")]
pub async fn create_message(
    app: web::Data<App>,
    caller: Caller,
    body: Body<MessageCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    if body.0.dry_run {
        return Ok(HttpResponse::Ok().json(send::dry_run(&app, body.0).await?));
    }
    Box::pin(send::create(&app, &caller, body.0, idempotency)).await
}
