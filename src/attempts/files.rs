//! The files of the templates that a campaign's rules send, read before the transaction: it waits for no object store.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::report::Whose;
use crate::{
    app::App,
    campaigns::{entity::campaign, lists::effective},
    conversations::source::raw_problem,
    customers::entity::{customer, customer_list},
    db::among,
    http::Problem,
    id::{CampaignId, TemplateId},
    mail::compose::OutgoingAttachment,
    templates::{
        entity as template,
        files::{self, entity as template_file},
    },
};

/// Files by the template that they go out with.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<TemplateId, Vec<OutgoingAttachment>>);

impl Files {
    /// Those that the rules for this customer may send.
    ///
    /// # Errors
    /// Whatever the stores say.
    pub async fn of_rules(app: &App, whose: &Whose, campaign: CampaignId) -> Result<Self, Problem> {
        let db = app.db.read();
        let any = template_file::Entity::find().select_only().column(template_file::Column::Id);
        if any.into_tuple::<uuid::Uuid>().one(db).await?.is_none() {
            return Ok(Self::default());
        }
        let select = match whose {
            Whose::Id(id) => customer::Entity::find_by_id(*id),
            Whose::Ref(known) => customer::Entity::find().filter(customer::Column::Ref.eq(known)),
        };
        // What is not there is said in the transaction.
        let Some(customer) = select.one(db).await? else { return Ok(Self::default()) };
        let list = customer_list::Entity::find_by_id(customer.list_id).one(db).await?;
        let campaign = campaign::Entity::find_by_id(campaign).one(db).await?;
        let Some(list) = list else { return Ok(Self::default()) };
        let ids: Vec<TemplateId> =
            effective(&list, campaign.as_ref()).into_iter().map(|rule| rule.template_id).collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let templates = template::Entity::find().filter(among(template::Column::Id, ids)).all(db).await?;
        let mut found = HashMap::new();
        for template in templates {
            found.insert(template.id, files::load(app, &template).await.map_err(raw_problem)?);
        }
        Ok(Self(found))
    }

    /// Whether all files of a template were read.
    pub fn has(&self, template: &template::Model) -> bool {
        files::of(template).len() == self.0.get(&template.id).map_or(0, Vec::len)
    }

    /// The files of a template.
    pub fn of(&self, template: &template::Model) -> Vec<OutgoingAttachment> {
        self.0.get(&template.id).cloned().unwrap_or_default()
    }
}
