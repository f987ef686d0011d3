//! Operations that read messages.

use actix_web::{HttpResponse, get, web};
use sea_orm::{
    ColumnTrait, EntityTrait, Order, QueryFilter, QuerySelect, QueryTrait, sea_query::SelectStatement,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    entity::{
        Classification, Direction, MessageKind, MessageState, conversation,
        message::{Column, Entity, Model},
    },
    visibility::{find_message, visible_to},
};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    http::{Caller, PageQuery, Path, Problem, Query},
    id::{AccountId, CampaignId, ConversationId, CustomerId, MessageId, TemplateId, UserId, WorkItemId},
    mail::{
        address::comparable,
        number::Number,
        parse::Attachment,
        sanitise::{self, Images},
    },
};

/// How much of the new text a list shows, in characters.
const PREVIEW_CHARS: usize = 2000;
/// The longest address that is kept in an index, in bytes.
const ADDRESS_MAX: usize = 998;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_messages).service(get_message);
}

/// A name and an address.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MailAddress {
    /// The name.
    #[schema(examples("Anna Smith"))]
    pub name: Option<String>,
    /// The address as it was written; not necessarily a valid one.
    #[schema(examples("anna@example.org"))]
    pub address: String,
}

/// A file that came with a message.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAttachment {
    /// Its number within the message, from 1.
    #[schema(minimum = 1, examples(1))]
    pub number: usize,
    /// Its name, without folders.
    #[schema(examples("invoice.pdf"))]
    pub filename: Option<String>,
    /// Its media type, as the sender claims.
    #[schema(examples("application/pdf"))]
    pub content_type: String,
    /// Its size.
    #[schema(minimum = 0, examples(48_213))]
    pub size_bytes: u64,
    /// The Content-ID that `cid:` links name, without angle brackets.
    pub content_id: Option<String>,
    /// Whether the sender means it to be shown within the text.
    pub inline: bool,
    /// Where it can be downloaded.
    #[schema(examples("/v1/messages/019aa1b2-0000-7000-8000-000000000001/attachments/1"))]
    pub url: String,
}

/// A message as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageSummary {
    /// The message's id.
    pub id: MessageId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// The account that received or sends it.
    pub account_id: AccountId,
    /// The work item it belongs to.
    pub work_item_id: Option<WorkItemId>,
    /// Which way it goes.
    pub direction: Direction,
    /// E-mail or text.
    pub channel: Channel,
    /// What made it.
    pub kind: MessageKind,
    /// Where it stands.
    pub state: MessageState,
    /// Why, in plain words.
    pub state_reason: Option<String>,
    /// What kind of mail it is.
    pub classification: Classification,
    /// Who it is from.
    pub from: Option<MailAddress>,
    /// Who it is to.
    pub to: Vec<MailAddress>,
    /// Who got a copy.
    pub cc: Vec<MailAddress>,
    /// The subject.
    #[schema(examples("Where is my order?"))]
    pub subject: String,
    /// The first 2,000 characters of what was written now.
    #[schema(max_length = 2000, examples("It was due on Monday."))]
    pub preview: String,
    /// The files that came with it.
    pub attachments: Vec<MessageAttachment>,
    /// The size of its raw source.
    #[schema(minimum = 0, examples(2048))]
    pub size_bytes: i64,
    /// The agent who wrote it.
    pub author_id: Option<UserId>,
    /// A reference of the system that asked for it.
    pub external_ref: Option<String>,
    /// The message that this one tries again.
    pub retry_of: Option<MessageId>,
    /// The template that it was made from.
    pub template_id: Option<TemplateId>,
    /// The customer whom it was sent to, or whose mail it reports on.
    pub customer_id: Option<CustomerId>,
    /// The campaign that it was sent for.
    pub campaign_id: Option<CampaignId>,
    /// `transactional` or `marketing`, of what we begin.
    #[schema(examples("transactional"))]
    pub category: Option<String>,
    /// When it was to be sent, if not at once.
    pub send_at: Option<Timestamp>,
    /// Its Date header.
    pub dated_at: Option<Timestamp>,
    /// When it was taken in.
    pub received_at: Option<Timestamp>,
    /// When a server took it.
    pub sent_at: Option<Timestamp>,
    /// When its content was erased, because what was known of the customer was; there is no content any more then.
    pub erased_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A message with its texts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    /// What lists show of it.
    #[serde(flatten)]
    pub summary: MessageSummary,
    /// Where answers are wanted.
    pub reply_to: Vec<MailAddress>,
    /// Who got a hidden copy of what we sent.
    pub bcc: Vec<MailAddress>,
    /// Its Message-ID, without angle brackets.
    pub message_id_header: Option<String>,
    /// The Message-IDs it answers.
    pub in_reply_to: Vec<String>,
    /// The Message-IDs of its thread, oldest first.
    pub references: Vec<String>,
    /// `auto-replied` or `auto-generated` (RFC 3834 section 5) when no person sent it.
    pub auto_submitted: Option<String>,
    /// The whole text.
    pub text: String,
    /// The text without quotes and signature.
    #[schema(examples("It was due on Monday."))]
    pub new_text: String,
    /// What it quotes.
    pub quoted_text: String,
    /// Its signature.
    pub signature: String,
    /// Its HTML, made safe to show; none when it has no HTML.
    pub html: Option<String>,
    /// How many remote images were left out of `html`; ask with `images=allowed` to have them.
    #[schema(minimum = 0)]
    pub blocked_images: u32,
}

