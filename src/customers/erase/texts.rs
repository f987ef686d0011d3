//! Emptying the messages that were exchanged with a customer who is erased.
//!
//! The request notes whose conversations these are, because afterwards nobody knows; a worker empties them, some messages at
//! a time. Where two customers share an address, only what messages say they were sent to this one.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    Statement, Value,
    sea_query::{Expr, ExprTrait},
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
    id::{ConversationId, CustomerId, WorkItemId},
    lease::{Claimed, Leased},
    receipts, work,
    workers::Step,
};

/// How many messages one transaction empties.
const BATCH: u64 = 100;
/// How long a process holds an erasure, in seconds.
const LEASE_S: i64 = 60;
/// When a message that is being sent or worked on is looked at again, in seconds.
const AGAIN_S: i64 = 5;
/// When an erasure goes on after trouble with the database or the object store, in seconds.
const AFTER_TROUBLE_S: i64 = 30;
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
    let Addresses { own, shared } = addresses(tx, row).await?;
    let mut values: Vec<Value> = vec![row.id.uuid().into()];
    let mut listed = |addresses: &[String]| {
        let list = addresses.iter().map(|address| {
            values.push(customer_key(address).into());
            format!("${}", values.len())
        });
        let list = list.collect::<Vec<_>>().join(", ");
        // PostgreSQL has no empty lists.
        if list.is_empty() { "NULL".to_owned() } else { list }
    };
    let (by_address, not_whole) = (listed(&own), listed(&shared));
    let sql = format!(
        "WITH theirs (conversation) AS (SELECT conversation_id FROM messages WHERE customer_id = $1 \
           UNION SELECT id FROM conversations WHERE customer_address IN ({by_address})) \
         INSERT INTO erasure_conversations (customer_id, conversation_id, whole) \
         SELECT $1, conversation, NOT EXISTS (SELECT 1 FROM conversations \
             WHERE id = conversation AND customer_address IN ({not_whole})) \
           AND NOT EXISTS (SELECT 1 FROM messages LEFT JOIN customers ON customers.id = messages.customer_id \
             WHERE messages.conversation_id = conversation AND messages.customer_id <> $1 AND customers.erased_at IS NULL) \
         FROM theirs"
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

/// The addresses of a customer.
#[derive(Debug, Default)]
struct Addresses {
    /// Those that nobody else has.
    own: Vec<String>,
    /// Those that another customer has, too.
    shared: Vec<String>,
}

async fn addresses(tx: &DatabaseTransaction, row: &customer::Model) -> Result<Addresses, DbErr> {
    use customer::{Column, Entity};
    let all =
        [(Column::EmailKey, &row.email_key, &row.email), (Column::SmsKey, &row.sms_key, &row.sms_number)];
    let mut found = Addresses::default();
    for (column, key, address) in all {
        let (Some(key), Some(address)) = (key, address) else { continue };
        let other = Entity::find().filter(column.eq(key)).filter(Column::Id.ne(row.id)).one(tx).await?;
        let list = if other.is_some() { &mut found.shared } else { &mut found.own };
        list.push(address.clone());
    }
    Ok(found)
}

/// Nothing is taken from under the hands of an agent or a script.
async fn refuse_open(tx: &DatabaseTransaction, id: CustomerId) -> Result<(), Problem> {
    let sql = "SELECT work_items.id, state FROM work_items \
               JOIN erasure_conversations ON erasure_conversations.conversation_id = work_items.conversation_id \
               WHERE customer_id = $1 AND whole AND state NOT IN ('completed', 'discarded') LIMIT 1";
    let open = Statement::from_sql_and_values(tx.get_database_backend(), sql, [id.uuid().into()]);
    let Some(open) = tx.query_one_raw(open).await? else { return Ok(()) };
    let (item, state): (WorkItemId, String) = (open.try_get_by_index(0)?, open.try_get_by_index(1)?);
    Err(Problem::new(
        Code::InUse,
        format!("the work item {item} of theirs is not done ({state}): finish it first"),
    ))
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
        let next = LEASED.next_due(app.db.read()).await?;
        return Ok(next.map_or(Step::Idle, Step::IdleUntil));
    };
    tx.commit_untold().await?;
    let id = CustomerId(held.key);
    let Some(row) = erasure::Entity::find_by_id(id).one(app.db.read()).await? else { return Ok(Step::Idle) };
    let work = Work { app: &app, held, id, now };
    if let Err(error) = work.go_on(row.asked_at).await {
        let tx = app.db.begin().await?;
        work.settle(tx, now.plus_s(AFTER_TROUBLE_S)).await?;
        return Err(error);
    }
    Ok(Step::Worked(1))
}

/// An erasure that this process holds.
struct Work<'a> {
    app: &'a App,
    held: Claimed,
    id: CustomerId,
    now: Timestamp,
}

impl Work<'_> {
    async fn go_on(&self, asked_at: Timestamp) -> anyhow::Result<()> {
        use erasure_conversation::{Column, Entity};
        let left = Entity::find()
            .filter(Column::CustomerId.eq(self.id))
            // Those that were looked at in vain hold up no other.
            .order_by_asc(Column::PutOff)
            .order_by_asc(Column::ConversationId)
            .one(self.app.db.read())
            .await?;
        let Some(left) = left else { return self.finish().await };
        let only = (!left.whole).then_some(self.id);
        self.conversation(Erased { conversation: left.conversation_id, until: asked_at, only }).await
    }

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
            if idle.is_empty() {
                return self.put_off(tx, erased.conversation).await;
            }
            return self.settle(tx, self.now).await;
        }
        let objects = erased.objects(db, BATCH).await?;
        for (_, key) in &objects {
            self.app.raw.remove(key).await?;
        }
        let tx = self.app.db.begin().await?;
        if objects.is_empty() {
            if erased.waits(&*tx).await? {
                return self.put_off(tx, erased.conversation).await;
            }
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

    /// Something of the conversation is being sent or worked on: others come first, and then it is looked at again.
    async fn put_off(&self, tx: Tx, conversation: ConversationId) -> anyhow::Result<()> {
        use erasure_conversation::{Column, Entity};
        let of_customer = || Entity::find().filter(Column::CustomerId.eq(self.id));
        Entity::update_many()
            .col_expr(Column::PutOff, Expr::col(Column::PutOff).add(1))
            .filter(Column::CustomerId.eq(self.id))
            .filter(Column::ConversationId.eq(conversation))
            .exec(&*tx)
            .await?;
        let fewest = of_customer().order_by_asc(Column::PutOff).one(&*tx).await?;
        let most = of_customer().order_by_desc(Column::PutOff).one(&*tx).await?;
        // When all were looked at as often, there is nothing to do for a while.
        let all = fewest.map(|row| row.put_off) == most.map(|row| row.put_off);
        self.settle(tx, self.now.plus_s(if all { AGAIN_S } else { 0 })).await
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
