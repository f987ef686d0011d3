//! The world that a version is tried out in: facts from a message or from the request, and a host that does nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::calendar::Calendar;
use super::evaluate::Compiled;
use super::facts::{
    AccountFacts, AddressFacts, AttachmentFacts, ConversationFacts, Facts, ItemFacts, MessageFacts,
};
use super::gather;
use super::library::Snapshot;
use super::run::RequiredSkill;
use super::steps::ReferenceKind;
use super::turn::{Host, QueueState, SendAnswer};
use crate::accounts::entity::account;
use crate::app::App;
use crate::conversations::entity::{Classification, Direction, conversation, message};
use crate::db::among;
use crate::http::Problem;
use crate::id::{MessageId, QueueId};
use crate::queues::entity::{QueueState as StoredState, queue};
use crate::templates::entity::{self as template, TemplateState};

/// Facts to try a version with; each given one takes the place of the message's.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulationFacts {
    /// What expressions read as `message`.
    #[serde(default)]
    pub message: Option<SimulatedMessage>,
    /// Values that expressions read as `account.settings`, besides those of the message's account.
    #[serde(default)]
    pub account_settings: BTreeMap<String, Json>,
    /// Values that expressions read as `globals`, besides the stored ones.
    #[serde(default)]
    pub globals: BTreeMap<String, Json>,
    /// Whether the message begins its conversation.
    #[serde(default)]
    pub is_new_conversation: Option<bool>,
    /// The agent who worked on the conversation last.
    #[serde(default)]
    pub last_agent_id: Option<Uuid>,
    /// The queue that an `enqueue` without one means.
    #[serde(default)]
    pub fallback_queue_id: Option<Uuid>,
    /// The item's class.
    #[serde(default)]
    pub class_id: Option<Uuid>,
    /// The item's priority.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10)]
    pub priority: Option<u8>,
}

/// The parts of a message to try a version with.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedMessage {
    /// The sender.
    #[serde(default)]
    pub from: Option<SimulatedAddress>,
    /// The recipients.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub to: Option<Vec<SimulatedAddress>>,
    /// The recipients of copies.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub cc: Option<Vec<SimulatedAddress>>,
    /// The subject.
    #[serde(default)]
    #[schema(max_length = 1000, examples("Where is my order?"))]
    pub subject: Option<String>,
    /// The new text.
    #[serde(default)]
    #[schema(max_length = 65536, examples("It should have come on Friday."))]
    pub text: Option<String>,
    /// Header fields: lower-case name → value. Of real mail these are kept, and so can be read: `auto-submitted`,
    /// `precedence`, `list-id`, `list-unsubscribe`, `list-post`, `list-help`, `x-auto-response-suppress`, `return-path`,
    /// `x-loop`, `x-failed-recipients`, `feedback-id`, `delivered-to`, `x-autoreply`, `x-autorespond`,
    /// `x-autorespond-to`, `x-auto-reply-from`, `x-mail-autoreply`, `x-vacation`, `x-mailer`,
    /// `x-ms-exchange-inbox-rules-loop`, and what begins with `x-postroom-`.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, String>>,
    /// What kind of mail it is.
    #[serde(default)]
    pub class: Option<Classification>,
    /// The attachments.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub attachments: Option<Vec<SimulatedAttachment>>,
    /// The size of the raw message.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub size_bytes: Option<u64>,
}

/// A person in a message's header.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedAddress {
    /// The address.
    #[schema(max_length = 320, examples("kim@example.com"))]
    pub address: String,
    /// The display name.
    #[serde(default)]
    #[schema(max_length = 320, examples("Kim Doe"))]
    pub name: String,
}

/// An attachment of a message.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedAttachment {
    /// The file name.
    #[schema(max_length = 255, examples("invoice.pdf"))]
    pub name: String,
    /// The media type.
    #[serde(default)]
    #[schema(max_length = 255, examples("application/pdf"))]
    pub content_type: String,
    /// The decoded size.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub size_bytes: u64,
}

impl SimulationFacts {
    /// These facts, and what `base` says where they say nothing.
    pub fn over(self, base: Facts) -> Facts {
        let mut facts = base;
        if let Some(message) = self.message {
            message.put_into(&mut facts.message);
        }
        facts.account.settings.extend(self.account_settings);
        facts.globals.extend(self.globals);
        facts.conversation.is_new = self.is_new_conversation.unwrap_or(facts.conversation.is_new);
        facts.conversation.last_agent_id = self.last_agent_id.or(facts.conversation.last_agent_id);
        facts.account.fallback_queue_id = self.fallback_queue_id.or(facts.account.fallback_queue_id);
        facts.item.class_id = self.class_id.or(facts.item.class_id);
        facts.item.priority = self.priority.or(facts.item.priority);
        facts
    }
}

