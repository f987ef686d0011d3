//! Takes due messages, as many as the server, its rate and its connections allow.

use std::sync::Arc;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, ExprTrait},
};

use super::{
    enqueue::Precedence,
    entity::{
        Phase,
        delivery::{Column, Entity, Model},
    },
    rules::Recipient,
    settle::message_event,
    timeline::{self, Line},
    window::{self, Window, window},
};
use crate::{
    accounts::entity::Channel,
    app::App,
    broadcasts::ledger,
    clock::Timestamp,
    conversations::entity::{MessageKind, MessageState, message},
    db::{Gate, among},
    events,
    id::{CampaignId, MessageId},
    lease::Leased,
    mail::address::Mailbox,
    outgoing::{
        self,
        entity::{OutgoingState, outgoing_server},
        state,
    },
    suppressions::{AddressKeys, Barred, entity::SuppressionReason},
};

/// How long a message is held before another process takes it over, in seconds; renewed while it is being sent.
pub(super) const LEASE_S: i64 = 60;
/// What goes first, first. Each is looked at alone, because the index has all precedences' later messages between them.
const LANES: [Leased; 2] = [lane("precedence = 0"), lane("precedence = 1")];
const PRECEDENCES: [i32; 2] = [0, 1];
const HELD: Leased = lane("phase <> 'idle'");
/// How soon to look again when another replica used up the rate at the same moment.
const AGAIN_MS: i64 = 50;

const fn lane(only: &'static str) -> Leased {
    Leased { table: "deliveries", key: "message_id", only, order_by: "due_at" }
}

/// A message that this process holds.
#[derive(Debug)]
pub(super) struct Job {
    /// Its row, as claimed.
    pub row: Model,
    /// The state it was claimed in, to go back to.
    pub was: MessageState,
    /// Its recipients.
    pub recipients: Vec<Recipient>,
    /// The server, as it was when the message was claimed.
    pub server: Arc<outgoing_server::Model>,
}

/// What a claim found.
#[derive(Debug)]
pub(super) enum Claim {
    /// These are to be sent now, in this order.
    Jobs(Vec<Job>),
    /// So many were due and none of them is to be sent now; others may be behind them.
    Passed(usize),
    /// Nothing before then.
    Wait(Timestamp),
    /// Nothing until something happens.
    Nothing,
}

/// Takes due messages when `flying` of them are being sent already.
pub(super) async fn claim(app: &App, flying: usize) -> Result<Claim, DbErr> {
    let now = app.db.now(&app.clock).await?;
    match next_due(app, now).await? {
        Some(at) if at <= now => {}
        Some(at) => return Ok(Claim::Wait(at)),
        None => return Ok(Claim::Nothing),
    }
    let tx = app.db.begin().await?;
    // Before anything is read or locked: who pauses the server or bars an address waits until these are claimed, or they
    // see it paused or barred.
    Gate::Sends.pass(&tx).await?;
    let Some(server) = outgoing::find(&*tx).await? else { return Ok(Claim::Nothing) };
    let room = match (server.state, server.retry_at) {
        (OutgoingState::Paused, _) => return Ok(Claim::Nothing),
        (OutgoingState::Failing, Some(at)) if at > now => return Ok(Claim::Wait(at)),
        // One message asks whether the server is back.
        (OutgoingState::Failing, _) => 1,
        (OutgoingState::Running, _) => u32::try_from(server.max_connections).unwrap_or(1),
    };
    let room = room.saturating_sub(u32::try_from(flying).unwrap_or(u32::MAX));
    if room == 0 {
        return Ok(Claim::Nothing);
    }
    let free = server.rate().free(now, room);
    if free == 0 {
        return Ok(Claim::Wait(server.rate().opens_at()));
    }
    let keys = take(&tx, now, free).await?;
    if keys.is_empty() {
        return Ok(Claim::Nothing);
    }
    let (server, found) = (Arc::new(server), keys.len());
    let jobs = begin(app, &tx, now, keys, Arc::clone(&server)).await?;
    if !jobs.is_empty() && !state::take_slots(&tx, now, &server, jobs.len()).await? {
        return Ok(Claim::Wait(now.plus_ms(AGAIN_MS)));
    }
    tx.commit().await?;
    Ok(if jobs.is_empty() { Claim::Passed(found) } else { Claim::Jobs(jobs) })
}

