//! The ledger of a broadcast: one row for each recipient, with what happened in the server's own words.

use actix_web::{HttpResponse, get, web};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    counts::shown,
    entity::{
        BroadcastRecipientState, RecipientPhase,
        recipient::{Column, Entity, Model},
    },
    settings::find,
};
use crate::{
    app::App,
    clock::Timestamp,
    http::{PageQuery, Path, Problem, Query},
    id::{BroadcastId, CustomerId, MessageId},
    suppressions::AddressKeys,
};

/// Adds the operation.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_broadcast_recipients);
}

/// What became of one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastRecipient {
    /// The message's id. It can be read as a message, with its timeline, once somebody has answered to it, or at once where
    /// the outgoing server only captures; until then this row is all there is.
    pub message_id: MessageId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The address.
    #[schema(examples("anna@example.org"))]
    pub address: String,
    /// The customer's name.
    #[schema(examples("Anna Smith"))]
    pub name: String,
    /// Where it stands.
    pub state: BroadcastRecipientState,
    /// Why.
    pub reason: Option<String>,
    /// The server's last reply code.
    #[schema(examples(250))]
    pub code: Option<i32>,
    /// The server's last words.
    #[schema(examples("250 2.0.0 Ok: queued as 4F1A2"))]
    pub server_text: Option<String>,
    /// How many tries it took.
    pub tries: i64,
    /// When it is to be tried.
    pub due_at: Option<Timestamp>,
    /// When the server took it.
    pub sent_at: Option<Timestamp>,
    /// When this was last changed.
    pub updated_at: Timestamp,
}

/// One page of recipients.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastRecipientList {
    /// The recipients.
    pub items: Vec<BroadcastRecipient>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// Which recipients to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BroadcastRecipientFilter {
    /// Only those in this state.
    #[param(inline)]
    state: Option<BroadcastRecipientState>,
    /// Only the one of this address, in any case.
    #[param(max_length = 320)]
    address: Option<String>,
}

impl From<Model> for BroadcastRecipient {
    fn from(row: Model) -> Self {
        Self {
            state: shown(&row),
            message_id: row.id,
            customer_id: row.customer_id,
            address: row.address,
            name: row.name,
            reason: row.reason,
            code: row.last_code,
            server_text: row.last_text,
            tries: row.tries,
            due_at: row.due_at,
            sent_at: row.sent_at,
            updated_at: row.updated_at,
        }
    }
}

/// List the recipients of a broadcast.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path), PageQuery, BroadcastRecipientFilter),
    responses((status = 200, description = "One page, in the order in which they were gathered.", body = BroadcastRecipientList)))]
#[get("/broadcasts/{id}/recipients")]
pub async fn list_broadcast_recipients(
    app: web::Data<App>,
    id: Path<BroadcastId>,
    page: Query<PageQuery>,
    filter: Query<BroadcastRecipientFilter>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let mut select = Entity::find().filter(Column::BroadcastId.eq(row.id));
    match filter.0.state {
        // The phase tells who is being sent.
        Some(BroadcastRecipientState::Sending) => select = select.filter(super::ledger::is_begun()),
        Some(state) => {
            select = select.filter(Column::State.eq(state)).filter(Column::Phase.ne(RecipientPhase::Begun));
        }
        None => {}
    }
    if let Some(address) = &filter.0.address {
        select = select.filter(Column::AddressKey.eq(AddressKeys::of(&app).key(address)));
    }
    let found = page.0.fetch(app.db.read(), select, Column::Id, None).await?.map(BroadcastRecipient::from);
    let list = BroadcastRecipientList { items: found.items, next_cursor: found.next_cursor };
    Ok(HttpResponse::Ok().json(list))
}