/// One page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageList {
    /// The messages.
    pub items: Vec<MessageSummary>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How messages may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum MessageSort {
    /// Oldest first.
    #[serde(rename = "id")]
    Oldest,
    /// Newest first.
    #[serde(rename = "-id")]
    Newest,
}

/// Which messages to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessageFilter {
    /// Only those of this account.
    #[param(inline)]
    account_id: Option<AccountId>,
    /// Only those of this conversation.
    #[param(inline)]
    conversation_id: Option<ConversationId>,
    /// Only those that go this way.
    #[param(inline)]
    direction: Option<Direction>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<MessageState>,
    /// Only those of this kind.
    #[param(inline)]
    classification: Option<Classification>,
    /// Only those from this address, with the local part as it was written.
    #[param(max_length = 320)]
    from: Option<String>,
    /// Only those of conversations with the customer of this address, in whatever case it is written.
    #[param(max_length = 320)]
    address: Option<String>,
    /// Only those with this reference.
    #[param(max_length = 200)]
    external_ref: Option<String>,
    /// Only those sent to this customer, and reports on them.
    #[param(inline)]
    customer_id: Option<CustomerId>,
    /// Only those sent for this campaign.
    #[param(inline)]
    campaign_id: Option<CampaignId>,
    /// Only those made from this template.
    #[param(inline)]
    template_id: Option<TemplateId>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<MessageSort>,
}

/// What becomes of images on remote servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePolicy {
    /// They are left out, because loading them tells the sender that the mail was read.
    #[default]
    Blocked,
    /// They stay.
    Allowed,
}

/// How to show a message.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessageView {
    /// Remote images in `html`; blocked when it is left out.
    #[param(inline)]
    images: Option<ImagePolicy>,
}

/// The form in which a customer's address is kept and looked for: whatever the case it is written in.
pub fn customer_key(address: &str) -> String {
    let mut key = comparable(address).to_lowercase();
    let end = (0..=ADDRESS_MAX.min(key.len())).rfind(|&at| key.is_char_boundary(at)).unwrap_or(0);
    key.truncate(end);
    key
}

/// The key of an address or number that is asked for. A `+` in a query is a space, so numbers are found without it, too.
pub fn asked_key(address: &str) -> String {
    let address = address.trim();
    let number = Some(address).filter(|text| !text.contains('@'));
    let number = number.and_then(|text| Number::of_gateway(text, None).ok());
    number.map_or_else(|| customer_key(address), |number| number.to_string())
}

/// The attachments of a stored message.
pub fn attachments(row: &Model) -> Vec<Attachment> {
    list(row.attachments.clone())
}

fn list<T: DeserializeOwned>(value: Value) -> Vec<T> {
    serde_json::from_value(value).unwrap_or_default()
}

impl MessageAttachment {
    fn of(message: MessageId, part: Attachment) -> Self {
        let number = part.index + 1;
        Self {
            number,
            filename: part.filename,
            content_type: part.content_type,
            size_bytes: part.size_bytes,
            content_id: part.content_id,
            inline: part.inline,
            url: format!("/v1/messages/{message}/attachments/{number}"),
        }
    }
}

impl From<Model> for MessageSummary {
    fn from(row: Model) -> Self {
        Self {
            attachments: attachments(&row)
                .into_iter()
                .map(|part| MessageAttachment::of(row.id, part))
                .collect(),
            from: row.from_address.map(|address| MailAddress { name: row.from_name, address }),
            preview: row.new_text.chars().take(PREVIEW_CHARS).collect(),
            id: row.id,
            conversation_id: row.conversation_id,
            account_id: row.account_id,
            work_item_id: row.work_item_id,
            direction: row.direction,
            channel: row.channel,
            kind: row.kind,
            state: row.state,
            state_reason: row.state_reason,
            classification: row.classification,
            to: list(row.to_addresses),
            cc: list(row.cc_addresses),
            subject: row.subject,
            size_bytes: row.size_bytes,
            author_id: row.author_id,
            external_ref: row.external_ref,
            retry_of: row.retry_of,
            template_id: row.template_id,
            customer_id: row.customer_id,
            campaign_id: row.campaign_id,
            category: row.category,
            send_at: row.send_at,
            dated_at: row.dated_at,
            received_at: row.received_at,
            sent_at: row.sent_at,
            erased_at: row.erased_at,
            created_at: row.created_at,
        }
    }
}

