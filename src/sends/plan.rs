//! What a send needs to know, read before it is written.

use std::sync::Arc;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{
    api::{MessageCategory, MessageCreate},
    begin::{About, IN_USE, Parts, Place, account_context, category_fields, from_compiled},
    write,
};
use crate::{
    accounts::{
        addresses::own_addresses,
        entity::{Channel, account},
    },
    app::App,
    campaigns::entity::{CampaignState, campaign},
    clock::Timestamp,
    conversations::{recipient::Recipient, source::raw_problem, texts::segments},
    customers::{self, entity::customer},
    http::{Problem, problem::FieldError},
    id::MessageId,
    mail::{compose::OutgoingAttachment, unsubscribe::UnsubscribeError},
    suppressions::{AddressKeys, Barred, entity::SuppressionReason, link::Links},
    templates::{
        compiled::Compiled,
        context::{CampaignContext, GeneralContext, RecipientContext},
        entity::{self as template, TemplateCategory},
        files,
    },
};

/// Everything that one send is made from.
#[derive(Debug)]
pub(super) struct Plan {
    /// The id that the message gets, which its link to unsubscribe names.
    pub id: MessageId,
    links: Links,
    /// What it is sent over.
    pub channel: Channel,
    /// Who sends it.
    pub account: account::Model,
    /// Who gets it.
    pub to: Recipient,
    /// The customer who that is.
    pub customer: Option<customer::Model>,
    /// What it is sent for.
    pub campaign: Option<campaign::Model>,
    /// What it is made from.
    pub template: Option<Arc<template::Model>>,
    /// Why the recipient may not be written to.
    pub barred: Option<SuppressionReason>,
    /// The conversation that it is in.
    pub place: Place,
}

impl Plan {
    /// Reads what the send names, and judges it.
    ///
    /// # Errors
    /// `validation_failed` or `unknown_reference`.
    pub async fn of(
        app: &App,
        db: &impl ConnectionTrait,
        wanted: &MessageCreate,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let own = own_addresses(db).await?;
        let template = match wanted.template_id {
            None => None,
            Some(id) => template::Entity::find_by_id(id).one(db).await?,
        };
        let channel = channel_of(db, wanted, template.as_ref()).await?;
        write::check(wanted, channel, &own, now)?;
        let customer = customer_of(db, wanted).await?;
        let to = recipient(wanted, channel, customer.as_ref(), &own)?;
        let campaign = campaign_of(db, wanted).await?;
        let (account, pointer) = account_of(db, wanted, channel, campaign.as_ref()).await?;
        write::check_account(&account, channel, pointer)?;
        if wanted.template_id.is_some() && template.is_none() {
            return Err(Problem::unknown_reference("/template_id", "template"));
        }
        template.as_ref().map_or(Ok(()), |template| write::check_template(template, channel))?;
        let place = Place::of(db, &account, &to, now).await?;
        let barred = Barred::among(db, AddressKeys::of(app), [to.address.as_str()], now).await?;
        let (id, links) = (MessageId::new(now), Links::of(app));
        let template = template.map(Arc::new);
        let plan =
            Self { id, links, channel, account, to, customer, campaign, template, barred: None, place };
        let marketing = plan.category(wanted) == TemplateCategory::Marketing;
        let reason = barred.reason(&plan.to.address, marketing, wanted.campaign_id);
        Ok(Self { barred: reason, ..plan })
    }

    /// What the template's or the given category is.
    pub fn category(&self, wanted: &MessageCreate) -> TemplateCategory {
        match (&self.template, wanted.category) {
            (Some(template), _) => template.category,
            (None, Some(MessageCategory::Marketing)) => TemplateCategory::Marketing,
            (None, _) => TemplateCategory::Transactional,
        }
    }

    /// What the message is remembered by.
    pub fn about(&self, wanted: &MessageCreate) -> About {
        About {
            template_id: wanted.template_id,
            customer_id: self.customer.as_ref().map(|customer| customer.id),
            campaign_id: wanted.campaign_id,
            category: self.category(wanted),
            external_ref: wanted.external_ref.clone(),
        }
    }

    /// What the mail says. Takes a while: no transaction waits for it.
    ///
    /// # Errors
    /// `validation_failed` when the template cannot be rendered with the variables.
    pub fn parts(&self, wanted: &MessageCreate) -> Result<Parts, Problem> {
        let parts = match &self.template {
            None => write::given(wanted, &self.links.url(self.id)),
            Some(template) => {
                let compiled = Compiled::of(template).map_err(|failed| write::unwritten(&failed.into()))?;
                from_compiled(&compiled, &wanted.variables, self.context(), wanted.locale.as_deref())
                    .map_err(|unwritten| write::unwritten(&unwritten))?
            }
        };
        if self.channel == Channel::Sms
            && let Err(detail) = segments(&self.account, &parts.text)
        {
            let pointer = if self.template.is_some() { "/variables" } else { "/content/text" };
            return Err(Problem::invalid(pointer, "too_many_segments", detail));
        }
        Ok(parts)
    }

    /// The files of the template. The object store takes its time: no transaction waits for it.
    ///
    /// # Errors
    /// Whatever the stores say.
    pub async fn files(&self, app: &App) -> Result<Vec<OutgoingAttachment>, Problem> {
        match &self.template {
            None => Ok(Vec::new()),
            Some(template) => files::load(app, template).await.map_err(raw_problem),
        }
    }

