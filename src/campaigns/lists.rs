//! Rules of a list, which stand in for its campaign's.

use actix_web::{HttpResponse, delete, get, put, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    entity::{CampaignState, campaign},
    rules::{self, MessageRule},
};
use crate::{
    app::App,
    clock::Timestamp,
    customers::entity::customer_list::{ActiveModel, Column, Entity, Model},
    events::{self, NewEvent},
    http::{Answer, Body, IfMatch, Path, Problem},
    id::{CampaignId, ListId},
    scripts::library,
};

/// The rules that hold for a list's customers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListMessageRules {
    /// The list.
    pub list_id: ListId,
    /// Its campaign.
    pub campaign_id: Option<CampaignId>,
    /// Whether they are the list's own; else they are its campaign's.
    pub own: bool,
    /// The rules.
    pub message_rules: Vec<MessageRule>,
}

/// Rules for a list's customers alone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "message_rules": [] }))]
pub struct ListMessageRulesReplace {
    /// The rules; none of them means that nothing is sent.
    #[schema(max_items = 50)]
    pub message_rules: Vec<MessageRule>,
}

async fn find(db: &impl ConnectionTrait, id: ListId) -> Result<(Model, Option<campaign::Model>), Problem> {
    let list = Entity::find_by_id(id).one(db).await?.ok_or_else(|| Problem::not_found("list"))?;
    let campaign = match list.campaign_id {
        Some(id) => campaign::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    Ok((list, campaign))
}

/// The rules that hold for a list, whose campaign is given.
pub fn effective(list: &Model, campaign: Option<&campaign::Model>) -> Vec<MessageRule> {
    match (&list.message_rules, campaign) {
        (Some(own), _) => rules::stored(own),
        (None, Some(campaign)) => rules::stored(&campaign.message_rules),
        (None, None) => Vec::new(),
    }
}

fn shown(list: &Model, campaign: Option<&campaign::Model>) -> Result<HttpResponse, Problem> {
    let shown = ListMessageRules {
        list_id: list.id,
        campaign_id: list.campaign_id,
        own: list.message_rules.is_some(),
        message_rules: effective(list, campaign),
    };
    Ok(Answer::ok(&shown)?.versioned(list.version).into_response())
}

async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    list: &Model,
    rules: Option<serde_json::Value>,
) -> Result<Model, DbErr> {
    let change = ActiveModel {
        message_rules: Set(rules),
        version: Set(list.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(list.id))
        .filter(Column::Version.eq(list.version));
    let list = guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)?;
    let data = json!({ "own": list.message_rules.is_some() });
    let event = NewEvent::new("list.rules_changed", list.id.uuid(), &data).for_supervisors();
    events::append(tx, now, vec![event]).await?;
    Ok(list)
}

/// Read the message rules that hold for a list's customers.
#[utoipa::path(tag = "campaigns", params(("id" = ListId, Path)),
    responses((status = 200, description = "The list's own, or its campaign's.", body = ListMessageRules, headers(("ETag" = String)))))]
#[get("/lists/{id}/message-rules")]
pub async fn get_list_message_rules(app: web::Data<App>, id: Path<ListId>) -> Result<HttpResponse, Problem> {
    let (list, campaign) = find(app.db.read(), *id).await?;
    shown(&list, campaign.as_ref())
}

/// Give a list rules of its own, which stand in for its campaign's. The ETag is the list's.
#[utoipa::path(tag = "campaigns", params(("id" = ListId, Path)), request_body = ListMessageRulesReplace,
    responses((status = 200, description = "The list's own rules.", body = ListMessageRules, headers(("ETag" = String)))))]
#[put("/lists/{id}/message-rules")]
pub async fn replace_list_message_rules(
    app: web::Data<App>,
    id: Path<ListId>,
    if_match: IfMatch,
    body: Body<ListMessageRulesReplace>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let (list, campaign) = find(&*tx, *id).await?;
    if_match.check(list.version)?;
    let wanted = body.0.message_rules;
    let state = campaign.as_ref().map_or(CampaignState::Draft, |campaign| campaign.state);
    let errors = rules::wrong(&*tx, &wanted, state).await?;
    if !errors.is_empty() {
        return Err(Problem::validation(errors));
    }
    let known = list.message_rules.as_ref().map(rules::stored).unwrap_or_default();
    let wanted = rules::identify(wanted, &known, now).map_err(Problem::validation)?;
    let wanted = serde_json::to_value(wanted).map_err(Problem::internal)?;
    let list = change(&tx, now, &list, Some(wanted)).await?;
    tx.commit().await?;
    shown(&list, campaign.as_ref())
}

/// Take a list's own rules away: its campaign's hold again.
#[utoipa::path(tag = "campaigns", params(("id" = ListId, Path)),
    responses((status = 204, description = "They are gone.")))]
#[delete("/lists/{id}/message-rules")]
pub async fn delete_list_message_rules(
    app: web::Data<App>,
    id: Path<ListId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let (list, _) = find(&*tx, *id).await?;
    if_match.check(list.version)?;
    if list.message_rules.is_none() {
        return Err(Problem::not_found("rule of the list's own"));
    }
    change(&tx, now, &list, None).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
