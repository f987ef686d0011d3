use serde_json::{Value as Json, json};

use super::*;
use crate::scripts::default;

const QUEUE: &str = "01900000-0000-7000-8000-000000000001";
const CALENDAR: &str = "01900000-0000-7000-8000-000000000002";

fn known() -> KnownReferences {
    let entries = HashSet::from(["Christmas".to_owned()]);
    KnownReferences {
        things: HashSet::from([(ReferenceKind::Queue, QUEUE.parse().unwrap())]),
        calendars: HashMap::from([(CALENDAR.parse().unwrap(), entries)]),
    }
}

fn problems(document: Json) -> Vec<(String, &'static str)> {
    let definition = Definition::parse(&document).unwrap();
    validate(&definition, &known()).into_iter().map(|problem| (problem.pointer, problem.code)).collect()
}

fn script(steps: Json) -> Json {
    json!({"start": "a", "variables": {"n": 0}, "steps": steps})
}

fn found(pointer: &str, code: &'static str) -> Vec<(String, &'static str)> {
    vec![(pointer.to_owned(), code)]
}

fn asking(when: &str) -> Json {
    script(json!({
        "a": {"type": "condition", "when": when, "next": {"yes": "z", "no": "z"}},
        "z": {"type": "end", "result": "done"},
    }))
}

#[test]
fn the_default_script_has_no_problem() {
    assert_eq!(validate(&default::definition(), &KnownReferences::default()), []);
}

#[test]
fn the_default_script_survives_being_stored() {
    let stored = serde_json::to_value(default::definition()).unwrap();
    assert_eq!(Definition::parse(&stored).unwrap(), default::definition());
}

