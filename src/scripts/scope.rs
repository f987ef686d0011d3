//! The root that expressions are evaluated in: facts made into values, each the first time it is read.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use minijinja::value::{Object, Serde, Value};
use serde::Serialize;
use serde_json::Value as Json;

use super::facts::{Facts, ItemFacts};

/// The names that expressions may begin with.
pub(super) const ROOTS: [&str; 7] = ["message", "account", "conversation", "item", "vars", "globals", "now"];

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

#[derive(Debug)]
struct Roots {
    facts: Arc<Facts>,
    message: OnceLock<Value>,
    account: OnceLock<Value>,
    conversation: OnceLock<Value>,
    globals: OnceLock<Value>,
    now: OnceLock<Value>,
}

/// The roots of one turn; what a step changes is put in anew, the rest is shared.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    roots: Arc<Roots>,
    vars: Value,
    item: Value,
}

impl Scope {
    pub(super) fn new(facts: &Arc<Facts>, vars: &BTreeMap<String, Json>) -> Self {
        let roots = Roots {
            facts: Arc::clone(facts),
            message: OnceLock::new(),
            account: OnceLock::new(),
            conversation: OnceLock::new(),
            globals: OnceLock::new(),
            now: OnceLock::new(),
        };
        let item = of(&facts.item);
        Self { roots: Arc::new(roots), vars: of(vars), item }
    }

    pub(super) fn set_vars(&mut self, vars: &BTreeMap<String, Json>) {
        self.vars = of(vars);
    }

    pub(super) fn set_item(&mut self, item: &ItemFacts) {
        self.item = of(item);
    }

    pub(super) fn value(&self) -> Value {
        Value::from_object(self.clone())
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let Roots { facts, message, account, conversation, globals, now } = &*self.roots;
        let value = match key {
            "message" => message.get_or_init(|| of(&facts.message)),
            "account" => account.get_or_init(|| of(&facts.account)),
            "conversation" => conversation.get_or_init(|| of(&facts.conversation)),
            "globals" => globals.get_or_init(|| of(&facts.globals)),
            "now" => now.get_or_init(|| now_in(facts.at.with_timezone(&facts.timezone))),
            "item" => &self.item,
            "vars" => &self.vars,
            _ => return None,
        };
        Some(value.clone())
    }
}

fn now_in(at: DateTime<Tz>) -> Value {
    let weekday = WEEKDAYS.get(at.weekday().num_days_from_monday() as usize).copied().unwrap_or_default();
    Value::from_pairs([
        ("iso", Value::from(at.to_rfc3339())),
        ("date", Value::from(at.format("%Y-%m-%d").to_string())),
        ("time", Value::from(at.format("%H:%M").to_string())),
        ("year", Value::from(at.year())),
        ("month", Value::from(at.month())),
        ("day", Value::from(at.day())),
        ("hour", Value::from(at.hour())),
        ("minute", Value::from(at.minute())),
        ("weekday", Value::from(weekday)),
        ("unix", Value::from(at.timestamp())),
        ("timezone", Value::from(at.timezone().name())),
    ])
}

fn of<T: Serialize>(fact: T) -> Value {
    Value::from(Serde(fact))
}
