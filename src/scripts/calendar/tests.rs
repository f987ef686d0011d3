use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn calendar(timezone: &str, entries: Json) -> Calendar {
    serde_json::from_value(json!({"timezone": timezone, "entries": entries})).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn daily(from: &str, to: &str) -> Json {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    json!({"name": "Daily", "kind": "open", "rule": {"type": "weekly", "days": days, "from": from, "to": to}})
}

fn office() -> Calendar {
    calendar(
        "Europe/London",
        json!([
            {"name": "Office", "kind": "open", "rule": {
                "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:30"}},
            {"name": "Christmas", "kind": "holiday", "rule": {"type": "yearly", "month": 12, "day": 25}},
            {"name": "Stocktaking", "kind": "closed", "rule": {
                "type": "date", "on": "2026-03-04", "from": "12:00", "to": "14:00"}},
            {"name": "Works week", "kind": "closed", "rule": {
                "type": "date_range", "first": "2026-08-10", "last": "2026-08-14"}},
            {"name": "Christmas hotline", "kind": "open", "priority": 1, "rule": {
                "type": "date", "on": "2026-12-25", "from": "10:00", "to": "11:00"}},
        ]),
    )
}

#[test]
fn a_calendar_without_entries_is_always_closed() {
    let calendar = calendar("UTC", json!([]));
    assert_eq!(calendar.verdict(at("2026-03-02T12:00:00Z")), Verdict { open: false, entry: None });
    assert_eq!(calendar.next_change(at("2026-03-02T12:00:00Z")), None);
}

#[test]
fn the_beginning_is_open_and_the_end_is_not() {
    let office = office();
    assert!(!office.is_open(at("2026-03-02T08:59:59Z")));
    assert!(office.is_open(at("2026-03-02T09:00:00Z")));
    assert!(office.is_open(at("2026-03-02T17:29:59Z")));
    assert!(!office.is_open(at("2026-03-02T17:30:00Z")));
    assert!(!office.is_open(at("2026-03-01T12:00:00Z")), "a Sunday");
}

#[test]
fn local_hours_move_with_summer_time() {
    let office = office();
    assert!(!office.is_open(at("2026-07-01T07:59:59Z")));
    assert!(office.is_open(at("2026-07-01T08:00:00Z")));
    assert!(!office.is_open(at("2026-07-01T16:30:00Z")));
}

#[test]
fn exclusions_beat_openings_and_are_named() {
    let office = office();
    let closed = |entry| Verdict { open: false, entry: Some(entry) };
    assert_eq!(office.verdict(at("2026-03-04T12:00:00Z")), closed("Stocktaking"));
    assert!(office.is_open(at("2026-03-04T14:00:00Z")));
    assert_eq!(office.verdict(at("2026-08-10T09:00:00Z")), closed("Works week"));
    assert_eq!(office.verdict(at("2026-08-14T12:00:00Z")), closed("Works week"));
    assert_eq!(office.verdict(at("2026-12-25T12:00:00Z")), closed("Christmas"));
    assert_eq!(office.verdict(at("2025-12-25T12:00:00Z")), closed("Christmas"));
}

#[test]
fn a_higher_priority_opens_a_holiday() {
    let verdict_at = |time| office().verdict(at(time)).open;
    assert!(verdict_at("2026-12-25T10:30:00Z"));
    assert!(!verdict_at("2026-12-25T11:00:00Z"));
    assert!(!verdict_at("2025-12-25T10:30:00Z"));
}

#[test]
fn the_next_change_skips_moments_that_change_nothing() {
    let office = office();
    assert_eq!(office.next_change(at("2026-03-04T10:00:00Z")), Some(at("2026-03-04T12:00:00Z")));
    assert_eq!(office.open_from(at("2026-03-04T10:00:00Z")), Some(at("2026-03-04T10:00:00Z")));
    assert_eq!(office.open_from(at("2026-03-04T12:00:00Z")), Some(at("2026-03-04T14:00:00Z")));
    assert_eq!(office.next_change(at("2026-03-04T12:00:00Z")), Some(at("2026-03-04T14:00:00Z")));
    assert_eq!(office.next_change(at("2026-03-06T17:30:00Z")), Some(at("2026-03-09T09:00:00Z")));
    assert_eq!(office.next_change(at("2026-08-09T12:00:00Z")), Some(at("2026-08-17T08:00:00Z")));
    let always = calendar("UTC", json!([daily("00:00", "24:00")]));
    assert!(always.is_open(at("2026-03-02T00:00:00Z")));
    assert_eq!(always.next_change(at("2026-03-02T00:00:00Z")), None);
}

#[test]
fn hundreds_of_entries_that_never_open_are_answered_quickly() {
    let time = |minutes: u16| TimeOfDay(minutes % (24 * 60)).to_string();
    let pair = |i: u16| {
        ["open", "closed"].map(|kind| {
            let mut entry = daily(&time(i * 5), &time(i * 5 + 700));
            entry["name"] = json!(format!("{kind} {i}"));
            entry["kind"] = json!(kind);
            entry
        })
    };
    let calendar = calendar("Europe/London", json!((0..249).flat_map(pair).collect::<Vec<_>>()));
    assert!(calendar.problems().is_empty());
    let begun = std::time::Instant::now();
    assert_eq!(calendar.open_from(at("2026-03-04T10:00:00Z")), None);
    // Generous: a build without optimisation needs less than a second, and asking every edge by itself minutes.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn an_interval_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let friday_night = calendar(
        "UTC",
        json!([{"name": "Night", "kind": "open", "rule": {
            "type": "weekly", "days": ["fri"], "from": "22:00", "to": "06:00"}}]),
    );
    assert!(!friday_night.is_open(at("2026-03-06T05:00:00Z")));
    assert!(friday_night.is_open(at("2026-03-06T23:00:00Z")));
    assert!(friday_night.is_open(at("2026-03-07T05:59:59Z")));
    assert!(!friday_night.is_open(at("2026-03-07T06:00:00Z")));
    assert_eq!(friday_night.next_change(at("2026-03-06T23:00:00Z")), Some(at("2026-03-07T06:00:00Z")));
    assert_eq!(friday_night.next_change(at("2026-03-07T06:00:00Z")), Some(at("2026-03-13T22:00:00Z")));
}

