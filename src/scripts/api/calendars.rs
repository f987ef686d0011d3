//! Operations on calendars.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ModelTrait, Order, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::field_errors;
use crate::{
    app::App,
    campaigns::references,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Body, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query, idempotency::Start},
    id::CalendarId,
    scripts::{
        calendar::{Calendar as Rules, Entry, Timezone},
        entity::calendar::{ActiveModel, Column, Entity, Model},
        known, library,
        steps::ReferenceKind,
    },
};

/// Adds the operations.
pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_calendars)
        .service(create_calendar)
        .service(get_calendar)
        .service(get_calendar_status)
        .service(update_calendar)
        .service(delete_calendar);
}

/// A calendar of opening hours.
#[derive(Debug, Serialize, ToSchema)]
pub struct Calendar {
    /// The calendar's id.
    pub id: CalendarId,
    /// Its unique name.
    #[schema(examples("Front desk"))]
    pub name: String,
    /// What it is for.
    #[schema(examples("When somebody is there"))]
    pub description: String,
    /// The IANA time zone in which the entries are meant.
    pub timezone: Timezone,
    /// What opens and what closes.
    pub entries: Vec<Entry>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A calendar to be made: closed unless an entry opens it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Front desk",
    "timezone": "Europe/London",
    "entries": [
        {"name": "Office hours", "kind": "open", "rule": {
            "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:30"}},
        {"name": "Christmas", "kind": "holiday", "rule": {"type": "yearly", "month": 12, "day": 25}}
    ]
}))]
pub struct CalendarCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Front desk"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, examples("When somebody is there"))]
    pub description: String,
    /// The IANA time zone in which the entries are meant.
    pub timezone: Timezone,
    /// What opens and what closes.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub entries: Vec<Entry>,
}

/// One page of calendars.
#[derive(Debug, Serialize, ToSchema)]
pub struct CalendarList {
    /// The calendars.
    pub items: Vec<Calendar>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// What a calendar says of one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct CalendarStatus {
    /// The moment.
    pub at: Timestamp,
    /// Whether it is open then.
    #[schema(examples(true))]
    pub open: bool,
    /// The name of the entry that decides; none when no entry covers the moment, which means closed.
    #[schema(examples("Office hours"))]
    pub entry: Option<String>,
    /// When it next opens or closes; none when it does not within 400 days.
    pub next_change_at: Option<Timestamp>,
}

/// Of which moment to ask.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CalendarMoment {
    /// The moment; now when it is left out.
    #[param(inline)]
    at: Option<Timestamp>,
}

/// How calendars may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum CalendarSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which calendars to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CalendarFilter {
    /// Only the calendar of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<CalendarSort>,
}

impl CalendarCreate {
    /// The rules alone, once they are found to be right.
    fn check(self) -> Result<(String, String, Rules), Problem> {
        let Self { name, description, timezone, entries } = self;
        let rules = Rules { timezone, entries };
        let findings = rules.problems();
        if findings.is_empty() {
            Ok((name, description, rules))
        } else {
            Err(Problem::validation(field_errors("", findings)))
        }
    }
}

impl TryFrom<Model> for Calendar {
    type Error = Problem;

    fn try_from(row: Model) -> Result<Self, Problem> {
        let (id, created_at, updated_at) = (row.id, row.created_at, row.updated_at);
        let (name, description) = (row.name.clone(), row.description.clone());
        let Rules { timezone, entries } = library::stored_calendar(row).map_err(Problem::internal)?;
        Ok(Self { id, name, description, timezone, entries, created_at, updated_at })
    }
}

impl From<Calendar> for CalendarCreate {
    fn from(calendar: Calendar) -> Self {
        let Calendar { name, description, timezone, entries, .. } = calendar;
        Self { name, description, timezone, entries }
    }
}

fn stored(entries: &[Entry]) -> Result<Json, Problem> {
    serde_json::to_value(entries).map_err(Problem::internal)
}

async fn find(db: &impl ConnectionTrait, id: CalendarId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("calendar"))
}

/// List calendars.
#[utoipa::path(tag = "scripts", params(PageQuery, CalendarFilter),
    responses((status = 200, description = "One page.", body = CalendarList)))]
