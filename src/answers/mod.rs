//! Answering: an agent's reply, reply to all and forward, the files attached to them, and drafts.
//!
//! An answer is written before its transaction and filed in it. The transaction locks the conversation, so a customer's
//! mail is either before the answer, which is then refused as `conversation_changed`, or after it. Only the agent to whom
//! the item is assigned answers; a supervisor takes the item over first.

pub mod api;
pub mod bodies;
mod desk;
pub mod drafts;
mod files;
mod original;
mod prefill;
mod send;
mod texts;
pub mod uploads;
mod write;

/// The ways to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnswerKind)]
pub enum Way {
    /// To the sender.
    Reply,
    /// To the sender, with copies to the other recipients.
    ReplyAll,
    /// To somebody else.
    Forward,
}
