//! The files of the templates that a campaign's rules send, read before the transaction: it waits for no object store.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::{
    api::AttemptCreate,
    report::Whose,
    status::{self, Ending},
};
use crate::{
    app::App,
    campaigns::{entity::campaign, lists::effective},
    conversations::source::raw_problem,
    customers::entity::{OutcomeCategory, customer, customer_list, outcome},
    db::among,
    http::Problem,
    id::TemplateId,
    mail::compose::OutgoingAttachment,
    templates::{
        entity as template,
        files::{self, entity as template_file},
    },
};

/// Files by the template that they go out with, and its revision.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<(TemplateId, i64), Vec<OutgoingAttachment>>);

impl Files {
    /// Those that the rules for this customer send after such a report.
    ///
    /// # Errors
    /// Whatever the stores say.
    pub async fn of_rules(app: &App, whose: &Whose, report: &AttemptCreate) -> Result<Self, Problem> {
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
        let Some(mut customer) = select.one(db).await? else { return Ok(Self::default()) };
        let list = customer_list::Entity::find_by_id(customer.list_id).one(db).await?;
        let campaign = campaign::Entity::find_by_id(report.campaign_id).one(db).await?;
        let Some(list) = list else { return Ok(Self::default()) };
        let rules = effective(&list, campaign.as_ref());
        if rules.is_empty() {
            return Ok(Self::default());
        }
        // As the customer stands now. When they are found otherwise in the transaction, it misses files and is tried again.
        let (ending, now) = (ending(db, report).await?, app.clock.now());
        let triggers = status::apply(&mut customer, &ending, now, now).triggers;
        let ids: Vec<TemplateId> = rules
            .iter()
            .filter(|rule| triggers.contains(&rule.trigger))
            .map(|rule| rule.template_id)
            .collect();
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let templates = template::Entity::find().filter(among(template::Column::Id, ids)).all(db).await?;
        let mut found = HashMap::new();
        for template in templates {
            found.insert(
                (template.id, template.revision),
                files::load(app, &template).await.map_err(raw_problem)?,
            );
        }
        Ok(Self(found))
    }

    /// Whether all files of a template were read.
    pub fn has(&self, template: &template::Model) -> bool {
        files::of(template).len() == self.read(template).map_or(0, Vec::len)
    }

    /// The files of a template.
    pub fn of(&self, template: &template::Model) -> Vec<OutgoingAttachment> {
        self.read(template).cloned().unwrap_or_default()
    }

    fn read(&self, template: &template::Model) -> Option<&Vec<OutgoingAttachment>> {
        self.0.get(&(template.id, template.revision))
    }
}

/// What the report says becomes of its customer.
async fn ending(db: &impl ConnectionTrait, report: &AttemptCreate) -> Result<Ending, DbErr> {
    let category: Option<OutcomeCategory> = match &report.outcome_code {
        None => None,
        Some(code) => {
            let found = outcome::Entity::find().filter(outcome::Column::Code.eq(code)).one(db).await?;
            found.map(|outcome| outcome.category)
        }
    };
    let next = report.next.clone().unwrap_or_default();
    Ok(Ending {
        code: report.outcome_code.clone(),
        category,
        terminate: next.terminate,
        callback_at: next.callback_at,
        callback_note: next.callback_note,
    })
}
