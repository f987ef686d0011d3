//! Who of the campaigns and lists refers to what.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    entity::{CampaignState, campaign},
    rules::{MessageRule, stored},
};
use crate::{
    customers::entity::customer_list,
    http::{Code, Problem},
};

/// Refuses to take away a template or calendar that a rule of a list or of a campaign that is not over refers to. Called
/// under the lock of `scripts::library::touch`, which every change of rules takes, too.
///
/// # Errors
/// `in_use`.
pub async fn refuse(tx: &DatabaseTransaction, id: Uuid) -> Result<(), Problem> {
    let names = |rule: &MessageRule| {
        rule.template_id.uuid() == id
            || rule.send_window.is_some_and(|window| window.calendar_id.uuid() == id)
    };
    let (campaigns, lists) = all(tx).await?;
    let user = |rows: Vec<(String, Value)>| {
        rows.into_iter().find(|(_, rules)| stored(rules).iter().any(names)).map(|(name, _)| name)
    };
    let detail = match (user(campaigns), user(lists)) {
        (Some(name), _) => format!("a message rule of the campaign \"{name}\" refers to it"),
        (None, Some(name)) => format!("a message rule of the list \"{name}\" refers to it"),
        (None, None) => return Ok(()),
    };
    Err(Problem::new(Code::InUse, detail))
}

type Named = Vec<(String, Value)>;

async fn all(db: &impl ConnectionTrait) -> Result<(Named, Named), DbErr> {
    let campaigns = campaign::Entity::find()
        .select_only()
        .columns([campaign::Column::Name, campaign::Column::MessageRules])
        .filter(campaign::Column::State.ne(CampaignState::Stopped))
        .into_tuple()
        .all(db)
        .await?;
    let lists = customer_list::Entity::find()
        .select_only()
        .columns([customer_list::Column::Name, customer_list::Column::MessageRules])
        .filter(customer_list::Column::MessageRules.is_not_null())
        .into_tuple()
        .all(db)
        .await?;
    Ok((campaigns, lists))
}
