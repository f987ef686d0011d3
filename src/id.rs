//! Typed identifiers: one newtype per resource, all UUIDv7 (RFC 9562 §5.7), so that ids sort by age.

use sea_orm::{DbErr, TryFromU64};
use uuid::{ContextV7, Timestamp as UuidTime, Uuid};

use crate::clock::Timestamp;

/// Gives ids that grow with the injected clock and stay in order within a process.
pub fn new_uuid(at: Timestamp) -> Uuid {
    static CONTEXT: std::sync::Mutex<ContextV7> = std::sync::Mutex::new(ContextV7::new());
    let millis = u64::try_from(at.as_millis()).unwrap_or_default();
    let nanos = u32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
    match CONTEXT.lock() {
        Ok(context) => Uuid::new_v7(UuidTime::from_unix(&*context, millis / 1000, nanos)),
        Err(_) => Uuid::now_v7(),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, sea_orm::DeriveValueType, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        #[schema(value_type = Uuid, format = "uuid", examples("019aa1b2-0000-7000-8000-000000000001"))]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id at the given moment.
            pub fn new(at: Timestamp) -> Self {
                Self(new_uuid(at))
            }

            /// The bare UUID.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )+};
}

ids! {
    /// A user.
    UserId,
    /// An API key.
    ApiKeyId,
    /// A mailbox we receive at and send from.
    AccountId,
    /// A thread of messages with a customer.
    ConversationId,
    /// One e-mail or text, inbound or outbound.
    MessageId,
    /// A file waiting to be attached to an answer.
    UploadId,
    /// An internal note on a conversation.
    NoteId,
    /// One piece of work for an agent.
    WorkItemId,
    /// A work item held out to one agent.
    OfferId,
    /// A queue.
    QueueId,
    /// A group of agents.
    GroupId,
    /// A skill.
    SkillId,
    /// A class of contact.
    ClassId,
    /// A routing script.
    ScriptId,
    /// A version of a routing script.
    ScriptVersionId,
    /// A global variable.
    VariableId,
    /// A calendar of opening hours.
    CalendarId,
    /// A template.
    TemplateId,
    /// What several templates include.
    PartialId,
    /// A file that goes out with a template.
    TemplateAttachmentId,
    /// An address that we may not send to.
    SuppressionId,
    /// What came of an attempt.
    OutcomeId,
    /// A campaign.
    CampaignId,
    /// A list of customers.
    ListId,
    /// A customer.
    CustomerId,
    /// One try at reaching a customer.
    AttemptId,
    /// A rule of a campaign or list that sends a template.
    RuleId,
    /// An import of customers.
    ImportId,
    /// A bulk send.
    BroadcastId,
    /// A key that signs mail.
    DkimKeyId,
    /// An event of the log.
    EventId,
    /// An entry of the audit log.
    AuditId,
}