#[get("/calendars")]
pub async fn list_calendars(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<CalendarFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        CalendarSort::Name => (Column::Name, Order::Asc),
        CalendarSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let items = found.items.into_iter().map(Calendar::try_from).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(CalendarList { items, next_cursor: found.next_cursor }))
}

/// Create a calendar.
#[utoipa::path(tag = "scripts", request_body = CalendarCreate,
    responses((status = 201, description = "The new calendar.", body = Calendar, headers(("ETag" = String), ("Location" = String)))))]
#[post("/calendars")]
pub async fn create_calendar(
    app: web::Data<App>,
    body: Body<CalendarCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let (name, description, rules) = body.0.check()?;
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    library::touch(&work.tx, now).await?;
    let row = ActiveModel {
        id: Set(CalendarId::new(now)),
        name: Set(name),
        description: Set(description),
        timezone: Set(rules.timezone.0.name().to_owned()),
        entries: Set(stored(&rules.entries)?),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    let told = json!({ "name": row.name });
    let event = NewEvent::new("calendar.created", row.id.uuid(), &told).for_supervisors();
    events::append(&work.tx, now, vec![event]).await?;
    let calendar = Calendar::try_from(row)?;
    work.commit(Answer::created(format!("/v1/calendars/{}", calendar.id), &calendar)?.versioned(1)).await
}

/// Read one calendar.
#[utoipa::path(tag = "scripts", params(("id" = CalendarId, Path)),
    responses((status = 200, description = "The calendar.", body = Calendar, headers(("ETag" = String)))))]
#[get("/calendars/{id}")]
pub async fn get_calendar(app: web::Data<App>, id: Path<CalendarId>) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&Calendar::try_from(row)?)?.versioned(version).into_response())
}

/// Ask whether a calendar is open, and until when.
#[utoipa::path(tag = "scripts", params(("id" = CalendarId, Path), CalendarMoment),
    responses((status = 200, description = "What it says.", body = CalendarStatus)))]
#[get("/calendars/{id}/status")]
pub async fn get_calendar_status(
    app: web::Data<App>,
    id: Path<CalendarId>,
    moment: Query<CalendarMoment>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let rules = library::stored_calendar(row).map_err(Problem::internal)?;
    let at = moment.0.at.unwrap_or_else(|| app.clock.now());
    let verdict = rules.verdict(at.to_chrono());
    let next_change_at = rules.next_change(at.to_chrono()).map(Timestamp::from);
    let entry = verdict.entry.map(str::to_owned);
    Ok(HttpResponse::Ok().json(CalendarStatus { at, open: verdict.open, entry, next_change_at }))
}

/// Change a calendar.
#[utoipa::path(tag = "scripts", params(("id" = CalendarId, Path)),
    request_body(content = ref("#/components/schemas/CalendarPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed calendar.", body = Calendar, headers(("ETag" = String)))))]
#[patch("/calendars/{id}")]
pub async fn update_calendar(
    app: web::Data<App>,
    id: Path<CalendarId>,
    if_match: IfMatch,
    patch: Patch<CalendarCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let row = find(&*tx, *id).await?;
    let version = row.version;
    if_match.check(version)?;
    let (name, description, rules) = patch.apply(&Calendar::try_from(row)?.into())?.check()?;
    let change = ActiveModel {
        name: Set(name),
        description: Set(description),
        timezone: Set(rules.timezone.0.name().to_owned()),
        entries: Set(stored(&rules.entries)?),
        version: Set(version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded =
        Entity::update_many().set(change).filter(Column::Id.eq(*id)).filter(Column::Version.eq(version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let told = json!({ "name": row.name });
    let event = NewEvent::new("calendar.updated", row.id.uuid(), &told).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(Answer::ok(&Calendar::try_from(row)?)?.versioned(version + 1).into_response())
}

/// Delete a calendar that no message rule and no active version of a script refers to.
#[utoipa::path(tag = "scripts", params(("id" = CalendarId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/calendars/{id}")]
pub async fn delete_calendar(
    app: web::Data<App>,
    id: Path<CalendarId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    known::refuse_deletion(&tx, now, ReferenceKind::Calendar, id.uuid()).await?;
    references::refuse(&tx, id.uuid()).await?;
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    row.delete(&*tx).await?;
    let event = NewEvent::new("calendar.deleted", id.uuid(), &json!({})).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
