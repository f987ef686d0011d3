//! Operations on agents: their skills, capacity and state.

use std::collections::HashMap;

use actix_web::{HttpResponse, get, patch, put, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, Order,
    QueryFilter, QuerySelect, QueryTrait, Select, sea_query::SelectStatement,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    entity::{AgentState, agent, agent_skill, group_member, skill},
    groups::Capacity,
};
use crate::{
    access::entity::user,
    app::App,
    clock::Timestamp,
    db::among,
    events::{self, NewEvent},
    http::{Answer, Body, Caller, Code, IfMatch, PageQuery, Patch, Path, Problem, Query, caller::Role},
    id::{GroupId, SkillId, UserId},
    work::{agent_left, agent_paused, roster::Roster, rules::PerChannel},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_agents).service(get_agent).service(update_agent).service(set_agent_state);
}

/// A skill of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkillLevel {
    /// The skill.
    pub skill_id: SkillId,
    /// How well, 1 (a little) to 10.
    #[schema(minimum = 1, maximum = 10, examples(7))]
    pub level: i32,
}

/// A user's agent side.
#[derive(Debug, Serialize, ToSchema)]
pub struct Agent {
    /// The user's id.
    pub id: UserId,
    /// The login name.
    #[schema(examples("anna"))]
    pub username: String,
    /// The name that others see.
    #[schema(examples("Anna Weber"))]
    pub display_name: String,
    /// Whether the agent takes work.
    pub state: AgentState,
    /// Why not; agents see only their own.
    pub reason: Option<String>,
    /// Since when the agent is in this state.
    pub state_changed_at: Timestamp,
    /// What the agent can do; left out where an agent looks at others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skills: Option<Vec<SkillLevel>>,
    /// The agent's own capacity; none: the largest of the groups'. Agents see only their own.
    pub capacity: Option<Capacity>,
    /// How much the agent may have at a time: the own capacity, else the largest of the groups'; left out where an agent
    /// looks at others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_capacity: Option<PerChannel>,
    /// How much the agent has: assigned, in wrap-up, or held out; left out where an agent looks at others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<PerChannel>,
    /// The groups the agent is in.
    pub group_ids: Vec<GroupId>,
}

impl Agent {
    /// What `caller` may see: agents need to know who is there, to transfer work to them, and no more.
    fn seen_by(self, caller: &Caller) -> Self {
        if caller.oversees() || caller.user_id() == Some(self.id) {
            return self;
        }
        Self { reason: None, skills: None, capacity: None, effective_capacity: None, load: None, ..self }
    }
}

/// The settings of an agent; agents are made with their user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "capacity": { "email": 3, "sms": 2 } }))]
pub struct AgentSettingsCreate {
    /// What the agent can do; replaces all skills.
    #[serde(default)]
    #[schema(max_items = 200)]
    pub skills: Vec<SkillLevel>,
    /// The agent's own capacity; null: the largest of the groups'.
    #[serde(default)]
    pub capacity: Option<Capacity>,
}

/// One page of agents.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentList {
    /// The agents.
    pub items: Vec<Agent>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How agents may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum AgentSort {
    /// By the name that others see.
    #[serde(rename = "display_name")]
    DisplayName,
    /// By the name that others see, last first.
    #[serde(rename = "-display_name")]
    DisplayNameDescending,
    /// By login name.
    #[serde(rename = "username")]
    Username,
    /// By login name, last first.
    #[serde(rename = "-username")]
    UsernameDescending,
}

/// Which agents to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AgentFilter {
    /// Only agents in this state.
    #[param(inline)]
    state: Option<AgentState>,
    /// Only members of this group.
    group_id: Option<GroupId>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<AgentSort>,
}

/// The state that an agent is to be in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "state": "not_ready", "reason": "lunch" }))]
pub struct AgentStateChange {
    /// Whether the agent takes work.
    pub state: AgentState,
    /// Why not; for `not_ready`.
    #[schema(max_length = 200, examples("lunch"))]
    pub reason: Option<String>,
    /// With `logged_off`: also give back the items that the agent is working on.
    #[serde(default)]
    #[schema(default = false)]
    pub release: bool,
}

