//! Stands in for what other branches bring: each function gives way to the one of the same name.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use serde_json::json;

use crate::{
    clock::Timestamp,
    conversations::entity::{ConversationState, conversation},
    events::{self, NewEvent},
    http::{Caller, Code, Problem},
    id::WorkItemId,
    work::entity::{WorkState, work_item},
};

/// `work::state::require_assigned`.
///
/// # Errors
/// `not_found`, `not_yours`, `not_assigned`, `invalid_state`.
pub async fn require_assigned(
    tx: &DatabaseTransaction,
    id: WorkItemId,
    caller: &Caller,
) -> Result<work_item::Model, Problem> {
    let missing = || Problem::not_found("work item");
    let seen = work_item::Entity::find_by_id(id).one(tx).await?.ok_or_else(missing)?;
    conversation::Entity::find_by_id(seen.conversation_id).lock_exclusive().one(tx).await?;
    let item = work_item::Entity::find_by_id(id).lock_exclusive().one(tx).await?.ok_or_else(missing)?;
    let mine = item.assigned_agent_id.is_some() && item.assigned_agent_id == caller.user_id();
    match item.state {
        WorkState::Assigned if mine || caller.oversees() => Ok(item),
        WorkState::Assigned => Err(Problem::new(Code::NotYours, "another agent has this work item")),
        WorkState::Queued | WorkState::Offered => {
            Err(Problem::new(Code::NotAssigned, "nobody has this work item yet"))
        }
        _ => Err(Problem::new(Code::InvalidState, "the work item is not in work")),
    }
}

/// `work::state::note_answered`.
///
/// # Errors
/// Whatever the database says.
pub async fn note_answered(
    tx: &DatabaseTransaction,
    item: &work_item::Model,
    now: Timestamp,
) -> Result<(), DbErr> {
    let change = work_item::ActiveModel {
        first_answered_at: Set(item.first_answered_at.or(Some(now))),
        updated_at: Set(now),
        ..Default::default()
    };
    change_item(tx, item, change).await?;
    events::append(
        tx,
        now,
        vec![NewEvent::new("work_item.answered", item.id.uuid(), &json!({ "id": item.id }))],
    )
    .await
}

/// `work::complete`.
///
/// # Errors
/// Whatever the database says.
pub async fn complete(
    tx: &DatabaseTransaction,
    now: Timestamp,
    id: WorkItemId,
    _caller: &Caller,
    outcome_code: Option<String>,
) -> Result<(), Problem> {
    let item = work_item::Entity::find_by_id(id).one(tx).await?.ok_or(DbErr::RecordNotUpdated)?;
    let change = work_item::ActiveModel {
        state: Set(WorkState::Completed),
        outcome_code: Set(outcome_code),
        completed_at: Set(Some(now)),
        updated_at: Set(now),
        ..Default::default()
    };
    change_item(tx, &item, change).await?;
    conversation::Entity::update_many()
        .col_expr(conversation::Column::State, Expr::value("closed"))
        .filter(conversation::Column::Id.eq(item.conversation_id))
        .exec(tx)
        .await?;
    let data = json!({ "id": id, "state": ConversationState::Closed });
    Ok(events::append(tx, now, vec![NewEvent::new("work_item.completed", id.uuid(), &data)]).await?)
}

async fn change_item(
    tx: &DatabaseTransaction,
    item: &work_item::Model,
    change: work_item::ActiveModel,
) -> Result<(), DbErr> {
    let guarded = work_item::Entity::update_many()
        .set(change)
        .col_expr(work_item::Column::Version, Expr::col(work_item::Column::Version).add(1))
        .filter(work_item::Column::Id.eq(item.id))
        .filter(work_item::Column::Version.eq(item.version));
    if guarded.exec(tx).await?.rows_affected == 1 { Ok(()) } else { Err(DbErr::RecordNotUpdated) }
}
