//! The language of scripts and templates: MiniJinja with a small set of filters and tests, no functions, no I/O and
//! bounded work.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, filters, tests};
use regex::{Regex, RegexBuilder};

/// Work that one evaluation may do, in MiniJinja's units: about 3 MB of text handled.
const FUEL: u64 = 50_000;
/// Most compiled patterns kept.
const MAX_PATTERNS: usize = 256;
/// Most characters in a pattern.
const MAX_PATTERN: usize = 500;
/// Most memory that a compiled pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// How much of a text `matches` looks at, in bytes.
const MAX_MATCHED_BYTES: usize = 256 * 1024;

/// The filters there are.
pub const FILTERS: &[&str] = &[
    "abs",
    "bool",
    "contains",
    "default",
    "domain",
    "endswith",
    "first",
    "float",
    "int",
    "join",
    "last",
    "length",
    "local_part",
    "lower",
    "matches",
    "replace",
    "split",
    "startswith",
    "string",
    "trim",
    "upper",
];
/// The tests there are, after `is`.
pub const TESTS: &[&str] = &[
    "defined",
    "undefined",
    "none",
    "boolean",
    "number",
    "integer",
    "string",
    "sequence",
    "mapping",
    "odd",
    "even",
    "startingwith",
    "endingwith",
    "in",
    "true",
    "false",
];

/// The one environment that all expressions of scripts share; nothing in it belongs to a script.
pub static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

static PATTERNS: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

/// An environment with the language and its bounds: strict, and with fuel for one evaluation.
pub fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(50);
    // Errors carry their place in the expression only in debug mode.
    env.set_debug(true);
    add_filters(&mut env);
    add_tests(&mut env);
    env
}

fn add_filters(env: &mut Environment<'static>) {
    env.add_filter("abs", filters::abs);
    env.add_filter("bool", filters::bool);
    env.add_filter("default", filters::default);
    env.add_filter("first", filters::first);
    env.add_filter("float", filters::float);
    env.add_filter("int", filters::int);
    env.add_filter("join", filters::join);
    env.add_filter("last", filters::last);
    env.add_filter("length", filters::length);
    env.add_filter("lower", filters::lower);
    env.add_filter("replace", filters::replace);
    env.add_filter("split", filters::split);
    env.add_filter("string", filters::string);
    env.add_filter("trim", filters::trim);
    env.add_filter("upper", filters::upper);
    env.add_filter("contains", contains);
    env.add_filter("startswith", |text: &str, start: &str| {
        text.to_lowercase().starts_with(&start.to_lowercase())
    });
    env.add_filter("endswith", |text: &str, end: &str| text.to_lowercase().ends_with(&end.to_lowercase()));
    env.add_filter("domain", |address: &str| address.rsplit_once('@').map_or("", |(_, d)| d).to_lowercase());
    env.add_filter("local_part", |address: &str| {
        address.rsplit_once('@').map_or(address, |(l, _)| l).to_owned()
    });
    env.add_filter("matches", matches);
}

fn add_tests(env: &mut Environment<'static>) {
    env.add_test("defined", |value: &Value| !value.is_undefined());
    env.add_test("undefined", |value: &Value| value.is_undefined());
    env.add_test("none", |value: &Value| value.is_none());
    env.add_test("boolean", tests::is_boolean);
    env.add_test("number", tests::is_number);
    env.add_test("integer", tests::is_integer);
    env.add_test("string", tests::is_string);
    env.add_test("sequence", tests::is_sequence);
    env.add_test("mapping", tests::is_mapping);
    env.add_test("odd", tests::is_odd);
    env.add_test("even", tests::is_even);
    env.add_test("startingwith", tests::is_startingwith);
    env.add_test("endingwith", tests::is_endingwith);
    env.add_test("in", tests::is_in);
    env.add_test("true", tests::is_true);
    env.add_test("false", tests::is_false);
}

/// Whether a text has `needle` in it, or a list has an item equal to it; letter case does not count.
fn contains(haystack: &Value, needle: &str) -> Result<bool, Error> {
    let needle = needle.to_lowercase();
    if let Some(text) = haystack.as_str() {
        return Ok(text.to_lowercase().contains(&needle));
    }
    if haystack.kind() != ValueKind::Seq {
        let detail = format!("`contains` looks into a text or a list, not into {}", haystack.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, detail));
    }
    Ok(haystack.try_iter()?.any(|item| item.as_str().is_some_and(|text| text.to_lowercase() == needle)))
}

/// Whether the regular expression `pattern` is found in the first 256 KiB of `text`.
fn matches(text: &str, pattern: &str) -> Result<bool, Error> {
    let pattern = pattern_of(pattern).map_err(|detail| Error::new(ErrorKind::InvalidOperation, detail))?;
    Ok(pattern.is_match(&text[..text.floor_char_boundary(MAX_MATCHED_BYTES)]))
}

/// Compiles a pattern within its bounds, or finds it among the recent ones; an error is a sentence.
pub fn pattern_of(pattern: &str) -> Result<Regex, String> {
    if pattern.chars().count() > MAX_PATTERN {
        return Err(format!("a pattern has at most {MAX_PATTERN} characters"));
    }
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = patterns.get(pattern) {
        return Ok(found.clone());
    }
    let compiled = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build();
    let compiled = compiled.map_err(|error| format!("the pattern `{pattern}` cannot be used: {error}"))?;
    if patterns.len() >= MAX_PATTERNS {
        patterns.clear();
    }
    patterns.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}