#[test]
fn every_problem_is_told_at_once() {
    let document = json!({
        "start": "nowhere", "on_error": "gone", "variables": {"Bad": 1},
        "steps": {"a": {"type": "condition", "when": "1 +", "next": {"yes": "gone"}}},
    });
    let expected = [
        ("/start", "unknown_step"),
        ("/on_error", "unknown_step"),
        ("/steps", "no_end"),
        ("/variables/Bad", "invalid_name"),
        ("/steps/a/next/yes", "unknown_step"),
        ("/steps/a/next/no", "outcome_not_wired"),
        ("/steps/a/when", "invalid_expression"),
        ("/steps/a", "unreachable_step"),
    ];
    assert_eq!(problems(document), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn a_step_of_the_wrong_shape_is_told_with_its_place() {
    let document = script(json!({
        "a": {"type": "condition", "when": "true", "next": {"yes": "z", "maybe": "z"}},
        "b": {"type": "teleport"},
        "c": {"type": "end", "result": "done", "colour": "red"},
        "d/e": {"type": "set_priority", "priority": [1], "next": {}},
    }));
    let problems = Definition::parse(&document).unwrap_err();
    let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers.len(), 4);
    assert!(pointers[0].starts_with("/steps/a") && problems[0].detail.contains("maybe"), "{problems:?}");
    assert!(pointers[1].starts_with("/steps/b") && problems[1].detail.contains("teleport"));
    assert!(pointers[2].starts_with("/steps/c") && problems[2].detail.contains("colour"));
    assert!(pointers[3].starts_with("/steps/d~1e") && problems[3].detail.contains("1 to 10"), "{problems:?}");
}

#[test]
fn a_field_of_the_wrong_type_outside_the_steps_is_told_with_its_place() {
    let problems = Definition::parse(&json!({"start": 5, "steps": {}})).unwrap_err();
    assert_eq!(problems[0].pointer, "/start");
    assert_eq!(problems[0].code, "invalid_definition");
}

#[test]
fn a_step_that_no_way_leads_to_is_told() {
    let document = script(json!({
        "a": {"type": "end", "result": "done"},
        "b": {"type": "set", "assign": {"n": "1"}, "next": {"done": "a"}},
    }));
    assert_eq!(problems(document), found("/steps/b", "unreachable_step"));
}

#[test]
fn the_step_for_errors_counts_as_reached() {
    let mut document = script(json!({
        "a": {"type": "end", "result": "done"},
        "b": {"type": "end", "result": "discard"},
    }));
    document["on_error"] = json!("b");
    assert_eq!(problems(document), []);
}

#[test]
fn a_cycle_that_never_waits_is_told_where_it_closes() {
    let document = script(json!({
        "a": {"type": "condition", "when": "vars.n > 3", "next": {"yes": "z", "no": "b"}},
        "b": {"type": "set", "assign": {"n": "vars.n + 1"}, "next": {"done": "a"}},
        "z": {"type": "end", "result": "done"},
    }));
    assert_eq!(problems(document), found("/steps/b/next/done", "cycle_without_wait"));
}

fn looping(outcome: &str) -> Json {
    let mut next = json!({"assigned": "z", "timeout": "z", "queue_full": "z", "closed": "z"});
    next[outcome] = json!("b");
    script(json!({
        "a": {"type": "enqueue", "queue_id": QUEUE, "timeout_s": 60, "next": next},
        "b": {"type": "set_priority", "priority": 1, "next": {"done": "a"}},
        "z": {"type": "end", "result": "done"},
    }))
}

#[test]
fn a_cycle_through_an_outcome_that_comes_after_a_wait_is_allowed() {
    assert_eq!(problems(looping("timeout")), []);
}

#[test]
fn a_cycle_through_an_outcome_that_can_come_at_once_is_not_a_wait() {
    assert_eq!(problems(looping("closed")), found("/steps/b/next/done", "cycle_without_wait"));
}

#[test]
fn an_enqueue_needs_the_outcomes_that_its_parameters_bring() {
    let enqueue = |extra: Json| {
        let mut step = json!({"type": "enqueue", "next": {"assigned": "z"}});
        step.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        problems(script(json!({"a": step, "z": {"type": "end", "result": "done"}})))
    };
    assert_eq!(enqueue(json!({})), []);
    assert_eq!(enqueue(json!({"timeout_s": 60})), found("/steps/a/next/timeout", "outcome_not_wired"));
    let named = enqueue(json!({"queue_id": QUEUE}));
    assert_eq!(
        named.iter().map(|(pointer, _)| &**pointer).collect::<Vec<_>>(),
        ["/steps/a/next/queue_full", "/steps/a/next/closed"]
    );
}

#[test]
fn bounds_are_told() {
    let document = script(json!({
        "a": {"type": "enqueue", "priority": 11, "timeout_s": 4, "next": {"assigned": "z", "timeout": "z"},
              "skills": [{"skill_id": QUEUE, "min_level": 0}]},
        "z": {"type": "end", "result": "done"},
    }));
    let expected = [
        ("/steps/a/timeout_s", "out_of_range"),
        ("/steps/a/priority", "out_of_range"),
        ("/steps/a/skills/0/min_level", "out_of_range"),
        ("/steps/a/skills/0/skill_id", "unknown_reference"),
    ];
    assert_eq!(problems(document), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn more_steps_than_allowed_are_told() {
    let mut steps: serde_json::Map<String, Json> = (0..500)
        .map(|i| {
            (
                format!("s{i}"),
                json!({"type": "set_priority", "priority": 1, "next": {"done": format!("s{}", i + 1)}}),
            )
        })
        .collect();
    steps.insert("s500".to_owned(), json!({"type": "end", "result": "done"}));
    let document = json!({"start": "s0", "steps": steps});
    assert_eq!(problems(document), found("/steps", "out_of_range"));
}

#[test]
fn labels_and_outcomes_of_a_switch_must_match() {
    let document = script(json!({
        "a": {"type": "switch", "cases": [
                {"when": "true", "label": "x"}, {"when": "true", "label": "otherwise"}, {"when": "true", "label": "y"}],
              "next": {"x": "z", "other": "z", "otherwise": "z"}},
        "z": {"type": "end", "result": "done"},
    }));
    let expected = [
        ("/steps/a/cases/1/label", "reserved_label"),
        ("/steps/a/next/other", "unknown_outcome"),
        ("/steps/a/next/y", "outcome_not_wired"),
    ];
    assert_eq!(problems(document), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn a_date_outcome_must_be_an_entry_of_the_calendar() {
    let document = |entry: &str, calendar: &str| {
        script(json!({
            "a": {"type": "on_date", "calendar_id": calendar, "next": {"open": "z", "closed": "z", entry: "z"}},
            "z": {"type": "end", "result": "done"},
        }))
    };
    assert_eq!(problems(document("Christmas", CALENDAR)), []);
    assert_eq!(problems(document("Easter", CALENDAR)), found("/steps/a/next/Easter", "unknown_outcome"));
    assert_eq!(problems(document("Easter", QUEUE)), found("/steps/a/calendar_id", "unknown_reference"));
}

#[test]
fn only_declared_variables_are_set() {
    let document = script(json!({
        "a": {"type": "set", "assign": {"m": "1"}, "next": {"done": "z"}},
        "z": {"type": "end", "result": "done"},
    }));
    assert_eq!(problems(document), found("/steps/a/assign/m", "unknown_variable"));
}

#[test]
fn what_an_expression_would_get_wrong_is_told_before_it_runs() {
    for (when, code) in [
        ("mesage.subject == 'x'", "unknown_name"),
        ("message.subjct == 'x'", "unknown_name"),
        ("message.from.host == 'x'", "unknown_name"),
        ("vars.missing > 1", "unknown_variable"),
        ("message.subject|shout == 'x'", "unknown_filter"),
        ("message.subject is loud", "unknown_test"),
        ("message.subject is not loud", "unknown_test"),
        ("message.subject.upper() == 'X'", "unknown_function"),
        ("range(10)", "unknown_function"),
        ("message.subject|matches('(')", "invalid_pattern"),
        ("message.subject ==", "invalid_expression"),
        ("", "invalid_expression"),
    ] {
        let found: Vec<_> = problems(asking(when)).into_iter().map(|(_, code)| code).collect();
        assert!(found.contains(&code), "{when}: {found:?}");
    }
    assert_eq!(problems(asking(&"1".repeat(2_001))), found("/steps/a/when", "invalid_expression"));
}

#[test]
fn good_expressions_are_left_alone() {
    for when in [
        "message.headers['x-vip']|default('') == 'yes' and 'x-vip' in message.headers",
        "message.headers.subject is defined and account.settings.vip|default(false)",
        "globals.centre_closed|default(false) or not (vars.n > 3)",
        "message.subject|lower|matches('^(re|fwd): [a-z(]+$') is true",
        "message.text|contains('it\\'s (broken)') or message.to|first is mapping",
        "now.weekday in ['saturday', 'sunday'] and now.hour >= 9",
        "(message.attachments|length) > 2 if message.has_attachments else conversation.is_new",
        "message.from.address|domain is not in ['example.com']",
        "item.priority is none and item.class_id is not none",
    ] {
        assert_eq!(problems(asking(when)), [], "{when}");
    }
}

#[test]
fn an_expression_error_names_step_line_and_column() {
    let definition = Definition::parse(&asking("true and\n  (false or")).unwrap();
    let problem = &validate(&definition, &known())[0];
    assert!(problem.detail.contains("step `a`") && problem.detail.contains("line 2, column"), "{problem:?}");
}

#[test]
fn references_are_listed_with_their_places() {
    let definition = Definition::parse(&looping("timeout")).unwrap();
    let queue = crate::scripts::steps::Reference { kind: ReferenceKind::Queue, id: QUEUE.parse().unwrap() };
    assert_eq!(definition.references(), [("/steps/a/queue_id".to_owned(), queue)]);
}

#[test]
fn the_schema_of_a_step_is_one_of_all_types_with_a_discriminator() {
    use utoipa::{PartialSchema, ToSchema};
    let schema = serde_json::to_value(Step::schema()).unwrap();
    let mapping = schema["discriminator"]["mapping"].as_object().unwrap();
    assert_eq!(schema["discriminator"]["propertyName"], "type");
    assert_eq!(mapping.len(), Step::TYPES.len());
    assert_eq!(mapping["on_date"], "#/components/schemas/OnDateStep");
    let mut components = Vec::new();
    <Step as ToSchema>::schemas(&mut components);
    for step_type in Step::TYPES {
        let name = mapping[*step_type].as_str().unwrap().rsplit('/').next().unwrap();
        let component = &components.iter().find(|(component, _)| component == name).unwrap().1;
        let component = serde_json::to_value(component).unwrap();
        assert_eq!(component["properties"]["type"]["enum"], json!([step_type]), "{name}");
        assert_eq!(component["required"][0], "type");
        let example = component["example"].clone();
        assert!(serde_json::from_value::<Step>(example.clone()).is_ok(), "{name}: {example}");
    }
}

#[test]
fn every_schema_that_a_definition_mentions_is_listed() {
    use utoipa::{PartialSchema, ToSchema};
    let mut components = Vec::new();
    <Definition as ToSchema>::schemas(&mut components);
    let names: BTreeSet<String> = components.iter().map(|(name, _)| name.clone()).collect();
    let mut text = serde_json::to_string(&Definition::schema()).unwrap();
    text.push_str(
        &serde_json::to_string(&components.iter().map(|(_, schema)| schema).collect::<Vec<_>>()).unwrap(),
    );
    for mention in text.split("#/components/schemas/").skip(1) {
        let name = mention.split('"').next().unwrap();
        assert!(names.contains(name), "{name} is mentioned and not listed: {names:?}");
    }
}
