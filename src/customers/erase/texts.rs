//! Emptying the messages that were exchanged with a customer who is erased.
//!
//! The request notes whose conversations these are, because afterwards nobody knows; a worker empties them, some messages at
//! a time. Where two customers share an address, only what messages say they were sent to this one.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Statement, Value,
};

use super::entity::{
    erasure::{self, Column},
    erasure_conversation,
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::{
        erase::{Erased, empty as empty_messages, forget_objects},
        lock::lock_conversation,
        messages::customer_key,
    },
    customers::{entity::customer, rows},
    db::Tx,
    delivery, events,
    http::{Code, Problem},
    id::{ConversationId, CustomerId},
    lease::{Claimed, Leased},
    receipts, work,
    workers::Step,
};

/// How many messages one transaction empties.
const BATCH: u64 = 100;
/// How long a process holds an erasure, in seconds.
const LEASE_S: i64 = 60;
/// When a message that is being sent is looked at again, in seconds.
const AGAIN_S: i64 = 5;
/// Erasures that are not finished.
const LEASED: Leased =
    Leased { table: "erasures", key: "customer_id", only: "due_at IS NOT NULL", order_by: "due_at" };

/// What is said of a message that is not sent any more.
const CALLED_OFF: &str = "the customer was erased";

/// Notes whose messages are to be emptied; false when there are none. What is known of them is still there.
///
/// # Errors
/// `in_use` while an agent or a script has work of theirs, or whatever the database says.
pub async fn note(tx: &DatabaseTransaction, now: Timestamp, row: &customer::Model) -> Result<bool, Problem> {
    let erasure = erasure::ActiveModel {
        customer_id: Set(row.id),
        asked_at: Set(now),
        due_at: Set(Some(now)),
        lease_until: Set(Timestamp::ZERO),
        attempts: Set(0),
    };
    erasure::Entity::insert(erasure).exec_without_returning(tx).await?;
    let own = addresses(tx, row).await?;
    let mut values: Vec<Value> = vec![row.id.uuid().into()];
    values.extend(own.iter().map(|address| customer_key(address).into()));
    let by_address: String = (2..values.len() + 1)
        .map(|at| format!(" UNION SELECT id FROM conversations WHERE customer_address = ${at}"))
        .collect();
    let sql = format!(
        "WITH theirs (id) AS (SELECT conversation_id FROM messages WHERE customer_id = $1{by_address}) \
         INSERT INTO erasure_conversations (customer_id, conversation_id, whole) \
         SELECT $1, theirs.id, NOT EXISTS (SELECT 1 FROM messages JOIN customers ON customers.id = messages.customer_id \
           WHERE messages.conversation_id = theirs.id AND customers.id <> $1 AND customers.erased_at IS NULL) FROM theirs"
    );
    let noted =
        tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    refuse_open(tx, row.id).await?;
    if noted.rows_affected() == 0 {
        erasure::Entity::delete_by_id(row.id).exec(tx).await?;
    }
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    if !own.is_empty() {
        receipts::forget(tx, &own).await?;
    }
    Ok(noted.rows_affected() > 0)
}

/// Their addresses that no other customer has.
async fn addresses(tx: &DatabaseTransaction, row: &customer::Model) -> Result<Vec<String>, DbErr> {
    use customer::{Column, Entity};
    let all =
        [(Column::EmailKey, &row.email_key, &row.email), (Column::SmsKey, &row.sms_key, &row.sms_number)];
    let mut own = Vec::new();
    for (column, key, address) in all {
        let (Some(key), Some(address)) = (key, address) else { continue };
        let others = Entity::find().filter(column.eq(key)).filter(Column::Id.ne(row.id)).count(tx).await?;
        if others == 0 {
            own.push(address.clone());
        }
    }
    Ok(own)
}

/// Nothing is taken from under the hands of an agent or a script.
async fn refuse_open(tx: &DatabaseTransaction, id: CustomerId) -> Result<(), Problem> {
    let sql = "SELECT work_items.id FROM work_items \
               JOIN erasure_conversations ON erasure_conversations.conversation_id = work_items.conversation_id \
               WHERE customer_id = $1 AND whole AND state NOT IN ('completed', 'discarded') LIMIT 1";
    let open = Statement::from_sql_and_values(tx.get_database_backend(), sql, [id.uuid().into()]);
    let Some(open) = tx.query_one_raw(open).await? else { return Ok(()) };
    let item: crate::id::WorkItemId = open.try_get_by_index(0)?;
    Err(Problem::new(Code::InUse, format!("the work item {item} is theirs and not done: complete it first")))
}

