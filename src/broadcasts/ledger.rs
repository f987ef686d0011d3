//! The ledger's rows as the delivery engine handles them: claimed in lots, begun and settled in statements that many
//! connections share.
//!
//! A row goes `idle → claimed → begun → idle`. Up to `claimed` it was certainly not sent; once `begun` is durable it may
//! have been, and a process that dies then leaves it uncertain. Whether the broadcast still runs and the recipient may
//! still be written to is asked by the very statement that begins a row.

use std::fmt::Write;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter, Statement,
    Value,
    sea_query::{Expr, ExprTrait},
};

use super::entity::{
    BroadcastRecipientState, BroadcastState, RecipientPhase, broadcast,
    recipient::{Column, Entity, Model},
};
use super::turn::absence;
use crate::{
    clock::Timestamp,
    customers::entity::customer,
    db::{Done, Gate, Script, Step, among},
    id::{BroadcastId, CustomerId, MessageId},
    lease::Leased,
    suppressions::{AddressKeys, Barred},
};

/// How long a row is held before another process may take it, in seconds; renewed while it is held.
pub const LEASE_S: i64 = 20;

const HELD: Leased =
    Leased { table: "broadcast_recipients", key: "id", only: "phase <> 'idle'", order_by: "id" };

/// What stands for the address of somebody whose data is erased.
pub const ERASED: &str = "erased";

const LOST: &str = "the process that was sending it ended when it was perhaps handed over; it is not sent again, so that \
                    nobody gets it twice";

/// A row that this process holds: its id and how often it was claimed, which is the fence.
pub type Held = (MessageId, i64);

/// A claimed row that is not sent at all.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The row.
    pub held: Held,
    /// Its last state.
    pub state: BroadcastRecipientState,
    /// Why, in plain words.
    pub reason: String,
}

/// A row that is to be begun.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// The row.
    pub held: Held,
    /// The settings of the outgoing server that it goes to: their version, and when they were first made.
    pub server: (i64, Timestamp),
    /// Until when it may be begun, as far as is known: its broadcast's send window may close then.
    pub until: Option<Timestamp>,
}

/// What became of a row that was begun, or that the server refused before it was.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The row.
    pub held: Held,
    /// Its new state.
    pub state: BroadcastRecipientState,
    /// Why, in plain words.
    pub reason: String,
    /// When it is tried again.
    pub due_at: Option<Timestamp>,
    /// How many tries it has used up.
    pub tries: i64,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// The server's reply code.
    pub code: Option<i32>,
    /// The server's words.
    pub text: Option<String>,
}

