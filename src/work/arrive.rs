//! Inbound messages become work: added to the open item of their conversation, or a new item that is routed.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::{CaseStatement, Expr},
};
use serde_json::json;

use super::{
    decline::{event_of, requeue_at_home},
    entity::{WorkState, work_item},
    journal::Journal,
    receipts::send_receipts,
    routing::{Routing, Subject},
    state,
    world::{Needs, World},
};
use crate::{
    accounts::entity::account,
    app::App,
    clock::Timestamp,
    conversations::entity::{Classification, ConversationState, conversation, message},
    db::among,
    events::NewEvent,
    id::{ConversationId, MessageId, WorkItemId},
    receipts::{Limits, Receipt, Unsent},
};

/// How many rows of items one insert carries: SQLite takes 32,766 parameters in a statement.
const ROWS_PER_INSERT: usize = 500;

/// The rule under which an account's own receipt is counted; a script's is the template's id.
const ACCOUNT_RULE: &str = "account";

/// An inbound message that was just stored, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The account that received it.
    pub account: Arc<account::Model>,
    /// Its conversation, as it stands with this message.
    pub conversation: conversation::Model,
    /// Whether the message began the conversation.
    pub begins_conversation: bool,
    /// The message.
    pub message: message::Model,
}

/// What became of inbound messages.
#[derive(Debug)]
pub struct Arrived {
    /// The item that each message belongs to; the caller writes it on the message.
    pub items: HashMap<MessageId, WorkItemId>,
    receipts: Vec<Receipt>,
}

impl Arrived {
    /// Gives the automatic answers, once the messages are written.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn answer(self, app: &App, tx: &DatabaseTransaction, now: Timestamp) -> Result<(), DbErr> {
        send_receipts(app, tx, now, self.receipts).await
    }
}

/// Makes work of inbound messages, in the transaction that stores them and before it does, so that each message is written
/// once, with its item.
///
/// # Errors
/// Whatever the database says.
pub async fn arrive(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    arrivals: Vec<Arrival>,
) -> Result<Arrived, DbErr> {
    let open = open_items(tx, &arrivals).await?;
    let world = World::load(&app.scripts, tx, now, needs(app, &arrivals)).await?;
    let mut batch = Batch { world, journal: Journal::new(now), receipts: Vec::new(), ..Batch::new(now) };
    batch.open = open;
    for arrival in arrivals {
        batch.take(tx, arrival).await?;
    }
    batch.write(tx).await
}

async fn open_items(
    tx: &DatabaseTransaction,
    arrivals: &[Arrival],
) -> Result<HashMap<ConversationId, Open>, DbErr> {
    let mut found = HashMap::new();
    let ids: Vec<ConversationId> = arrivals
        .iter()
        .filter(|arrival| !arrival.begins_conversation)
        .map(|arrival| arrival.conversation.id)
        .collect();
    for ids in ids.chunks(500) {
        let items = work_item::Entity::find()
            .filter(among(work_item::Column::ConversationId, ids.iter().copied()))
            .filter(work_item::Column::State.is_not_in(WorkState::DONE))
            .order_by_asc(work_item::Column::Id)
            .lock_exclusive()
            .all(tx)
            .await?;
        found.extend(items.into_iter().map(|item| {
            let before = Some(item.clone());
            (item.conversation_id, Open { before, item })
        }));
    }
    Ok(found)
}

fn needs<'a>(app: &App, arrivals: &'a [Arrival]) -> Needs<'a> {
    let mut accounts: HashMap<_, Arc<account::Model>> = HashMap::new();
    let mut needs = Needs { limits: Limits::from(&app.config.limits), ..Needs::default() };
    for arrival in arrivals {
        accounts.entry(arrival.account.id).or_insert_with(|| Arc::clone(&arrival.account));
        needs.last_agents.extend(arrival.conversation.last_agent_id);
        needs.messages.push(&arrival.message);
    }
    needs.accounts = accounts.into_values().collect();
    needs
}

/// An open item: one that was there, or one that this batch makes (`before` is none).
struct Open {
    before: Option<work_item::Model>,
    item: work_item::Model,
}

/// The work of one transaction.
struct Batch {
    world: World,
    journal: Journal,
    receipts: Vec<Receipt>,
    open: HashMap<ConversationId, Open>,
    /// New items that are done already, or whose place in `open` another one took.
    done: Vec<work_item::Model>,
    placed: Vec<(MessageId, WorkItemId)>,
}

impl Batch {
    fn new(now: Timestamp) -> Self {
        Self {
            world: World::default(),
            journal: Journal::new(now),
            receipts: Vec::new(),
            open: HashMap::new(),
            done: Vec::new(),
            placed: Vec::new(),
        }
    }

