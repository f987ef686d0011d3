//! What a front end puts into its editor when an agent begins to answer.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Way, original::Original, write::signature};
use crate::{conversations::recipient::Recipient, id::MessageId};

/// Which answer is begun.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TemplateQuery {
    /// How it will be sent.
    #[param(inline)]
    pub kind: Way,
    /// The message that is answered; the customer's newest when it is left out.
    pub message_id: Option<MessageId>,
}

/// What an answer begins with.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplyTemplate {
    /// How it will be sent.
    pub kind: Way,
    /// The message that is answered.
    pub message_id: MessageId,
    /// What the answer is to give as `expected_last_message_id`.
    pub expected_last_message_id: MessageId,
    /// Who gets it.
    pub to: Vec<Recipient>,
    /// Who gets a copy.
    pub cc: Vec<Recipient>,
    /// The subject.
    #[schema(examples("Re: Where is my order?"))]
    pub subject: String,
    /// What is put below, as text.
    pub quote_text: String,
    /// The same as safe HTML without remote images.
    pub quote_html: String,
    /// The account's signature.
    pub signature_text: String,
    /// The same as safe HTML.
    pub signature_html: String,
}

impl ReplyTemplate {
    /// Makes HTML safe, which takes a while: not to be called on an async thread.
    pub(super) fn of(original: &Original, kind: Way) -> Self {
        let (to, cc) = original.recipients(kind);
        let (quote_text, quote_html) = original.quote(kind);
        let (signature_text, signature_html) = signature(original);
        Self {
            kind,
            message_id: original.message.id,
            expected_last_message_id: original.item.last_message_id,
            to: to.into_iter().map(Recipient::from).collect(),
            cc: cc.into_iter().map(Recipient::from).collect(),
            subject: original.subject(kind),
            quote_text,
            quote_html,
            signature_text,
            signature_html,
        }
    }
}
