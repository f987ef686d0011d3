use std::cell::RefCell;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::scripts::calendar::Calendar;
use crate::scripts::default;
use crate::scripts::facts::AddressFacts;
use crate::scripts::run::{MAX_TRACE, RequiredSkill};
use crate::scripts::steps::ReferenceKind;
use crate::scripts::turn::{QueueState, SendAnswer};
use crate::scripts::validate::{References, validate};

const ID: &str = "01900000-0000-7000-8000-000000000001";

fn id() -> Uuid {
    ID.parse().unwrap()
}

/// A world that answers the same each time and remembers what it was asked.
struct World {
    calendar: Option<Arc<Calendar>>,
    queue: QueueState,
    agent: bool,
    send: SendAnswer,
    asked: RefCell<Vec<Uuid>>,
}

impl Host for World {
    fn calendar(&self, _id: Uuid) -> Option<Arc<Calendar>> {
        self.calendar.clone()
    }
    fn queue_state(&self, id: Uuid, _skills: &[RequiredSkill]) -> QueueState {
        self.asked.borrow_mut().push(id);
        self.queue
    }
    fn agent_available(&self, _id: Uuid) -> bool {
        self.agent
    }
    fn may_send_template(&self, _id: Uuid) -> SendAnswer {
        self.send.clone()
    }
}

fn world() -> World {
    World {
        calendar: None,
        queue: QueueState::Accepting,
        agent: true,
        send: SendAnswer::Send,
        asked: RefCell::default(),
    }
}

fn at() -> DateTime<Utc> {
    "2026-12-25T10:00:00Z".parse().unwrap()
}

fn facts() -> Facts {
    let mut facts = Facts::empty(at(), chrono_tz::Europe::Berlin);
    facts.message.subject = "Invoice 42".to_owned();
    facts.message.from = AddressFacts::new("Ann@Example.com", "Ann");
    facts.account.fallback_queue_id = Some(id());
    facts
}

fn compile(document: Json) -> Compiled {
    Compiled::new(Definition::parse(&document).unwrap()).unwrap()
}

/// Runs `steps` from `a`; steps named `yes` and `no` end with `done` and `discard`.
fn ending(mut steps: Json) -> Json {
    steps["yes"] = json!({"type": "end", "result": "done"});
    steps["no"] = json!({"type": "end", "result": "discard"});
    json!({"start": "a", "variables": {"n": 1, "m": 2}, "steps": steps})
}

fn go(document: Json, facts: Facts, world: &World) -> (Run, Advance) {
    let script = compile(document);
    let mut run = Run::start(id(), &script);
    let advance = advance(&script, &mut run, &Arc::new(facts), world, None);
    (run, advance)
}

fn answer(when: &str) -> Progress {
    let condition = json!({"a": {"type": "condition", "when": when, "next": {"yes": "yes", "no": "no"}}});
    go(ending(condition), facts(), &world()).1.progress
}

const YES: Progress = Progress::Finished(RunResult::Done);
const NO: Progress = Progress::Finished(RunResult::Discard);

#[test]
fn conditions_read_every_part_of_the_facts() {
    for when in [
        "message.subject|contains('INVOICE')",
        "message.subject|matches('^Invoice [0-9]+$')",
        "message.from.domain == 'example.com' and message.from.address|domain == 'example.com'",
        "message.subject|startswith('inv') and message.subject|endswith('42')",
        "now.weekday == 'friday' and now.hour == 11 and now.date == '2026-12-25' and now.time == '11:00'",
        "vars.n + vars.m == 3",
        "message.headers['x-vip']|default('no') == 'no'",
        "not globals.centre_closed|default(false)",
        "conversation.last_agent_id is none and message.class == 'normal'",
    ] {
        assert_eq!(answer(when), YES, "{when}");
    }
    for when in [
        "message.has_attachments",
        "message.text",
        "message.to|length",
        "message.subject|matches('^invoice')",
    ] {
        assert_eq!(answer(when), NO, "{when}");
    }
}