    async fn take(&mut self, tx: &DatabaseTransaction, arrival: Arrival) -> Result<(), DbErr> {
        let conversation = arrival.conversation.id;
        match self.open.remove(&conversation) {
            Some(open) if open.item.state == WorkState::Wrapping => {
                // What the agent has done is done; the customer's new message is new work.
                self.end_wrap_up(tx, open).await?;
                self.begin(arrival);
            }
            Some(open) => {
                let open = self.add(tx, open, &arrival).await?;
                self.open.insert(conversation, open);
            }
            None => self.begin(arrival),
        }
        Ok(())
    }

    /// New mail on an open item; one that was laid aside wakes up when a person wrote.
    async fn add(
        &mut self,
        tx: &DatabaseTransaction,
        mut open: Open,
        arrival: &Arrival,
    ) -> Result<Open, DbErr> {
        let now = self.journal.now;
        let item = &mut open.item;
        item.message_count += 1;
        item.last_message_id = arrival.message.id;
        self.placed.push((arrival.message.id, item.id));
        let entry = json!({ "event": "work_item.message_added", "message_id": arrival.message.id });
        self.journal.trace(item.id, "note", entry);
        self.journal.tell(item, "work_item.message_added");
        let by_a_person =
            matches!(arrival.message.classification, Classification::Normal | Classification::List);
        if item.state == WorkState::Waiting && by_a_person {
            requeue_at_home(tx, item, now).await?;
            let why = json!({ "why": "new_message" });
            self.journal.moved(Some(WorkState::Waiting), item, event_of(item.state), why);
        }
        Ok(open)
    }

    async fn end_wrap_up(&mut self, tx: &DatabaseTransaction, open: Open) -> Result<(), DbErr> {
        let Some(before) = open.before else { return Ok(()) };
        let mut item = open.item;
        item.state = WorkState::Completed;
        item.completed_at = item.completed_at.or(Some(self.journal.now));
        (item.timer, item.due_at) = (None, None);
        let item = state::save(tx, &before, item, self.journal.now).await?;
        let why = json!({ "why": "new_message" });
        self.journal.moved(Some(WorkState::Wrapping), &item, "work_item.completed", why);
        Ok(())
    }

    /// A new item, routed at once.
    fn begin(&mut self, arrival: Arrival) {
        let mut item = new_item(&arrival, self.journal.now);
        self.placed.push((arrival.message.id, item.id));
        let Arrival { account, conversation, message, .. } = arrival;
        let subject = Subject { account, conversation, message };
        let routing = Routing {
            world: &self.world,
            subject: &subject,
            journal: &mut self.journal,
            receipts: &mut self.receipts,
        };
        routing.route(&mut item);
        self.acknowledge(&subject, &item);
        if item.state == WorkState::Discarded {
            self.done.push(item);
        } else {
            self.open.insert(item.conversation_id, Open { before: None, item });
        }
    }

    /// The account's own receipt, for new work that no script has answered or thrown away.
    fn acknowledge(&mut self, subject: &Subject, item: &work_item::Model) {
        let Some(template_id) = subject.account.receipt_template_id else { return };
        let answered_by_script = self.receipts.iter().any(|receipt| receipt.work_item_id == item.id);
        if answered_by_script || item.state == WorkState::Discarded {
            return;
        }
        let mut answered = self.world.answered.borrow_mut();
        let allowed = match self.world.is_published(template_id) {
            true => answered.may_send(&subject.message, ACCOUNT_RULE).map_err(|reason| reason.to_string()),
            false => Err(Unsent::NoTemplate.to_string()),
        };
        match allowed {
            Ok(to) => {
                answered.note(subject.account.id, &to, ACCOUNT_RULE);
                self.receipts.push(Receipt {
                    account: Arc::clone(&subject.account),
                    message: subject.message.clone(),
                    work_item_id: item.id,
                    to,
                    rule: ACCOUNT_RULE.to_owned(),
                    template_id,
                });
            }
            Err(reason) => {
                let entry = json!({ "event": "receipt.not_sent", "reason": reason });
                self.journal.trace(item.id, "note", entry);
            }
        }
    }

