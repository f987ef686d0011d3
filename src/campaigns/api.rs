//! Operations on campaigns.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    actions,
    entity::{
        CampaignState,
        campaign::{ActiveModel, Column, Entity, Model},
    },
    lists,
    rules::{self, MessageRule},
};
use crate::{
    access::matrix::Access,
    accounts::entity::{Channel, account},
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{
        Answer, Body, Caller, Code, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start, problem::FieldError,
    },
    id::{AccountId, CampaignId},
    scripts::library,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_campaigns)
        .service(create_campaign)
        .service(get_campaign)
        .service(update_campaign)
        .service(delete_campaign)
        .service(actions::start_campaign)
        .service(actions::suspend_campaign)
        .service(actions::resume_campaign)
        .service(actions::stop_campaign)
        .service(lists::get_list_message_rules)
        .service(lists::replace_list_message_rules)
        .service(lists::delete_list_message_rules);
}

/// What can be done with a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CampaignAction {
    /// Change it.
    Update,
    /// Delete it.
    Delete,
    /// Let its rules fire.
    Start,
    /// Keep its rules from firing for now.
    Suspend,
    /// Let them fire again.
    Resume,
    /// End it.
    Stop,
}

/// A calling campaign.
#[derive(Debug, Serialize, ToSchema)]
pub struct Campaign {
    /// The campaign's id.
    pub id: CampaignId,
    /// Its unique name.
    #[schema(examples("Renewals 2026"))]
    pub name: String,
    /// What it is for.
    #[schema(examples("Contracts that end in spring"))]
    pub description: String,
    /// Where it stands.
    pub state: CampaignState,
    /// The account that its e-mail is sent from.
    pub email_account_id: Option<AccountId>,
    /// The account that its texts are sent from.
    pub sms_account_id: Option<AccountId>,
    /// What is sent to a customer when something happens to them.
    pub message_rules: Vec<MessageRule>,
    /// What the caller may do with it now.
    pub allowed_actions: Vec<CampaignAction>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A campaign to be made, as a draft.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Renewals 2026", "description": "Contracts that end in spring" }))]
pub struct CampaignCreate {
    /// Its unique name.
    #[schema(min_length = 1, max_length = 100, examples("Renewals 2026"))]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Contracts that end in spring"))]
    pub description: String,
    /// The account that its e-mail is sent from.
    #[serde(default)]
    pub email_account_id: Option<AccountId>,
    /// The account that its texts are sent from.
    #[serde(default)]
    pub sms_account_id: Option<AccountId>,
    /// What is sent to a customer when something happens to them.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub message_rules: Vec<MessageRule>,
}

/// One page of campaigns.
#[derive(Debug, Serialize, ToSchema)]
pub struct CampaignList {
    /// The campaigns.
    pub items: Vec<Campaign>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How campaigns may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum CampaignSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// Which campaigns to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CampaignFilter {
    /// Only the campaign of this name.
    #[param(max_length = 100)]
    name: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<CampaignState>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<CampaignSort>,
}

impl Campaign {
    /// As the caller sees it.
    pub(super) fn new(row: Model, caller: &Caller) -> Self {
        Self {
            allowed_actions: allowed_actions(row.state, caller),
            message_rules: rules::stored(&row.message_rules),
            id: row.id,
            name: row.name,
            description: row.description,
            state: row.state,
            email_account_id: row.email_account_id,
            sms_account_id: row.sms_account_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<Model> for CampaignCreate {
    fn from(row: Model) -> Self {
        let message_rules = rules::stored(&row.message_rules);
        let Model { name, description, email_account_id, sms_account_id, .. } = row;
        Self { name, description, email_account_id, sms_account_id, message_rules }
    }
}

impl CampaignCreate {
    /// What of it is wrong in a campaign of this state.
    ///
    /// # Errors
    /// `validation_failed` with all that is wrong.
    pub(super) async fn check(&self, tx: &DatabaseTransaction, state: CampaignState) -> Result<(), Problem> {
        let mut errors = Vec::new();
        for (id, channel, pointer) in [
            (self.email_account_id, Channel::Email, "/email_account_id"),
            (self.sms_account_id, Channel::Sms, "/sms_account_id"),
        ] {
            errors.extend(self.wrong_sender(tx, id, channel, pointer, state).await?);
        }
        errors.extend(rules::wrong(tx, &self.message_rules, state).await?);
        if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
    }

    async fn wrong_sender(
        &self,
        tx: &DatabaseTransaction,
        id: Option<AccountId>,
        channel: Channel,
        pointer: &str,
        state: CampaignState,
    ) -> Result<Option<FieldError>, DbErr> {
        let error = |code: &str, detail: &str| Ok(Some(FieldError::new(pointer, code, detail)));
        let Some(id) = id else {
            let needed = self.message_rules.iter().any(|rule| rule.channel == channel);
            if needed && matches!(state, CampaignState::Active | CampaignState::Suspended) {
                return error("required", "the campaign's rules need an account to send from");
            }
            return Ok(None);
        };
        match account::Entity::find_by_id(id).one(tx).await? {
            None => error("unknown_reference", "there is no such account"),
            Some(account) if account.channel != channel => {
                error("wrong_channel", "the account is for another channel")
            }
            Some(_) => Ok(None),
        }
    }

    /// The row's columns; rules keep the ids that they had among `known`.
    fn into_row(self, known: &[MessageRule], now: Timestamp) -> Result<ActiveModel, Problem> {
        let rules = rules::identify(self.message_rules, known, now).map_err(Problem::validation)?;
        Ok(ActiveModel {
            name: Set(self.name),
            description: Set(self.description),
            email_account_id: Set(self.email_account_id),
            sms_account_id: Set(self.sms_account_id),
            message_rules: Set(serde_json::to_value(rules).map_err(Problem::internal)?),
            ..Default::default()
        })
    }
}

fn allowed_actions(state: CampaignState, caller: &Caller) -> Vec<CampaignAction> {
    use CampaignAction::{Delete, Resume, Start, Stop, Suspend, Update};
    use CampaignState::{Active, Draft, Stopped, Suspended};
    let actions = [
        (Update, state != Stopped, "update_campaign"),
        (Delete, matches!(state, Draft | Stopped), "delete_campaign"),
        (Start, state == Draft, "start_campaign"),
        (Suspend, state == Active, "suspend_campaign"),
        (Resume, state == Suspended, "resume_campaign"),
        (Stop, matches!(state, Active | Suspended), "stop_campaign"),
    ];
    let may = |operation: &str| Access::of(operation).is_some_and(|access| access.allows(caller));
    let allowed = actions.into_iter().filter(|(_, fits, operation)| *fits && may(operation));
    allowed.map(|(action, ..)| action).collect()
}

/// Reads a campaign.
pub(super) async fn find(db: &impl ConnectionTrait, id: CampaignId) -> Result<Model, Problem> {
    Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("campaign"))
}

/// Writes a change of a campaign that is still as `row` says, and its event.
pub(super) async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    change: ActiveModel,
    kind: &'static str,
) -> Result<Model, DbErr> {
    let change = ActiveModel { version: Set(row.version + 1), updated_at: Set(now), ..change };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::State.eq(row.state))
        .filter(Column::Version.eq(row.version));
    let row = guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let data = json!({ "name": row.name, "state": row.state });
    events::append(tx, now, vec![NewEvent::new(kind, row.id.uuid(), &data).for_supervisors()]).await?;
    Ok(row)
}

/// List campaigns.
#[utoipa::path(tag = "campaigns", params(PageQuery, CampaignFilter),
    responses((status = 200, description = "One page.", body = CampaignList)))]
