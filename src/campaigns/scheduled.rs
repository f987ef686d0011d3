//! What message rules made and nobody has sent yet: held back, let go, cancelled.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Statement, sea_query::Expr,
};
use serde_json::json;

use super::entity::rule_send;
use crate::{
    clock::Timestamp,
    conversations::entity::{MessageState, message},
    db::among,
    delivery::entity::{Phase, delivery, step},
    events::{self, NewEvent},
    id::{CampaignId, CustomerId, MessageId, new_uuid},
};

const ROWS_PER_ROUND: u64 = 500;

/// What is said of a message whose campaign is suspended.
const SUSPENDED: &str = "its campaign is suspended";

/// Keeps what a campaign's rules made from going out.
pub(super) async fn hold(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    for_each_round(tx, of_campaign(id), async |ids| {
        let stopped = stop(tx, now, ids).await?;
        let held = change(tx, now, stopped, MessageState::Scheduled, SUSPENDED).await?;
        remark(tx, now, held.iter().map(|row| row.id), "held_back", SUSPENDED).await
    })
    .await
}

/// Lets what was held back go out at its time, or now when that is past. The time for which it was held counts for nobody.
pub(super) async fn release(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    for_each_round(tx, of_campaign(id), async |ids| {
        let mut released = Vec::with_capacity(ids.len());
        for id in ids {
            let sql = "UPDATE deliveries SET updated_at = $1, \
                due_at = (SELECT CASE WHEN m.send_at > $1 THEN m.send_at ELSE $1 END FROM messages m WHERE m.id = $2), \
                expires_at = expires_at + (SELECT CASE WHEN m.send_at > $1 THEN 0 \
                    WHEN m.send_at > deliveries.updated_at THEN $1 - m.send_at ELSE $1 - deliveries.updated_at END \
                    FROM messages m WHERE m.id = $2) \
                WHERE message_id = $2 AND phase = 'idle' AND due_at IS NULL \
                AND (SELECT m.state FROM messages m WHERE m.id = $2) = 'scheduled'";
            let values = [now.as_millis().into(), id.uuid().into()];
            let done =
                tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
            released.extend((done.rows_affected() == 1).then_some(id));
        }
        if released.is_empty() {
            return Ok(());
        }
        let version = Expr::col(message::Column::Version).add(1);
        message::Entity::update_many()
            .set(message::ActiveModel { state_reason: Set(None), updated_at: Set(now), ..Default::default() })
            .col_expr(message::Column::Version, version)
            .filter(among(message::Column::Id, released.iter().copied()))
            .exec(tx)
            .await?;
        remark(tx, now, released.into_iter(), "released", "its campaign goes on").await
    })
    .await
}

/// Calls off what a campaign's rules made.
pub(super) async fn cancel(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    call_off(tx, now, of_campaign(id), "its campaign was stopped").await
}

/// Calls off what rules made for a customer who is to be left alone.
///
/// # Errors
/// Whatever the database says.
pub async fn cancel_for(tx: &DatabaseTransaction, now: Timestamp, id: CustomerId) -> Result<(), DbErr> {
    let of_customer = message::Entity::find().filter(message::Column::CustomerId.eq(id));
    call_off(tx, now, of_customer, "the customer wants no contact").await
}

async fn call_off(
    tx: &DatabaseTransaction,
    now: Timestamp,
    which: Select<message::Entity>,
    reason: &str,
) -> Result<(), DbErr> {
    for_each_round(tx, which, async |ids| {
        let stopped = stop(tx, now, ids).await?;
        let ended = change(tx, now, stopped, MessageState::Cancelled, reason).await?;
        remark(tx, now, ended.iter().map(|row| row.id), "cancelled", reason).await?;
        let told = ended.iter().map(|row| {
            let data = json!({ "state": row.state, "conversation_id": row.conversation_id });
            NewEvent::new("message.cancelled", row.id.uuid(), &data).for_supervisors()
        });
        events::append(tx, now, told.collect()).await
    })
    .await
}

fn of_campaign(id: CampaignId) -> Select<message::Entity> {
    message::Entity::find().filter(message::Column::CampaignId.eq(id))
}

/// Does `work` with all of these messages that rules made and that are certainly unsent, some at a time.
async fn for_each_round(
    tx: &DatabaseTransaction,
    which: Select<message::Entity>,
    work: impl AsyncFn(Vec<MessageId>) -> Result<(), DbErr>,
) -> Result<(), DbErr> {
    let by_rules = rule_send::Entity::find().select_only().column(rule_send::Column::MessageId).into_query();
    let mut after = None;
    loop {
        let mut select = which
            .clone()
            .select_only()
            .column(message::Column::Id)
            .filter(message::Column::State.is_in(MessageState::UNSENT))
            .filter(message::Column::Id.in_subquery(by_rules.clone()));
        if let Some(last) = after {
            select = select.filter(message::Column::Id.gt(last));
        }
        let ids: Vec<MessageId> =
            select.order_by_asc(message::Column::Id).limit(ROWS_PER_ROUND).into_tuple().all(tx).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = Some(*last);
        work(ids).await?;
    }
}

/// Makes deliveries that are not begun due no more; gives their messages. Their rows come first, as the worker takes them,
/// and in one order, so that two who stop the same do not wait for each other.
async fn stop(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: Vec<MessageId>,
) -> Result<Vec<MessageId>, DbErr> {
    use delivery::{Column, Entity};
    let idle = Entity::find()
        .select_only()
        .column(Column::MessageId)
        .filter(among(Column::MessageId, ids))
        .filter(Column::Phase.eq(Phase::Idle))
        .order_by_asc(Column::MessageId)
        .lock_exclusive();
    let idle: Vec<MessageId> = idle.into_tuple().all(tx).await?;
    if !idle.is_empty() {
        Entity::update_many()
            .col_expr(Column::DueAt, Expr::value(None::<Timestamp>))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(among(Column::MessageId, idle.iter().copied()))
            .exec(tx)
            .await?;
    }
    Ok(idle)
}

/// Brings those of the messages that are still unsent into a state; gives them.
async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: Vec<MessageId>,
    state: MessageState,
    reason: &str,
) -> Result<Vec<message::Model>, DbErr> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let to = message::ActiveModel {
        state: Set(state),
        state_reason: Set(Some(reason.to_owned())),
        updated_at: Set(now),
        ..Default::default()
    };
    message::Entity::update_many()
        .set(to)
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .filter(among(message::Column::Id, ids))
        .filter(message::Column::State.is_in(MessageState::UNSENT))
        .exec_with_returning(tx)
        .await
}

/// A line in each one's timeline.
async fn remark(
    tx: &DatabaseTransaction,
    now: Timestamp,
    ids: impl ExactSizeIterator<Item = MessageId>,
    verb: &str,
    text: &str,
) -> Result<(), DbErr> {
    if ids.len() == 0 {
        return Ok(());
    }
    let lines = ids.map(|id| step::ActiveModel {
        id: Set(new_uuid(now)),
        message_id: Set(id),
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
