//! What types cannot say of a calendar: names, orders and days that do not exist.

use std::collections::HashSet;

use chrono::NaiveDate;

use super::{Calendar, Rule, TimeOfDay};
use crate::scripts::problem::{Problem, Report};

const MAX_ENTRIES: u64 = 500;
const MAX_NAME: usize = 64;
/// A leap year, in which every day of any year exists.
const LEAP_YEAR: i32 = 2024;

impl Calendar {
    /// Every problem of the calendar, with JSON pointers into it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut report = Report::default();
        report.range("/entries", self.entries.len() as u64, 0, MAX_ENTRIES);
        let mut names = HashSet::new();
        for (i, entry) in self.entries.iter().enumerate() {
            let at = format!("/entries/{i}");
            check_name(&entry.name, &at, &mut report);
            if !names.insert(entry.name.as_str()) {
                report.add(
                    &format!("{at}/name"),
                    "duplicate_name",
                    format!("`{}` is there already", entry.name),
                );
            }
            if !(-100..=100).contains(&entry.priority) {
                report.add(&format!("{at}/priority"), "out_of_range", "a priority lies between -100 and 100");
            }
            check_rule(&entry.rule, &format!("{at}/rule"), &mut report);
        }
        report.into_problems()
    }
}

fn check_name(name: &str, at: &str, report: &mut Report) {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME {
        report.add(&format!("{at}/name"), "invalid_name", format!("a name has 1 to {MAX_NAME} characters"));
    }
    if name == "open" || name == "closed" {
        report.add(
            &format!("{at}/name"),
            "reserved_name",
            format!("`{name}` already means a state of the calendar"),
        );
    }
}

fn check_rule(rule: &Rule, at: &str, report: &mut Report) {
    match rule {
        Rule::Weekly { days, from, to } => {
            if days.is_empty() {
                report.add(&format!("{at}/days"), "missing_days", "a weekly rule names at least one day");
            }
            check_hours(Some(*from), Some(*to), at, report);
        }
        Rule::Date { from, to, .. } => check_hours(*from, *to, at, report),
        Rule::DateRange { first, last, from, to } => {
            if last < first {
                report.add(&format!("{at}/last"), "reversed_range", "the last day is before the first");
            }
            check_hours(*from, *to, at, report);
        }
        Rule::Yearly { month, day, from, to } => {
            if NaiveDate::from_ymd_opt(LEAP_YEAR, u32::from(*month), u32::from(*day)).is_none() {
                report.add(&format!("{at}/day"), "no_such_day", format!("month {month} has no day {day}"));
            }
            check_hours(*from, *to, at, report);
        }
    }
}

fn check_hours(from: Option<TimeOfDay>, to: Option<TimeOfDay>, at: &str, report: &mut Report) {
    match (from, to) {
        (Some(from), _) if from == TimeOfDay::END => {
            report.add(&format!("{at}/from"), "invalid_time", "24:00 can only be an end");
        }
        (Some(from), Some(to)) if from == to => {
            report.add(
                &format!("{at}/to"),
                "empty_interval",
                "the end is the beginning; whole days are 00:00 to 24:00",
            );
        }
        (Some(_), None) => report.add(&format!("{at}/to"), "missing_time", "`from` goes with `to`"),
        (None, Some(_)) => report.add(&format!("{at}/from"), "missing_time", "`to` goes with `from`"),
        _ => {}
    }
}
