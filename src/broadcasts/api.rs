//! Operations on broadcasts: writing them.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, ModelTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    actions_api::{self, fits},
    change::told,
    counts::{self, BroadcastCounts},
    entity::{
        BroadcastState,
        broadcast::{ActiveModel, Column, Entity, Model},
    },
    gather::Excluded,
    recipients_api,
    rules::{self, BroadcastAction},
    settings::{self, Found, find},
    turn::statuses,
};
use crate::{
    accounts::entity::Channel,
    app::App,
    clock::Timestamp,
    customers::entity::CustomerStatus,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start,
    },
    id::{AccountId, BroadcastId, CalendarId, CampaignId, ListId, TemplateId, UserId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_broadcasts)
        .service(create_broadcast)
        .service(get_broadcast)
        .service(update_broadcast)
        .service(delete_broadcast)
        .configure(actions_api::mount)
        .configure(recipients_api::mount);
}

/// One template to many customers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Broadcast {
    /// The broadcast's id.
    pub id: BroadcastId,
    /// What people call it.
    #[schema(examples("Autumn offer"))]
    pub name: String,
    /// What it is for.
    #[schema(examples("To everybody who has not been reached yet"))]
    pub description: String,
    /// Where it stands.
    pub state: BroadcastState,
    /// Why.
    pub state_reason: Option<String>,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<BroadcastAction>,
    /// What it is sent over.
    pub channel: Channel,
    /// Whose customers get it.
    pub target: BroadcastTarget,
    /// The template.
    pub template_id: TemplateId,
    /// The account that it is sent from.
    pub account_id: AccountId,
    /// Which of the customers get it.
    pub filter: BroadcastFilter,
    /// When it begins by itself.
    pub scheduled_at: Option<Timestamp>,
    /// It is sent only while this calendar is open.
    pub window_calendar_id: Option<CalendarId>,
    /// The most messages a minute.
    pub rate_per_minute: Option<i32>,
    /// When it pauses by itself.
    pub guard: BroadcastGuard,
    /// How many customers were looked at when it was prepared.
    pub found_count: i64,
    /// How many of them were left out then, by reason.
    #[schema(value_type = Object, example = json!({ "status": 12, "suppressed": 3 }))]
    pub excluded: Excluded,
    /// How many recipients stand where; not counted in lists.
    pub counts: Option<BroadcastCounts>,
    /// Who made it.
    pub author_id: Option<UserId>,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When all recipients were gathered.
    pub prepared_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Whose customers get a broadcast: one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BroadcastTarget {
    /// The customers of all lists in use of this campaign.
    #[serde(default)]
    pub campaign_id: Option<CampaignId>,
    /// The customers of this list.
    #[serde(default)]
    pub list_id: Option<ListId>,
}

/// Which customers get a broadcast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BroadcastFilter {
    /// Those of these statuses; asked again right before each is sent.
    #[serde(default = "unused_and_callback")]
    #[schema(min_items = 1, max_items = 4, default = json!(["unused", "callback"]))]
    pub statuses: Vec<CustomerStatus>,
    /// And of them those for whom this MiniJinja expression holds. What was imported from a CSV file is text:
    /// `customer.data.balance|float > 10`.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 2000, examples("customer.data.tier == 'gold'"))]
    pub expression: Option<String>,
}

/// When a broadcast pauses by itself.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BroadcastGuard {
    /// When more than this part failed, in percent; looked at from 20 tried recipients on.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100, examples(10))]
    pub max_fail_percent: Option<i32>,
    /// When more than this part came back, in percent.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100, examples(5))]
    pub max_bounce_percent: Option<i32>,
}

fn unused_and_callback() -> Vec<CustomerStatus> {
    vec![CustomerStatus::Unused, CustomerStatus::Callback]
}

const fn email() -> Channel {
    Channel::Email
}

fn everybody() -> BroadcastFilter {
    BroadcastFilter { statuses: unused_and_callback(), expression: None }
}