#[get("/campaigns")]
pub async fn list_campaigns(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<CampaignFilter>,
) -> Result<HttpResponse, Problem> {
    let mut select = Entity::find();
    if let Some(name) = &filter.0.name {
        select = select.filter(Column::Name.eq(name));
    }
    if let Some(state) = filter.0.state {
        select = select.filter(Column::State.eq(state));
    }
    let sort = filter.0.sort.map(|sort| match sort {
        CampaignSort::Name => (Column::Name, Order::Asc),
        CampaignSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = found.map(|row| Campaign::new(row, &caller));
    Ok(HttpResponse::Ok().json(CampaignList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a campaign, as a draft.
#[utoipa::path(tag = "campaigns", request_body = CampaignCreate,
    responses((status = 201, description = "The new campaign.", body = Campaign, headers(("ETag" = String), ("Location" = String)))))]
#[post("/campaigns")]
pub async fn create_campaign(
    app: web::Data<App>,
    caller: Caller,
    body: Body<CampaignCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    library::touch(&work.tx, now).await?;
    body.0.check(&work.tx, CampaignState::Draft).await?;
    let row = ActiveModel {
        id: Set(CampaignId::new(now)),
        state: Set(CampaignState::Draft),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..body.0.into_row(&[], now)?
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    let data = json!({ "name": row.name, "state": row.state });
    let event = NewEvent::new("campaign.created", row.id.uuid(), &data).for_supervisors();
    events::append(&work.tx, now, vec![event]).await?;
    let campaign = Campaign::new(row, &caller);
    work.commit(Answer::created(format!("/v1/campaigns/{}", campaign.id), &campaign)?.versioned(1)).await
}

/// Read one campaign.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    responses((status = 200, description = "The campaign.", body = Campaign, headers(("ETag" = String)))))]
#[get("/campaigns/{id}")]
pub async fn get_campaign(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CampaignId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&Campaign::new(row, &caller))?.versioned(version).into_response())
}

/// Change a campaign that is not over.
///
/// `message_rules` are replaced as a whole: a rule that keeps its id or its name stays the same one for `once`. What
/// earlier rules have put off goes out all the same.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    request_body(content = ref("#/components/schemas/CampaignPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed campaign.", body = Campaign, headers(("ETag" = String)))))]
#[patch("/campaigns/{id}")]
pub async fn update_campaign(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CampaignId>,
    if_match: IfMatch,
    patch: Patch<CampaignCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if row.state == CampaignState::Stopped {
        return Err(Problem::new(Code::InvalidState, "the campaign is over"));
    }
    let wanted = patch.apply(&CampaignCreate::from(row.clone()))?;
    wanted.check(&tx, row.state).await?;
    let wanted = wanted.into_row(&rules::stored(&row.message_rules), now)?;
    let row = change(&tx, now, &row, wanted, "campaign.updated").await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Campaign::new(row, &caller))?.versioned(version).into_response())
}

/// Delete a draft, or a campaign that is over, that has no lists and for which nothing was reported.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/campaigns/{id}")]
pub async fn delete_campaign(
    app: web::Data<App>,
    id: Path<CampaignId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    if !matches!(row.state, CampaignState::Draft | CampaignState::Stopped) {
        return Err(Problem::new(Code::InvalidState, "a campaign that runs is stopped before it is deleted"));
    }
    // Guarded: it may be started at this very moment.
    let row = change(&tx, now, &row, ActiveModel::default(), "campaign.deleted").await?;
    row.delete(&*tx).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
