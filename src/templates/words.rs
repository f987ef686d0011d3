//! The filters, tests and includes that a template uses. MiniJinja looks them up only while it renders; a template that
//! compiled is scanned for their names before it is published.

use std::iter::Peekable;
use std::str::Chars;

use super::fields::TemplateField;
use crate::language::{FILTERS, TESTS};

/// Statements that take another template by another way than `include`.
const FOREIGN: [&str; 3] = ["import", "from", "extends"];

/// A `{{ … }}` or `{% … %}` of a template.
#[derive(Debug)]
struct Block<'a> {
    /// Where it begins, in bytes.
    at: usize,
    /// The names and signs in it.
    words: Vec<&'a str>,
}

/// A partial that a template includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Include<'a> {
    /// The partial's name.
    pub name: &'a str,
    /// Where it is included: `line 2, column 7`.
    pub place: String,
}

/// The blocks of a template's part, without comments and what is between `raw` and `endraw`.
fn blocks(source: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (comment, statement) = (rest[at..].starts_with("{#"), rest[at..].starts_with("{%"));
        let begins = source.len() - rest.len() + at;
        rest = &rest[at + 2..];
        if comment {
            rest = rest.split_once("#}").map_or("", |(_, after)| after);
            continue;
        }
        let words = words(&mut rest);
        if statement && unmarked(&words) == ["raw"] {
            rest = after_raw(rest);
            continue;
        }
        found.push(Block { at: begins, words });
    }
    found
}

/// The words of a statement without the signs that keep or take the blanks around it.
fn unmarked<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().copied().filter(|word| !matches!(*word, "-" | "+")).collect()
}

/// What comes after `{% endraw %}`; nothing when it does not come. What is before it is no template, and is not read as one.
fn after_raw(source: &str) -> &str {
    let unsigned = |text: &'_ str| text.strip_prefix(['-', '+']).map_or(0, |_| 1);
    let mut rest = source;
    while let Some((_, tag)) = rest.split_once("{%") {
        rest = tag;
        let Some(after) = tag[unsigned(tag)..].trim_start().strip_prefix("endraw") else { continue };
        let after = after.trim_start();
        if let Some(after) = after[unsigned(after)..].strip_prefix("%}") {
            return after;
        }
    }
    ""
}

/// What is wrong with the filters and tests of a template's part: a code and a sentence each.
pub(super) fn wrong_in_template(source: &str) -> Vec<(&'static str, String)> {
    blocks(source).iter().flat_map(|block| wrong(&block.words)).collect()
}

/// The partials that a template's part includes, in their order.
///
/// # Errors
/// A sentence with the place: a name that is not written out, or a statement that takes other templates in another way.
pub(super) fn includes(source: &str) -> Result<Vec<Include<'_>>, String> {
    let mut found = Vec::new();
    for Block { at, words } in blocks(source).into_iter().filter(|block| source[block.at..].starts_with("{%"))
    {
        match unmarked(&words).as_slice() {
            ["include", name] => match literal(name) {
                Some(name) => found.push(Include { name, place: place(source, at) }),
                None => return Err(format!("{}: name the partial in quotes", place(source, at))),
            },
            ["include", ..] => {
                return Err(format!("{}: write {{% include \"name\" %}}", place(source, at)));
            }
            [statement, ..] if FOREIGN.contains(statement) => {
                let detail = format!("there is no {{% {statement} %}}: use partials with {{% include %}}");
                return Err(format!("{}: {detail}", place(source, at)));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// What is between the quotes.
fn literal(word: &str) -> Option<&str> {
    let quote = word.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    word[1..].strip_suffix(quote).filter(|name| !name.contains(['\\', quote]))
}

/// The line and column, from 1, of a byte.
fn place(source: &str, at: usize) -> String {
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
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

    #[test]
    fn what_is_raw_is_not_looked_at_and_a_field_of_that_name_is_none() {
        for raw in ["{% raw %}", "{%raw%}", "{%- raw -%}", "{%+ raw %}", "{% raw +%}"] {
            for end in ["{% endraw %}", "{%endraw%}", "{%- endraw -%}", "{%+ endraw +%}"] {
                let source = format!("{raw}{{{{ it's|shout endraw {{% endrawer %}}{end}{{{{ x|shout }}}}");
                assert_eq!(codes(&source), ["unknown_filter"], "{source}");
            }
        }
        assert_eq!(codes("{{ raw }}{{ x|shout }} endraw"), ["unknown_filter"]);
        assert_eq!(codes("{% raw %}{{ x|shout }} endraw"), [""; 0]);
    }

    #[test]
    fn includes_are_found_with_their_places_and_nothing_else_takes_templates() {
        let source = "a\n é {% include \"footer\" %}{# {% include 'no' %} #}{{ '{% include \"no\" %}' }}\n{%- include 'x-1' -%}";
        let found: Vec<_> = includes(source).unwrap().into_iter().map(|one| (one.name, one.place)).collect();
        assert_eq!(
            found,
            [("footer", "line 2, column 4".to_owned()), ("x-1", "line 3, column 1".to_owned())]
        );
        for refused in [
            "{% include name %}",
            "{% include 'a' ~ 'b' %}",
            "{% include ['a'] %}",
            "{% include 'a' ignore missing %}",
            "{% import 'a' as b %}",
            "{% from 'a' import b %}",
            "x\n {% extends 'a' %}",
        ] {
            assert!(includes(refused).unwrap_err().starts_with("line "), "{refused}");
        }
        assert_eq!(includes("{{ include }}{% if import %}{% endif %}").unwrap(), []);
    }
}
