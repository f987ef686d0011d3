//! A contact centre's floor for tests: queues, agents, mail, and the rules that every history must keep.

use std::{collections::HashMap, sync::Arc};

use postroom::{
    accounts::entity::{AccountState, Channel, account},
    agents::entity::{AgentState, MissedOfferAction, agent, agent_skill, group, group_member, skill},
    clock::Timestamp,
    conversations::entity::{
        Classification, ConversationState, Direction, MessageKind, MessageState, conversation, message,
    },
    id::*,
    queues::entity::{Distribution, QueueState, queue, queue_group},
    work::{
        arrive::{Arrival, arrive},
        distribute::distribute,
        entity::{OfferState, WorkState, offer, work_item},
        roster::Roster,
        timers::expire,
    },
    workers::Step,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    QueryFilter, Statement,
};
use serde_json::{Value, json};

use crate::support::{Client, TestApp};

/// Makes and looks at what a test needs.
pub struct Floor<'a>(pub &'a TestApp);

/// An agent at a desk.
pub struct Desk {
    pub client: Client,
    pub id: UserId,
}

async fn put<M, A>(tx: &DatabaseTransaction, model: M)
where
    M: IntoActiveModel<A>,
    A: ActiveModelTrait,
{
    A::Entity::insert(model.into_active_model().reset_all()).exec_without_returning(tx).await.unwrap();
}

macro_rules! insert {
    ($floor:expr, $($model:expr),+) => {{
        let tx = $floor.0.app.db.begin().await.unwrap();
        $(put(&tx, $model).await;)+
        tx.commit().await.unwrap();
    }};
}

