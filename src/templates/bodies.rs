//! What the operations on templates take and show.

use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::{
    check,
    entity::{ActiveModel, Model, TemplateCategory, TemplateChannel, TemplatePurpose, TemplateState},
    fields::{self, TemplateField},
    files::{self, TemplateAttachment},
    partials::freeze,
    variants::{self, TemplateVariant},
};
use crate::{
    access::matrix::Access,
    clock::Timestamp,
    http::{Caller, Problem},
    id::{CustomerId, TemplateId},
    mail::sms::segments::Segments,
};

/// What can be done with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateAction {
    /// Change it.
    Update,
    /// Delete it.
    Delete,
    /// Freeze it and let it be sent; of a published one, take over changes of its partials.
    Publish,
    /// Write a draft that takes its place.
    Revise,
    /// Have it sent no longer.
    Archive,
    /// See what it makes of given values.
    Preview,
    /// Add or take away a file that goes out with it.
    Attach,
    /// Send it once to somebody who looks at it.
    TestSend,
}

/// A template of automatic answers, sends and broadcasts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Template {
    /// The template's id.
    pub id: TemplateId,
    /// Its unique name.
    #[schema(examples("Receipt"))]
    pub name: String,
    /// What it is for, in words.
    #[schema(examples("Says that we have the message"))]
    pub description: String,
    /// What it is sent over.
    pub channel: TemplateChannel,
    /// What it is for.
    pub purpose: TemplatePurpose,
    /// Whether people asked for what is sent.
    pub category: TemplateCategory,
    /// The subject; empty for texts (SMS).
    #[schema(examples("We have your message: {{ message.subject }}"))]
    pub subject: String,
    /// The text.
    #[schema(examples("Thank you for writing to {{ account.display_name }}."))]
    pub text: String,
    /// The HTML.
    #[schema(examples("<p>Thank you for writing to {{ account.display_name }}.</p>"))]
    pub html: Option<String>,
    /// The same in other languages.
    pub variants: Vec<TemplateVariant>,
    /// What it is given for each send, by name.
    pub fields: Vec<TemplateField>,
    /// The partials that it includes, by name; those of a published template are frozen, too.
    #[schema(examples("imprint"))]
    pub partials: Vec<String>,
    /// The files that go out with it.
    pub attachments: Vec<TemplateAttachment>,
    /// How often it was published: with changed partials, or with what a revision says.
    #[schema(minimum = 0, examples(1))]
    pub revision: i64,
    /// Where it stands.
    pub state: TemplateState,
    /// The published template whose place this draft takes when it is published.
    pub revises: Option<TemplateId>,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<TemplateAction>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A template to be made; its parts are MiniJinja.
///
/// A receipt reads `message.subject`, `message.from.name`, `message.from.address`, `message.received_at`,
/// `account.address`, `account.display_name` and `conversation.id`. Any other template reads `customer` (`id`, `ref`,
/// `name`, `email`, `sms_number`, `locale`, `status`, `callback_at`, `attempts` and, below `data`, whatever is known),
/// `campaign.id`, `campaign.name`, `to.name`, `to.address`, `account.address`, `account.display_name`,
/// `unsubscribe_url` and its own `fields`. What is not there, or null, is an error when it is sent, unless the filter
/// `default` gives it a value. `{% include "name" %}` puts a partial in (`/v1/template-partials`).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Balance", "subject": "Your balance, {{ to.name }}",
    "variants": [{ "locale": "de", "subject": "Ihr Kontostand, {{ to.name }}", "text": "Sie schulden uns {{ balance }}." }],
    "fields": [{ "name": "balance", "type": "number", "source": "customer.data.balance", "default": 0 }],
    "text": "Dear {{ to.name }},\n\nyou owe us {{ balance }}."
}))]
pub struct TemplateCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Receipt"))]
    pub name: String,
    /// What it is for, in words.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Says that we have the message"))]
    pub description: String,
    /// What it is sent over.
    #[serde(default = "email")]
    #[schema(default = "email")]
    pub channel: TemplateChannel,
    /// What it is for.
    #[serde(default = "general")]
    #[schema(default = "general")]
    pub purpose: TemplatePurpose,
    /// Whether people asked for what is sent.
    #[serde(default = "transactional")]
    #[schema(default = "transactional")]
    pub category: TemplateCategory,
    /// The subject, on one line; a text (SMS) has none.
    #[serde(default)]
    #[schema(
        default = "",
        max_length = 998,
        pattern = "^[^\\r\\n]*$",
        examples("We have your message: {{ message.subject }}")
    )]
    pub subject: String,
    /// The text.
    #[schema(
        min_length = 1,
        max_length = 65536,
        examples("Thank you for writing to {{ account.display_name }}.")
    )]
    pub text: String,
    /// The HTML; values are escaped in it.
    #[serde(default)]
    #[schema(max_length = 262144, examples("<p>Thank you for writing to {{ account.display_name }}.</p>"))]
    pub html: Option<String>,
    /// The same in other languages. Who gets it in which: the tag that is asked for, else a shorter one (`de-AT` is served
    /// by `de`, RFC 4647 section 3.4), else the content above.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub variants: Vec<TemplateVariant>,
    /// What it is given for each send, by name.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub fields: Vec<TemplateField>,
}