#[test]
fn a_time_that_the_clocks_skip_is_the_moment_of_the_change() {
    // London, 29 March 2026: 01:00 becomes 02:00 at 01:00 UTC.
    let within = calendar("Europe/London", json!([daily("01:15", "01:45")]));
    assert!(!within.is_open(at("2026-03-29T01:00:00Z")));
    assert!(!within.is_open(at("2026-03-29T01:20:00Z")));
    assert_eq!(within.next_change(at("2026-03-28T02:00:00Z")), Some(at("2026-03-30T00:15:00Z")));
    let from_gap = calendar("Europe/London", json!([daily("01:30", "05:00")]));
    assert!(!from_gap.is_open(at("2026-03-29T00:59:59Z")));
    assert!(from_gap.is_open(at("2026-03-29T01:00:00Z")));
    let into_gap = calendar("Europe/London", json!([daily("00:00", "01:30")]));
    assert!(into_gap.is_open(at("2026-03-29T00:59:59Z")));
    assert!(!into_gap.is_open(at("2026-03-29T01:00:00Z")));
}

#[test]
fn a_time_that_comes_twice_begins_at_its_first_and_ends_at_its_second_coming() {
    // London, 25 October 2026: 02:00 becomes 01:00 at 01:00 UTC.
    let calendar = calendar("Europe/London", json!([daily("01:15", "01:45")]));
    assert!(!calendar.is_open(at("2026-10-25T00:14:59Z")));
    assert!(calendar.is_open(at("2026-10-25T00:15:00Z")));
    assert!(calendar.is_open(at("2026-10-25T00:50:00Z")));
    assert!(calendar.is_open(at("2026-10-25T01:44:59Z")));
    assert!(!calendar.is_open(at("2026-10-25T01:45:00Z")));
    assert_eq!(calendar.next_change(at("2026-10-25T00:15:00Z")), Some(at("2026-10-25T01:45:00Z")));
}