impl SimulatedMessage {
    fn put_into(self, facts: &mut MessageFacts) {
        fn put<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        let address = |one: SimulatedAddress| AddressFacts::new(one.address, one.name);
        let addresses = |many: Vec<SimulatedAddress>| many.into_iter().map(address).collect();
        put(&mut facts.from, self.from.map(address));
        put(&mut facts.to, self.to.map(addresses));
        put(&mut facts.cc, self.cc.map(addresses));
        put(&mut facts.subject, self.subject);
        put(&mut facts.text, self.text);
        put(&mut facts.headers, self.headers);
        put(&mut facts.class, self.class.map(|class| sea_orm::ActiveEnum::to_value(&class)));
        put(&mut facts.size_bytes, self.size_bytes);
        if let Some(attachments) = self.attachments {
            facts.has_attachments = !attachments.is_empty();
            facts.attachments = attachments.into_iter().map(AttachmentFacts::from).collect();
        }
    }
}

impl From<SimulatedAttachment> for AttachmentFacts {
    fn from(given: SimulatedAttachment) -> Self {
        Self { name: given.name, content_type: given.content_type, size_bytes: given.size_bytes }
    }
}

/// The facts of a stored inbound message, at the present moment.
///
/// # Errors
/// `unknown_reference` or `validation_failed` at `/message_id`.
pub async fn facts_of_message(app: &App, id: MessageId) -> Result<Facts, Problem> {
    let db = app.db.read();
    let unknown = || Problem::unknown_reference("/message_id", "message");
    let message = message::Entity::find_by_id(id).one(db).await?.ok_or_else(unknown)?;
    if message.direction != Direction::Inbound {
        return Err(Problem::invalid("/message_id", "not_inbound", "scripts route inbound messages"));
    }
    let account = account::Entity::find_by_id(message.account_id).one(db).await?.ok_or_else(unknown)?;
    let conversation =
        conversation::Entity::find_by_id(message.conversation_id).one(db).await?.ok_or_else(unknown)?;
    let earlier = message::Entity::find()
        .filter(message::Column::ConversationId.eq(message.conversation_id))
        .filter(message::Column::Id.lt(message.id));
    let begins = earlier.count(db).await? == 0;
    let item = ItemFacts { class_id: account.class_id.map(|class| class.uuid()), ..ItemFacts::default() };
    let in_force = app.scripts.snapshot(db).await?;
    Ok(gather::facts(&account, &conversation, begins, &message, item, &in_force, app.clock.now()))
}

/// The facts of an empty mail that begins a conversation, with the global variables as they are.
///
/// # Errors
/// Whatever the database says.
pub async fn no_facts(app: &App) -> Result<Facts, Problem> {
    let in_force = app.scripts.snapshot(app.db.read()).await?;
    Ok(Facts {
        account: AccountFacts { channel: "email".to_owned(), ..AccountFacts::default() },
        conversation: ConversationFacts { is_new: true, message_count: 1, ..ConversationFacts::default() },
        globals: in_force.globals().clone(),
        ..Facts::empty(app.clock.now().to_chrono(), chrono_tz::UTC)
    })
}

/// A world that was looked at beforehand and that nothing is done to.
#[derive(Debug)]
pub struct SimulatedHost {
    in_force: Arc<Snapshot>,
    queues: HashMap<Uuid, StoredState>,
    published: HashSet<Uuid>,
    queue_state: Option<QueueState>,
    agents_available: bool,
}

impl SimulatedHost {
    /// Looks up what the script may ask for; `queue_state` is what every queue says, if it is given.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn look(
        app: &App,
        script: &Compiled,
        facts: &Facts,
        queue_state: Option<QueueState>,
        agents_available: bool,
    ) -> Result<Self, Problem> {
        let mentions = script.definition().references();
        let of_kind = |kind| mentions.iter().filter(move |(_, one)| one.kind == kind).map(|(_, one)| one.id);
        let queues: HashSet<_> =
            of_kind(ReferenceKind::Queue).chain(facts.account.fallback_queue_id).map(QueueId).collect();
        let templates: HashSet<_> = of_kind(ReferenceKind::Template).collect();
        let db = app.db.read();
        let queues = queue::Entity::find().filter(among(queue::Column::Id, queues)).all(db).await?;
        let published = template::Entity::find()
            .filter(among(template::Column::Id, templates))
            .filter(template::Column::State.eq(TemplateState::Published));
        Ok(Self {
            in_force: app.scripts.snapshot(db).await?,
            queues: queues.into_iter().map(|row| (row.id.uuid(), row.state)).collect(),
            published: published.all(db).await?.into_iter().map(|row| row.id.uuid()).collect(),
            queue_state,
            agents_available,
        })
    }
}

impl Host for SimulatedHost {
    fn calendar(&self, id: Uuid) -> Option<Arc<Calendar>> {
        self.in_force.calendar(id)
    }

    fn queue_state(&self, id: Uuid, _skills: &[RequiredSkill]) -> QueueState {
        match (self.queues.get(&id), self.queue_state) {
            (None, _) => QueueState::Missing,
            (Some(_), Some(state)) => state,
            (Some(StoredState::Open), None) => QueueState::Accepting,
            (Some(StoredState::Draining | StoredState::Closed), None) => QueueState::Closed,
        }
    }

    fn agent_available(&self, _id: Uuid) -> bool {
        self.agents_available
    }

    fn may_send_template(&self, id: Uuid) -> SendAnswer {
        if self.published.contains(&id) {
            SendAnswer::Send
        } else {
            SendAnswer::Refuse("the template is not published".to_owned())
        }
    }
}