impl Floor<'_> {
    pub fn now(&self) -> Timestamp {
        self.0.app.clock.now()
    }

    pub async fn group(&self, change: impl FnOnce(&mut group::Model)) -> group::Model {
        let now = self.now();
        let id = GroupId::new(now);
        let mut row = group::Model {
            id,
            name: id.to_string(),
            description: String::new(),
            offer_timeout_s: 30,
            wrap_up_s: 0,
            auto_accept: false,
            capacity_email: 3,
            capacity_sms: 2,
            missed_offer_action: MissedOfferAction::None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        change(&mut row);
        insert!(self, row.clone());
        row
    }

    /// A ready agent in these groups.
    pub async fn agent(&self, name: &str, groups: &[GroupId]) -> Desk {
        let (client, id) = self.0.agent(name).await;
        let now = self.now();
        let row = agent::Model {
            id,
            state: AgentState::Ready,
            reason: None,
            state_changed_at: now,
            idle_since: now,
            last_offered_at: Timestamp::ZERO,
            capacity_email: None,
            capacity_sms: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        insert!(self, row);
        for group in groups {
            insert!(self, group_member::Model { group_id: *group, agent_id: id });
        }
        Desk { client, id }
    }

    pub async fn set_agent(&self, id: UserId, change: impl FnOnce(&mut agent::Model)) {
        let mut row = agent::Entity::find_by_id(id).one(self.0.app.db.read()).await.unwrap().unwrap();
        change(&mut row);
        let tx = self.0.app.db.begin().await.unwrap();
        row.into_active_model().reset_all().update(&*tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn skill(&self, name: &str) -> SkillId {
        let now = self.now();
        let row = skill::Model {
            id: SkillId::new(now),
            name: name.into(),
            description: String::new(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        insert!(self, row.clone());
        row.id
    }

    pub async fn give_skill(&self, agent_id: UserId, skill_id: SkillId, level: i32) {
        insert!(self, agent_skill::Model { agent_id, skill_id, level });
    }

    pub async fn queue(&self, groups: &[GroupId], change: impl FnOnce(&mut queue::Model)) -> queue::Model {
        let now = self.now();
        let id = QueueId::new(now);
        let mut row = queue::Model {
            id,
            name: id.to_string(),
            description: String::new(),
            distribution: Distribution::LongestIdle,
            last_agent_first: true,
            default_priority: 5,
            aging_s: None,
            max_length: None,
            max_wait_s: None,
            service_level_target_s: Some(60),
            service_level_percent: Some(80),
            state: QueueState::Open,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        change(&mut row);
        insert!(self, row.clone());
        for group in groups {
            insert!(self, queue_group::Model { queue_id: id, group_id: *group });
        }
        row
    }

    pub async fn account(
        &self,
        fallback_queue_id: Option<QueueId>,
        script_id: Option<ScriptId>,
    ) -> Arc<account::Model> {
        let now = self.now();
        let id = AccountId::new(now);
        let row = account::Model {
            id,
            channel: Channel::Email,
            address: format!("{id}@centre.example"),
            display_name: "Centre".into(),
            description: String::new(),
            username: String::new(),
            password_sealed: None,
            oauth: None,
            oauth_sealed: None,
            inbound: json!({}),
            signature_text: String::new(),
            signature_html: String::new(),
            script_id,
            fallback_queue_id,
            class_id: None,
            script_settings: json!({}),
            receipt_template_id: None,
            sms: None,
            state: AccountState::Active,
            state_reason: None,
            health: json!({}),
            due_at: None,
            lease_until: Timestamp::ZERO,
            attempts: 0,
            failures: 0,
            poll_requested: false,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        insert!(self, row.clone());
        Arc::new(row)
    }

    /// A script with one active version.
    pub async fn script(&self, definition: Value) -> ScriptId {
        let now = self.now();
        let (script, version) = (ScriptId::new(now), ScriptVersionId::new(now));
        let tx = self.0.app.db.begin().await.unwrap();
        let run = async |sql: &str, values: Vec<sea_orm::Value>| {
            let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
            tx.execute_raw(statement).await.unwrap();
        };
        let at = now.as_millis();
        run(
            "INSERT INTO scripts (id, name, description, active_version_id, is_default, version, created_at, updated_at) \
             VALUES ($1, $2, '', $3, $4, 1, $5, $5)",
            vec![script.uuid().into(), script.to_string().into(), version.uuid().into(), false.into(), at.into()],
        )
        .await;
        run(
            "INSERT INTO script_versions (id, script_id, number, description, state, locked, author, definition, \
             version, created_at, updated_at) VALUES ($1, $2, 1, '', 'active', $3, '', $4, 1, $5, $5)",
            vec![version.uuid().into(), script.uuid().into(), true.into(), definition.into(), at.into()],
        )
        .await;
        run(
            "INSERT INTO routing_stamp (id, stamp) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET stamp = $1",
            vec![uuid::Uuid::now_v7().into()],
        )
        .await;
        tx.commit().await.unwrap();
        script
    }

    /// A stored message of a new conversation, not yet taken in.
    pub async fn mail(&self, account: &Arc<account::Model>, subject: &str) -> Arrival {
        self.mails(account, subject, 1).await.remove(0)
    }

    /// Several of them.
    pub async fn mails(&self, account: &Arc<account::Model>, subject: &str, count: usize) -> Vec<Arrival> {
        let tx = self.0.app.db.begin().await.unwrap();
        let mut mails = Vec::new();
        for _ in 0..count {
            let mail = self.unstored(account, subject);
            put(&tx, mail.conversation.clone()).await;
            put(&tx, mail.message.clone()).await;
            mails.push(mail);
        }
        tx.commit().await.unwrap();
        mails
    }

    fn unstored(&self, account: &Arc<account::Model>, subject: &str) -> Arrival {
        let now = self.now();
        let conversation = conversation::Model {
            id: ConversationId::new(now),
            account_id: account.id,
            channel: account.channel,
            state: ConversationState::Open,
            subject: subject.into(),
            customer_name: Some("Carla Customer".into()),
            customer_address: Some("carla@customer.example".into()),
            message_count: 1,
            last_message_id: None,
            last_message_at: now,
            last_agent_id: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let message = self.message(account, conversation.id, subject);
        Arrival { account: Arc::clone(account), conversation, begins_conversation: true, message }
    }

    /// A further message of the customer in the same conversation.
    pub async fn answer(&self, first: &Arrival) -> Arrival {
        let conversation = conversation::Entity::find_by_id(first.conversation.id)
            .one(self.0.app.db.read())
            .await
            .unwrap()
            .unwrap();
        let message = self.message(&first.account, conversation.id, "Re: more");
        insert!(self, message.clone());
        Arrival { account: Arc::clone(&first.account), conversation, begins_conversation: false, message }
    }

    fn message(
        &self,
        account: &account::Model,
        conversation_id: ConversationId,
        subject: &str,
    ) -> message::Model {
        let now = self.now();
        message::Model {
            id: MessageId::new(now),
            conversation_id,
            account_id: account.id,
            work_item_id: None,
            direction: Direction::Inbound,
            channel: account.channel,
            kind: MessageKind::Customer,
            state: MessageState::Parsed,
            state_reason: None,
            classification: Classification::Normal,
            message_id_header: None,
            in_reply_to: json!([]),
            reference_ids: json!([]),
            from_name: Some("Carla Customer".into()),
            from_address: Some("carla@customer.example".into()),
            reply_to: json!([]),
            to_addresses: json!([{ "name": null, "address": account.address }]),
            cc_addresses: json!([]),
            bcc_addresses: json!([]),
            subject: subject.into(),
            text: "Hello".into(),
            new_text: "Hello".into(),
            quoted_text: String::new(),
            signature: String::new(),
            html: None,
            attachments: json!([]),
            headers: json!({ "x-mood": ["fine"] }),
            size_bytes: 100,
            author_id: None,
            auto_submitted: None,
            category: None,
            external_ref: None,
            retry_of: None,
            template_id: None,
            customer_id: None,
            campaign_id: None,
            send_at: None,
            dated_at: None,
            received_at: Some(now),
            sent_at: None,
            erased_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    pub async fn arrive(&self, arrivals: Vec<Arrival>) {
        let app = &self.0.app;
        let tx = app.db.begin().await.unwrap();
        let arrived = arrive(app, &tx, app.clock.now(), arrivals).await.unwrap();
        for (message, item) in &arrived.items {
            let placed = message::Entity::update_many().filter(message::Column::Id.eq(*message));
            let item = sea_orm::sea_query::Expr::value(*item);
            placed.col_expr(message::Column::WorkItemId, item).exec(&*tx).await.unwrap();
        }
        arrived.answer(app, &tx, app.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A mail that is taken in, and the item it made.
    pub async fn item(&self, account: &Arc<account::Model>, subject: &str) -> work_item::Model {
        let mail = self.mail(account, subject).await;
        self.arrive(vec![mail.clone()]).await;
        self.item_of(&mail).await
    }

    /// The newest item of a mail's conversation.
    pub async fn item_of(&self, mail: &Arrival) -> work_item::Model {
        use sea_orm::QueryOrder;
        work_item::Entity::find()
            .filter(work_item::Column::ConversationId.eq(mail.conversation.id))
            .order_by_desc(work_item::Column::Id)
            .one(self.0.app.db.read())
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn reload(&self, item: &work_item::Model) -> work_item::Model {
        work_item::Entity::find_by_id(item.id).one(self.0.app.db.read()).await.unwrap().unwrap()
    }

    /// All offers, oldest first.
    pub async fn offers(&self) -> Vec<offer::Model> {
        use sea_orm::QueryOrder;
        offer::Entity::find().order_by_asc(offer::Column::Id).all(self.0.app.db.read()).await.unwrap()
    }

    /// Distributes until nothing is left to do; returns how many offers were made.
    pub async fn distribute(&self) -> usize {
        let mut made = 0;
        while let Step::Worked(count) = distribute(self.0.app.clone()).await.unwrap() {
            made += count;
        }
        made
    }

    /// Moves the clock and settles what is due then.
    pub async fn wait_s(&self, seconds: u64) {
        self.0.app.clock.advance(std::time::Duration::from_secs(seconds));
        while let Step::Worked(_) = expire(self.0.app.clone()).await.unwrap() {}
    }

    /// A legal history: no item with two agents, no pending offer of an item that is not held out and no held-out item
    /// without one, no agent above capacity, nobody's item without a way on.
    #[track_caller]
    pub fn check(&self) -> impl Future<Output = ()> {
        let app = self.0.app.clone();
        async move {
            let db = app.db.read();
            let items = work_item::Entity::find().all(db).await.unwrap();
            let offers = offer::Entity::find().all(db).await.unwrap();
            let mut pending: HashMap<WorkItemId, Vec<&offer::Model>> = HashMap::new();
            for offer in &offers {
                assert_eq!(offer.state == OfferState::Pending, offer.settled_at.is_none(), "{offer:?}");
                if offer.state == OfferState::Pending {
                    pending.entry(offer.work_item_id).or_default().push(offer);
                }
            }
            for item in &items {
                let held_out = pending.remove(&item.id).unwrap_or_default().len();
                assert_eq!(held_out, usize::from(item.state == WorkState::Offered), "{item:?}");
                match item.state {
                    WorkState::Assigned | WorkState::Completed => {
                        assert!(item.assigned_agent_id.is_some(), "{item:?}")
                    }
                    WorkState::Queued => {
                        assert!(item.queue_id.is_some() || item.target_agent_id.is_some(), "{item:?}");
                    }
                    WorkState::Waiting | WorkState::Wrapping | WorkState::New | WorkState::Routing => {
                        assert!(item.due_at.is_some() && item.timer.is_some(), "{item:?}");
                    }
                    WorkState::Offered | WorkState::Discarded | WorkState::Failed => {}
                }
            }
            assert!(pending.is_empty(), "offers of unknown items: {pending:?}");
            let agents: Vec<UserId> =
                agent::Entity::find().all(db).await.unwrap().iter().map(|row| row.id).collect();
            for agent in Roster::of(db, &agents).await.unwrap().agents.values() {
                assert!(agent.load.email <= agent.capacity.email, "{agent:?}");
                assert!(agent.load.sms <= agent.capacity.sms, "{agent:?}");
            }
        }
    }
}