#[test]
fn what_is_not_there_fails_with_its_place() {
    for when in [
        "true and\n  message.headers['x-vip'].name == 1",
        "true and\n  message.headers['x-vip']|lower == 'x'",
    ] {
        let Progress::Failed(error) = answer(when) else { panic!("{when}") };
        assert_eq!((error.step.as_str(), error.code.as_str()), ("a", "expression_failed"));
        assert_eq!(error.expression.as_deref(), Some(when));
        assert_eq!(error.line, Some(2), "{error:?}");
        assert!(error.column.is_some_and(|column| column >= 3), "{error:?}");
    }
    assert!(matches!(answer("message.headers['x-vip']"), Progress::Failed(_)));
}

#[test]
fn work_without_bounds_is_cut_off() {
    let Progress::Failed(error) = answer("'x' * 100000000 == 'y'") else { panic!() };
    assert_eq!(error.code, "expression_failed");
    let mut facts = facts();
    facts.message.text = "long text ".repeat(100_000);
    let many = format!("message.text{} == ''", "|lower|upper".repeat(50));
    let document =
        ending(json!({"a": {"type": "condition", "when": many, "next": {"yes": "yes", "no": "no"}}}));
    assert!(matches!(go(document, facts, &world()).1.progress, Progress::Failed(_)));
}

#[test]
fn a_switch_leaves_by_the_first_case_that_is_true() {
    let switch = |first: &str| {
        let cases = json!([{"when": first, "label": "x"}, {"when": "vars.n == 1", "label": "y"}]);
        let next = json!({"x": "yes", "y": "no", "otherwise": "yes"});
        go(ending(json!({"a": {"type": "switch", "cases": cases, "next": next}})), facts(), &world())
    };
    assert_eq!(switch("true").0.trace[0].outcome.as_deref(), Some("x"));
    assert_eq!(switch("false").0.trace[0].outcome.as_deref(), Some("y"));
}

#[test]
fn all_values_of_a_set_are_worked_out_before_any_changes() {
    let set =
        json!({"a": {"type": "set", "assign": {"n": "vars.m", "m": "vars.n"}, "next": {"done": "yes"}}});
    let (run, _) = go(ending(set), facts(), &world());
    assert_eq!((&run.vars["n"], &run.vars["m"]), (&json!(2), &json!(1)));
}

#[test]
fn effects_come_in_order_and_later_steps_see_them() {
    let steps = json!({
        "a": {"type": "set_class", "class_id": ID, "next": {"done": "b"}},
        "b": {"type": "set_priority", "priority": "vars.n + 1", "next": {"done": "c"}},
        "c": {"type": "condition", "when": format!("item.priority == 2 and item.class_id == '{ID}'"),
              "next": {"yes": "d", "no": "no"}},
        "d": {"type": "send_template", "template_id": ID, "next": {"sent": "e", "not_sent": "no"}},
        "e": {"type": "send_template", "template_id": ID, "next": {"sent": "no", "not_sent": "yes"}},
    });
    let (_, advance) = go(ending(steps), facts(), &world());
    let (class, send) = (Effect::SetClass { class_id: id() }, Effect::SendTemplate { template_id: id() });
    assert_eq!(
        advance,
        Advance { effects: vec![class, Effect::SetPriority { priority: 2 }, send], progress: YES }
    );
}

#[test]
fn a_refused_answer_is_not_sent_and_says_why() {
    let mut world = world();
    world.send = SendAnswer::Refuse("the message is an automatic reply".to_owned());
    let steps =
        json!({"a": {"type": "send_template", "template_id": ID, "next": {"sent": "no", "not_sent": "yes"}}});
    let (run, advance) = go(ending(steps), facts(), &world);
    assert_eq!((advance.progress, advance.effects), (YES, vec![]));
    assert_eq!(run.trace[0].note.as_deref(), Some("the message is an automatic reply"));
}

#[test]
fn a_priority_out_of_bounds_fails_the_step() {
    for priority in ["0", "11", "'high'", "1.5"] {
        let steps = json!({"a": {"type": "set_priority", "priority": priority, "next": {"done": "yes"}}});
        let Progress::Failed(error) = go(ending(steps), facts(), &world()).1.progress else {
            panic!("{priority}")
        };
        assert_eq!(error.code, "invalid_priority");
    }
}

