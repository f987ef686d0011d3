//! Reports in prose: whom a mail system says, in its own words, that it could not reach.

use super::{
    Action, DIAGNOSTIC_MAX, RECIPIENTS_MAX, ReportedRecipient,
    lists::{self, Hit},
    normalised, one_line,
    origin::Origin,
    phrases::{PHRASES, Phrases},
    severity,
};

/// Longest prose that is read, in bytes.
const PROSE_MAX: usize = 64 * 1024;
/// Most addresses that are looked at.
const HITS_MAX: usize = 1000;
/// Most lists that are looked for, and how far back the sentence is read that introduces one, in bytes.
const INTRODUCTIONS_MAX: usize = 100;
const SENTENCE_MAX: usize = 300;
/// Most paragraphs below an address that are searched for a code.
const LATER_MAX: usize = 3;
/// What opens the next address of a list.
const OPENING: &str = "<\"'([";
/// Whom a report names for help.
const HELPERS: [&str; 2] = ["postmaster@", "mailer-daemon@"];

/// The recipients that `texts` name as failed or delayed, and those in the header that they do not name.
pub(super) fn read(texts: &[String], origin: &Origin) -> Vec<ReportedRecipient> {
    let Some(phrases) = PHRASES.as_ref() else { return Vec::new() };
    let mut found = Vec::new();
    let mut action = Action::Failed;
    for text in texts {
        let own = own_words(phrases, text);
        if !origin.is_explicit() && !phrases.failure.is_match(own) {
            continue;
        }
        if phrases.delay.is_match(own) {
            action = Action::Delayed;
        }
        found.extend(told(phrases, own, origin, action));
    }
    for address in &origin.failed {
        if !found.iter().any(|recipient| recipient.address == *address) {
            found.push(recipient(address.clone(), action, None));
        }
    }
    found.truncate(RECIPIENTS_MAX * 10);
    found
}

/// The beginning of `text` up to the copy of the message that failed.
fn own_words<'a>(phrases: &Phrases, text: &'a str) -> &'a str {
    let text = &text[..text.floor_char_boundary(PROSE_MAX)];
    phrases.copy.find(text).map_or(text, |copy| &text[..copy.start()])
}

fn told(phrases: &Phrases, text: &str, origin: &Origin, action: Action) -> Vec<ReportedRecipient> {
    let meant =
        |hit: Hit| Some((hit, normalised(&text[hit.start..hit.end]).filter(|a| may_be_meant(a, origin))?));
    let hits: Vec<(Hit, String)> = hits(phrases, text).into_iter().filter_map(meant).collect();
    let mut recipients: Vec<ReportedRecipient> = Vec::new();
    for (number, (hit, address)) in hits.iter().enumerate() {
        // A reason often names the address again.
        let next = hits[number..].iter().find(|(_, other)| other != address);
        let words = words(&text[hit.end..next.map_or(text.len(), |(next, _)| next.start)]);
        match recipients.iter_mut().find(|known| known.address == *address) {
            Some(known) if known.diagnostic.is_none() => *known = recipient(address.clone(), action, words),
            Some(_) => {}
            None => recipients.push(recipient(address.clone(), action, words)),
        }
    }
    if recipients.is_empty() {
        recipients.extend(bare(phrases, text, origin).map(|address| recipient(address, action, None)));
    }
    recipients
}

/// Not the helper's address, nor the parties', nor half of one that somebody shortened.
fn may_be_meant(address: &str, origin: &Origin) -> bool {
    let lower = address.to_lowercase();
    let is_whole = lower.rsplit_once('@').is_some_and(|(_, domain)| domain.contains('.'));
    is_whole
        && !HELPERS.iter().any(|helper| lower.starts_with(helper))
        && !origin.parties.iter().any(|party| party == address)
}

/// Where addresses stand that the text calls unreachable, in order.
fn hits(phrases: &Phrases, text: &str) -> Vec<Hit> {
    let captured = [&phrases.entry, &phrases.leading, &phrases.trailing]
        .into_iter()
        .flat_map(|phrase| phrase.captures_iter(text).filter_map(|found| found.get(1)).take(HITS_MAX));
    let mut hits: Vec<Hit> = captured.map(|m| Hit { start: m.start(), end: m.end() }).collect();
    let mut read_to = 0;
    for intro in phrases.lists.find_iter(text).take(INTRODUCTIONS_MAX) {
        let sentence = sentence_before(text, intro.start());
        let is_harmless = phrases.harmless.is_match(sentence) && !phrases.failure.is_match(sentence);
        let listed = if intro.end() > read_to && !is_harmless {
            lists::listed(phrases, text, intro.end())
        } else {
            Vec::new()
        };
        read_to = listed.last().map_or(read_to, |last| last.end);
        hits.extend(listed);
    }
    hits.sort_unstable();
    hits.dedup();
    hits.truncate(HITS_MAX);
    hits
}

/// The sentence so far, in which a list is introduced.
fn sentence_before(text: &str, end: usize) -> &str {
    let before = &text[text.floor_char_boundary(end.saturating_sub(SENTENCE_MAX))..end];
    let stops = [". ", ".\n", "\n\n"].iter().filter_map(|stop| before.rfind(stop).map(|at| at + stop.len()));
    &before[stops.max().unwrap_or(0)..]
}

fn bare(phrases: &Phrases, text: &str, origin: &Origin) -> Option<String> {
    let domain = origin.own_domain()?;
    let intro = phrases.lists.find(text)?;
    normalised(&format!("{}@{domain}", lists::bare_name(text, intro.end())?))
}

/// The server's reason, which follows the address: the rest of its paragraph, or a later one that has a code.
fn words(after: &str) -> Option<String> {
    let mut paragraphs = after.split("\n\n").map(|paragraph| {
        let paragraph = paragraph.trim_end_matches(|c: char| OPENING.contains(c) || c.is_whitespace());
        let start = paragraph.find(char::is_alphanumeric)?;
        // What ends in a colon introduces a reason, or the next address, and is none itself.
        one_line(&paragraph[start..], DIAGNOSTIC_MAX).filter(|text| !text.ends_with(':'))
    });
    let own = paragraphs.next().flatten();
    let coded = |text: &String| severity::enhanced(text).is_some() || severity::reply_class(text).is_some();
    own.or_else(|| paragraphs.take(LATER_MAX).flatten().find(coded))
}

fn recipient(address: String, action: Action, diagnostic: Option<String>) -> ReportedRecipient {
    let status = severity::status(None, diagnostic.as_deref());
    let permanence = severity::permanence(action, status.as_deref(), diagnostic.as_deref());
    ReportedRecipient { address, action, permanence, status, diagnostic }
}
