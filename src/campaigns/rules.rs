//! Message rules: when something happens to a customer, which template is sent. What is wrong with them.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::entity::CampaignState;
use crate::{
    accounts::entity::Channel,
    clock::Timestamp,
    customers::entity::{OutcomeCategory, outcome},
    db::among,
    http::problem::FieldError,
    id::{CalendarId, RuleId, TemplateId},
    scripts::entity::calendar,
    templates::entity::{self as template, TemplatePurpose, TemplateState},
};

/// Most rules of one campaign or list.
pub const MAX_RULES: usize = 50;

/// What a rule waits for.
///
/// - `first_attempt`: the customer is tried for the first time.
/// - `terminated`: the customer is given up.
/// - `outcome`: an attempt ends with one of some outcomes.
/// - `callback_set`: a call-back is agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleTrigger {
    /// The customer is tried for the first time.
    FirstAttempt,
    /// The customer is given up.
    Terminated,
    /// An attempt ends with one of some outcomes.
    Outcome,
    /// A call-back is agreed.
    CallbackSet,
}

/// What more must hold for a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleMatch {
    /// For `outcome`: one of these.
    #[serde(default)]
    #[schema(max_items = 100, inline = false, examples(json!(["no_answer"])))]
    pub outcome_codes: Vec<OutcomeCode>,
    /// For `terminated`: the category with which the customer is given up; `non_contact` when it is left out.
    #[serde(default)]
    pub termination_category: Option<OutcomeCategory>,
}

/// The code of an outcome, as the dialler reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 100, examples("no_answer"))]
pub struct OutcomeCode(pub String);

/// When something may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendWindow {
    /// Only while this calendar is open; else when it opens next.
    pub calendar_id: CalendarId,
}

/// When something happens to a customer, this template is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "We tried to reach you", "trigger": "first_attempt", "template_id": "019aa1b2-0000-7000-8000-000000000001",
    "delay_s": 600
}))]
pub struct MessageRule {
    /// The rule's id; given when it is left out, and kept for a rule of the same name.
    #[serde(default)]
    pub id: Option<RuleId>,
    /// Its name, unique among the rules.
    #[schema(min_length = 1, max_length = 100, examples("We tried to reach you"))]
    pub name: String,
    /// What it waits for.
    pub trigger: RuleTrigger,
    /// What more must hold.
    #[serde(default, rename = "match")]
    pub matches: RuleMatch,
    /// What it is sent over.
    #[serde(default = "email")]
    #[schema(default = "email")]
    pub channel: Channel,
    /// What is sent.
    pub template_id: TemplateId,
    /// How long after that; at most 30 days.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2_592_000, default = 0, examples(600))]
    pub delay_s: i64,
    /// Whether a customer gets it only once.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub once: bool,
    /// When it may be sent; at any time when it is left out.
    #[serde(default)]
    pub send_window: Option<SendWindow>,
}

const fn email() -> Channel {
    Channel::Email
}

const fn yes() -> bool {
    true
}

impl MessageRule {
    /// Whether its `match` holds for what happened.
    pub fn matches(&self, code: Option<&str>, category: Option<OutcomeCategory>) -> bool {
        match self.trigger {
            RuleTrigger::FirstAttempt | RuleTrigger::CallbackSet => true,
            RuleTrigger::Outcome => {
                code.is_some_and(|code| self.matches.outcome_codes.iter().any(|one| one.0 == code))
            }
            RuleTrigger::Terminated => {
                category == Some(self.matches.termination_category.unwrap_or(OutcomeCategory::NonContact))
            }
        }
    }
}

/// Stored rules.
pub fn stored(rules: &Value) -> Vec<MessageRule> {
    serde_json::from_value(rules.clone()).unwrap_or_default()
}