    async fn write(mut self, tx: &DatabaseTransaction) -> Result<Arrived, DbErr> {
        let now = self.journal.now;
        let mut new = std::mem::take(&mut self.done);
        // One that has an open item stays open, whatever became of its other mail.
        let idle = |id: &ConversationId| !self.open.contains_key(id);
        let discarded: Vec<ConversationId> =
            new.iter().map(|item| item.conversation_id).filter(idle).collect();
        let mut changed = Vec::new();
        for open in self.open.into_values() {
            match open.before {
                None => new.push(open.item),
                Some(before) if before != open.item => changed.push((before, open.item)),
                Some(_) => {}
            }
        }
        changed.sort_unstable_by_key(|(before, _)| before.id);
        let (grown, moved): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(b, a)| has_only_grown(b, a));
        grow(tx, now, &grown).await?;
        for (before, item) in moved {
            state::save(tx, &before, item, now).await?;
        }
        while !new.is_empty() {
            let rest = new.split_off(new.len().min(ROWS_PER_INSERT));
            let rows = new.into_iter().map(|item| item.into_active_model().reset_all());
            work_item::Entity::insert_many(rows).exec_without_returning(tx).await?;
            new = rest;
        }
        close(tx, &discarded, &mut self.journal).await?;
        self.journal.write(tx).await?;
        Ok(Arrived { items: self.placed.into_iter().collect(), receipts: self.receipts })
    }
}

fn new_item(arrival: &Arrival, now: Timestamp) -> work_item::Model {
    let Arrival { account, conversation, message, .. } = arrival;
    work_item::Model {
        id: WorkItemId::new(now),
        conversation_id: conversation.id,
        account_id: account.id,
        channel: account.channel,
        state: WorkState::New,
        subject: message.subject.clone(),
        customer_name: message.from_name.clone().or_else(|| conversation.customer_name.clone()),
        customer_address: message.from_address.clone().or_else(|| conversation.customer_address.clone()),
        first_message_id: message.id,
        last_message_id: message.id,
        message_count: 1,
        class_id: account.class_id,
        priority: 0,
        queue_id: None,
        group_id: None,
        target_agent_id: None,
        required_skills: json!([]),
        lane: String::new(),
        queued_at: None,
        rank: 0,
        assigned_agent_id: None,
        last_agent_id: conversation.last_agent_id,
        declined_by: json!([]),
        script_version_id: None,
        run: None,
        run_continues: false,
        error: None,
        result: None,
        outcome_code: None,
        timer: None,
        due_at: None,
        lease_until: Timestamp::ZERO,
        attempts: 0,
        first_queued_at: None,
        assigned_at: None,
        first_assigned_at: None,
        first_answered_at: None,
        completed_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// Whether nothing happened to an item but that it got further messages.
fn has_only_grown(before: &work_item::Model, after: &work_item::Model) -> bool {
    let (message_count, last_message_id) = (after.message_count, after.last_message_id);
    &work_item::Model { message_count, last_message_id, ..before.clone() } == after
}

/// Writes what items got, in one statement; they are locked since they were read.
async fn grow(
    tx: &DatabaseTransaction,
    now: Timestamp,
    grown: &[(work_item::Model, work_item::Model)],
) -> Result<(), DbErr> {
    for grown in grown.chunks(ROWS_PER_INSERT) {
        let (mut count, mut last) = (CaseStatement::new(), CaseStatement::new());
        for (_, item) in grown {
            let this = Expr::col(work_item::Column::Id).eq(item.id);
            count = count.case(this.clone(), item.message_count);
            last = last.case(this, item.last_message_id);
        }
        work_item::Entity::update_many()
            .col_expr(work_item::Column::MessageCount, count.into())
            .col_expr(work_item::Column::LastMessageId, last.into())
            .col_expr(work_item::Column::UpdatedAt, Expr::value(now))
            .col_expr(work_item::Column::Version, Expr::col(work_item::Column::Version).add(1))
            .filter(among(work_item::Column::Id, grown.iter().map(|(_, item)| item.id)))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Conversations whose mail needed nobody's work are closed.
async fn close(tx: &DatabaseTransaction, ids: &[ConversationId], journal: &mut Journal) -> Result<(), DbErr> {
    if ids.is_empty() {
        return Ok(());
    }
    for ids in ids.chunks(ROWS_PER_INSERT) {
        let closed = conversation::Entity::update_many()
            .col_expr(conversation::Column::State, Expr::value(ConversationState::Closed))
            .col_expr(conversation::Column::UpdatedAt, Expr::value(journal.now))
            .col_expr(conversation::Column::Version, Expr::col(conversation::Column::Version).add(1))
            .filter(among(conversation::Column::Id, ids.iter().copied()))
            .exec_with_returning(tx)
            .await?;
        for row in closed {
            let data = json!({ "id": row.id, "state": row.state });
            let event = NewEvent::new("conversation.updated", row.id.uuid(), &data);
            journal.event(event.for_agent_or_supervisors(row.last_agent_id));
        }
    }
    Ok(())
}
