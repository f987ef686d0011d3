//! What a broadcast is to be: checked when it is written, and again when it is begun.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};

use super::{api::BroadcastCreate, entity::broadcast, gather::compile};
use crate::{
    accounts::entity::{AccountState, Channel, account},
    app::App,
    campaigns::entity::{CampaignState, campaign},
    customers::entity::customer_list,
    http::{Problem, problem::FieldError},
    id::{AccountId, BroadcastId, CampaignId, MessageId},
    scripts::entity::calendar,
    suppressions::link::Links,
    templates::{
        entity::{self as template, TemplateCategory, TemplatePurpose, TemplateState},
        files,
    },
};

/// What the settings refer to, found.
#[derive(Debug)]
pub(super) struct Found {
    /// The account: the one that is named, or the campaign's.
    pub account_id: AccountId,
    /// The campaign whose sender and suppressions count: the one that is named, or the list's.
    pub campaign_id: Option<CampaignId>,
    /// Whether it advertises.
    pub marketing: bool,
}

/// The broadcast of this id.
///
/// # Errors
/// `RecordNotFound`.
pub(super) async fn find(db: &impl ConnectionTrait, id: BroadcastId) -> Result<broadcast::Model, DbErr> {
    let found = broadcast::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| DbErr::RecordNotFound(format!("broadcast {id}")))
}

/// Finds what the settings refer to.
///
/// # Errors
/// `validation_failed` and `unknown_reference`.
pub(super) async fn check(db: &DatabaseTransaction, wanted: &BroadcastCreate) -> Result<Found, Problem> {
    check_alone(wanted)?;
    let campaign_id = match (wanted.target.campaign_id, wanted.target.list_id) {
        (Some(id), _) => Some(id),
        (None, Some(id)) => {
            // Not while it moves to another campaign: the move does not see what is not written yet.
            let list = customer_list::Entity::find_by_id(id).lock_shared().one(db).await?;
            list.ok_or_else(|| Problem::unknown_reference("/target/list_id", "list"))?.campaign_id
        }
        (None, None) => None,
    };
    let campaign = match campaign_id {
        None => None,
        Some(id) => {
            let found = campaign::Entity::find_by_id(id).one(db).await?;
            Some(found.ok_or_else(|| Problem::unknown_reference("/target/campaign_id", "campaign"))?)
        }
    };
    let template = template::Entity::find_by_id(wanted.template_id).one(db).await?;
    let template = template.ok_or_else(|| Problem::unknown_reference("/template_id", "template"))?;
    let account_id = wanted.account_id.or_else(|| campaign.as_ref()?.sender(wanted.channel));
    let account_id = account_id.ok_or_else(|| {
        let detail = match wanted.channel {
            Channel::Email => "the campaign has no account for e-mail: name one",
            Channel::Sms => "the campaign has no account for texts: name one",
        };
        Problem::invalid("/account_id", "required", detail)
    })?;
    let account = account::Entity::find_by_id(account_id).one(db).await?;
    let account = account.ok_or_else(|| Problem::unknown_reference("/account_id", "account"))?;
    if account.channel != wanted.channel {
        let detail = match wanted.channel {
            Channel::Email => "the account does not send e-mail",
            Channel::Sms => "the account does not send texts",
        };
        return Err(Problem::invalid("/account_id", "wrong_channel", detail));
    }
    if let Some(id) = wanted.window_calendar_id
        && calendar::Entity::find_by_id(id).one(db).await?.is_none()
    {
        return Err(Problem::unknown_reference("/window_calendar_id", "calendar"));
    }
    Ok(Found { account_id, campaign_id, marketing: template.category == TemplateCategory::Marketing })
}

/// Rules that need nothing but the settings.
fn check_alone(wanted: &BroadcastCreate) -> Result<(), Problem> {
    let mut errors = Vec::new();
    let target = &wanted.target;
    match (target.campaign_id, target.list_id) {
        (None, None) => {
            errors.push(FieldError::new("/target", "required", "name either a campaign or a list"));
        }
        (Some(_), Some(_)) => {
            errors.push(FieldError::new("/target", "not_both", "name either a campaign or a list, not both"));
        }
        _ => {}
    }
    if let Some(Err(detail)) = wanted.filter.expression.as_deref().map(compile) {
        errors.push(FieldError::new("/filter/expression", "invalid_expression", detail));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

/// The broadcast with the category of its template as it is now, because a template's may change until it is published, and
/// with what the template includes now, which it stays with.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn with_category(
    tx: &DatabaseTransaction,
    row: broadcast::Model,
) -> Result<broadcast::Model, DbErr> {
    let template = template::Entity::find_by_id(row.template_id).one(tx).await?;
    let marketing =
        template.as_ref().is_some_and(|template| template.category == TemplateCategory::Marketing);
    let template_revision = template.as_ref().map_or(0, |template| template.revision);
    let attachments_bytes = template.as_ref().map_or(0, files::total_bytes);
    broadcast::Entity::update_many()
        .col_expr(broadcast::Column::Marketing, Expr::value(marketing))
        .col_expr(broadcast::Column::AttachmentsBytes, Expr::value(attachments_bytes))
        .col_expr(broadcast::Column::TemplateRevision, Expr::value(template_revision))
        .filter(broadcast::Column::Id.eq(row.id))
        .exec(tx)
        .await?;
    Ok(broadcast::Model { marketing, template_revision, attachments_bytes, ..row })
}

/// What keeps a broadcast from being begun now.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn obstacles(
    app: &App,
    db: &impl ConnectionTrait,
    row: &broadcast::Model,
) -> Result<Vec<FieldError>, DbErr> {
    let mut found = Vec::new();
    let mut wrong =
        |pointer: &str, code: &str, detail: &str| found.push(FieldError::new(pointer, code, detail));
    match template::Entity::find_by_id(row.template_id).one(db).await? {
        None => wrong("/template_id", "gone", "the template is gone"),
        Some(template) if template.state != TemplateState::Published => {
            wrong("/template_id", "wrong_state", "the template is not published");
        }
        Some(template) if template.purpose != TemplatePurpose::General => {
            wrong("/template_id", "wrong_purpose", "the template is for receipts");
        }
        Some(template) if Channel::from(template.channel) != row.channel => {
            let detail = match row.channel {
                Channel::Email => "the template is not for e-mail",
                Channel::Sms => "the template is not for texts",
            };
            wrong("/template_id", "wrong_channel", detail);
        }
        Some(_) => {}
    }
    let in_use = [AccountState::Active, AccountState::Failing, AccountState::Paused];
    match account::Entity::find_by_id(row.account_id).one(db).await? {
        Some(account) if in_use.contains(&account.state) => {}
        _ => wrong("/account_id", "wrong_state", "the account is not in use: activate it first"),
    }
    // Texts are unsubscribed from by a stop word.
    if row.marketing
        && row.channel == Channel::Email
        && let Err(error) = Links::of(app).fields(MessageId(row.id.uuid()))
    {
        let detail = format!("{error}: http.public_url must be an https address");
        wrong("/template_id", "no_unsubscribe_link", &detail);
    }
    if let Some(id) = row.campaign_id {
        let campaign = campaign::Entity::find_by_id(id).one(db).await?;
        if campaign.is_some_and(|campaign| campaign.state == CampaignState::Stopped) {
            wrong("/target/campaign_id", "wrong_state", "the campaign is stopped");
        }
    }
    Ok(found)
}