/// A broadcast to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Autumn offer",
    "target": { "list_id": "019aa1b2-0000-7000-8000-000000000001" },
    "template_id": "019aa1b2-0000-7000-8000-000000000002",
    "account_id": "019aa1b2-0000-7000-8000-000000000001",
    "guard": { "max_fail_percent": 10 }
}))]
pub struct BroadcastCreate {
    /// What people call it.
    #[schema(min_length = 1, max_length = 200, examples("Autumn offer"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, default = "", examples("To everybody who has not been reached yet"))]
    pub description: String,
    /// What it is sent over: mail to their addresses, or texts to their `sms_number`.
    #[serde(default = "email")]
    #[schema(default = "email")]
    pub channel: Channel,
    /// Whose customers get it.
    pub target: BroadcastTarget,
    /// A template of the purpose `general`, published when the broadcast is begun.
    pub template_id: TemplateId,
    /// The account that it is sent from; the campaign's when it is left out.
    #[serde(default)]
    pub account_id: Option<AccountId>,
    /// Which of the customers get it.
    #[serde(default = "everybody")]
    #[schema(default = json!({ "statuses": ["unused", "callback"] }))]
    pub filter: BroadcastFilter,
    /// When it begins by itself, once it was started.
    #[serde(default)]
    pub scheduled_at: Option<Timestamp>,
    /// It is sent only while this calendar is open.
    #[serde(default)]
    pub window_calendar_id: Option<CalendarId>,
    /// The most messages a minute.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 60_000, examples(600))]
    pub rate_per_minute: Option<i32>,
    /// When it pauses by itself.
    #[serde(default)]
    #[schema(default = json!({}))]
    pub guard: BroadcastGuard,
}

/// One page of broadcasts.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroadcastList {
    /// The broadcasts.
    pub items: Vec<Broadcast>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How broadcasts may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum BroadcastSort {
    /// Oldest first.
    #[serde(rename = "id")]
    Id,
    /// Newest first.
    #[serde(rename = "-id")]
    IdDescending,
}

/// Which broadcasts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BroadcastQuery {
    /// Only those in this state.
    #[param(inline)]
    state: Option<BroadcastState>,
    /// Only those of this campaign, also those to one of its lists.
    campaign_id: Option<CampaignId>,
    /// Only those to this list.
    list_id: Option<ListId>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<BroadcastSort>,
}

impl BroadcastCreate {
    fn into_row(self, found: &Found) -> ActiveModel {
        ActiveModel {
            name: Set(self.name),
            description: Set(self.description),
            channel: Set(self.channel),
            campaign_id: Set(found.campaign_id),
            list_id: Set(self.target.list_id),
            template_id: Set(self.template_id),
            account_id: Set(found.account_id),
            marketing: Set(found.marketing),
            statuses: Set(json!(self.filter.statuses)),
            expression: Set(self.filter.expression),
            scheduled_at: Set(self.scheduled_at),
            window_calendar_id: Set(self.window_calendar_id),
            rate_per_minute: Set(self.rate_per_minute),
            max_fail_percent: Set(self.guard.max_fail_percent),
            max_bounce_percent: Set(self.guard.max_bounce_percent),
            ..Default::default()
        }
    }
}

/// The target as it was named: a list's campaign is kept beside it.
fn target(row: &Model) -> BroadcastTarget {
    let campaign_id = row.campaign_id.filter(|_| row.list_id.is_none());
    BroadcastTarget { campaign_id, list_id: row.list_id }
}

fn guard(row: &Model) -> BroadcastGuard {
    BroadcastGuard { max_fail_percent: row.max_fail_percent, max_bounce_percent: row.max_bounce_percent }
}

impl From<Model> for BroadcastCreate {
    fn from(row: Model) -> Self {
        Self {
            target: target(&row),
            filter: BroadcastFilter { statuses: statuses(&row), expression: row.expression.clone() },
            guard: guard(&row),
            channel: row.channel,
            name: row.name,
            description: row.description,
            template_id: row.template_id,
            account_id: Some(row.account_id),
            scheduled_at: row.scheduled_at,
            window_calendar_id: row.window_calendar_id,
            rate_per_minute: row.rate_per_minute,
        }
    }
}