impl Message {
    /// Makes the HTML safe, which takes a while: not to be called on an async thread.
    fn show(mut row: Model, images: Images) -> Self {
        let parts = attachments(&row);
        let cid = |wanted: &str| {
            let part = parts.iter().find(|part| part.content_id.as_deref() == Some(wanted))?;
            Some(format!("/v1/messages/{}/attachments/{}?inline=true", row.id, part.index + 1))
        };
        let safe = row.html.as_deref().map(|html| sanitise::html(html, images, cid));
        let take = std::mem::take::<String>;
        Self {
            blocked_images: safe.as_ref().map_or(0, |safe| safe.blocked_images),
            html: safe.map(|safe| safe.html),
            reply_to: list(row.reply_to.take()),
            bcc: list(row.bcc_addresses.take()),
            message_id_header: row.message_id_header.take(),
            in_reply_to: list(row.in_reply_to.take()),
            references: list(row.reference_ids.take()),
            auto_submitted: row.auto_submitted.take(),
            text: take(&mut row.text),
            quoted_text: take(&mut row.quoted_text),
            signature: take(&mut row.signature),
            new_text: row.new_text.clone(),
            summary: MessageSummary::from(row),
        }
    }
}

fn conversations_with(address: &str) -> SelectStatement {
    let key = asked_key(address);
    conversation::Entity::find()
        .select_only()
        .column(conversation::Column::Id)
        .filter(conversation::Column::CustomerAddress.eq(key))
        .into_query()
}

/// List messages.
///
/// Agents see those of conversations that they have or had work in.
#[utoipa::path(tag = "messages", params(PageQuery, MessageFilter),
    responses((status = 200, description = "One page.", body = MessageList)))]
#[get("/messages")]
pub async fn list_messages(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<MessageFilter>,
) -> Result<HttpResponse, Problem> {
    let filter = filter.0;
    let conditions = [
        filter.account_id.map(|id| Column::AccountId.eq(id)),
        filter.conversation_id.map(|id| Column::ConversationId.eq(id)),
        filter.direction.map(|direction| Column::Direction.eq(direction)),
        filter.state.map(|state| Column::State.eq(state)),
        filter.classification.map(|class| Column::Classification.eq(class)),
        filter.from.map(|address| Column::FromAddress.eq(address.trim())),
        filter.address.map(|address| Column::ConversationId.in_subquery(conversations_with(&address))),
        filter.external_ref.map(|reference| Column::ExternalRef.eq(reference)),
        filter.customer_id.map(|id| Column::CustomerId.eq(id)),
        filter.campaign_id.map(|id| Column::CampaignId.eq(id)),
        filter.template_id.map(|id| Column::TemplateId.eq(id)),
    ];
    let select = Entity::find().filter(visible_to(&caller, Column::ConversationId));
    let select = conditions.into_iter().flatten().fold(select, QueryFilter::filter);
    let sort = filter.sort.map(|sort| match sort {
        MessageSort::Oldest => (Column::Id, Order::Asc),
        MessageSort::Newest => (Column::Id, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?.map(MessageSummary::from);
    Ok(HttpResponse::Ok().json(MessageList { items: found.items, next_cursor: found.next_cursor }))
}

/// Read one message with its texts.
///
/// `html` is made safe to show: no scripts, no forms, no styles that load anything. Images within the message point to
/// its attachments; images on remote servers are left out unless they are asked for.
#[utoipa::path(tag = "messages", params(("id" = MessageId, Path), MessageView),
    responses((status = 200, description = "The message.", body = Message)))]
#[get("/messages/{id}")]
pub async fn get_message(
    app: web::Data<App>,
    caller: Caller,
    id: Path<MessageId>,
    view: Query<MessageView>,
) -> Result<HttpResponse, Problem> {
    let row = find_message(app.db.read(), &caller, *id).await?;
    let images = match view.0.images.unwrap_or_default() {
        ImagePolicy::Blocked => Images::Blocked,
        ImagePolicy::Allowed => Images::Allowed,
    };
    let message = web::block(move || Message::show(row, images)).await.map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().json(message))
}
