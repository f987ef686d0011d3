//! Emptying work items when what is known of a customer is erased.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};

use super::entity::{WorkState, offer, trace, work_item};
use crate::{
    db::among,
    events,
    id::{ConversationId, OfferId, WorkItemId},
};

/// The item of the conversation that is not done.
///
/// # Errors
/// Whatever the database says.
pub async fn open_item(
    db: &impl ConnectionTrait,
    conversation: ConversationId,
) -> Result<Option<WorkItemId>, DbErr> {
    work_item::Entity::find()
        .select_only()
        .column(work_item::Column::Id)
        .filter(work_item::Column::ConversationId.eq(conversation))
        .filter(work_item::Column::State.is_not_in(WorkState::DONE))
        .into_tuple()
        .one(db)
        .await
}

/// Empties the conversation's items that are done, what their scripts saw of the customer and what offers showed; gives them.
///
/// # Errors
/// Whatever the database says.
pub async fn forget(
    tx: &DatabaseTransaction,
    conversation: ConversationId,
) -> Result<Vec<WorkItemId>, DbErr> {
    use work_item::Column;
    let emptied = work_item::ActiveModel {
        subject: Set(String::new()),
        customer_name: Set(None),
        customer_address: Set(None),
        run: Set(None),
        error: Set(None),
        ..Default::default()
    };
    let items = work_item::Entity::update_many()
        .set(emptied)
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .filter(Column::ConversationId.eq(conversation))
        .filter(Column::State.is_in(WorkState::DONE))
        .exec_with_returning(tx)
        .await?;
    let items: Vec<WorkItemId> = items.into_iter().map(|item| item.id).collect();
    if items.is_empty() {
        return Ok(items);
    }
    let of_items = || items.iter().copied();
    trace::Entity::delete_many().filter(among(trace::Column::WorkItemId, of_items())).exec(tx).await?;
    let offers: Vec<OfferId> = offer::Entity::find()
        .select_only()
        .column(offer::Column::Id)
        .filter(among(offer::Column::WorkItemId, of_items()))
        .into_tuple()
        .all(tx)
        .await?;
    if !offers.is_empty() {
        events::forget_customer(tx, offers.iter().map(|id| id.uuid())).await?;
    }
    Ok(items)
}
