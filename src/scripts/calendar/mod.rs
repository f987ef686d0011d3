//! Calendars: when something is open, in the time of a place.
//!
//! A calendar is closed unless an entry opens it. Where entries meet, the higher `priority` decides; at the same
//! priority an entry that closes beats one that opens. Times are local: where clocks go back, a time that comes twice
//! begins at its first and ends at its second coming; where they go forward, a time that is skipped is the moment of
//! the change.

mod check;
mod intervals;

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc, Weekday};
use chrono_tz::Tz;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// Opening hours, holidays and exceptions in one time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarRules, example = json!({
    "timezone": "Europe/London",
    "entries": [
        {"name": "Office hours", "kind": "open", "rule": {
            "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:30"}},
        {"name": "Christmas", "kind": "holiday", "rule": {"type": "yearly", "month": 12, "day": 25}}
    ]
}))]
pub struct Calendar {
    /// The IANA time zone in which the entries are meant.
    pub timezone: Timezone,
    /// What opens and what closes; no entry means always closed.
    #[schema(max_items = 500)]
    pub entries: Vec<Entry>,
}

/// One thing that opens or closes a calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CalendarEntry)]
pub struct Entry {
    /// The entry's name, unique in its calendar; not `open` and not `closed`.
    #[schema(min_length = 1, max_length = 64, example = "Office hours")]
    pub name: String,
    /// Whether it opens or closes.
    pub kind: Kind,
    /// When.
    pub rule: Rule,
    /// Higher beats lower, −100 to 100; a special opening on a holiday has a higher one than the holiday.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100, default = 0)]
    pub priority: i8,
}

/// Whether an entry opens or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CalendarEntryKind)]
pub enum Kind {
    /// Open then.
    Open,
    /// Closed then.
    Closed,
    /// Closed then, because of a holiday.
    Holiday,
}

impl Kind {
    /// Whether it opens.
    pub const fn opens(self) -> bool {
        matches!(self, Self::Open)
    }
}

/// What decides where entries meet: the higher one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: i8,
    closes: bool,
}

impl Rank {
    const fn opens(self) -> bool {
        !self.closes
    }
}

impl Entry {
    const fn rank(&self) -> Rank {
        Rank { priority: self.priority, closes: !self.kind.opens() }
    }
}

/// When an entry holds. Without times it is whole days; a `to` that is not after its `from` is on the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = CalendarRule)]
pub enum Rule {
    /// On some days of every week.
    Weekly {
        /// The days on which it begins.
        #[schema(min_items = 1, max_items = 7)]
        days: Vec<Day>,
        /// From this time.
        from: TimeOfDay,
        /// Until this time.
        to: TimeOfDay,
    },
    /// On one day.
    Date {
        /// The day.
        on: NaiveDate,
        /// From this time; goes with `to`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<TimeOfDay>,
        /// Until this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TimeOfDay>,
    },
    /// On every day from one to another, both included.
    DateRange {
        /// The first day.
        first: NaiveDate,
        /// The last day.
        last: NaiveDate,
        /// From this time on each day; goes with `to`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<TimeOfDay>,
        /// Until this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TimeOfDay>,
    },
    /// On the same day of every year; 29 February only in leap years.
    Yearly {
        /// The month, 1–12.
        #[schema(minimum = 1, maximum = 12)]
        month: u8,
        /// The day of the month, 1–31.
        #[schema(minimum = 1, maximum = 31)]
        day: u8,
        /// From this time; goes with `to`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<TimeOfDay>,
        /// Until this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TimeOfDay>,
    },
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DayOfWeek)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Mon => Self::Mon,
            Weekday::Tue => Self::Tue,
            Weekday::Wed => Self::Wed,
            Weekday::Thu => Self::Thu,
            Weekday::Fri => Self::Fri,
            Weekday::Sat => Self::Sat,
            Weekday::Sun => Self::Sun,
        }
    }
}

/// A local time of day to the minute, `HH:MM`, from `00:00` to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", example = "09:00")]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// The start of the day.
    pub const MIDNIGHT: Self = Self(0);
    /// The end of the day.
    pub const END: Self = Self(24 * 60);

    /// Reads `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let [h1, h2, b':', m1, m2] = text.as_bytes() else { return None };
        if ![h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = |tens: u8, ones: u8| u16::from(tens - b'0') * 10 + u16::from(ones - b'0');
        let (hours, minutes) = (number(*h1, *h2), number(*m1, *m2));
        let time = Self(hours * 60 + minutes);
        (minutes < 60 && time <= Self::END).then_some(time)
    }

    /// Minutes since midnight, 0–1440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a time of day such as 09:00")))
    }
}

/// An IANA time zone by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 64, example = "Europe/London")]
pub struct Timezone(pub Tz);

impl Serialize for Timezone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for Timezone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let zone =
            name.parse().map_err(|_| D::Error::custom(format!("`{name}` is not an IANA time zone")))?;
        Ok(Self(zone))
    }
}

/// What a calendar says of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether it is open.
    pub open: bool,
    /// The name of the entry that decides; `None` if none covers the moment, which means closed.
    pub entry: Option<&'a str>,
}

impl Calendar {
    /// Whether the calendar is open at `at`, and which entry says so.
    pub fn verdict(&self, at: DateTime<Utc>) -> Verdict<'_> {
        let mut deciding: Option<&Entry> = None;
        for entry in self.entries.iter().filter(|entry| entry.covers(self.timezone.0, at)) {
            if deciding.is_none_or(|so_far| entry.rank() > so_far.rank()) {
                deciding = Some(entry);
            }
        }
        Verdict {
            open: deciding.is_some_and(|entry| entry.kind.opens()),
            entry: deciding.map(|entry| &*entry.name),
        }
    }

    /// Whether the calendar is open at `at`.
    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        self.verdict(at).open
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