/// Goes on with one erasure.
///
/// # Errors
/// Whatever the database or the object store says.
pub async fn empty(app: App) -> anyhow::Result<Step> {
    let now = app.db.now(&app.clock).await?;
    let tx = app.db.begin().await?;
    let Some(held) = LEASED.claim(&tx, now, LEASE_S, 1).await?.pop() else {
        drop(tx);
        return next_step(&app).await;
    };
    tx.commit_untold().await?;
    let id = CustomerId(held.key);
    let Some(row) = erasure::Entity::find_by_id(id).one(app.db.read()).await? else { return Ok(Step::Idle) };
    let left = erasure_conversation::Entity::find()
        .filter(erasure_conversation::Column::CustomerId.eq(id))
        .order_by_asc(erasure_conversation::Column::ConversationId)
        .one(app.db.read())
        .await?;
    let work = Work { app: &app, held, id, now };
    let Some(left) = left else {
        work.finish().await?;
        return Ok(Step::Worked(1));
    };
    let only = (!left.whole).then_some(id);
    work.conversation(Erased { conversation: left.conversation_id, until: row.asked_at, only }).await?;
    Ok(Step::Worked(1))
}

async fn next_step(app: &App) -> anyhow::Result<Step> {
    let next: Option<Option<Timestamp>> = erasure::Entity::find()
        .select_only()
        .column(Column::DueAt)
        .filter(Column::DueAt.is_not_null())
        .order_by_asc(Column::DueAt)
        .into_tuple()
        .one(app.db.read())
        .await?;
    Ok(next.flatten().map_or(Step::Idle, Step::IdleUntil))
}

/// An erasure that this process holds.
struct Work<'a> {
    app: &'a App,
    held: Claimed,
    id: CustomerId,
    now: Timestamp,
}

impl Work<'_> {
    /// Does the next part of a conversation: its messages first, then the objects that hold their sources, then itself.
    async fn conversation(&self, erased: Erased) -> anyhow::Result<()> {
        let db = self.app.db.read();
        let full = erased.full(db, BATCH).await?;
        if !full.is_empty() {
            let tx = self.app.db.begin().await?;
            let busy = delivery::erase::withdraw(&tx, self.now, &full, CALLED_OFF).await?;
            let idle: Vec<_> = full.into_iter().filter(|id| !busy.contains(id)).collect();
            if !idle.is_empty() {
                delivery::erase::forget(&tx, &idle).await?;
                empty_messages(&tx, self.now, &idle).await?;
            }
            let pause_s = if idle.is_empty() { AGAIN_S } else { 0 };
            return self.settle(tx, self.now.plus_s(pause_s)).await;
        }
        let objects = erased.objects(db, BATCH).await?;
        for (_, key) in &objects {
            self.app.raw.remove(key).await?;
        }
        let tx = self.app.db.begin().await?;
        if objects.is_empty() {
            if erased.only.is_none() {
                lock_conversation(&tx, erased.conversation).await?;
                let done = work::erase::forget(&tx, erased.conversation).await?;
                erased.forget(&tx, self.now, &done).await?;
            }
            self.leave(&tx, erased.conversation).await?;
        } else {
            forget_objects(&tx, objects.into_iter().map(|(id, _)| id)).await?;
        }
        self.settle(tx, self.now).await
    }

    async fn leave(&self, tx: &DatabaseTransaction, conversation: ConversationId) -> Result<(), DbErr> {
        erasure_conversation::Entity::delete_by_id((self.id, conversation)).exec(tx).await?;
        Ok(())
    }

    /// Lets the erasure go until it is due again; nothing is done when another process has taken it over.
    async fn settle(&self, tx: Tx, due_at: Timestamp) -> anyhow::Result<()> {
        let free = erasure::ActiveModel {
            due_at: Set(Some(due_at)),
            lease_until: Set(Timestamp::ZERO),
            ..Default::default()
        };
        let settled = erasure::Entity::update_many()
            .set(free)
            .filter(Column::CustomerId.eq(self.id))
            .filter(Column::Attempts.eq(self.held.attempts))
            .exec(&*tx)
            .await?;
        if settled.rows_affected == 1 {
            tx.commit().await?;
        }
        Ok(())
    }

    /// All is empty.
    async fn finish(&self) -> anyhow::Result<()> {
        let (now, tx) = (self.app.clock.now(), self.app.db.begin().await?);
        let ended = erasure::Entity::delete_many()
            .filter(Column::CustomerId.eq(self.id))
            .filter(Column::Attempts.eq(self.held.attempts))
            .exec(&*tx)
            .await?;
        if ended.rows_affected == 0 {
            return Ok(());
        }
        // The record may be deleted by now.
        if let Some(row) = customer::Entity::find_by_id(self.id).one(&*tx).await? {
            let done = customer::ActiveModel { texts_erased_at: Set(Some(now)), ..Default::default() };
            let row = rows::change(&tx, now, &row, done).await?;
            events::append(&tx, now, vec![rows::told("customer.texts_erased", &row)]).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