/// The agents that these users are, as the API shows them and in the same order.
async fn show_all(db: &impl ConnectionTrait, people: Vec<user::Model>) -> Result<Vec<Agent>, DbErr> {
    let ids: Vec<UserId> = people.iter().map(|person| person.id).collect();
    let mut known = Roster::of(db, &ids).await?.agents;
    let rows = agent::Entity::find().filter(among(agent::Column::Id, ids)).all(db).await?;
    let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    let shown = people.into_iter().filter_map(|person| {
        let (row, known) = (rows.remove(&person.id)?, known.remove(&person.id)?);
        let level = |(skill_id, level)| SkillLevel { skill_id, level };
        let mut skills: Vec<_> = known.skills.into_iter().map(level).collect();
        skills.sort_unstable_by_key(|skill| skill.skill_id);
        Some(Agent {
            id: row.id,
            username: person.username,
            display_name: person.display_name,
            state: row.state,
            reason: row.reason,
            state_changed_at: row.state_changed_at,
            skills: Some(skills),
            capacity: row.capacity_email.zip(row.capacity_sms).map(|(email, sms)| Capacity { email, sms }),
            effective_capacity: Some(known.capacity),
            load: Some(known.load),
            group_ids: known.groups,
        })
    });
    Ok(shown.collect())
}

async fn show(db: &impl ConnectionTrait, id: UserId) -> Result<Agent, Problem> {
    let gone = || Problem::not_found("agent");
    let person = user::Entity::find_by_id(id).one(db).await?.ok_or_else(gone)?;
    show_all(db, vec![person]).await?.pop().ok_or_else(gone)
}

/// `me` or an agent's id.
fn agent_of(path: &str, caller: &Caller) -> Result<UserId, Problem> {
    let id = match path {
        "me" => caller.agent_id()?,
        id => id.parse().map_err(|_| Problem::new(Code::InvalidParameter, "id: an agent's id, or `me`"))?,
    };
    if caller.role == Role::Agent && Some(id) != caller.user_id() {
        return Err(Problem::new(Code::NotYours, "agents see and change only themselves"));
    }
    Ok(id)
}

/// The agents in service: users who were deleted or made administrators have no desk, though its row is kept.
pub(super) fn in_service() -> Select<agent::Entity> {
    let users = user::Entity::find()
        .select_only()
        .column(user::Column::Id)
        .filter(user::Column::DeletedAt.is_null())
        .filter(user::Column::Role.ne(Role::Admin))
        .into_query();
    agent::Entity::find().filter(agent::Column::Id.in_subquery(users))
}

async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<agent::Model, Problem> {
    let found = in_service().filter(agent::Column::Id.eq(id)).one(db).await?;
    found.ok_or_else(|| Problem::not_found("agent"))
}

/// Whoever may not log in takes no work; the user's row stays as it is until the transaction ends.
async fn keep_off(tx: &DatabaseTransaction, id: UserId, state: AgentState) -> Result<(), Problem> {
    let person = user::Entity::find_by_id(id).lock_shared().one(tx).await?;
    if state != AgentState::LoggedOff && person.is_none_or(|person| person.disabled) {
        return Err(Problem::new(Code::InvalidState, "the agent's user is disabled"));
    }
    Ok(())
}

/// The ids of the agents of a filter.
fn wanted(filter: AgentFilter) -> SelectStatement {
    let mut agents = in_service().select_only().column(agent::Column::Id);
    if let Some(state) = filter.state {
        agents = agents.filter(agent::Column::State.eq(state));
    }
    if let Some(group) = filter.group_id {
        let members = group_member::Entity::find()
            .select_only()
            .column(group_member::Column::AgentId)
            .filter(group_member::Column::GroupId.eq(group));
        agents = agents.filter(agent::Column::Id.in_subquery(members.into_query()));
    }
    agents.into_query()
}

/// List agents.
///
/// Agents see of each other who is there and in which state, to transfer work to them.
#[utoipa::path(tag = "agents", params(PageQuery, AgentFilter),
    responses((status = 200, description = "One page.", body = AgentList)))]
#[get("/agents")]
pub async fn list_agents(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<AgentFilter>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let sort = filter.0.sort.map(|sort| match sort {
        AgentSort::DisplayName => (user::Column::DisplayName, Order::Asc),
        AgentSort::DisplayNameDescending => (user::Column::DisplayName, Order::Desc),
        AgentSort::Username => (user::Column::Username, Order::Asc),
        AgentSort::UsernameDescending => (user::Column::Username, Order::Desc),
    });
    let people = user::Entity::find().filter(user::Column::Id.in_subquery(wanted(filter.0)));
    let found = page.0.fetch(app.db.read(), people, user::Column::Id, sort).await?;
    let items = show_all(app.db.read(), found.items).await?;
    let items = items.into_iter().map(|agent| agent.seen_by(&caller)).collect();
    Ok(HttpResponse::Ok().json(AgentList { items, next_cursor: found.next_cursor }))
}

/// Read one agent; `me` is the caller.
#[utoipa::path(tag = "agents", params(("id" = String, Path, max_length = 36,
    pattern = "^(me|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$", description = "An agent's id, or `me`.")),
    responses((status = 200, description = "The agent.", body = Agent, headers(("ETag" = String)))))]
