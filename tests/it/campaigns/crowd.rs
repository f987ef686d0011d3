//! Customers on a list, put straight into their tables.

use postroom::{
    customers::entity::{CustomerStatus, ListState, OutcomeCategory, customer, customer_list, outcome},
    id::{AccountId, CampaignId, CustomerId, ListId, OutcomeId},
    suppressions::AddressKeys,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::{
    inbound::account,
    support::{Client, TestApp},
};

/// A list and whoever is put on it.
pub struct Crowd<'a> {
    app: &'a TestApp,
    pub list_id: ListId,
}

impl<'a> Crowd<'a> {
    pub async fn new(app: &'a TestApp) -> Self {
        let now = app.app.clock.now();
        let list = customer_list::Model {
            id: ListId::new(now),
            name: format!("List {}", uuid::Uuid::now_v7()),
            description: String::new(),
            campaign_id: None,
            state: ListState::Active,
            message_rules: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let crowd = Self { app, list_id: list.id };
        crowd.insert(list.into_active_model().reset_all()).await;
        crowd
    }

    async fn insert<A: ActiveModelTrait + sea_orm::ActiveModelBehavior + Send>(&self, row: A) {
        let tx = self.app.app.db.begin().await.unwrap();
        <A::Entity as EntityTrait>::insert(row).exec_without_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A customer with what is known of them, at `ref@example.org`.
    pub async fn customer(&self, known_as: &str, data: Value) -> customer::Model {
        self.customer_at(known_as, Some(format!("{}@example.org", known_as.to_lowercase())), data).await
    }

    pub async fn customer_at(&self, known_as: &str, email: Option<String>, data: Value) -> customer::Model {
        let now = self.app.app.clock.now();
        let keys = AddressKeys::of(&self.app.app);
        let row = customer::Model {
            id: CustomerId::new(now),
            r#ref: known_as.into(),
            list_id: self.list_id,
            name: format!("Kim {known_as}"),
            email_key: email.as_deref().map(|email| keys.key(email)),
            email,
            sms_number: None,
            sms_key: None,
            telephones: json!([]),
            locale: None,
            data,
            status: CustomerStatus::Unused,
            callback_at: None,
            callback_note: None,
            termination_code: None,
            termination_category: None,
            terminated_at: None,
            termination_note: None,
            attempt_count: 0,
            last_attempt_at: None,
            erased_at: None,
            texts_erased_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        self.insert(row.clone().into_active_model().reset_all()).await;
        row
    }

    pub async fn outcome(&self, code: &str, category: OutcomeCategory) {
        let now = self.app.app.clock.now();
        let row = outcome::Model {
            id: OutcomeId::new(now),
            code: code.into(),
            name: code.into(),
            description: String::new(),
            category,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        self.insert(row.into_active_model().reset_all()).await;
    }

    /// Puts the list under a campaign, in a state.
    pub async fn join(&self, campaign_id: Option<CampaignId>, state: ListState) {
        let tx = self.app.app.db.begin().await.unwrap();
        let row = customer_list::ActiveModel {
            id: Set(self.list_id),
            campaign_id: Set(campaign_id),
            state: Set(state),
            ..Default::default()
        };
        customer_list::Entity::update(row).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn reload(&self, id: CustomerId) -> customer::Model {
        customer::Entity::find_by_id(id).one(self.app.app.db.read()).await.unwrap().unwrap()
    }
}

/// A published template that names the customer; gives its id.
pub async fn template(admin: &Client, name: &str, members: Value) -> String {
    let mut body = json!({ "name": name, "subject": format!("{name} for {{{{ customer.name }}}}"), "text": "We tried to reach you." });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let id = admin.post("/v1/templates", body).await.ok()["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id
}

/// A campaign with these rules; gives its path.
pub async fn campaign(admin: &Client, sender: AccountId, rules: Value) -> String {
    let name = format!("Campaign {}", uuid::Uuid::now_v7());
    let body = json!({ "name": name, "email_account_id": sender, "message_rules": rules });
    let made = admin.post("/v1/campaigns", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.header("location").to_owned()
}

/// The id at the end of a path.
pub fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// A list under a started campaign whose rules are given, with one customer `C-1` and the usual outcomes.
pub struct Desk<'a> {
    pub crowd: Crowd<'a>,
    pub admin: Client,
    pub account: AccountId,
    pub campaign: String,
    pub customer: customer::Model,
}

impl<'a> Desk<'a> {
    pub async fn new(app: &'a TestApp, rules: impl AsyncFnOnce(&Client) -> Value) -> Self {
        let (admin, crowd) = (app.admin().await, Crowd::new(app).await);
        for (code, category) in [
            ("no_answer", OutcomeCategory::NonContact),
            ("sale", OutcomeCategory::Contact),
            ("never", OutcomeCategory::DoNotContact),
        ] {
            crowd.outcome(code, category).await;
        }
        let account = account(app, "support@example.com").await.id;
        let rules = rules(&admin).await;
        let campaign = campaign(&admin, account, rules).await;
        admin.post(&format!("{campaign}/start"), json!({})).await.ok();
        crowd.join(Some(id_of(&campaign).parse().unwrap()), ListState::Active).await;
        let customer = crowd.customer("C-1", json!({})).await;
        Self { crowd, admin, account, campaign, customer }
    }

    pub fn report(&self, attempt_ref: &str, members: Value) -> Value {
        let mut body = json!({ "attempt_ref": attempt_ref, "campaign_id": id_of(&self.campaign) });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body
    }

    pub fn path(&self) -> String {
        format!("/v1/customers/{}/attempts", self.customer.id)
    }

    pub async fn try_once(&self, attempt_ref: &str, members: Value) -> Value {
        let done = self.admin.post(&self.path(), self.report(attempt_ref, members)).await;
        assert_eq!(done.status, 201, "{}", done.body);
        done.body
    }

    /// The names of the rules that sent, and of those that did not with the reason.
    pub async fn tried(&self, attempt_ref: &str, members: Value) -> (Vec<String>, Vec<(String, String)>) {
        said(&self.try_once(attempt_ref, members).await)
    }
}

pub fn said(answer: &Value) -> (Vec<String>, Vec<(String, String)>) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sent = answer["messages"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    let skipped = answer["skipped"].as_array().unwrap().iter();
    (sent, skipped.map(|one| (text(&one["name"]), text(&one["reason"]))).collect())
}