/// Takes up to `limit` rows of a broadcast that are due and that nobody holds.
///
/// # Errors
/// Whatever the database says.
pub async fn claim(
    tx: &DatabaseTransaction,
    now: Timestamp,
    broadcast: BroadcastId,
    limit: u32,
) -> Result<Vec<Model>, DbErr> {
    let backend = tx.get_database_backend();
    let skip = if backend == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
    let sql = format!(
        "WITH due AS MATERIALIZED (SELECT id FROM broadcast_recipients WHERE broadcast_id = $1 AND due_at <= $2 \
           AND lease_until <= $2 ORDER BY due_at LIMIT {limit} {skip}) \
         UPDATE broadcast_recipients SET phase = 'claimed', lease_until = $3, attempts = attempts + 1 \
         WHERE id IN (SELECT id FROM due) RETURNING *"
    );
    let values = [broadcast.uuid().into(), now.into(), now.plus_s(LEASE_S).into()];
    let mut rows =
        Entity::find().from_raw_sql(Statement::from_sql_and_values(backend, sql, values)).all(tx).await?;
    // RETURNING has no order.
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// Notes of claimed rows that they may be sent from now on; [`begun`] tells which. Not begun are rows that another process
/// has taken over, of a broadcast that does not run any more, of somebody who may not be written to, or whose customer is not
/// to get it any more, as [`absence`] has it; and none while the outgoing server is paused, wants to be left alone, or has
/// other settings than the row was to go out with; none whose time has run out.
pub fn begin(script: &mut Script, now: Timestamp, rows: &[Begin]) -> Option<Step> {
    if rows.is_empty() {
        return None;
    }
    // Who pauses a broadcast or bars an address shuts this gate: what is answered to them holds from then on.
    script.pass(Gate::Sends);
    let mut values = vec![now.into(), now.plus_s(LEASE_S).into()];
    let until = |row: &Begin| row.until.map_or(i64::MAX, Timestamp::as_millis);
    let list = Rows::<5>::new(rows.iter().map(|row| {
        let (version, made) = row.server;
        [row.held.0.uuid().into(), row.held.1.into(), version.into(), made.into(), until(row).into()]
    }));
    let sql = format!(
        "WITH wanted (wanted_id, fence, server_version, server_made, until) AS ({}) \
         UPDATE broadcast_recipients SET phase = 'begun', due_at = NULL, lease_until = $2, updated_at = $1 \
         FROM wanted, (SELECT id AS running_id, campaign_id AS for_campaign, marketing, channel AS over_channel, \
             CAST(statuses AS TEXT) AS to_statuses FROM broadcasts WHERE state = 'running') AS running \
         WHERE id = wanted_id AND attempts = fence AND phase = 'claimed' AND broadcast_id = running_id AND until > $1 \
         AND EXISTS (SELECT 1 FROM outgoing_server WHERE outgoing_server.version = server_version \
           AND outgoing_server.created_at = server_made AND outgoing_server.state <> 'paused' \
           AND (outgoing_server.retry_at IS NULL OR outgoing_server.retry_at <= $1)) \
         AND NOT EXISTS (SELECT 1 FROM suppressions \
           WHERE suppressions.address_key = broadcast_recipients.address_key \
           AND (suppressions.campaign_id IS NULL OR suppressions.campaign_id = for_campaign) \
           AND (suppressions.expires_at IS NULL OR suppressions.expires_at > $1) \
           AND (marketing OR suppressions.reason <> 'unsubscribed')) \
         AND (SELECT customers.erased_at IS NULL AND to_statuses LIKE '%\"' || customers.status || '\"%' \
             AND broadcast_recipients.address_key = \
               CASE WHEN over_channel = 'sms' THEN customers.sms_key ELSE customers.email_key END \
           FROM customers WHERE customers.id = broadcast_recipients.customer_id) \
         RETURNING id",
        list.sql(values.len())
    );
    values.extend(list.0);
    Some(script.ask(sql, values))
}

/// The rows that a script began.
///
/// # Errors
/// When they cannot be read.
pub fn begun(done: &Done, step: Option<Step>) -> Result<Vec<MessageId>, DbErr> {
    let rows = step.map_or(&[][..], |step| done.rows(step));
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Writes down what became of rows, of those that nobody had taken over; servers quote addresses, so not in their words
/// where a customer was erased in the meantime.
pub fn settle(script: &mut Script, now: Timestamp, rows: &[Settled]) -> Option<Step> {
    if rows.is_empty() {
        return None;
    }
    let mut values = vec![now.into()];
    let list = Rows::<10>::new(rows.iter().map(|row| {
        let sent_at = (row.state == BroadcastRecipientState::Sent).then_some(now);
        [
            row.held.0.uuid().into(),
            row.held.1.into(),
            row.state.into(),
            row.reason.as_str().into(),
            row.due_at.into(),
            row.tries.into(),
            row.expires_at.into(),
            row.code.into(),
            row.text.clone().into(),
            sent_at.into(),
        ]
    }));
    let sql = format!(
        "WITH done (done_id, fence, new_state, new_reason, new_due_at, new_tries, new_expires_at, new_code, new_text, new_sent_at) \
         AS ({}) \
         UPDATE broadcast_recipients SET phase = 'idle', lease_until = 0, state = new_state, \
         reason = CASE WHEN address = '{ERASED}' THEN NULL ELSE new_reason END, \
         due_at = new_due_at, tries = new_tries, expires_at = new_expires_at, last_code = new_code, \
         last_text = CASE WHEN address = '{ERASED}' THEN NULL ELSE new_text END, sent_at = new_sent_at, \
         updated_at = $1 FROM done WHERE id = done_id AND attempts = fence AND phase <> 'idle'",
        list.sql(values.len())
    );
    values.extend(list.0);
    Some(script.change(sql, values))
}

/// Values of `N` columns for a list, filled up to a power of two with a row that matches nothing, so that lists of all
/// lengths make a few different statements.
struct Rows<const N: usize>(Vec<Value>);

impl<const N: usize> Rows<N> {
    fn new(rows: impl ExactSizeIterator<Item = [Value; N]>) -> Self {
        let (count, mut values) = (rows.len(), Vec::with_capacity(rows.len().next_power_of_two() * N));
        values.extend(rows.flatten());
        let full = if count == 0 { 0 } else { count.next_power_of_two() };
        for _ in count..full {
            let mut nothing: [Value; N] = std::array::from_fn(|at| values[at].clone());
            // No row was ever claimed so often.
            nothing[1] = (-1_i64).into();
            values.extend(nothing);
        }
        Self(values)
    }

    /// The list, when `before` values come before it in the statement.
    fn sql(&self, before: usize) -> String {
        let mut sql = String::from("VALUES ");
        for at in 0..self.0.len() {
            let end = if at % N == N - 1 { ")" } else { "" };
            let begin = match at {
                0 => "(",
                at if at % N == 0 => ", (",
                _ => ", ",
            };
            // Writing to a string cannot fail.
            let _ = write!(sql, "{begin}${}{end}", before + at + 1);
        }
        sql
    }
}

/// Sees to claimed rows that could not be begun: those of barred recipients are suppressed, those of customers who are not to
/// get it any more skipped, and the others wait again.
///
/// # Errors
/// Whatever the database says.
pub async fn turn_away(
    tx: &DatabaseTransaction,
    now: Timestamp,
    keys: AddressKeys,
    rows: &[Held],
) -> Result<(), DbErr> {
    if rows.is_empty() {
        return Ok(());
    }
    let found = Entity::find()
        .filter(among(Column::Id, rows.iter().map(|(id, _)| *id)))
        .filter(Column::Phase.eq(RecipientPhase::Claimed))
        .all(tx)
        .await?;
    let held: Vec<&Model> = found.iter().filter(|row| rows.contains(&(row.id, row.attempts))).collect();
    let barred = Barred::among(tx, keys, held.iter().map(|row| row.address.as_str()), now).await?;
    let broadcasts = broadcast::Entity::find()
        .filter(among(broadcast::Column::Id, held.iter().map(|row| row.broadcast_id)))
        .all(tx)
        .await?;
    let customers = customer::Entity::find()
        .filter(among(customer::Column::Id, held.iter().map(|row| row.customer_id)))
        .all(tx)
        .await?;
    let (mut dropped, mut back) = (Vec::new(), Vec::new());
    for row in held {
        let of = broadcasts.iter().find(|of| of.id == row.broadcast_id);
        let ended = of.filter(|of| of.state == BroadcastState::Running).and_then(|of| {
            if let Some(reason) = barred.reason(&row.address, of.marketing, of.campaign_id) {
                return Some((BroadcastRecipientState::Suppressed, reason.words()));
            }
            let customer = customers.iter().find(|customer| customer.id == row.customer_id);
            absence(of, row, customer).map(|reason| (BroadcastRecipientState::Skipped, reason))
        });
        let held = (row.id, row.attempts);
        match ended {
            Some((state, reason)) => dropped.push(Dropped { held, state, reason: reason.to_owned() }),
            None => back.push(held),
        }
    }
    drop_claimed(tx, now, &dropped).await?;
    give_back(tx, &back).await
}

/// Ends claimed rows that are not sent at all.
///
/// # Errors
/// Whatever the database says.
pub async fn drop_claimed(tx: &DatabaseTransaction, now: Timestamp, rows: &[Dropped]) -> Result<(), DbErr> {
    let list = Rows::<4>::new(rows.iter().map(|row| {
        [row.held.0.uuid().into(), row.held.1.into(), row.state.into(), row.reason.as_str().into()]
    }));
    let sql = format!(
        "WITH gone (gone_id, fence, new_state, new_reason) AS ({}) \
         UPDATE broadcast_recipients SET phase = 'idle', lease_until = 0, due_at = NULL, state = new_state, \
         reason = new_reason, updated_at = $1 \
         FROM gone WHERE id = gone_id AND attempts = fence AND phase = 'claimed'",
        list.sql(1)
    );
    write_rows(tx, sql, vec![now.into()], list).await
}

/// Lets claimed rows go, as they were.
///
/// # Errors
/// Whatever the database says.
pub async fn give_back(tx: &DatabaseTransaction, rows: &[Held]) -> Result<(), DbErr> {
    let list = Rows::<2>::new(rows.iter().map(|(id, fence)| [id.uuid().into(), (*fence).into()]));
    let sql = format!(
        "WITH back (back_id, fence) AS ({}) UPDATE broadcast_recipients SET phase = 'idle', lease_until = 0 \
         FROM back WHERE id = back_id AND attempts = fence AND phase = 'claimed'",
        list.sql(0)
    );
    write_rows(tx, sql, Vec::new(), list).await
}

async fn write_rows<const N: usize>(
    tx: &DatabaseTransaction,
    sql: String,
    mut values: Vec<Value>,
    rows: Rows<N>,
) -> Result<(), DbErr> {
    if rows.0.is_empty() {
        return Ok(());
    }
    values.extend(rows.0);
    tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values)).await?;
    Ok(())
}

