//! What a campaign's rules have put off and not sent: held back, let go, cancelled.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Statement, sea_query::Expr,
};
use serde_json::json;

use super::entity::rule_send;
use crate::{
    clock::Timestamp,
    conversations::entity::{MessageState, message},
    db::among,
    delivery::entity::{Phase, delivery, step},
    events::{self, NewEvent},
    id::{CampaignId, ConversationId, MessageId, new_uuid},
};

const ROWS_PER_ROUND: u64 = 500;

/// What is said of a message whose campaign is suspended.
const SUSPENDED: &str = "its campaign is suspended";

/// Keeps what waits for its time from going out.
pub(super) async fn hold(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    for_each_round(tx, id, async |messages| {
        let stopped = stop(tx, now, messages.iter().map(|(id, _)| *id)).await?;
        let note =
            message::ActiveModel { state_reason: Set(Some(SUSPENDED.to_owned())), ..Default::default() };
        change(tx, &stopped, note).await?;
        remark(tx, now, &stopped, "held_back", SUSPENDED).await
    })
    .await
}

/// Lets what was held back go out at its time, or now when that is past.
pub(super) async fn release(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    for_each_round(tx, id, async |messages| {
        let ids: Vec<MessageId> = messages.iter().map(|(id, _)| *id).collect();
        for id in &ids {
            let sql = "UPDATE deliveries SET updated_at = $1, \
                due_at = (SELECT CASE WHEN m.send_at > $1 THEN m.send_at ELSE $1 END FROM messages m WHERE m.id = $2), \
                expires_at = expires_at + (SELECT CASE WHEN m.send_at > $1 THEN 0 ELSE $1 - m.send_at END \
                    FROM messages m WHERE m.id = $2) \
                WHERE message_id = $2 AND phase = 'idle' AND due_at IS NULL";
            let values = [now.as_millis().into(), id.uuid().into()];
            tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
        }
        let note = message::ActiveModel { state_reason: Set(None), ..Default::default() };
        change(tx, &ids, note).await?;
        remark(tx, now, &ids, "released", "its campaign goes on").await
    })
    .await
}

/// Calls off what waits for its time.
pub(super) async fn cancel(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    let reason = "its campaign was stopped";
    for_each_round(tx, id, async |messages| {
        let stopped = stop(tx, now, messages.iter().map(|(id, _)| *id)).await?;
        let end = message::ActiveModel {
            state: Set(MessageState::Cancelled),
            state_reason: Set(Some(reason.to_owned())),
            updated_at: Set(now),
            ..Default::default()
        };
        change(tx, &stopped, end).await?;
        remark(tx, now, &stopped, "cancelled", reason).await?;
        let ended = messages.iter().filter(|(id, _)| stopped.contains(id)).map(|(id, conversation_id)| {
            let data = json!({ "state": MessageState::Cancelled, "conversation_id": conversation_id });
            NewEvent::new("message.cancelled", id.uuid(), &data).for_supervisors()
        });
        events::append(tx, now, ended.collect()).await
    })
    .await
}

/// Does `work` with all messages that the campaign's rules made and that wait for their time, some at a time.
async fn for_each_round(
    tx: &DatabaseTransaction,
    id: CampaignId,
    work: impl AsyncFn(Vec<(MessageId, ConversationId)>) -> Result<(), DbErr>,
) -> Result<(), DbErr> {
    let by_rules = rule_send::Entity::find().select_only().column(rule_send::Column::MessageId).into_query();
    let mut after = None;
    loop {
        let mut select = message::Entity::find()
            .select_only()
            .columns([message::Column::Id, message::Column::ConversationId])
            .filter(message::Column::CampaignId.eq(id))
            .filter(message::Column::State.eq(MessageState::Scheduled))
            .filter(message::Column::Id.in_subquery(by_rules.clone()));
        if let Some(last) = after {
            select = select.filter(message::Column::Id.gt(last));
        }
        let rows: Vec<(MessageId, ConversationId)> =
            select.order_by_asc(message::Column::Id).limit(ROWS_PER_ROUND).into_tuple().all(tx).await?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Some(*last);
        work(rows).await?;
    }
}

/// Makes deliveries that are not begun due no more; gives their messages. Their rows come first, as the worker takes them.
async fn stop(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: impl Iterator<Item = MessageId>,
) -> Result<Vec<MessageId>, DbErr> {
    use delivery::Column;
    let stopped = delivery::Entity::update_many()
        .col_expr(Column::DueAt, Expr::value(None::<Timestamp>))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(among(Column::MessageId, ids))
        .filter(Column::Phase.eq(Phase::Idle))
        .exec_with_returning(tx)
        .await?;
    Ok(stopped.into_iter().map(|row| row.message_id).collect())
}

async fn change(tx: &DatabaseTransaction, ids: &[MessageId], to: message::ActiveModel) -> Result<(), DbErr> {
    if !ids.is_empty() {
        let version = Expr::col(message::Column::Version).add(1);
        message::Entity::update_many()
            .set(to)
            .col_expr(message::Column::Version, version)
            .filter(among(message::Column::Id, ids.iter().copied()))
            .filter(message::Column::State.eq(MessageState::Scheduled))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// A line in each one's timeline.
async fn remark(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: &[MessageId],
    verb: &str,
    text: &str,
) -> Result<(), DbErr> {
    if ids.is_empty() {
        return Ok(());
    }
    let lines = ids.iter().map(|id| step::ActiveModel {
        id: Set(new_uuid(now)),
        message_id: Set(*id),
        attempt: Set(0),
        at: Set(now),
        verb: Set(verb.to_owned()),
        code: Set(None),
        enhanced: Set(None),
        text: Set(text.to_owned()),
    });
    step::Entity::insert_many(lines).exec_without_returning(tx).await?;
    Ok(())
}
