//! Emptying messages and conversations when what is known of a customer is erased.
//!
//! The rows stay, with their ids, times, states and our own Message-IDs: counts stay right, and mail that answers one of ours
//! still comes into its conversation.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, JoinType, QueryFilter,
    QueryOrder, QuerySelect, Select,
    sea_query::{Expr, ExprTrait, Query},
};
use serde_json::json;

use super::entity::{Direction, conversation, draft, message, message::Column, note, raw_message};
use crate::{
    clock::Timestamp,
    db::among,
    id::{ConversationId, CustomerId, MessageId, WorkItemId},
    work,
};

/// Which messages of a conversation are emptied.
#[derive(Clone, Copy, Debug)]
pub struct Erased {
    /// The conversation.
    pub conversation: ConversationId,
    /// Those that were made until then.
    pub until: Timestamp,
    /// Only those that were sent to this customer; all when there is none.
    pub only: Option<CustomerId>,
}

impl Erased {
    /// Up to `limit` messages that are not emptied yet, other than those of an item that is not done: nothing is taken from
    /// under the hands of an agent.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn full(&self, db: &impl ConnectionTrait, limit: u64) -> Result<Vec<MessageId>, DbErr> {
        let open = work::erase::open_item(db, self.conversation).await?;
        let mut select = self.select().select_only().column(Column::Id);
        if let Some(item) = open {
            select = select.filter(Column::WorkItemId.is_null().or(Column::WorkItemId.ne(item)));
        }
        select.order_by_asc(Column::Id).limit(limit).into_tuple().all(db).await
    }

    /// Whether messages are kept because their item is not done.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn waits(&self, db: &impl ConnectionTrait) -> Result<bool, DbErr> {
        Ok(self.select().one(db).await?.is_some())
    }

    fn select(&self) -> Select<message::Entity> {
        let earlier = Query::select()
            .column(Column::Id)
            .from(message::Entity)
            .and_where(Column::ConversationId.eq(self.conversation))
            .and_where(Column::CreatedAt.lte(self.until).or(Column::ErasedAt.is_not_null()))
            .to_owned();
        let made = Condition::any()
            .add(Column::CreatedAt.lte(self.until))
            // Whoever sent an old message again in the meantime made a copy of it.
            .add(Column::RetryOf.in_subquery(earlier));
        let select = message::Entity::find()
            .filter(Column::ConversationId.eq(self.conversation))
            .filter(Column::ErasedAt.is_null())
            .filter(made);
        match self.only {
            Some(customer) => select.filter(Column::CustomerId.eq(customer)),
            None => select,
        }
    }

    /// Up to `limit` objects that still hold the source of an emptied message.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn objects(
        &self,
        db: &impl ConnectionTrait,
        limit: u64,
    ) -> Result<Vec<(MessageId, String)>, DbErr> {
        let to_message = raw_message::Entity::belongs_to(message::Entity)
            .from(raw_message::Column::MessageId)
            .to(message::Column::Id);
        raw_message::Entity::find()
            .join(JoinType::InnerJoin, to_message.into())
            .select_only()
            .columns([raw_message::Column::MessageId, raw_message::Column::ObjectKey])
            .filter(message::Column::ConversationId.eq(self.conversation))
            .filter(message::Column::ErasedAt.is_not_null())
            .filter(raw_message::Column::ObjectKey.is_not_null())
            .limit(limit)
            .into_tuple()
            .all(db)
            .await
    }

    /// Forgets with whom the conversation was, and the notes on it; the names stay while there is something newer from them.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn forget(
        &self,
        tx: &DatabaseTransaction,
        now: Timestamp,
        done: &[WorkItemId],
    ) -> Result<(), DbErr> {
        use conversation::Column;
        let newer = message::Entity::find()
            .filter(message::Column::ConversationId.eq(self.conversation))
            .filter(message::Column::ErasedAt.is_null())
            .one(tx)
            .await?;
        let mut empty = conversation::ActiveModel {
            subject: Set(String::new()),
            updated_at: Set(now),
            ..Default::default()
        };
        if newer.is_none() {
            (empty.customer_name, empty.customer_address) = (Set(None), Set(None));
        }
        conversation::Entity::update_many()
            .set(empty)
            .col_expr(Column::Version, Expr::col(Column::Version).add(1))
            .filter(Column::Id.eq(self.conversation))
            .exec(tx)
            .await?;
        note::Entity::delete_many()
            .filter(note::Column::ConversationId.eq(self.conversation))
            .filter(note::Column::CreatedAt.lte(self.until))
            .exec(tx)
            .await?;
        if !done.is_empty() {
            let of_done = among(draft::Column::WorkItemId, done.iter().copied());
            draft::Entity::delete_many().filter(of_done).exec(tx).await?;
        }
        Ok(())
    }
}

/// Empties messages. Sources in the object store are left for [`Erased::objects`]: no transaction waits for it.
///
/// # Errors
/// Whatever the database says.
pub async fn empty(tx: &DatabaseTransaction, now: Timestamp, ids: &[MessageId]) -> Result<(), DbErr> {
    let these = || ids.iter().copied();
    let nothing = message::ActiveModel {
        state_reason: Set(None),
        in_reply_to: Set(json!([])),
        reference_ids: Set(json!([])),
        from_name: Set(None),
        from_address: Set(None),
        reply_to: Set(json!([])),
        to_addresses: Set(json!([])),
        cc_addresses: Set(json!([])),
        bcc_addresses: Set(json!([])),
        subject: Set(String::new()),
        text: Set(String::new()),
        new_text: Set(String::new()),
        quoted_text: Set(String::new()),
        signature: Set(String::new()),
        html: Set(None),
        attachments: Set(json!([])),
        headers: Set(json!({})),
        external_ref: Set(None),
        erased_at: Set(Some(now)),
        updated_at: Set(now),
        ..Default::default()
    };
    message::Entity::update_many()
        .set(nothing)
        // A customer's Message-ID may name their machine.
        .col_expr(Column::MessageIdHeader, ours_only())
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .filter(among(Column::Id, these()))
        .exec(tx)
        .await?;
    raw_message::Entity::delete_many()
        .filter(among(raw_message::Column::MessageId, these()))
        .filter(raw_message::Column::ObjectKey.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

fn ours_only() -> Expr {
    let ours = Column::Direction.eq(Direction::Outbound);
    Expr::case(ours, Expr::col(Column::MessageIdHeader)).finally(Expr::value(None::<String>)).into()
}

/// Forgets which objects held the sources of these messages: they are gone.
///
/// # Errors
/// Whatever the database says.
pub async fn forget_objects(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = MessageId>,
) -> Result<(), DbErr> {
    let these = among(raw_message::Column::MessageId, ids);
    raw_message::Entity::delete_many().filter(these).exec(tx).await?;
    Ok(())
}
