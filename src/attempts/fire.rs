//! Which rules fire for what happened to a customer, and what they send.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect,
};
use serde_json::Map;
use tokio::task::spawn_blocking;

use super::{
    api::{AttemptMessage, SkipReason, SkippedRule},
    files::Files,
    status::{Ending, Happened},
};
use crate::{
    accounts::entity::{Channel, account},
    app::App,
    campaigns::{
        entity::{CampaignState, campaign, rule_send},
        lists::effective,
        rules::{MessageRule, RuleTrigger},
    },
    clock::Timestamp,
    conversations::{
        outbound::{Filed, Press},
        recipient::Recipient,
        texts::segments,
    },
    customers::{
        context,
        entity::{ListState, customer, customer_list},
    },
    db::among,
    http::Problem,
    id::{CalendarId, ConversationId, MessageId, RuleId, TemplateId, UserId, new_uuid},
    mail::compose::ComposeError,
    scripts::{calendar::Calendar, entity::calendar, library::stored_calendar},
    sends::begin::{
        self, About, Beginning, IN_USE, Place, Unwritten, account_context, category_fields, from_template,
    },
    suppressions::{AddressKeys, Barred, entity::SuppressionReason, link::Links},
    templates::{
        context::{CampaignContext, GeneralContext, RecipientContext},
        entity::{self as template, TemplateCategory, TemplateState},
    },
};

/// Why a rule sends nothing.
struct Skip {
    reason: SkipReason,
    detail: String,
    suppressed_by: Option<SuppressionReason>,
}

impl Skip {
    fn new(reason: SkipReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), suppressed_by: None }
    }

    fn of(self, rule: &MessageRule, rule_id: RuleId) -> SkippedRule {
        let Self { reason, detail, suppressed_by } = self;
        SkippedRule { rule_id, name: rule.name.clone(), trigger: rule.trigger, reason, detail, suppressed_by }
    }
}

/// A customer to whom something happened, and what the rules look at.
pub(super) struct Case<'a> {
    pub app: &'a App,
    pub tx: &'a DatabaseTransaction,
    pub now: Timestamp,
    pub press: &'a Press,
    pub customer: &'a customer::Model,
    pub list: &'a customer_list::Model,
    pub campaign: &'a campaign::Model,
    pub author_id: Option<UserId>,
    /// The files of the templates that the rules name.
    pub files: &'a Files,
}

/// What the rules need, read once.
struct Read {
    /// The senders, one for each channel at most.
    accounts: HashMap<Channel, account::Model>,
    /// The conversation that texts are in.
    place: Option<Place>,
    templates: HashMap<TemplateId, template::Model>,
    calendars: HashMap<CalendarId, Calendar>,
    /// The rules that have sent something to the customer.
    sent: HashSet<RuleId>,
    barred: Barred,
    links: Links,
}

