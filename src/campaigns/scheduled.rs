//! What message rules made and nobody has sent yet: held back, let go, cancelled.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Statement, sea_query::Expr,
};

use super::entity::rule_send;
use crate::{
    clock::Timestamp,
    conversations::entity::{MessageState, message},
    db::among,
    delivery::{
        self,
        call_off::{remark, shelve, stop},
    },
    id::{CampaignId, CustomerId, MessageId},
};

const ROWS_PER_ROUND: u64 = 500;

/// What is said of a message whose campaign is suspended.
const SUSPENDED: &str = "its campaign is suspended";

/// Keeps what a campaign's rules made from going out.
pub(super) async fn hold(tx: &DatabaseTransaction, now: Timestamp, id: CampaignId) -> Result<(), DbErr> {
    for_each_round(tx, of_campaign(id), async |ids| {
        let stopped = stop(tx, now, ids).await?;
        shelve(tx, now, stopped, (MessageState::Scheduled, "held_back"), SUSPENDED).await?;
        Ok(())
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
    end(tx, now, of_campaign(id), "its campaign was stopped").await
}

/// Calls off what rules made for a customer who is to be left alone.
///
/// # Errors
/// Whatever the database says.
pub async fn cancel_for(tx: &DatabaseTransaction, now: Timestamp, id: CustomerId) -> Result<(), DbErr> {
    let of_customer = message::Entity::find().filter(message::Column::CustomerId.eq(id));
    end(tx, now, of_customer, "the customer wants no contact").await
}

async fn end(
    tx: &DatabaseTransaction,
    now: Timestamp,
    which: Select<message::Entity>,
    reason: &str,
) -> Result<(), DbErr> {
    for_each_round(tx, which, async |ids| delivery::call_off(tx, now, ids, reason).await.map(|_| ())).await
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
