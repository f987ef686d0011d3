//! Customers on a list, put straight into their tables.

use postroom::{
    customers::entity::{CustomerStatus, ListState, OutcomeCategory, customer, customer_list, outcome},
    id::{CampaignId, CustomerId, ListId, OutcomeId},
    suppressions::AddressKeys,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::support::TestApp;

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
            attempt_count: 0,
            last_attempt_at: None,
            erased_at: None,
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