#[test]
fn a_calendar_decides_by_entry_then_by_state() {
    let calendar = json!({"timezone": "Europe/Berlin", "entries": [
        {"name": "Christmas", "kind": "holiday", "rule": {"type": "yearly", "month": 12, "day": 25}}]});
    let mut world = world();
    world.calendar = Some(Arc::new(serde_json::from_value(calendar).unwrap()));
    let outcome = |next: Json| {
        let steps = json!({"a": {"type": "on_date", "calendar_id": ID, "next": next}});
        go(ending(steps), facts(), &world).0.trace[0].outcome.clone().unwrap()
    };
    assert_eq!(outcome(json!({"open": "no", "closed": "yes"})), "closed");
    assert_eq!(outcome(json!({"open": "no", "closed": "no", "Christmas": "yes"})), "Christmas");
}

#[test]
fn a_calendar_that_is_gone_fails_the_step() {
    let steps = json!({"a": {"type": "on_date", "calendar_id": ID, "next": {"open": "yes", "closed": "no"}}});
    let Progress::Failed(error) = go(ending(steps), facts(), &world()).1.progress else { panic!() };
    assert_eq!(error.code, "reference_missing");
}

fn queueing() -> Json {
    ending(json!({"a": {"type": "enqueue", "queue_id": ID, "priority": 3, "timeout_s": 60,
        "skills": [{"skill_id": ID, "min_level": 2}],
        "next": {"assigned": "yes", "timeout": "no", "queue_full": "no", "closed": "no", "no_agents": "no"}}}))
}

#[test]
fn an_enqueue_waits_and_goes_on_where_it_stood_even_after_being_stored() {
    let (script, world, facts) = (compile(queueing()), world(), Arc::new(facts()));
    let mut run = Run::start(id(), &script);
    let skills = vec![RequiredSkill { skill_id: id(), min_level: 2 }];
    let wait = Wait::Enqueue { queue_id: id(), priority: Some(3), skills, timeout_s: Some(60) };
    let first = advance(&script, &mut run, &facts, &world, None);
    assert_eq!(first.progress, Progress::Waiting(wait.clone()));
    let stored = serde_json::to_string(&run).unwrap();
    let mut run: Run = serde_json::from_str(&stored).unwrap();
    let again = advance(&script, &mut run, &facts, &world, None);
    assert_eq!(again.progress, Progress::Waiting(wait), "asking again changes nothing");
    assert_eq!(serde_json::to_string(&run).unwrap(), stored);
    assert_eq!(advance(&script, &mut run, &facts, &world, Some("assigned")).progress, YES);
    let outcomes: Vec<_> =
        run.trace.iter().map(|entry| (entry.step.as_str(), entry.outcome.as_deref())).collect();
    assert_eq!(outcomes, [("a", None), ("a", Some("assigned")), ("yes", None)]);
}

#[test]
fn a_queue_that_cannot_take_the_item_is_left_at_once() {
    for (state, outcome) in [
        (QueueState::Closed, "closed"),
        (QueueState::Full, "queue_full"),
        (QueueState::NoAgents, "no_agents"),
    ] {
        let mut world = world();
        world.queue = state;
        let (run, advance) = go(queueing(), facts(), &world);
        assert_eq!((run.trace[0].outcome.as_deref(), advance.progress), (Some(outcome), NO));
    }
}

#[test]
fn the_default_script_waits_in_the_fallback_queue_whatever_its_state() {
    for state in [QueueState::Accepting, QueueState::Closed, QueueState::Full, QueueState::NoAgents] {
        let mut world = world();
        world.queue = state;
        let document = serde_json::to_value(default::definition()).unwrap();
        let (_, advance) = go(document, facts(), &world);
        let wait = Wait::Enqueue { queue_id: id(), priority: None, skills: vec![], timeout_s: None };
        assert_eq!(advance.progress, Progress::Waiting(wait));
    }
    let mut homeless = facts();
    homeless.account.fallback_queue_id = None;
    let document = serde_json::to_value(default::definition()).unwrap();
    let Progress::Failed(error) = go(document, homeless, &world()).1.progress else { panic!() };
    assert_eq!(error.code, "no_fallback_queue");
}

#[test]
fn the_last_agent_is_offered_the_item_only_if_there_is_one_who_can_take_it() {
    let document = || {
        ending(json!({"a": {"type": "offer_last_agent", "timeout_s": 30,
            "next": {"accepted": "yes", "not_available": "no", "timeout": "no"}}}))
    };
    let mut known = facts();
    known.conversation.last_agent_id = Some(id());
    assert_eq!(go(document(), facts(), &world()).1.progress, NO);
    let wait = Wait::OfferLastAgent { agent_id: id(), timeout_s: 30 };
    assert_eq!(go(document(), known.clone(), &world()).1.progress, Progress::Waiting(wait));
    let mut busy = world();
    busy.agent = false;
    assert_eq!(go(document(), known, &busy).1.progress, NO);
}