/// Gives each rule an id: its own, that of the rule of the same name, or a new one.
///
/// # Errors
/// Which id is none of `known`, or comes twice.
pub(super) fn identify(
    mut rules: Vec<MessageRule>,
    known: &[MessageRule],
    now: Timestamp,
) -> Result<Vec<MessageRule>, Vec<FieldError>> {
    let (mut errors, mut seen) = (Vec::new(), HashSet::new());
    let given: HashSet<RuleId> = rules.iter().filter_map(|rule| rule.id).collect();
    for (i, rule) in rules.iter_mut().enumerate() {
        if rule.id.is_some_and(|id| known.iter().all(|known| known.id != Some(id))) {
            let detail = "there is no rule with this id: leave it out to have one given";
            errors.push(FieldError::new(format!("/message_rules/{i}/id"), "unknown_reference", detail));
        }
        let namesake = known.iter().find(|known| known.name == rule.name).and_then(|known| known.id);
        let namesake = namesake.filter(|id| !given.contains(id));
        let id = rule.id.or(namesake).unwrap_or_else(|| RuleId::new(now));
        if !seen.insert(id) {
            let detail = "another rule has this id";
            errors.push(FieldError::new(format!("/message_rules/{i}/id"), "duplicate", detail));
        }
        rule.id = Some(id);
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// What is wrong with rules in themselves and with what they name. While their campaign runs, their templates are published.
///
/// # Errors
/// Whatever the database says.
pub(super) async fn wrong(
    db: &impl ConnectionTrait,
    rules: &[MessageRule],
    state: CampaignState,
) -> Result<Vec<FieldError>, DbErr> {
    let known = Known::of(db, rules).await?;
    let running = matches!(state, CampaignState::Active | CampaignState::Suspended);
    let mut errors = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let at = |member: &str| format!("/message_rules/{i}/{member}");
        let mut wrong = |member: &str, code: &str, detail: &str| {
            errors.push(FieldError::new(at(member), code, detail));
        };
        if rules[..i].iter().any(|other| other.name == rule.name) {
            wrong("name", "duplicate", "another rule has this name");
        }
        if let Some((code, detail)) = known.wrong_template(rule, running) {
            wrong("template_id", code, detail);
        }
        if rule.send_window.is_some_and(|window| !known.calendars.contains(&window.calendar_id)) {
            wrong("send_window/calendar_id", "unknown_reference", "there is no such calendar");
        }
        let (codes, category) = (&rule.matches.outcome_codes, rule.matches.termination_category);
        match rule.trigger {
            RuleTrigger::Outcome if codes.is_empty() => {
                wrong("match/outcome_codes", "required", "say which outcomes");
            }
            RuleTrigger::Outcome => {}
            _ if !codes.is_empty() => {
                wrong("match/outcome_codes", "wrong_trigger", "only rules for `outcome` have outcomes");
            }
            _ => {}
        }
        if category.is_some() && rule.trigger != RuleTrigger::Terminated {
            wrong(
                "match/termination_category",
                "wrong_trigger",
                "only rules for `terminated` have a category",
            );
        }
        for (n, code) in codes.iter().enumerate().filter(|(_, code)| !known.codes.contains(&code.0)) {
            let detail = format!("there is no outcome `{}`", code.0);
            wrong(&format!("match/outcome_codes/{n}"), "unknown_reference", &detail);
        }
    }
    Ok(errors)
}

/// What rules name and what there is of it.
struct Known {
    templates: HashMap<TemplateId, template::Model>,
    calendars: HashSet<CalendarId>,
    codes: HashSet<String>,
}

impl Known {
    async fn of(db: &impl ConnectionTrait, rules: &[MessageRule]) -> Result<Self, DbErr> {
        let mut known = Self { templates: HashMap::new(), calendars: HashSet::new(), codes: HashSet::new() };
        if rules.is_empty() {
            return Ok(known);
        }
        let wanted = rules.iter().map(|rule| rule.template_id);
        let templates = template::Entity::find().filter(among(template::Column::Id, wanted)).all(db).await?;
        known.templates = templates.into_iter().map(|row| (row.id, row)).collect();
        let windows: Vec<CalendarId> =
            rules.iter().filter_map(|rule| Some(rule.send_window?.calendar_id)).collect();
        if !windows.is_empty() {
            let ids = calendar::Entity::find().select_only().column(calendar::Column::Id);
            let ids = ids.filter(among(calendar::Column::Id, windows)).into_tuple::<CalendarId>();
            known.calendars = ids.all(db).await?.into_iter().collect();
        }
        let codes: HashSet<String> =
            rules.iter().flat_map(|rule| &rule.matches.outcome_codes).map(|code| code.0.clone()).collect();
        for codes in codes.into_iter().collect::<Vec<_>>().chunks(500) {
            let found = outcome::Entity::find().select_only().column(outcome::Column::Code);
            let found =
                found.filter(among(outcome::Column::Code, codes.iter().cloned())).into_tuple::<String>();
            known.codes.extend(found.all(db).await?);
        }
        Ok(known)
    }

    fn wrong_template(&self, rule: &MessageRule, running: bool) -> Option<(&'static str, &'static str)> {
        let Some(template) = self.templates.get(&rule.template_id) else {
            return Some(("unknown_reference", "there is no such template"));
        };
        if Channel::from(template.channel) != rule.channel {
            return Some(("wrong_channel", "the template is for another channel"));
        }
        if template.purpose != TemplatePurpose::General {
            return Some(("wrong_purpose", "the template is for receipts"));
        }
        (running && template.state != TemplateState::Published)
            .then_some(("template_not_published", "the campaign runs: publish the template first"))
    }
}