impl Broadcast {
    /// As the caller sees it.
    pub(super) fn new(row: Model, counts: Option<BroadcastCounts>, caller: &Caller) -> Self {
        Self {
            allowed_actions: rules::allowed(row.state, caller),
            target: target(&row),
            filter: BroadcastFilter { statuses: statuses(&row), expression: row.expression.clone() },
            guard: guard(&row),
            id: row.id,
            name: row.name,
            description: row.description,
            state: row.state,
            state_reason: row.state_reason,
            channel: row.channel,
            template_id: row.template_id,
            account_id: row.account_id,
            scheduled_at: row.scheduled_at,
            window_calendar_id: row.window_calendar_id,
            rate_per_minute: row.rate_per_minute,
            found_count: row.found_count,
            excluded: serde_json::from_value(row.excluded).unwrap_or_default(),
            counts,
            author_id: row.author_id,
            started_at: row.started_at,
            prepared_at: row.prepared_at,
            ended_at: row.ended_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// List broadcasts.
#[utoipa::path(tag = "broadcasts", params(PageQuery, BroadcastQuery),
    responses((status = 200, description = "One page.", body = BroadcastList)))]
#[get("/broadcasts")]
pub async fn list_broadcasts(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<BroadcastQuery>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(state) = filter.0.state {
        select = select.filter(Column::State.eq(state));
    }
    if let Some(id) = filter.0.campaign_id {
        select = select.filter(Column::CampaignId.eq(id));
    }
    if let Some(id) = filter.0.list_id {
        select = select.filter(Column::ListId.eq(id));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        BroadcastSort::Id => (Column::Id, Order::Asc),
        BroadcastSort::IdDescending => (Column::Id, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = found.map(|row| Broadcast::new(row, None, &caller));
    Ok(HttpResponse::Ok().json(BroadcastList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a broadcast, as a draft.
///
/// Nothing is sent before it is started.
#[utoipa::path(tag = "broadcasts", request_body = BroadcastCreate,
    responses((status = 201, description = "The new broadcast.", body = Broadcast, headers(("ETag" = String), ("Location" = String)))))]
#[post("/broadcasts")]
pub async fn create_broadcast(
    app: web::Data<App>,
    caller: Caller,
    body: Body<BroadcastCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let found = settings::check(&work.tx, &body.0).await?;
    let row = ActiveModel {
        id: Set(BroadcastId::new(now)),
        state: Set(BroadcastState::Draft),
        state_reason: Set(None),
        next_slot_us: Set(0),
        prepared_to: Set(None),
        found_count: Set(0),
        excluded: Set(json!({})),
        author_id: Set(caller.user_id()),
        due_at: Set(None),
        lease_until: Set(Timestamp::ZERO),
        attempts: Set(0),
        prepared_at: Set(None),
        started_at: Set(None),
        ended_at: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..body.0.into_row(&found)
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![told("broadcast.created", &row)]).await?;
    let shown = Broadcast::new(row, Some(BroadcastCounts::default()), &caller);
    work.commit(Answer::created(format!("/v1/broadcasts/{}", shown.id), &shown)?.versioned(1)).await
}

/// Read one broadcast, with its counts.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 200, description = "The broadcast.", body = Broadcast, headers(("ETag" = String)))))]
#[get("/broadcasts/{id}")]
pub async fn get_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
) -> Result<HttpResponse, Problem> {
    show(&app, &caller, find(app.db.read(), *id).await?).await
}

/// The answer that shows a broadcast, counted now.
pub(super) async fn show(app: &App, caller: &Caller, row: Model) -> Result<HttpResponse, Problem> {
    let counts = counts::count(app.db.read(), row.id).await?;
    let version = row.version;
    Ok(Answer::ok(&Broadcast::new(row, Some(counts), caller))?.versioned(version).into_response())
}

/// Change a draft, or the guard of a broadcast that is begun and not over.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    request_body(content = ref("#/components/schemas/BroadcastPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed broadcast.", body = Broadcast, headers(("ETag" = String)))))]
#[patch("/broadcasts/{id}")]
pub async fn update_broadcast(
    app: web::Data<App>,
    caller: Caller,
    id: Path<BroadcastId>,
    if_match: IfMatch,
    patch: Patch<BroadcastCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    fits(&row, BroadcastAction::Update)?;
    let known = BroadcastCreate::from(row.clone());
    let wanted = patch.apply(&known)?;
    let change = if row.state == BroadcastState::Draft {
        let found = settings::check(&tx, &wanted).await?;
        wanted.into_row(&found)
    } else {
        guard_alone(known, wanted)?
    };
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::State.eq(row.state))
        .filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    events::append(&tx, now, vec![told("broadcast.updated", &row)]).await?;
    tx.commit().await?;
    show(&app, &caller, row).await
}

/// The change of a broadcast that is begun: of its guard, and of nothing else.
fn guard_alone(known: BroadcastCreate, wanted: BroadcastCreate) -> Result<ActiveModel, Problem> {
    let guard = wanted.guard.clone();
    if wanted != (BroadcastCreate { guard: guard.clone(), ..known }) {
        return Err(Problem::new(
            Code::InvalidState,
            "of a broadcast that is begun only the guard can be changed",
        ));
    }
    Ok(ActiveModel {
        max_fail_percent: Set(guard.max_fail_percent),
        max_bounce_percent: Set(guard.max_bounce_percent),
        ..Default::default()
    })
}

/// Delete a draft. What was begun is kept, because it tells who got what.
#[utoipa::path(tag = "broadcasts", params(("id" = BroadcastId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/broadcasts/{id}")]
pub async fn delete_broadcast(
    app: web::Data<App>,
    id: Path<BroadcastId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if row.state != BroadcastState::Draft {
        return Err(Problem::new(Code::InvalidState, "only a draft can be deleted"));
    }
    row.delete(&*tx).await?;
    let event = NewEvent::new("broadcast.deleted", id.uuid(), &json!({})).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