#[get("/agents/{id}")]
pub async fn get_agent(
    app: web::Data<App>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), agent_of(&id, &caller)?).await?;
    let version = row.version;
    Ok(Answer::ok(&show(app.db.read(), row.id).await?)?.versioned(version).into_response())
}

/// Change an agent's skills and capacity.
#[utoipa::path(tag = "agents", params(("id" = UserId, Path)),
    request_body(content = ref("#/components/schemas/AgentSettingsPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed agent.", body = Agent, headers(("ETag" = String)))))]
#[patch("/agents/{id}")]
pub async fn update_agent(
    app: web::Data<App>,
    id: Path<UserId>,
    if_match: IfMatch,
    patch: Patch<AgentSettingsCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    let version = row.version;
    let shown = show(&*tx, row.id).await?;
    let skills = shown.skills.unwrap_or_default();
    let wanted = patch.apply(&AgentSettingsCreate { skills, capacity: shown.capacity })?;
    replace_skills(&tx, *id, &wanted.skills).await?;
    let change = agent::ActiveModel {
        capacity_email: Set(wanted.capacity.map(|capacity| capacity.email)),
        capacity_sms: Set(wanted.capacity.map(|capacity| capacity.sms)),
        version: Set(version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded = agent::Entity::update_many().set(change).filter(agent::Column::Id.eq(*id));
    let guarded = guarded.filter(agent::Column::Version.eq(version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let shown = show(&*tx, row.id).await?;
    events::append(&tx, now, vec![NewEvent::new("agent.updated", id.uuid(), &shown).for_agent(*id)]).await?;
    tx.commit().await?;
    Ok(Answer::ok(&shown)?.versioned(version + 1).into_response())
}

async fn replace_skills(
    tx: &DatabaseTransaction,
    agent: UserId,
    wanted: &[SkillLevel],
) -> Result<(), Problem> {
    agent_skill::Entity::delete_many().filter(agent_skill::Column::AgentId.eq(agent)).exec(tx).await?;
    for (index, SkillLevel { skill_id, level }) in wanted.iter().enumerate() {
        let pointer = format!("/skills/{index}/skill_id");
        if wanted[..index].iter().any(|other| other.skill_id == *skill_id) {
            return Err(Problem::invalid(pointer, "not_unique", "the skill is named twice"));
        }
        if skill::Entity::find_by_id(*skill_id).one(tx).await?.is_none() {
            return Err(Problem::unknown_reference(&pointer, "skill"));
        }
        let row =
            agent_skill::ActiveModel { agent_id: Set(agent), skill_id: Set(*skill_id), level: Set(*level) };
        agent_skill::Entity::insert(row).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Set whether an agent takes work; `me` is the caller.
///
/// Becoming `not_ready` or `logged_off` takes back pending offers. Items that were transferred to the agent stay held for
/// an agent who is `not_ready`; `logged_off` gives them to everybody. Items in work stay with the agent unless
/// `logged_off` says `release`.
#[utoipa::path(tag = "agents", params(("id" = String, Path, max_length = 36,
    pattern = "^(me|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$", description = "An agent's id, or `me`.")),
    request_body = AgentStateChange,
    responses((status = 200, description = "The agent.", body = Agent, headers(("ETag" = String)))))]
#[put("/agents/{id}/state")]
pub async fn set_agent_state(
    app: web::Data<App>,
    caller: Caller,
    id: Path<String>,
    if_match: IfMatch,
    body: Body<AgentStateChange>,
) -> Result<HttpResponse, Problem> {
    let id = agent_of(&id, &caller)?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let AgentStateChange { state, reason, release } = body.0;
    let row = find(&*tx, id).await?;
    if_match.check(row.version)?;
    keep_off(&tx, id, state).await?;
    let mut change = agent::ActiveModel {
        state: Set(state),
        reason: Set(reason.filter(|_| state == AgentState::NotReady)),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    if row.state != state {
        change.state_changed_at = Set(now);
        if state == AgentState::Ready {
            change.idle_since = Set(now);
        }
    }
    let guarded = agent::Entity::update_many().set(change).filter(agent::Column::Id.eq(id));
    let guarded = guarded.filter(agent::Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(&*tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    match state {
        AgentState::Ready => {}
        AgentState::NotReady => agent_paused(&tx, id, now).await?,
        AgentState::LoggedOff => agent_left(&tx, id, now, release).await?,
    }
    let version = row.version;
    let shown = show(&*tx, row.id).await?;
    let data = serde_json::json!({ "agent_id": id, "state": state, "reason": shown.reason });
    events::append(&tx, now, vec![NewEvent::new("agent.state_changed", id.uuid(), &data).for_agent(id)])
        .await?;
    tx.commit().await?;
    Ok(Answer::ok(&shown)?.versioned(version).into_response())
}