impl Case<'_> {
    /// Sends what the rules say; tells what, and which rules of the same triggers send nothing and why.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn fire(
        &self,
        happened: &Happened,
        ending: &Ending,
    ) -> Result<(Vec<AttemptMessage>, Vec<SkippedRule>), Problem> {
        let rules: Vec<MessageRule> = effective(self.list, Some(self.campaign))
            .into_iter()
            .filter(|rule| happened.triggers.contains(&rule.trigger))
            .collect();
        if rules.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let read = self.read(&rules).await?;
        let (mut begun, mut skipped) = (Vec::new(), Vec::new());
        for rule in rules {
            let Some(rule_id) = rule.id else { continue };
            match self.judge(&rule, rule_id, happened, ending, &read) {
                Ok(beginning) => begun.push((rule, rule_id, beginning)),
                Err(skip) => skipped.push(skip.of(&rule, rule_id)),
            }
        }
        let mut printed = Vec::with_capacity(begun.len());
        for (rule, rule_id, beginning, filed) in self.print(&read.accounts, begun).await? {
            match filed {
                Ok(filed) => printed.push((rule, rule_id, beginning, filed)),
                Err(error) => {
                    skipped.push(Skip::new(SkipReason::RenderFailed, error.to_string()).of(&rule, rule_id));
                }
            }
        }
        Ok((self.file(&read.accounts, printed).await?, skipped))
    }

    /// Composes what is to be sent on another thread: signing takes its time, and others are served by this one.
    async fn print(
        &self,
        accounts: &HashMap<Channel, account::Model>,
        begun: Vec<(MessageRule, RuleId, Beginning)>,
    ) -> Result<Vec<(MessageRule, RuleId, Beginning, Result<Filed, ComposeError>)>, Problem> {
        if begun.is_empty() {
            return Ok(Vec::new());
        }
        let (press, accounts) = (self.press.clone(), accounts.clone());
        let print = move |(rule, rule_id, beginning): (MessageRule, RuleId, Beginning)| {
            let filed = beginning.print(&press, accounts.get(&rule.channel)?);
            Some((rule, rule_id, beginning, filed))
        };
        let printed = spawn_blocking(move || begun.into_iter().filter_map(print).collect()).await;
        printed.map_err(Problem::internal)
    }

    async fn file(
        &self,
        accounts: &HashMap<Channel, account::Model>,
        begun: Vec<(MessageRule, RuleId, Beginning, Filed)>,
    ) -> Result<Vec<AttemptMessage>, DbErr> {
        if begun.is_empty() {
            return Ok(Vec::new());
        }
        let mails = begun
            .iter()
            .filter_map(|(rule, _, begun, filed)| Some((begun, accounts.get(&rule.channel)?, filed.clone())));
        let mails = mails.collect();
        let states = begin::file(self.app, self.tx, self.now, mails).await?;
        let sends = begun.iter().map(|(_, rule_id, begun, _)| rule_send::ActiveModel {
            id: Set(new_uuid(self.now)),
            customer_id: Set(self.customer.id),
            rule_id: Set(*rule_id),
            message_id: Set(begun.id),
            created_at: Set(self.now),
        });
        rule_send::Entity::insert_many(sends).exec_without_returning(self.tx).await?;
        let shown = begun.into_iter().zip(states).map(|((rule, rule_id, begun, _), state)| AttemptMessage {
            rule_id,
            name: rule.name,
            trigger: rule.trigger,
            message_id: begun.id,
            conversation_id: begun.place.conversation_id,
            template_id: rule.template_id,
            subject: begun.parts.subject,
            to: begun.to,
            state,
            send_at: begun.not_before,
        });
        Ok(shown.collect())
    }

    async fn read(&self, rules: &[MessageRule]) -> Result<Read, DbErr> {
        let (tx, customer) = (self.tx, self.customer);
        let ids = rules.iter().map(|rule| rule.template_id);
        let templates = template::Entity::find().filter(among(template::Column::Id, ids)).all(tx).await?;
        // The rules were changed since the files were read: who reports tries again.
        if !templates.iter().all(|template| self.files.has(template)) {
            return Err(DbErr::RecordNotUpdated);
        }
        let sent: Vec<RuleId> = rule_send::Entity::find()
            .select_only()
            .column(rule_send::Column::RuleId)
            .filter(rule_send::Column::CustomerId.eq(customer.id))
            .into_tuple()
            .all(tx)
            .await?;
        let mut accounts = HashMap::new();
        for channel in [Channel::Email, Channel::Sms] {
            let wanted = rules.iter().any(|rule| rule.channel == channel);
            let Some(id) = self.campaign.sender(channel).filter(|_| wanted) else { continue };
            accounts.extend(account::Entity::find_by_id(id).one(tx).await?.map(|row| (channel, row)));
        }
        let place = match (accounts.get(&Channel::Sms), &customer.sms_number) {
            (Some(account), Some(number)) => {
                let to = Recipient { name: None, address: number.clone() };
                Some(Place::of(tx, account, &to, self.now).await?)
            }
            _ => None,
        };
        let address = [&customer.email, &customer.sms_number].into_iter().flatten().map(String::as_str);
        Ok(Read {
            accounts,
            place,
            templates: templates.into_iter().map(|row| (row.id, row)).collect(),
            calendars: calendars(tx, rules).await?,
            sent: sent.into_iter().collect(),
            links: Links::of(self.app),
            barred: Barred::among(tx, AddressKeys::of(self.app), address, self.now).await?,
        })
    }

    /// The message of a rule, or why there is none.
    fn judge(
        &self,
        rule: &MessageRule,
        rule_id: RuleId,
        happened: &Happened,
        ending: &Ending,
        read: &Read,
    ) -> Result<Beginning, Skip> {
        self.fits(rule, happened, ending)?;
        let template = sendable(rule, read)?;
        let account = sender(rule, read)?;
        let to = self.recipient(rule.channel)?;
        if rule.once && read.sent.contains(&rule_id) {
            return Err(Skip::new(SkipReason::Once, "the customer has got it before"));
        }
        let marketing = template.category == TemplateCategory::Marketing;
        if let Some(reason) = read.barred.reason(&to.address, marketing, Some(self.campaign.id)) {
            let suppressed_by = Some(reason);
            return Err(Skip { suppressed_by, ..Skip::new(SkipReason::Suppressed, reason.words()) });
        }
        let not_before = self.not_before(rule, read)?;
        let id = MessageId::new(self.now);
        let fields = category_fields(&read.links, id, rule.channel, template.category);
        let fields = fields.map_err(|error| Skip::new(SkipReason::NoUnsubscribeLink, error.to_string()))?;
        let context = GeneralContext {
            customer: Some(context::of(self.customer)),
            campaign: Some(CampaignContext { id: self.campaign.id, name: self.campaign.name.clone() }),
            to: Some(RecipientContext { name: to.name.clone(), address: to.address.clone() }),
            account: Some(account_context(account)),
            unsubscribe_url: Some(read.links.url(id)),
        };
        let parts = from_template(template, &Map::new(), context).map_err(|why| match &why {
            Unwritten::Field(fault) if fault.code == "missing_field" => {
                Skip::new(SkipReason::MissingField, why.to_string())
            }
            _ => Skip::new(SkipReason::RenderFailed, why.to_string()),
        })?;
        if rule.channel == Channel::Sms {
            segments(account, &parts.text)
                .map_err(|detail| Skip::new(SkipReason::TooManySegments, detail))?;
        }
        let begins = Place { conversation_id: ConversationId::new(self.now), is_known: false };
        Ok(Beginning {
            id,
            place: read.place.filter(|_| rule.channel == Channel::Sms).unwrap_or(begins),
            to,
            parts,
            files: self.files.of(template),
            fields,
            author_id: self.author_id,
            about: About {
                template_id: Some(template.id),
                customer_id: Some(self.customer.id),
                campaign_id: Some(self.campaign.id),
                category: template.category,
                external_ref: None,
            },
            not_before,
            window: rule.send_window.map(|window| window.calendar_id),
            barred: None,
        })
    }

    /// Whether what happened is what the rule waits for.
    fn fits(&self, rule: &MessageRule, happened: &Happened, ending: &Ending) -> Result<(), Skip> {
        if self.campaign.state != CampaignState::Active {
            return Err(Skip::new(SkipReason::CampaignNotActive, "the campaign is not active"));
        }
        if self.list.state == ListState::Inactive {
            return Err(Skip::new(SkipReason::ListInactive, "the customer's list is inactive"));
        }
        if !rule.matches(ending.code.as_deref(), ending.category) {
            return Err(Skip::new(SkipReason::NoMatch, "what was reported is not what the rule waits for"));
        }
        if happened.was_terminated {
            return Err(Skip::new(SkipReason::CustomerTerminated, "the customer had been given up before"));
        }
        // A rule that names this ending may still confirm it.
        let names_it = matches!(rule.trigger, RuleTrigger::Outcome | RuleTrigger::Terminated);
        if happened.leave_alone && !names_it {
            return Err(Skip::new(SkipReason::DoNotContact, "the customer wants no contact"));
        }
        Ok(())
    }

    fn recipient(&self, channel: Channel) -> Result<Recipient, Skip> {
        let name = Some(self.customer.name.clone()).filter(|name| !name.is_empty());
        if channel == Channel::Sms {
            let number = self.customer.sms_number.clone();
            let none = || Skip::new(SkipReason::NoAddress, "the customer has no number for texts");
            return Ok(Recipient { name, address: number.ok_or_else(none)? });
        }
        let Some(address) = self.customer.email.clone() else {
            return Err(Skip::new(SkipReason::NoAddress, "the customer has no e-mail address"));
        };
        let to = Recipient { name, address };
        match to.wrong("", &[]) {
            Some(error) => Err(Skip::new(SkipReason::NoAddress, error.detail)),
            None => Ok(to),
        }
    }

    /// When it may go out: after the rule's delay, when its calendar is open; none for at once.
    fn not_before(&self, rule: &MessageRule, read: &Read) -> Result<Option<Timestamp>, Skip> {
        let due = self.now.plus_s(rule.delay_s);
        let Some(window) = rule.send_window else { return Ok(Some(due).filter(|at| *at > self.now)) };
        let never = |detail: &str| Skip::new(SkipReason::WindowNeverOpens, detail);
        let calendar = read.calendars.get(&window.calendar_id);
        let calendar = calendar.ok_or_else(|| never("there is no such calendar any more"))?;
        let open = calendar.open_from(due.to_chrono());
        let open = open.ok_or_else(|| never("the calendar does not open within 400 days"))?;
        Ok(Some(Timestamp::from(open)).filter(|at| *at > self.now))
    }
}