/// One page of templates.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateList {
    /// The templates.
    pub items: Vec<Template>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// The values to see a template with.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "variables": { "balance": 12.5 }, "locale": "de-AT" }))]
pub struct TemplatePreviewRequest {
    /// What the template reads, by name: its fields, and whatever else it would be given.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub variables: Map<String, Json>,
    /// The customer whom it reads.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// The language to see it in; the customer's when it is left out.
    #[serde(default)]
    #[schema(max_length = 35, pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", examples("de-AT"))]
    pub locale: Option<String>,
}

/// What a template makes of given values.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplatePreview {
    /// The subject.
    #[schema(examples("We have your message: Where is my order?"))]
    pub subject: String,
    /// The text.
    pub text: String,
    /// The HTML, when the template has it.
    pub html: Option<String>,
    /// What the text takes, of a template for SMS.
    pub segments: Option<Segments>,
    /// The variant that served; none for the default content.
    #[schema(examples("de"))]
    pub variant: Option<String>,
    /// What the template reads and was not given; it is left out above.
    #[schema(examples("account.display_name"))]
    pub missing: Vec<String>,
}

const fn email() -> TemplateChannel {
    TemplateChannel::Email
}

const fn general() -> TemplatePurpose {
    TemplatePurpose::General
}

const fn transactional() -> TemplateCategory {
    TemplateCategory::Transactional
}

impl TemplateCreate {
    /// Rules that the schema cannot say.
    ///
    /// # Errors
    /// `validation_failed` with all that is wrong.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let found = check::draft(self);
        if found.is_empty() { Ok(()) } else { Err(Problem::validation(found)) }
    }

    /// The row's columns.
    pub(super) fn into_row(self) -> ActiveModel {
        ActiveModel {
            name: Set(self.name),
            description: Set(self.description),
            channel: Set(self.channel),
            purpose: Set(self.purpose),
            category: Set(self.category),
            subject: Set(self.subject),
            text: Set(self.text),
            html: Set(self.html),
            variants: Set(serde_json::to_value(self.variants).unwrap_or_default()),
            fields: Set(serde_json::to_value(self.fields).unwrap_or_default()),
            ..Default::default()
        }
    }
}

impl From<Model> for TemplateCreate {
    fn from(row: Model) -> Self {
        let (fields, variants) = (fields::of(&row), variants::of(&row));
        let Model { name, description, channel, purpose, category, subject, text, html, .. } = row;
        Self { name, description, channel, purpose, category, subject, text, html, variants, fields }
    }
}

impl Template {
    /// As the caller sees it.
    pub(super) fn new(row: Model, caller: &Caller) -> Self {
        let allowed_actions = allowed_actions(&row, caller);
        let (fields, variants) = (fields::of(&row), variants::of(&row));
        let attachments = files::of(&row);
        let partials = match row.state {
            TemplateState::Draft => freeze::named_by(&row).into_iter().collect(),
            _ => freeze::of(&row).into_keys().collect(),
        };
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            channel: row.channel,
            purpose: row.purpose,
            category: row.category,
            subject: row.subject,
            text: row.text,
            html: row.html,
            variants,
            fields,
            partials,
            attachments,
            revision: row.revision,
            state: row.state,
            revises: row.revises,
            allowed_actions,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn allowed_actions(row: &Model, caller: &Caller) -> Vec<TemplateAction> {
    use TemplateAction::{Archive, Attach, Delete, Preview, Publish, Revise, TestSend, Update};
    let state = row.state;
    let is_sent = row.purpose == TemplatePurpose::General;
    let is_mail = is_sent && row.channel == TemplateChannel::Email;
    let actions = [
        (Update, state == TemplateState::Draft, "update_template"),
        (Delete, state != TemplateState::Published, "delete_template"),
        (Publish, state != TemplateState::Archived, "publish_template"),
        (Revise, state == TemplateState::Published, "revise_template"),
        (Archive, state == TemplateState::Published, "archive_template"),
        (Preview, true, "preview_template"),
        (Attach, is_mail && state == TemplateState::Draft, "create_template_attachment"),
        (TestSend, is_sent, "test_send_template"),
    ];
    let may = |operation: &str| Access::of(operation).is_some_and(|access| access.allows(caller));
    let allowed = actions.into_iter().filter(|(_, fits, operation)| *fits && may(operation));
    allowed.map(|(action, ..)| action).collect()
}