#[test]
fn a_whole_day_that_the_clocks_skip_is_no_trap() {
    // Samoa had no 30 December 2011.
    let calendar = calendar(
        "Pacific/Apia",
        json!([{"name": "Lost", "kind": "open", "rule": {"type": "date", "on": "2011-12-30"}}]),
    );
    assert_eq!(calendar.next_change(at("2011-12-29T00:00:00Z")), None);
}

#[test]
fn the_twenty_ninth_of_february_comes_only_in_leap_years() {
    let calendar = calendar(
        "UTC",
        json!([{"name": "Leap", "kind": "open", "rule": {"type": "yearly", "month": 2, "day": 29}}]),
    );
    assert!(calendar.problems().is_empty());
    assert!(calendar.is_open(at("2028-02-29T12:00:00Z")));
    assert!(!calendar.is_open(at("2027-03-01T12:00:00Z")));
}

#[test]
fn every_problem_of_a_calendar_is_told_with_its_place() {
    let calendar = calendar(
        "UTC",
        json!([
            {"name": "open", "kind": "open", "rule": {"type": "weekly", "days": [], "from": "09:00", "to": "09:00"}},
            {"name": "A", "kind": "open", "priority": 101, "rule": {"type": "yearly", "month": 2, "day": 30}},
            {"name": "A", "kind": "closed", "rule": {
                "type": "date_range", "first": "2026-02-02", "last": "2026-02-01", "from": "10:00"}},
        ]),
    );
    let found: Vec<_> = calendar.problems().into_iter().map(|p| (p.pointer, p.code)).collect();
    let expected = [
        ("/entries/0/name", "reserved_name"),
        ("/entries/0/rule/days", "missing_days"),
        ("/entries/0/rule/to", "empty_interval"),
        ("/entries/1/priority", "out_of_range"),
        ("/entries/1/rule/day", "no_such_day"),
        ("/entries/2/name", "duplicate_name"),
        ("/entries/2/rule/last", "reversed_range"),
        ("/entries/2/rule/to", "missing_time"),
    ];
    assert_eq!(found, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn times_zones_and_fields_that_do_not_exist_are_refused() {
    for time in ["9:00", "24:01", "12:60", "+1:00", "noon", "25:00"] {
        assert_eq!(TimeOfDay::parse(time), None, "{time}");
    }
    assert_eq!(TimeOfDay::parse("24:00"), Some(TimeOfDay::END));
    let zone = json!({"timezone": "Europe/Nowhere", "entries": []});
    assert!(serde_json::from_value::<Calendar>(zone).unwrap_err().to_string().contains("Europe/Nowhere"));
    let field = json!({"timezone": "UTC", "entries": [], "colour": 1});
    assert!(serde_json::from_value::<Calendar>(field).is_err());
}

#[test]
fn a_calendar_survives_being_stored() {
    let stored = serde_json::to_value(office()).unwrap();
    assert_eq!(serde_json::from_value::<Calendar>(stored).unwrap(), office());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_changes_before_the_next_change(
        start in 1_767_225_600_i64..1_798_761_600,
        hours in proptest::collection::vec((0_u16..24, 0_u16..60, 1_u16..24, any::<bool>(), 0_u32..7), 1..5),
    ) {
        let days = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
        let entries = hours.iter().enumerate().map(|(i, (hour, minute, length, open, day))| {
            let from = hour * 60 + minute;
            let rule = Rule::Weekly {
                days: vec![days[*day as usize], days[(*day as usize + 3) % 7]],
                from: TimeOfDay(from),
                to: TimeOfDay((from + length * 60) % (24 * 60)),
            };
            let kind = if *open { Kind::Open } else { Kind::Closed };
            Entry { name: i.to_string(), kind, rule, priority: 0 }
        });
        let zone = Timezone(chrono_tz::Europe::London);
        let calendar = Calendar { timezone: zone, entries: entries.collect() };
        let start = DateTime::from_timestamp(start, 0).unwrap();
        let open = calendar.is_open(start);
        let end = calendar.next_change(start);
        if let Some(end) = end {
            prop_assert!(calendar.is_open(end) != open);
        }
        let until = end.unwrap_or(start + TimeDelta::days(15));
        let mut probe = start;
        while probe < until {
            prop_assert_eq!(calendar.is_open(probe), open, "at {}", probe);
            probe += TimeDelta::minutes(13);
        }
    }
}
