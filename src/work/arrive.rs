//! Inbound messages become work: added to the open item of their conversation, or a new item that is routed.

use std::sync::Arc;

use sea_orm::{DatabaseTransaction, DbErr};

use crate::{
    accounts::entity::account,
    app::App,
    clock::Timestamp,
    conversations::entity::{conversation, message},
};

/// An inbound message that was just stored, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The account that received it.
    pub account: Arc<account::Model>,
    /// Its conversation, as it stands with this message.
    pub conversation: conversation::Model,
    /// Whether the message began the conversation.
    pub begins_conversation: bool,
    /// The message.
    pub message: message::Model,
}

/// Makes work of inbound messages, in the transaction that stores them.
///
/// # Errors
/// Whatever the database says.
pub async fn arrive(
    _app: &App,
    _tx: &DatabaseTransaction,
    _now: Timestamp,
    _arrivals: Vec<Arrival>,
) -> Result<(), DbErr> {
    Ok(())
}
