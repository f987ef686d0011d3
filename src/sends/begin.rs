//! A message that begins a conversation, whatever asked for it: what it says, how it is composed, filed and put on its way.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    accounts::entity::{AccountState, Channel, account},
    app::App,
    clock::Timestamp,
    conversations::{
        begin::{event, with},
        entity::{MessageKind, MessageState, conversation, raw_message},
        lock::lock_conversations,
        outbound::{self, Filed, Letter, Press, Printed},
        recipient::Recipient,
        texts::goes_on_with,
    },
    events,
    id::{CalendarId, CampaignId, ConversationId, CustomerId, MessageId, TemplateId, UserId},
    mail::{
        compose::{AutoSubmitted, ComposeError, Outgoing, OutgoingAttachment},
        sanitise,
        unsubscribe::UnsubscribeError,
    },
    suppressions::{entity::SuppressionReason, link::Links},
    templates::{
        compiled::Compiled,
        context::GeneralContext,
        entity::{self as template, TemplateCategory, TemplateChannel},
        fields::FieldFault,
        render::{AccountContext, RenderError},
    },
};

/// The states in which mail may be sent from an account.
pub const IN_USE: [AccountState; 3] = [AccountState::Active, AccountState::Failing, AccountState::Paused];
/// How many conversations one insert carries: SQLite takes 32,766 parameters.
const ROWS_PER_INSERT: usize = 500;

/// The parts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The subject: one line.
    pub subject: String,
    /// The text, which ends with a line break.
    pub text: String,
    /// The same in HTML.
    pub html: Option<String>,
    /// The language of the template that it was made of; none of its default, and of what was given.
    pub variant: Option<String>,
}

/// Why a template says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// One of its fields has no value that it could use.
    #[error(transparent)]
    Field(#[from] FieldFault),
    /// It cannot be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A text would be empty.
    #[error("the text would be empty")]
    EmptyText,
    /// Its subject would be empty.
    #[error("the subject would be empty")]
    EmptySubject,
}

/// The header fields by which a message of this category can be unsubscribed from (RFC 2369, RFC 8058), and that tell
/// machines not to answer; none when people asked for it.
///
/// # Errors
/// When receivers would not take the link of this installation.
pub fn category_fields(
    links: &Links,
    id: MessageId,
    channel: Channel,
    category: TemplateCategory,
) -> Result<Vec<(String, String)>, UnsubscribeError> {
    match (channel, category) {
        // Who gets texts can send a stop word.
        (Channel::Sms, _) | (_, TemplateCategory::Transactional) => Ok(Vec::new()),
        (Channel::Email, TemplateCategory::Marketing) => {
            let mut fields = vec![("Precedence".to_owned(), "bulk".to_owned())];
            fields.extend(links.fields(id)?);
            Ok(fields)
        }
    }
}

/// `account` in templates.
pub fn account_context(account: &account::Model) -> AccountContext {
    AccountContext { address: account.address.clone(), display_name: account.display_name.clone() }
}

/// What a template says to one recipient, in the customer's language.
///
/// # Errors
/// Why it says nothing.
pub fn from_template(
    template: &template::Model,
    variables: &Map<String, Value>,
    context: GeneralContext,
) -> Result<Parts, Unwritten> {
    from_compiled(&*Compiled::of(template)?, variables, context, None)
}

/// What a compiled template says to one recipient, in this language or else in the customer's.
///
/// # Errors
/// Why it says nothing.
pub fn from_compiled(
    compiled: &Compiled,
    variables: &Map<String, Value>,
    context: GeneralContext,
    locale: Option<&str>,
) -> Result<Parts, Unwritten> {
    let mut context = context.into_map();
    let values = compiled.fields.resolve(variables, &context)?;
    context.extend(values);
    let customers = context.get("customer").and_then(|customer| customer.get("locale")?.as_str());
    let rendered = compiled.render(locale.or(customers), &context)?;
    match compiled.channel {
        TemplateChannel::Email if rendered.subject.is_empty() => return Err(Unwritten::EmptySubject),
        TemplateChannel::Sms if rendered.text.trim().is_empty() => return Err(Unwritten::EmptyText),
        TemplateChannel::Email | TemplateChannel::Sms => {}
    }
    let variant = rendered.variant;
    Ok(Parts { variant, ..Parts::complete(rendered.subject, rendered.text, rendered.html) })
}

impl Parts {
    /// Who cannot read HTML reads the text that is made from it.
    pub fn complete(subject: String, text: String, html: Option<String>) -> Self {
        let text = match &html {
            Some(html) if text.trim().is_empty() => sanitise::text_from_html(html),
            _ => text,
        };
        Self { subject, text: format!("{}\n", text.trim_end()), html, variant: None }
    }
}

/// What a message is remembered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The template that it was made from.
    pub template_id: Option<TemplateId>,
    /// The customer whom it is for.
    pub customer_id: Option<CustomerId>,
    /// The campaign that it is sent for.
    pub campaign_id: Option<CampaignId>,
    /// Whether people asked for it.
    pub category: TemplateCategory,
    /// What the caller knows it by.
    pub external_ref: Option<String>,
}

/// The conversation that a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The conversation's id.
    pub conversation_id: ConversationId,
    /// Whether it is there already.
    pub is_known: bool,
}