fn sendable<'a>(rule: &MessageRule, read: &'a Read) -> Result<&'a template::Model, Skip> {
    let template = read.templates.get(&rule.template_id);
    let Some(template) = template.filter(|template| template.state == TemplateState::Published) else {
        return Err(Skip::new(SkipReason::TemplateNotPublished, "the template is not published"));
    };
    if Channel::from(template.channel) != rule.channel {
        return Err(Skip::new(SkipReason::TemplateNotPublished, "the template is for another channel"));
    }
    Ok(template)
}

fn sender<'a>(rule: &MessageRule, read: &'a Read) -> Result<&'a account::Model, Skip> {
    let Some(account) = read.accounts.get(&rule.channel) else {
        let detail = match rule.channel {
            Channel::Email => "the campaign has no account for e-mail",
            Channel::Sms => "the campaign has no account for texts",
        };
        return Err(Skip::new(SkipReason::NoSenderAccount, detail));
    };
    if IN_USE.contains(&account.state) {
        return Ok(account);
    }
    Err(Skip::new(SkipReason::AccountNotInUse, "the campaign's account is not in use"))
}

async fn calendars(
    db: &impl ConnectionTrait,
    rules: &[MessageRule],
) -> Result<HashMap<CalendarId, Calendar>, DbErr> {
    let ids: Vec<CalendarId> = rules.iter().filter_map(|rule| Some(rule.send_window?.calendar_id)).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = calendar::Entity::find().filter(among(calendar::Column::Id, ids)).all(db).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.id, stored_calendar(row).ok()?))).collect())
}
