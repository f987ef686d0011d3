//! The addresses in a list of recipients that a report's prose introduces.

use super::phrases::Phrases;

/// Most lines of prose between an introduction and its first address, and between two addresses.
const PROSE_MAX: usize = 12;

/// An address in a text: where it begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub start: usize,
    pub end: usize,
}

/// The addresses listed in `text` behind the introduction that ends at `from`.
///
/// The first address sets the depth of the list: what is indented deeper belongs to the one above it.
pub(super) fn listed(phrases: &Phrases, text: &str, from: usize) -> Vec<Hit> {
    let mut hits: Vec<Hit> = Vec::new();
    let (mut depth, mut prose, mut at) = (usize::MAX, 0, from);
    for (number, line) in text[from..].split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        // What is left of the introduction's own line begins with the rest of its sentence.
        let skipped =
            if number == 0 { line.len() - line.trim_start_matches([' ', '\t', ':', '.']).len() } else { 0 };
        let line = &line[skipped..];
        if line.trim().is_empty() {
            continue;
        }
        if number > 0 && is_rule(line) {
            break;
        }
        let indent = line.len() - line.trim_start().len();
        let item = phrases.item.captures(line).and_then(|found| found.get(1));
        match item.filter(|_| indent <= depth) {
            Some(address) => {
                hits.push(Hit {
                    start: start + skipped + address.start(),
                    end: start + skipped + address.end(),
                });
                prose = 0;
                if number > 0 {
                    depth = indent;
                }
            }
            None if indent > depth => {}
            None => prose += 1,
        }
        if prose > PROSE_MAX {
            break;
        }
    }
    hits
}

/// The single word on the first line behind `from`: a mailbox that its own server names without a domain.
pub(super) fn bare_name(text: &str, from: usize) -> Option<&str> {
    let (_, below) = text[from..].split_once('\n')?;
    let line = below.lines().find(|line| !line.trim().is_empty())?;
    let word = line.trim();
    let is_name = word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (line.starts_with([' ', '\t']) && is_name).then_some(word)
}

/// A line that only divides, or the headline of the next section.
fn is_rule(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches('|');
    ["---", "===", "***", "___"].iter().any(|rule| line.starts_with(rule)) && !line.contains('@')
}