#[test]
fn a_failing_step_goes_to_on_error_once() {
    let mut document = ending(json!({
        "a": {"type": "condition", "when": "1 / 0 > 1 or message.headers['x'].y", "next": {"yes": "yes", "no": "yes"}},
        "b": {"type": "condition", "when": "message.headers['x'].y", "next": {"yes": "yes", "no": "yes"}},
    }));
    document["on_error"] = json!("no");
    let (run, advance) = go(document.clone(), facts(), &world());
    assert_eq!(advance.progress, NO);
    assert!(run.recovered && run.error.is_some_and(|error| error.step.as_str() == "a"));
    document["on_error"] = json!("b");
    let (run, advance) = go(document, facts(), &world());
    assert!(matches!(advance.progress, Progress::Failed(error) if error.step.as_str() == "b"));
    assert_eq!(run.state, RunState::Failed);
}

#[test]
fn a_script_that_never_waits_is_stopped_and_its_trace_stays_short() {
    let steps = json!({"a": {"type": "set", "assign": {"n": "vars.n + 1"}, "next": {"done": "a"}}});
    let (run, advance) = go(ending(steps), facts(), &world());
    assert!(matches!(advance.progress, Progress::Failed(error) if error.code == "too_many_steps"));
    assert_eq!(run.steps_taken, MAX_STEPS_PER_ADVANCE);
    assert_eq!((run.trace.len(), run.trace_dropped as usize), (MAX_TRACE, 500 - MAX_TRACE));
}

#[test]
fn a_variable_cannot_grow_without_bounds() {
    let steps = json!({
        "a": {"type": "set", "assign": {"n": "'x' * 100"}, "next": {"done": "b"}},
        "b": {"type": "set", "assign": {"n": "vars.n ~ vars.n"}, "next": {"done": "b"}},
    });
    let Progress::Failed(error) = go(ending(steps), facts(), &world()).1.progress else { panic!() };
    assert_eq!(error.code, "value_too_large");
}

#[test]
fn outcomes_that_nobody_waits_for_change_nothing() {
    let (script, world, facts) = (compile(queueing()), world(), Arc::new(facts()));
    let mut run = Run::start(id(), &script);
    let fresh = run.clone();
    let early = advance(&script, &mut run, &facts, &world, Some("assigned"));
    assert!(matches!(early.progress, Progress::Failed(error) if error.code == "run_is_not_waiting"));
    assert_eq!(run, fresh);
    advance(&script, &mut run, &facts, &world, None);
    advance(&script, &mut run, &facts, &world, Some("timeout"));
    let over = run.clone();
    let late = advance(&script, &mut run, &facts, &world, Some("assigned"));
    assert!(matches!(late.progress, Progress::Failed(error) if error.code == "run_is_over"));
    assert_eq!(run, over);
}

#[test]
fn an_unknown_outcome_fails_the_run() {
    let (script, world, facts) = (compile(queueing()), world(), Arc::new(facts()));
    let mut run = Run::start(id(), &script);
    advance(&script, &mut run, &facts, &world, None);
    let wrong = advance(&script, &mut run, &facts, &world, Some("teleported"));
    assert!(matches!(wrong.progress, Progress::Failed(error) if error.code == "outcome_not_wired"));
}