/// Holds rows for longer; one that was taken over in the meantime is left alone.
///
/// # Errors
/// Whatever the database says.
pub async fn renew(tx: &DatabaseTransaction, now: Timestamp, rows: &[Held]) -> Result<(), DbErr> {
    HELD.renew(tx, now.plus_s(LEASE_S), rows.iter().map(|(id, fence)| (id.uuid(), *fence))).await
}

/// Calls uncertain what a process left behind that died while it handed them over; gives how many.
///
/// # Errors
/// Whatever the database says.
pub async fn take_over(tx: &DatabaseTransaction, now: Timestamp) -> Result<u64, DbErr> {
    let lost = Entity::update_many()
        .col_expr(Column::Phase, Expr::value(RecipientPhase::Idle))
        .col_expr(Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
        .col_expr(Column::State, Expr::value(BroadcastRecipientState::Uncertain))
        .col_expr(Column::Reason, Expr::value(Some(LOST.to_owned())))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(is_begun())
        .filter(Column::LeaseUntil.lte(now))
        .exec(tx)
        .await?;
    Ok(lost.rows_affected)
}

/// Forgets who a customer was whose data is erased. Whether they still get what is not begun is asked when their turn comes.
///
/// # Errors
/// Whatever the database says.
pub async fn forget(tx: &DatabaseTransaction, customer: CustomerId) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::Address, Expr::value(ERASED))
        .col_expr(Column::Name, Expr::value(""))
        // Servers quote addresses.
        .col_expr(Column::Reason, Expr::value(None::<String>))
        .col_expr(Column::LastText, Expr::value(None::<String>))
        .filter(Column::CustomerId.eq(customer))
        .exec(tx)
        .await?;
    Ok(())
}

/// The condition of the index on rows that are being handed over.
pub fn is_begun() -> Expr {
    crate::db::literally(Column::Phase, "begun")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_rows_is_filled_up_with_one_that_matches_nothing() {
        let list = Rows::<2>::new([1_i64, 2, 3].into_iter().map(|n| [n.into(), (10 * n).into()]));
        assert_eq!(list.sql(1), "VALUES ($2, $3), ($4, $5), ($6, $7), ($8, $9)");
        assert_eq!(list.0[6..], [1_i64.into(), (-1_i64).into()]);
        assert!(Rows::<2>::new(std::iter::empty()).0.is_empty());
    }
}
