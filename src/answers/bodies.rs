//! What an agent writes: the bodies of replies, forwards and drafts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Way;
use crate::{
    conversations::recipient::Recipient,
    id::{MessageId, UploadId},
};

/// A reply, or a reply to all.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "expected_last_message_id": "019aa1b2-0000-7000-8000-000000000001", "text": "It left our warehouse this morning."
}))]
pub struct WorkItemReply {
    /// The newest message that the agent has seen: `last_message_id` of the work item or of its conversation. 409 when
    /// the customer has written since.
    pub expected_last_message_id: MessageId,
    /// The message that is answered; the customer's newest when it is left out.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// What the agent writes, without quote and signature.
    #[serde(default)]
    #[schema(max_length = 1_000_000, default = "", examples("It left our warehouse this morning."))]
    pub text: String,
    /// The same in HTML; scripts, forms and the like are taken out.
    #[serde(default)]
    #[schema(max_length = 2_000_000, examples("<p>It left our warehouse <b>this morning</b>.</p>"))]
    pub html: Option<String>,
    /// Instead of the recipients that the message gives.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub to: Option<Vec<Recipient>>,
    /// Instead of the copies that the message gives.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub cc: Option<Vec<Recipient>>,
    /// Hidden copies.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub bcc: Option<Vec<Recipient>>,
    /// Instead of the message's subject with `Re:`.
    #[serde(default)]
    #[schema(max_length = 900, examples("Re: Where is my order?"))]
    pub subject: Option<String>,
    /// Uploads to attach. The HTML shows one as `cid:` and its id.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub attachment_ids: Vec<UploadId>,
    /// Whether the message is quoted below.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub quote: bool,
    /// Whether the account's signature is put below.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_signature: bool,
    /// Whether the work item is completed with it.
    #[serde(default)]
    #[schema(default = false)]
    pub complete: bool,
    /// How it went; only together with `complete`.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$", examples("resolved"))]
    pub outcome_code: Option<String>,
}

/// A forward.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": [{ "address": "ben@example.net" }], "text": "Could you look into this?" }))]
pub struct WorkItemForward {
    /// Who gets it.
    #[schema(max_items = 100)]
    pub to: Vec<Recipient>,
    /// Who gets a copy.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub cc: Option<Vec<Recipient>>,
    /// Who gets a hidden copy.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub bcc: Option<Vec<Recipient>>,
    /// When it is given: the newest message that the agent has seen. 409 when the customer has written since.
    #[serde(default)]
    pub expected_last_message_id: Option<MessageId>,
    /// The message that is passed on; the customer's newest when it is left out.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// What the agent writes above it.
    #[serde(default)]
    #[schema(max_length = 1_000_000, default = "", examples("Could you look into this?"))]
    pub text: String,
    /// The same in HTML; scripts, forms and the like are taken out.
    #[serde(default)]
    #[schema(max_length = 2_000_000, examples("<p>Could you look into this?</p>"))]
    pub html: Option<String>,
    /// Instead of the message's subject with `Fwd:`.
    #[serde(default)]
    #[schema(max_length = 900, examples("Fwd: Where is my order?"))]
    pub subject: Option<String>,
    /// Uploads to attach. The HTML shows one as `cid:` and its id.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub attachment_ids: Vec<UploadId>,
    /// Whether the message's own attachments go along.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_attachments: bool,
    /// Whether the message's text goes along.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub quote: bool,
    /// Whether the account's signature is put below.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_signature: bool,
    /// Whether the work item is completed with it.
    #[serde(default)]
    #[schema(default = false)]
    pub complete: bool,
    /// How it went; only together with `complete`.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.-]+$", examples("passed_on"))]
    pub outcome_code: Option<String>,
}

/// An answer that is still being written. Nothing of it is checked until it is sent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "text": "It left our ware" }))]
pub struct DraftContent {
    /// How it will be sent; as a reply when left out.
    #[serde(default = "reply")]
    pub kind: Way,
    /// The message that is answered.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// What the agent writes.
    #[serde(default)]
    #[schema(max_length = 1_000_000, default = "", examples("It left our ware"))]
    pub text: String,
    /// The same in HTML.
    #[serde(default)]
    #[schema(max_length = 2_000_000)]
    pub html: Option<String>,
    /// Recipients, when they are not the usual ones.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub to: Option<Vec<DraftRecipient>>,
    /// Copies, when they are not the usual ones.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub cc: Option<Vec<DraftRecipient>>,
    /// Hidden copies.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub bcc: Option<Vec<DraftRecipient>>,
    /// The subject, when it is not the usual one.
    #[serde(default)]
    #[schema(max_length = 900)]
    pub subject: Option<String>,
    /// Uploads to attach.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub attachment_ids: Vec<UploadId>,
    /// Whether the message is quoted below.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub quote: bool,
    /// Whether the account's signature is put below.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_signature: bool,
}

/// Somebody who is to get an answer, as far as it is typed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftRecipient {
    /// The name.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// The address, perhaps half of it.
    #[schema(max_length = 320, examples("anna@exam"))]
    pub address: String,
}

fn yes() -> bool {
    true
}

fn reply() -> Way {
    Way::Reply
}

/// What all three ways have in common.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub way: Way,
    pub expected: Option<MessageId>,
    pub message_id: Option<MessageId>,
    pub text: String,
    pub html: Option<String>,
    pub to: Option<Vec<Recipient>>,
    pub cc: Option<Vec<Recipient>>,
    pub bcc: Vec<Recipient>,
    pub subject: Option<String>,
    pub attachment_ids: Vec<UploadId>,
    pub include_attachments: bool,
    pub quote: bool,
    pub include_signature: bool,
    pub complete: bool,
    pub outcome_code: Option<String>,
}

impl Wanted {
    pub fn reply(way: Way, body: WorkItemReply) -> Self {
        Self {
            way,
            expected: Some(body.expected_last_message_id),
            message_id: body.message_id,
            text: body.text,
            html: body.html,
            to: body.to,
            cc: body.cc,
            bcc: body.bcc.unwrap_or_default(),
            subject: body.subject,
            attachment_ids: body.attachment_ids,
            include_attachments: false,
            quote: body.quote,
            include_signature: body.include_signature,
            complete: body.complete,
            outcome_code: body.outcome_code,
        }
    }

    pub fn forward(body: WorkItemForward) -> Self {
        Self {
            way: Way::Forward,
            expected: body.expected_last_message_id,
            message_id: body.message_id,
            text: body.text,
            html: body.html,
            to: Some(body.to),
            cc: body.cc,
            bcc: body.bcc.unwrap_or_default(),
            subject: body.subject,
            attachment_ids: body.attachment_ids,
            include_attachments: body.include_attachments,
            quote: body.quote,
            include_signature: body.include_signature,
            complete: body.complete,
            outcome_code: body.outcome_code,
        }
    }
}
