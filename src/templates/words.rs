//! The filters and tests that a template uses. MiniJinja looks them up only while it renders; a template that compiled is
//! scanned for their names before it is published.

use std::iter::Peekable;
use std::str::Chars;

use super::fields::TemplateField;
use crate::language::{FILTERS, TESTS};

/// What is wrong with the filters and tests of a template's part: a code and a sentence each.
pub(super) fn wrong_in_template(source: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let comment = rest[at..].starts_with("{#");
        rest = &rest[at + 2..];
        if comment {
            rest = rest.split_once("#}").map_or("", |(_, after)| after);
            continue;
        }
        let words = words(&mut rest);
        if words == ["raw"] || words == ["-", "raw"] {
            rest = rest.split_once("endraw").map_or("", |(_, after)| after);
            continue;
        }
        found.extend(wrong(&words));
    }
    found
}

/// The same for the source of a field.
pub(super) fn wrong_in_source(field: &TemplateField) -> Vec<(&'static str, String)> {
    field.source.as_deref().map(|mut source| wrong(&words(&mut source))).unwrap_or_default()
}

/// The names and signs up to the end of the block or of the text; `rest` goes on after it.
fn words<'a>(rest: &mut &'a str) -> Vec<&'a str> {
    let (text, mut words) = (*rest, Vec::new());
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with("}}") || text[at..].starts_with("%}") {
            at += 2;
            break;
        }
        let end = at
            + match c {
                '"' | '\'' => quoted(&mut text[at..].chars().peekable(), c),
                c if is_name(c) => text[at..].find(|c| !is_name(c)).unwrap_or(text.len() - at),
                c => c.len_utf8(),
            };
        if !c.is_whitespace() {
            words.push(&text[at..end]);
        }
        at = end;
    }
    *rest = &text[at..];
    words
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes a quoted text has.
fn quoted(rest: &mut Peekable<Chars<'_>>, quote: char) -> usize {
    let mut length = rest.next().map_or(0, char::len_utf8);
    while let Some(c) = rest.next() {
        length += c.len_utf8();
        match c {
            '\\' => length += rest.next().map_or(0, char::len_utf8),
            c if c == quote => break,
            _ => {}
        }
    }
    length
}

fn wrong(words: &[&str]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (i, word) in words.iter().enumerate().filter(|(_, word)| word.starts_with(is_name)) {
        let before = |n: usize| i.checked_sub(n).map_or("", |i| words[i]);
        let after_is = before(1) == "is" || (before(1) == "not" && before(2) == "is");
        let opens_filter = before(1) == "filter" && (i == 1 || (i == 2 && before(2) == "-"));
        if (before(1) == "|" || opens_filter) && !FILTERS.contains(word) {
            found.push(("unknown_filter", format!("there is no filter `{word}`")));
        } else if after_is && *word != "not" && !TESTS.contains(word) {
            found.push(("unknown_test", format!("there is no test `is {word}`")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(source: &str) -> Vec<&'static str> {
        wrong_in_template(source).into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn unknown_filters_and_tests_are_found_wherever_they_stand() {
        assert_eq!(
            codes("a {{ x | lower | shout }} {% if x is not green %}{% endif %}"),
            ["unknown_filter", "unknown_test"]
        );
        assert_eq!(
            codes("{%- filter shout %}x{% endfilter %}{% for a in b|nope %}{% endfor %}"),
            ["unknown_filter"; 2]
        );
        assert_eq!(
            codes(
                "{{ 'a }} | shout' | upper }} | shout {# {{ x|shout }} #}{% raw %}{{ x|shout }}{% endraw %}"
            ),
            [""; 0]
        );
        assert_eq!(
            codes("{{ x|default('it\\'s') }}{% if x is defined and y is not none %}{% endif %}"),
            [""; 0]
        );
        assert_eq!(codes("{{ é|größer }} {{"), ["unknown_filter"]);
    }
}
