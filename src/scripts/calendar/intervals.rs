//! From local days and times to moments, across changes of the clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::{Calendar, Day, Entry, Rank, Rule, TimeOfDay};

/// How far ahead [`Calendar::next_change`] looks, in days.
pub const HORIZON_DAYS: u32 = 400;

/// Longest gap that a change of the clock has made so far is a day; a little more ends the search for its end.
const LONGEST_GAP_MINUTES: i64 = 26 * 60;

/// When an entry holds: from a moment to another one, which is excluded.
type Interval = (DateTime<Utc>, DateTime<Utc>);

impl Calendar {
    /// The first moment after `at` at which the calendar opens or closes; `None` if there is none within 400 days.
    pub fn next_change(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (zone, open) = (self.timezone.0, self.is_open(at));
        // Day by day, so that the usual answer (today or tomorrow) costs no more than those days.
        let mut day = at.with_timezone(&zone).date_naive();
        let mut lasting = self.intervals_on(day.pred_opt()?);
        let mut start = DateTime::<Utc>::MIN_UTC;
        for _ in 0..=HORIZON_DAYS {
            let next_day = day.succ_opt()?;
            let end = first_moment(zone, local(next_day, TimeOfDay::MIDNIGHT)?)?;
            // No interval reaches further than into the day after the one on which it begins.
            let today = self.intervals_on(day);
            lasting.extend_from_slice(&today);
            let is_next = |edge: DateTime<Utc>| edge > at && start <= edge && edge < end;
            let next = changes(&lasting).find(|(edge, now_open)| is_next(*edge) && *now_open != open);
            if let Some((edge, _)) = next {
                return Some(edge);
            }
            lasting = today;
            lasting.retain(|((_, to), _)| *to >= end);
            (day, start) = (next_day, end);
        }
        None
    }

    /// The first moment from `at` on at which the calendar is open; `None` if there is none within 400 days.
    pub fn open_from(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.is_open(at) { Some(at) } else { self.next_change(at) }
    }

    /// The intervals that begin on a local day, with the rank of their entries.
    fn intervals_on(&self, day: NaiveDate) -> Vec<(Interval, Rank)> {
        let intervals = self.entries.iter().filter_map(|entry| {
            let interval = entry.interval_on(self.timezone.0, day)?;
            Some((interval, entry.rank()))
        });
        intervals.collect()
    }
}

/// The moments at which an interval begins or ends, in order, and whether it is open from then on.
fn changes(intervals: &[(Interval, Rank)]) -> impl Iterator<Item = (DateTime<Utc>, bool)> {
    let edges = intervals.iter().flat_map(|((from, to), rank)| [(*from, true, *rank), (*to, false, *rank)]);
    let mut edges: Vec<_> = edges.collect();
    edges.sort_unstable();
    let mut edges = edges.into_iter().peekable();
    let mut holding: BTreeMap<Rank, usize> = BTreeMap::new();
    std::iter::from_fn(move || {
        let (moment, ..) = *edges.peek()?;
        // Ends come before beginnings, and of one rank as many end as began.
        while let Some((_, begins, rank)) = edges.next_if(|(at, ..)| *at == moment) {
            let count = holding.entry(rank).or_default();
            if begins {
                *count += 1;
            } else {
                *count -= 1;
            }
            if *count == 0 {
                holding.remove(&rank);
            }
        }
        Some((moment, holding.last_key_value().is_some_and(|(rank, _)| rank.opens())))
    })
}

impl Entry {
    /// Whether the entry holds at `at`.
    pub(super) fn covers(&self, zone: Tz, at: DateTime<Utc>) -> bool {
        let today = at.with_timezone(&zone).date_naive();
        // What began yesterday may last into today.
        let days = [Some(today), today.pred_opt()];
        days.into_iter()
            .flatten()
            .filter_map(|day| self.interval_on(zone, day))
            .any(|(from, to)| from <= at && at < to)
    }

    /// The interval that begins on the local day `day`, its end excluded; `None` if none begins then.
    pub(super) fn interval_on(&self, zone: Tz, day: NaiveDate) -> Option<Interval> {
        if !self.rule.begins_on(day) {
            return None;
        }
        let (from, to) = self.rule.hours();
        let last = if to > from { day } else { day.succ_opt()? };
        let interval = (first_moment(zone, local(day, from)?)?, last_moment(zone, local(last, to)?)?);
        // A time that the clocks skip altogether leaves nothing.
        (interval.0 < interval.1).then_some(interval)
    }
}

impl Rule {
    fn begins_on(&self, day: NaiveDate) -> bool {
        match self {
            Self::Weekly { days, .. } => days.contains(&Day::from(day.weekday())),
            Self::Date { on, .. } => *on == day,
            Self::DateRange { first, last, .. } => (*first..=*last).contains(&day),
            Self::Yearly { month, day: of_month, .. } => {
                day.month() == u32::from(*month) && day.day() == u32::from(*of_month)
            }
        }
    }

    /// The hours of each day; whole days without any.
    fn hours(&self) -> (TimeOfDay, TimeOfDay) {
        let (from, to) = match self {
            Self::Weekly { from, to, .. } => (Some(*from), Some(*to)),
            Self::Date { from, to, .. }
            | Self::DateRange { from, to, .. }
            | Self::Yearly { from, to, .. } => (*from, *to),
        };
        (from.unwrap_or(TimeOfDay::MIDNIGHT), to.unwrap_or(TimeOfDay::END))
    }
}

fn local(day: NaiveDate, time: TimeOfDay) -> Option<NaiveDateTime> {
    day.and_hms_opt(0, 0, 0)?.checked_add_signed(TimeDelta::minutes(i64::from(time.minutes())))
}

fn first_moment(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
        LocalResult::None => end_of_gap(zone, local),
    }
}

fn last_moment(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => Some(at.to_utc()),
        LocalResult::None => end_of_gap(zone, local),
    }
}

/// The moment at which the clocks jump over `local`.
fn end_of_gap(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    let later =
        (1..=LONGEST_GAP_MINUTES).filter_map(|minutes| local.checked_add_signed(TimeDelta::minutes(minutes)));
    later.filter_map(|local| zone.from_local_datetime(&local).earliest()).map(|at| at.to_utc()).next()
}