    /// The header fields that the message bears for what it is.
    ///
    /// # Errors
    /// `validation_failed` for marketing when receivers would not take a link to unsubscribe of this installation.
    pub fn fields(&self, category: TemplateCategory) -> Result<Vec<(String, String)>, Problem> {
        let pointer = if self.template.is_some() { "/template_id" } else { "/category" };
        let refused =
            |error: UnsubscribeError| Problem::invalid(pointer, "no_unsubscribe_link", error.to_string());
        category_fields(&self.links, self.id, self.channel, category).map_err(refused)
    }

    /// What the template reads.
    pub fn context(&self) -> GeneralContext {
        GeneralContext {
            customer: self.customer.as_ref().map(customers::context::of),
            campaign: self
                .campaign
                .as_ref()
                .map(|campaign| CampaignContext { id: campaign.id, name: campaign.name.clone() }),
            to: Some(RecipientContext { name: self.to.name.clone(), address: self.to.address.clone() }),
            account: Some(account_context(&self.account)),
            unsubscribe_url: Some(self.links.url(self.id)),
        }
    }
}

async fn customer_of(
    db: &impl ConnectionTrait,
    wanted: &MessageCreate,
) -> Result<Option<customer::Model>, Problem> {
    let (select, pointer) = match (wanted.customer_id, &wanted.customer_ref) {
        (Some(id), _) => (customer::Entity::find_by_id(id), "/customer_id"),
        (None, Some(known)) => {
            (customer::Entity::find().filter(customer::Column::Ref.eq(known)), "/customer_ref")
        }
        (None, None) => return Ok(None),
    };
    let found = select.one(db).await?;
    found.map(Some).ok_or_else(|| Problem::unknown_reference(pointer, "customer"))
}

/// What the message is sent over: as it says itself, or as what it names is for.
async fn channel_of(
    db: &impl ConnectionTrait,
    wanted: &MessageCreate,
    template: Option<&template::Model>,
) -> Result<Channel, Problem> {
    let said = wanted.channel.or_else(|| wanted.to.as_ref()?.channel());
    if let Some(known) = said.or_else(|| Some(template?.channel.into())) {
        return Ok(known);
    }
    let named = match wanted.account_id {
        Some(id) => account::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    Ok(named.map_or(Channel::Email, |account| account.channel))
}

/// Who is named, or the customer at their address or number.
fn recipient(
    wanted: &MessageCreate,
    channel: Channel,
    customer: Option<&customer::Model>,
    own: &[String],
) -> Result<Recipient, Problem> {
    let pointer = if wanted.customer_id.is_some() { "/customer_id" } else { "/customer_ref" };
    match (&wanted.to, customer) {
        (Some(to), _) => to.recipient(channel, "/to", own).map_err(|error| Problem::validation(vec![error])),
        (None, Some(customer)) if channel == Channel::Sms => {
            let address = customer.sms_number.clone().ok_or_else(|| {
                Problem::invalid(pointer, "no_address", "the customer has no number for texts")
            })?;
            Ok(Recipient { name: Some(customer.name.clone()).filter(|name| !name.is_empty()), address })
        }
        (None, Some(customer)) => {
            let address = customer.email.clone().ok_or_else(|| {
                Problem::invalid(pointer, "no_address", "the customer has no e-mail address")
            })?;
            let to = Recipient { name: Some(customer.name.clone()).filter(|name| !name.is_empty()), address };
            match to.wrong("", own) {
                None => Ok(to),
                Some(FieldError { code, detail, .. }) => Err(Problem::invalid(pointer, &code, detail)),
            }
        }
        (None, None) => Err(Problem::invalid("/to", "required", "say who gets it")),
    }
}

async fn campaign_of(
    db: &impl ConnectionTrait,
    wanted: &MessageCreate,
) -> Result<Option<campaign::Model>, Problem> {
    let Some(id) = wanted.campaign_id else { return Ok(None) };
    let found = campaign::Entity::find_by_id(id).one(db).await?;
    let found = found.ok_or_else(|| Problem::unknown_reference("/campaign_id", "campaign"))?;
    if found.state == CampaignState::Stopped {
        return Err(Problem::invalid("/campaign_id", "wrong_state", "the campaign is over"));
    }
    Ok(Some(found))
}

/// The account that is named, or the campaign's, or the only one that sends; and what of the body says so.
async fn account_of(
    db: &impl ConnectionTrait,
    wanted: &MessageCreate,
    channel: Channel,
    campaign: Option<&campaign::Model>,
) -> Result<(account::Model, &'static str), Problem> {
    let words = if channel == Channel::Email { "e-mail" } else { "texts" };
    let of_campaign = campaign.map(|campaign| campaign.sender(channel));
    let (id, pointer) = match (wanted.account_id, of_campaign) {
        (Some(id), _) => (Some(id), "/account_id"),
        (None, Some(Some(id))) => (Some(id), "/campaign_id"),
        (None, Some(None)) => {
            let detail = format!("the campaign has no account for {words}");
            return Err(Problem::invalid("/campaign_id", "no_sender_account", detail));
        }
        (None, None) => (None, "/account_id"),
    };
    if let Some(id) = id {
        let found = account::Entity::find_by_id(id).one(db).await?;
        return Ok((found.ok_or_else(|| Problem::unknown_reference(pointer, "account"))?, pointer));
    }
    let mut in_use = account::Entity::find()
        .filter(account::Column::Channel.eq(channel))
        .filter(account::Column::State.is_in(IN_USE))
        .limit(2)
        .all(db)
        .await?;
    match (in_use.pop(), in_use.is_empty()) {
        (Some(only), true) => Ok((only, pointer)),
        (None, _) => Err(Problem::invalid(pointer, "required", format!("no account for {words} is in use"))),
        (Some(_), false) => {
            Err(Problem::invalid(pointer, "required", "several accounts are in use: name one"))
        }
    }
}