/// Leases up to `limit` messages that are due.
async fn take(tx: &DatabaseTransaction, now: Timestamp, limit: u32) -> Result<Vec<MessageId>, DbErr> {
    let mut keys = Vec::new();
    for lane in LANES {
        let left = limit.saturating_sub(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        if left > 0 {
            let claimed = lane.claim(tx, now, LEASE_S, left).await?;
            keys.extend(claimed.into_iter().map(|claimed| MessageId(claimed.key)));
        }
    }
    Ok(keys)
}

/// Marks the claimed rows as begun and their messages as being sent; rows that are not to be sent are let go.
async fn begin(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    keys: Vec<MessageId>,
    server: Arc<outgoing_server::Model>,
) -> Result<Vec<Job>, DbErr> {
    use MessageState::{Deferred, Queued, Scheduled, Uncertain};
    let rows = Entity::find()
        .filter(among(Column::MessageId, keys.iter().copied()))
        .order_by_asc(Column::Precedence)
        .order_by_asc(Column::DueAt)
        .all(tx)
        .await?;
    let found = Claimed::find(tx, keys).await?;
    let barred = barred(app, tx, now, &rows, &found).await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        let message = found.iter().find(|message| message.id == row.message_id);
        match message.map(|message| message.state) {
            // Left behind by a process that died a moment ago: `recover` decides about it.
            _ if row.phase != Phase::Idle => let_go(tx, row.message_id, row.due_at).await?,
            // What may not be repeated is not, whoever made it due.
            Some(Uncertain) if !row.repeatable => let_go(tx, row.message_id, None).await?,
            Some(was @ (Queued | Scheduled | Deferred | Uncertain)) => {
                let recipients: Vec<Recipient> =
                    serde_json::from_value(row.recipients.clone()).unwrap_or_default();
                if let Some(reason) = message.and_then(|message| message.barred(&barred, &row)) {
                    hold_back(tx, now, row.message_id, was, reason).await?;
                    continue;
                }
                match window(app, tx, now, &row).await? {
                    Window::Open => {}
                    Window::ClosedUntil(at) => {
                        window::put_off(tx, now, &row, was, at).await?;
                        continue;
                    }
                    Window::Shut => {
                        window::give_up(tx, now, &row, was).await?;
                        continue;
                    }
                }
                // Its time has come: when it is put back, it is due.
                let was = if was == Scheduled { Queued } else { was };
                jobs.push(Job { row, was, recipients, server: Arc::clone(&server) });
            }
            _ => let_go(tx, row.message_id, None).await?,
        }
    }
    mark_begun(tx, now, &jobs).await?;
    Ok(jobs)
}

async fn mark_begun(tx: &DatabaseTransaction, now: Timestamp, jobs: &[Job]) -> Result<(), DbErr> {
    let ids: Vec<MessageId> = jobs.iter().map(|job| job.row.message_id).collect();
    Entity::update_many()
        .col_expr(Column::Phase, Expr::value(Phase::Begun))
        .filter(among(Column::MessageId, ids.clone()))
        .exec(tx)
        .await?;
    message::Entity::update_many()
        .col_expr(message::Column::State, Expr::value(MessageState::Sending))
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .col_expr(message::Column::UpdatedAt, Expr::value(now))
        .filter(among(message::Column::Id, ids))
        .exec(tx)
        .await?;
    Ok(())
}

/// Who of the recipients may not be written to.
async fn barred(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    rows: &[Model],
    found: &[Claimed],
) -> Result<Barred, DbErr> {
    let addresses: Vec<String> = rows
        .iter()
        .filter_map(|row| Some((row, found.iter().find(|message| message.id == row.message_id)?)))
        .flat_map(|(row, message)| message.judged(row))
        .collect();
    Barred::among(tx, AddressKeys::of(app), addresses.iter().map(String::as_str), now).await
}

/// What of a claimed message tells whether it may go out.
#[derive(FromQueryResult)]
struct Claimed {
    id: MessageId,
    state: MessageState,
    kind: MessageKind,
    channel: Channel,
    to_addresses: serde_json::Value,
    category: Option<String>,
    campaign_id: Option<CampaignId>,
}

impl Claimed {
    async fn find(tx: &DatabaseTransaction, keys: Vec<MessageId>) -> Result<Vec<Self>, DbErr> {
        use message::Column::{CampaignId, Category, Channel, Id, Kind, State, ToAddresses};
        message::Entity::find()
            .select_only()
            .columns([Id, State, Kind, Channel, ToAddresses, Category, CampaignId])
            .filter(among(Id, keys))
            .into_model()
            .all(tx)
            .await
    }

    /// The addresses that suppressions are asked about; of a text the number, not the gateway's address. An agent's answer
    /// is never held back, unless it is a text.
    fn judged(&self, row: &Model) -> Vec<String> {
        let answer = row.precedence == Precedence::Answer as i32;
        match self.channel {
            Channel::Sms if self.kind == MessageKind::Receipt => Vec::new(),
            Channel::Sms => {
                let to: Vec<Mailbox> = serde_json::from_value(self.to_addresses.clone()).unwrap_or_default();
                to.into_iter().map(|one| one.address).collect()
            }
            Channel::Email if answer => Vec::new(),
            Channel::Email => {
                let all: Vec<Recipient> = serde_json::from_value(row.recipients.clone()).unwrap_or_default();
                all.into_iter().filter(Recipient::is_open).map(|one| one.address).collect()
            }
        }
    }