#[test]
fn the_trace_keeps_what_an_expression_read_and_cuts_what_is_long() {
    let mut facts = facts();
    facts.message.text = "ä".repeat(500);
    let when = "message.text|length > 1 and message.subject == 'Invoice 42' and message.to|length == 0";
    let steps = json!({"a": {"type": "condition", "when": when, "next": {"yes": "yes", "no": "no"}}});
    let (run, _) = go(ending(steps), facts, &world());
    let seen = &run.trace[0].saw[0];
    assert_eq!((seen.expression.as_str(), &seen.value), (when, &json!(true)));
    assert_eq!(seen.inputs["message.subject"], "Invoice 42");
    assert_eq!(seen.inputs["message.text"].as_str().unwrap().chars().count(), 201);
    assert!(!seen.inputs.contains_key("message.to"), "lists are not copied");
    assert_eq!((run.trace[0].r#type.as_str(), run.trace[0].at), ("condition", at()));
}

#[test]
fn a_definition_whose_start_or_expression_is_wrong_does_not_compile() {
    let document = json!({"start": "x", "steps": {
        "a": {"type": "condition", "when": "(", "next": {}}}});
    let problems = Compiled::new(Definition::parse(&document).unwrap()).unwrap_err();
    let pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/start", "/steps/a/when"]);
}

/// Everything exists.
struct Anything;

impl References for Anything {
    fn exists(&self, _kind: ReferenceKind, _id: Uuid) -> bool {
        true
    }
    fn calendar_entries(&self, _id: Uuid) -> Option<std::collections::HashSet<String>> {
        None
    }
}

/// One step whose outcomes lead to any of `count` steps.
fn any_step(count: usize) -> impl Strategy<Value = Json> {
    let to = move || (0..count).prop_map(|i| format!("s{i}"));
    let when = prop_oneof![
        Just("vars.n > 2"),
        Just("message.headers['x'].y"),
        Just("message.subject|contains('x')"),
        Just("now.hour < 12"),
        Just("'x' * 100000000"),
        Just("1 // 0"),
        Just("vars.n ~ vars.n"),
    ];
    (0..7_u8, to(), to(), to(), to(), when).prop_map(|(kind, a, b, c, d, when)| match kind {
        0 => json!({"type": "condition", "when": when, "next": {"yes": a, "no": b}}),
        1 => json!({"type": "set", "assign": {"n": when}, "next": {"done": a}}),
        2 => json!({"type": "set_priority", "priority": "vars.n", "next": {"done": a}}),
        3 => json!({"type": "enqueue", "queue_id": ID, "timeout_s": 5,
            "next": {"assigned": a, "timeout": b, "closed": c, "queue_full": d}}),
        4 => json!({"type": "send_template", "template_id": ID, "next": {"sent": a, "not_sent": b}}),
        5 => json!({"type": "switch", "cases": [{"when": when, "label": "l"}], "next": {"l": a, "otherwise": b}}),
        _ => json!({"type": "on_date", "calendar_id": ID, "next": {"open": a, "closed": b}}),
    })
}

fn any_definition() -> impl Strategy<Value = Json> {
    (2_usize..12).prop_flat_map(|count| {
        (proptest::collection::vec(any_step(count), count - 1), proptest::option::of(0..count)).prop_map(
            move |(steps, on_error)| {
                let mut all: serde_json::Map<String, Json> =
                    steps.into_iter().enumerate().map(|(i, step)| (format!("s{i}"), step)).collect();
                all.insert(format!("s{}", count - 1), json!({"type": "end", "result": "done"}));
                let on_error = on_error.map(|i| format!("s{i}"));
                json!({"start": "s0", "variables": {"n": 1}, "steps": all, "on_error": on_error})
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_definition_panics_or_goes_on_for_ever(
        document in any_definition(),
        state in prop_oneof![Just(QueueState::Accepting), Just(QueueState::Closed), Just(QueueState::Full)],
        timeouts in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let definition = Definition::parse(&document).unwrap();
        let busy = validate(&definition, &Anything).iter().any(|problem| problem.code == "cycle_without_wait");
        let script = Compiled::new(definition).unwrap();
        let mut world = world();
        world.queue = state;
        let facts = Arc::new(facts());
        let mut run = Run::start(id(), &script);
        let mut outcome = None;
        for timeout in timeouts {
            let before = run.steps_taken;
            let advance = advance(&script, &mut run, &facts, &world, outcome);
            prop_assert!(run.steps_taken - before <= MAX_STEPS_PER_ADVANCE);
            match advance.progress {
                Progress::Waiting(_) => outcome = Some(if timeout { "timeout" } else { "assigned" }),
                Progress::Finished(_) => break,
                Progress::Failed(error) => {
                    // What validation lets through cannot go round without waiting.
                    prop_assert!(busy || error.code != "too_many_steps", "{error:?}");
                    break;
                }
            }
            let stored = serde_json::to_string(&run).unwrap();
            run = serde_json::from_str(&stored).unwrap();
        }
    }
}
