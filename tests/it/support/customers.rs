//! Customers, without the features that write them.

use postroom::{
    app::App,
    customers::entity::{CustomerStatus, ListState, customer, customer_list},
    id::{CampaignId, CustomerId, ListId},
    suppressions::AddressKeys,
};
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;

/// Makes a list.
pub async fn list(app: &App, name: &str, campaign_id: Option<CampaignId>) -> ListId {
    let now = app.clock.now();
    let row = customer_list::Model {
        id: ListId::new(now),
        name: name.into(),
        description: String::new(),
        campaign_id,
        state: ListState::Active,
        message_rules: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let tx = app.db.begin().await.unwrap();
    let id = row.id;
    customer_list::Entity::insert(row.into_active_model()).exec_without_returning(&*tx).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// A customer of this number: `c7`, Customer 7, `c7@example.org`, unused.
pub fn person(app: &App, list_id: ListId, number: usize) -> customer::Model {
    let now = app.clock.now();
    let address = format!("c{number}@example.org");
    customer::Model {
        id: CustomerId::new(now),
        r#ref: format!("c{number}"),
        list_id,
        name: format!("Customer {number}"),
        email_key: Some(AddressKeys::of(app).key(&address)),
        email: Some(address),
        sms_number: None,
        sms_key: None,
        telephones: json!([]),
        locale: None,
        data: json!({ "number": number }),
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
    }
}

/// Stores customers.
pub async fn store(app: &App, people: Vec<customer::Model>) {
    for people in people.chunks(500) {
        let tx = app.db.begin().await.unwrap();
        let rows = people.iter().cloned().map(IntoActiveModel::into_active_model);
        customer::Entity::insert_many(rows).exec_without_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}