    /// Why it may not go out any more.
    fn barred(&self, barred: &Barred, row: &Model) -> Option<SuppressionReason> {
        let judged = self.judged(row);
        if row.precedence == Precedence::Answer as i32 {
            let stopped = judged.iter().any(|number| barred.has_stopped(number));
            return stopped.then_some(SuppressionReason::Stopped);
        }
        let marketing = self.category.as_deref() == Some("marketing");
        judged.iter().find_map(|address| barred.reason(address, marketing, self.campaign_id))
    }
}

/// Its recipient was barred since the message was made: it is not sent. What may have been sent already is not called
/// unsent, but it is not tried again.
async fn hold_back(
    tx: &DatabaseTransaction,
    now: Timestamp,
    id: MessageId,
    was: MessageState,
    reason: SuppressionReason,
) -> Result<(), DbErr> {
    let_go(tx, id, None).await?;
    timeline::append(tx, now, vec![Line::note(id, 0, now, "suppressed", reason.words())]).await?;
    if was == MessageState::Uncertain {
        return Ok(());
    }
    let change = message::ActiveModel {
        state: Set(MessageState::Suppressed),
        state_reason: Set(Some(reason.words().to_owned())),
        updated_at: Set(now),
        ..Default::default()
    };
    message::Entity::update_many()
        .set(change)
        .col_expr(message::Column::Version, Expr::col(message::Column::Version).add(1))
        .filter(message::Column::Id.eq(id))
        .filter(message::Column::State.eq(was))
        .exec(tx)
        .await?;
    let told = message_event(tx, id, MessageState::Suppressed).await?;
    events::append(tx, now, told.into_iter().collect()).await
}

async fn let_go(tx: &DatabaseTransaction, id: MessageId, due_at: Option<Timestamp>) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::LeaseUntil, Expr::value(Timestamp::ZERO))
        .col_expr(Column::DueAt, Expr::value(due_at))
        .filter(Column::MessageId.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// When the next message that nobody holds is due; one look at the index for each precedence.
async fn next_due(app: &App, now: Timestamp) -> Result<Option<Timestamp>, DbErr> {
    let mut next: Option<Timestamp> = None;
    for precedence in PRECEDENCES {
        let first: Option<Option<Timestamp>> = Entity::find()
            .select_only()
            .column(Column::DueAt)
            .filter(Column::Precedence.eq(precedence))
            .filter(Column::DueAt.is_not_null())
            .filter(Column::LeaseUntil.lte(now))
            .order_by_asc(Column::DueAt)
            .limit(1)
            .into_tuple()
            .one(app.db.read())
            .await?;
        next = next.into_iter().chain(first.flatten()).min();
    }
    Ok(next)
}

/// Holds messages for longer; a row that was taken over in the meantime is left alone.
pub(super) async fn renew(
    app: &App,
    held: Vec<(MessageId, i64)>,
    bulk: Vec<ledger::Held>,
) -> Result<(), DbErr> {
    if held.is_empty() && bulk.is_empty() {
        return Ok(());
    }
    let now = app.db.now(&app.clock).await?;
    let tx = app.db.begin().await?;
    ledger::renew(&tx, now, &bulk).await?;
    HELD.renew(&tx, now.plus_s(LEASE_S), held.iter().map(|(id, fence)| (id.uuid(), *fence))).await?;
    tx.commit_untold().await
}

/// Makes it durable that the final dot may be out. Fails when the message was taken over in the meantime, and when the
/// outgoing server is paused or has other settings than those under which it was claimed.
pub(super) async fn mark_dot(app: &App, job: &Job) -> anyhow::Result<()> {
    let until = app.db.now(&app.clock).await?.plus_s(LEASE_S);
    let tx = app.db.begin().await?;
    // Who pauses the server shuts this gate: what is answered to them holds from then on.
    Gate::Sends.pass(&tx).await?;
    let marked = Entity::update_many()
        .col_expr(Column::Phase, Expr::value(Phase::Dot))
        .col_expr(Column::LeaseUntil, Expr::value(until))
        .filter(Column::MessageId.eq(job.row.message_id))
        .filter(Column::Attempts.eq(job.row.attempts))
        .filter(Column::Phase.eq(Phase::Begun))
        .filter(state::is_served(&job.server))
        .exec(&*tx)
        .await?;
    let refused = "the outgoing server was paused or changed, or another process has taken the message over";
    anyhow::ensure!(marked.rows_affected == 1, refused);
    tx.commit().await?;
    Ok(())
}
