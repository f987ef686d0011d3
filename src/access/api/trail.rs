//! Reading the audit log.

use actix_web::{HttpResponse, get, web};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    access::{
        audit::Outcome,
        entity::audit_entry::{Column, Entity, Model},
    },
    app::App,
    clock::Timestamp,
    http::{PageQuery, Problem, Query},
    id::AuditId,
};

/// Something that somebody did, tried or was denied.
#[derive(Serialize, ToSchema)]
pub struct AuditEntry {
    /// The entry's id.
    id: AuditId,
    /// When.
    at: Timestamp,
    /// The user or API key; none when nobody was authenticated.
    actor_id: Option<Uuid>,
    /// Its name at that time.
    #[schema(examples("admin"))]
    actor_name: String,
    /// What: an `operationId`.
    #[schema(examples("create_user"))]
    action: String,
    /// The kind of resource.
    #[schema(examples("users"))]
    subject_type: Option<String>,
    /// The resource.
    #[schema(examples("019aa1b2-0000-7000-8000-000000000001"))]
    subject_id: Option<String>,
    /// How it ended.
    outcome: Outcome,
    /// More.
    #[schema(value_type = Object)]
    details: serde_json::Value,
    /// The request, as in its `X-Request-Id` header.
    request_id: Option<String>,
}

/// One page of entries.
#[derive(Serialize, ToSchema)]
pub struct AuditEntryList {
    /// The entries, newest first.
    items: Vec<AuditEntry>,
    /// The cursor of the next page.
    next_cursor: Option<String>,
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditFilter {
    /// Only what this user or API key did.
    actor_id: Option<Uuid>,
    /// Only this `operationId`.
    #[param(max_length = 100)]
    action: Option<String>,
    /// Only what was done to this resource.
    #[param(max_length = 100)]
    subject_id: Option<String>,
    /// Only this outcome.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// Only entries of this time and later.
    #[param(inline)]
    from: Option<Timestamp>,
    /// Only entries before this time.
    #[param(inline)]
    to: Option<Timestamp>,
}

impl From<Model> for AuditEntry {
    fn from(row: Model) -> Self {
        let Model {
            id,
            at,
            actor_id,
            actor_name,
            action,
            subject_type,
            subject_id,
            outcome,
            details,
            request_id,
        } = row;
        Self { id, at, actor_id, actor_name, action, subject_type, subject_id, outcome, details, request_id }
    }
}

/// List the audit log, newest first.
///
/// It holds every change that was made through the API except agents' daily work, which the event log and the traces of
/// work items tell of; every login and failed login; and every call that was denied.
/// Entries of changes outside `access` are written in batches and show up within about a second.
#[utoipa::path(tag = "access", params(PageQuery, AuditFilter),
    responses((status = 200, description = "One page.", body = AuditEntryList)))]
#[get("/audit-log")]
pub async fn list_audit_entries(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<AuditFilter>,
) -> Result<HttpResponse, Problem> {
    let AuditFilter { actor_id, action, subject_id, outcome, from, to } = filter.0;
    let conditions = [
        actor_id.map(|id| Column::ActorId.eq(id)),
        action.map(|action| Column::Action.eq(action)),
        subject_id.map(|id| Column::SubjectId.eq(id)),
        outcome.map(|outcome| Column::Outcome.eq(outcome)),
        from.map(|from| Column::At.gte(from)),
        to.map(|to| Column::At.lt(to)),
    ];
    let select = conditions.into_iter().flatten().fold(Entity::find(), |select, one| select.filter(one));
    let newest_first = Some((Column::Id, Order::Desc));
    let found = page.0.fetch(app.db.read(), select, Column::Id, newest_first).await?.map(AuditEntry::from);
    Ok(HttpResponse::Ok().json(AuditEntryList { items: found.items, next_cursor: found.next_cursor }))
}
