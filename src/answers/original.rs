//! The message that is answered, and what an answer takes over from it.

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use super::{Way, texts};
use crate::{
    accounts::{
        addresses::own_addresses,
        entity::{AccountState, account},
    },
    conversations::{
        entity::{conversation, message},
        parsed::parsed,
    },
    http::{Code, Problem},
    id::MessageId,
    mail::{
        address::{Address, Mailbox, comparable},
        compose::{
            Quotable, answer_references, forward_quote, forward_subject, reply_quote, reply_recipients,
            reply_subject,
        },
        parse::Parsed,
    },
    work::entity::work_item,
};

/// What an answer is written from.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub item: work_item::Model,
    pub account: account::Model,
    pub conversation: conversation::Model,
    pub message: message::Model,
    /// The message as the mail that it was.
    pub mail: Parsed,
    /// The addresses of all our accounts.
    pub own: Vec<String>,
}

impl Original {
    /// Reads the message to be answered: the one of this id, or the customer's newest on the item.
    ///
    /// # Errors
    /// `unknown_reference` for a message that is not of the item's conversation, `gone` for one that
    /// was erased, `invalid_state` for a disabled account.
    pub async fn load(
        db: &impl ConnectionTrait,
        item: work_item::Model,
        message_id: Option<MessageId>,
    ) -> Result<Self, Problem> {
        let gone = |what: &str| DbErr::RecordNotFound(what.to_owned());
        let account = account::Entity::find_by_id(item.account_id).one(db).await?;
        let account = account.ok_or_else(|| gone("account"))?;
        if account.state == AccountState::Disabled {
            return Err(Problem::new(Code::InvalidState, "the account is disabled: nothing is sent from it"));
        }
        let conversation = conversation::Entity::find_by_id(item.conversation_id).one(db).await?;
        let conversation = conversation.ok_or_else(|| gone("conversation"))?;
        let message = message::Entity::find_by_id(message_id.unwrap_or(item.last_message_id))
            .filter(message::Column::ConversationId.eq(item.conversation_id))
            .one(db)
            .await?
            .ok_or_else(|| Problem::unknown_reference("/message_id", "message in the conversation"))?;
        if message.erased_at.is_some() {
            let why = "the message was erased with what was known of the customer";
            return Err(Problem::new(Code::Gone, why));
        }
        let (mail, own) = (parsed(&message), own_addresses(db).await?);
        Ok(Self { item, account, conversation, message, mail, own })
    }

    /// Who gets the answer, as (To, Cc), of those whom it can reach.
    pub fn recipients(&self, way: Way) -> (Vec<Mailbox>, Vec<Mailbox>) {
        if way == Way::Forward {
            return (Vec::new(), Vec::new());
        }
        if texts::is_text(self) {
            return (texts::recipient(self).into_iter().collect(), Vec::new());
        }
        let (to, cc) = reply_recipients(&self.mail, &self.own, way == Way::ReplyAll);
        let reachable = |list: Vec<Mailbox>| {
            let valid = |one: &Mailbox| Address::parse(comparable(&one.address).trim()).is_ok();
            list.into_iter().filter(valid).collect()
        };
        (reachable(to), reachable(cc))
    }

    pub fn subject(&self, way: Way) -> String {
        let subject = &self.message.subject;
        if texts::is_text(self) {
            return String::new();
        }
        if way == Way::Forward { forward_subject(subject) } else { reply_subject(subject) }
    }

    /// What is put below, as text and as HTML.
    pub fn quote(&self, way: Way) -> (String, String) {
        if texts::is_text(self) {
            return Default::default();
        }
        let quotable = Quotable::from(&self.mail);
        if way == Way::Forward { forward_quote(&quotable) } else { reply_quote(&quotable) }
    }

    pub fn references(&self) -> Vec<String> {
        answer_references(&self.mail)
    }
}