impl Place {
    /// Where a message from the account to somebody belongs: mail begins a conversation, a text goes on with the number's.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn of(
        db: &impl ConnectionTrait,
        account: &account::Model,
        to: &Recipient,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let known = match account.channel {
            Channel::Email => None,
            Channel::Sms => goes_on_with(db, account, &to.address, now).await?,
        };
        let conversation_id = known.unwrap_or_else(|| ConversationId::new(now));
        Ok(Self { conversation_id, is_known: known.is_some() })
    }
}

/// A message that begins a conversation, or goes on with a number's.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The message's id.
    pub id: MessageId,
    /// The conversation.
    pub place: Place,
    /// Who gets it.
    pub to: Recipient,
    /// What it says.
    pub parts: Parts,
    /// What goes out with it.
    pub files: Vec<OutgoingAttachment>,
    /// More header fields: see [`category_fields`].
    pub fields: Vec<(String, String)>,
    /// Who asked for it.
    pub author_id: Option<UserId>,
    /// What it is remembered by.
    pub about: About,
    /// When it may go out, if not at once.
    pub not_before: Option<Timestamp>,
    /// The calendar that must be open when it goes out.
    pub window: Option<CalendarId>,
    /// Why the recipient may not be written to.
    pub barred: Option<SuppressionReason>,
}

impl Beginning {
    /// The letter to be composed.
    pub fn letter(&self) -> Letter {
        let Parts { subject, text, html, .. } = self.parts.clone();
        Letter {
            id: self.id,
            kind: MessageKind::Direct,
            conversation_id: self.place.conversation_id,
            work_item_id: None,
            author_id: self.author_id,
            new_text: text.trim_end().to_owned(),
            quoted_text: String::new(),
            signature: String::new(),
            due: self.not_before,
            mail: Outgoing {
                to: vec![self.to.clone().into()],
                subject,
                text,
                html,
                attachments: self.files.clone(),
                auto_submitted: Some(AutoSubmitted::AutoGenerated),
                headers: self.fields.clone(),
                ..Outgoing::default()
            },
        }
    }

    /// Composes it for a transaction that is open: its bytes stay in the database whatever their size, because no
    /// transaction waits for the object store.
    ///
    /// # Errors
    /// What of it cannot be sent.
    pub fn print(&self, press: &Press, account: &account::Model) -> Result<Filed, ComposeError> {
        let Printed { message, raw, envelope_from, recipients } = press.print(account, self.letter())?;
        let raw = raw_message::Model {
            message_id: message.id,
            size_bytes: message.size_bytes,
            sha256: Sha256::digest(&raw).to_vec(),
            data: Some(raw),
            object_key: None,
        };
        let filed =
            Filed { message, raw, envelope_from, recipients, not_before: None, window: None, barred: None };
        Ok(self.remembered(filed))
    }

    /// Lets go of what it says, which the composed mail says too; its subject stays, which is its conversation's.
    pub fn let_go(&mut self) -> Parts {
        let bare =
            Parts { subject: self.parts.subject.clone(), text: String::new(), html: None, variant: None };
        self.files = Vec::new();
        std::mem::replace(&mut self.parts, bare)
    }

    /// The composed mail with what it is remembered by, and whether and when it goes out.
    pub fn remembered(&self, mut filed: Filed) -> Filed {
        let About { template_id, customer_id, campaign_id, category, external_ref } = self.about.clone();
        let category = match category {
            TemplateCategory::Transactional => "transactional",
            TemplateCategory::Marketing => "marketing",
        };
        filed.message.template_id = template_id;
        filed.message.customer_id = customer_id;
        filed.message.campaign_id = campaign_id;
        filed.message.category = Some(category.to_owned());
        filed.message.external_ref = external_ref;
        filed.message.send_at = self.not_before;
        Filed {
            not_before: self.not_before,
            window: self.window,
            barred: self.barred.map(|reason| reason.words().to_owned()),
            ..filed
        }
    }
}

/// Stores the conversations and their messages and puts these on their way; gives each one's state.
///
/// # Errors
/// Whatever the database says.
pub async fn file(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    begun: Vec<(&Beginning, &account::Model, Filed)>,
) -> Result<Vec<MessageState>, DbErr> {
    let known: Vec<_> = begun
        .iter()
        .filter(|(one, ..)| one.place.is_known)
        .map(|(one, ..)| one.place.conversation_id)
        .collect();
    if !known.is_empty() {
        // All at once, so that two batches to the same numbers cannot wait for each other.
        lock_conversations(tx, known).await?;
    }
    let mut seen = HashSet::new();
    let new = begun.iter().filter(|(one, ..)| !one.place.is_known && seen.insert(one.place.conversation_id));
    let conversations: Vec<_> = new
        .map(|(one, account, _)| with(one.place.conversation_id, account, &one.to, &one.parts.subject, now))
        .collect();
    for rows in conversations.chunks(ROWS_PER_INSERT) {
        let rows = rows.iter().map(|row| row.clone().into_active_model());
        conversation::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    events::append(tx, now, conversations.iter().map(event).collect()).await?;
    outbound::file(app, tx, now, begun.into_iter().map(|(.., filed)| filed).collect()).await
}
