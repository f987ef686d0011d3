//! What an expression would get wrong when it runs, found before it runs.
//!
//! MiniJinja looks up filters, tests and members only while it evaluates. The expression has compiled when this file
//! sees it, so a plain scan of its words is enough to find the names it uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use serde_json::Value as Json;

use super::expression::Expr;
use super::facts::{AddressFacts, AttachmentFacts, Facts};
use super::scope::{ROOTS, Scope};
use crate::language::{FILTERS, TESTS, pattern_of};

/// Something wrong in an expression: a stable code and a sentence.
pub(super) type Finding = (&'static str, String);

/// Everything that is wrong in `expression`, given the script's variables.
pub(super) fn findings(expression: &Expr, variables: &BTreeMap<String, Json>) -> Vec<Finding> {
    if let Err(error) = expression.compile() {
        return vec![("invalid_expression", error.to_string())];
    }
    let mut found: Vec<Finding> =
        expression.paths().iter().filter_map(|path| wrong_path(path, variables)).collect();
    found.extend(wrong_words(&words(expression.source())));
    found
}

fn wrong_path(path: &str, variables: &BTreeMap<String, Json>) -> Option<Finding> {
    let mut names = path.split('.');
    let root = names.next().unwrap_or_default();
    if !ROOTS.contains(&root) {
        return Some((
            "unknown_name",
            format!("there is no `{root}`; expressions begin with {}", ROOTS.join(", ")),
        ));
    }
    let member = names.next()?;
    match root {
        "vars" if variables.contains_key(member) => None,
        "vars" => Some(("unknown_variable", format!("the script declares no variable `{member}`"))),
        "globals" => None,
        _ => unknown_member(root, path),
    }
}

/// Walks the path through facts that have everything; below a free map or a list any name may come.
fn unknown_member(root: &str, path: &str) -> Option<Finding> {
    let facts = Arc::new(complete_facts());
    let mut value = Scope::new(&facts, &BTreeMap::new()).value().get_attr(root).ok()?;
    let mut so_far = root.to_owned();
    for name in path.split('.').skip(1) {
        if matches!(so_far.as_str(), "message.headers" | "account.settings") {
            return None;
        }
        let inner = value.get_attr(name).ok().filter(|inner| !inner.is_undefined());
        let Some(inner) = inner else {
            return Some(("unknown_name", format!("`{so_far}` has no `{name}`")));
        };
        so_far = format!("{so_far}.{name}");
        value = inner;
    }
    None
}

fn complete_facts() -> Facts {
    let mut facts = Facts::empty(DateTime::UNIX_EPOCH, chrono_tz::UTC);
    facts.message.to = vec![AddressFacts::default()];
    facts.message.cc = vec![AddressFacts::default()];
    facts.message.attachments = vec![AttachmentFacts::default()];
    facts
}

/// One word of an expression.
#[derive(Debug, PartialEq)]
enum Word {
    Name(String),
    Text(String),
    Sign(char),
}

fn words(source: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\'' => words.push(Word::Text(text(&mut rest, c))),
            c if c.is_alphanumeric() || c == '_' => {
                let mut name = String::from(c);
                while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                words.push(Word::Name(name));
            }
            c if c.is_whitespace() => {}
            c => words.push(Word::Sign(c)),
        }
    }
    words
}

/// A quoted text up to its closing quote, with its escapes resolved as far as patterns need it.
fn text(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            c if c == quote => break,
            '\\' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('\\' | '"' | '\'' | '/')) => text.push(c),
                Some(c) => text.extend(['\\', c]),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

fn wrong_words(words: &[Word]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let Word::Name(name) = word else { continue };
        let before = i.checked_sub(1).and_then(|i| words.get(i));
        let called = words.get(i + 1) == Some(&Word::Sign('('));
        match before {
            Some(Word::Sign('|')) => found.extend(wrong_filter(name, &words[i + 1..])),
            Some(Word::Name(is)) if is_test(words, i, is) && name != "not" => {
                found.extend(wrong_test(name));
            }
            _ if called && !is_keyword(name) => {
                found
                    .push(("unknown_function", format!("`{name}` cannot be called: there are only filters")));
            }
            _ => {}
        }
    }
    found
}

fn wrong_test(name: &str) -> Option<Finding> {
    (!TESTS.contains(&name)).then(|| ("unknown_test", format!("there is no test `is {name}`")))
}

/// Whether the word at `i`, which comes after the name `before`, names a test: `is X` or `is not X`.
fn is_test(words: &[Word], i: usize, before: &str) -> bool {
    let is = |word: Option<&Word>| word == Some(&Word::Name("is".to_owned()));
    before == "is" || (before == "not" && i >= 2 && is(words.get(i - 2)))
}

fn is_keyword(name: &str) -> bool {
    matches!(name, "and" | "or" | "not" | "in" | "is" | "if" | "else")
}

fn wrong_filter(name: &str, after: &[Word]) -> Option<Finding> {
    if !FILTERS.contains(&name) {
        return Some(("unknown_filter", format!("there is no filter `{name}`")));
    }
    match (name, after) {
        ("matches", [Word::Sign('('), Word::Text(pattern), Word::Sign(')'), ..]) => {
            pattern_of(pattern).err().map(|detail| ("invalid_pattern", detail))
        }
        _ => None,
    }
}
