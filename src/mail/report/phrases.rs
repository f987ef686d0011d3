//! The words that servers use for "this could not be delivered": one line here teaches one more wording.
//!
//! Every phrase is a regular expression in which a blank stands for blanks and at most one line end. Letters match in any case.

use std::sync::LazyLock;

use regex::Regex;

/// An address as it stands in prose; what it finds is still to be checked.
const ADDRESS: &str = r"([\p{L}\p{N}.!#$%&'*+/=?^_`{|}~-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*)";
/// What may stand between a phrase and the address that belongs to it.
const GAP: &str = r#"[ \t]*[:,]?[ \t]*\n?[ \t-]*(?:\[?SMTP:)?["'<(\[]{0,2}"#;

/// After these come the recipients, on the same line or one by one on the next ones.
const LISTS: &[&str] = &[
    r"(?:following|these)(?: list of)?(?: \w+)? (?:e-?mail )?(?:recipient|address|user)\w*(?:\((?:s|es)\))?",
    r"(?:could not|can ?not|couldn't) be delivered to",
    r"not (?:be )?delivered to(?: the following)?",
    r"not yet been delivered is",
    r"deliver the following message",
    r"delivery of e-?mail to this address",
    r"failed (?:addresses|recipients)(?: follow)?",
    r"folgende[nr]? (?:empf\p{L}+|adresse\w*)",
    r"destinataires? suivants?",
    r"siguientes? (?:destinatarios?|direcci\p{L}+)",
];
/// Right after these comes the recipient.
const LEADING: &[&str] = &[
    r"addressed to(?: email address)?",
    r"message was addressed",
    r"delivery failed [0-9]+ attempts",
    r"error-for",
    r"(?:expanded|generated) from",
    r"failed recipient",
    r"intended recipient",
    r"invalid final delivery userid",
    r"local mailbox",
    r"mailbox is full",
    r"quota violation for",
    r"un(?:able to )?deliver(?:able)?(?: your)?(?: message| mail)? to",
    r"undeliverable address",
    r"unknown user",
    r"user unknown",
    r"your (?:message|mail|email) to",
];
/// Right before these stands the recipient.
const TRAILING: &[&str] =
    &[r"- no such user", r"\.\.\. ?(?:user|host) unknown", r"\.\.\. ?unknown (?:user|host)"];
/// With these begins the copy of the message, so that nothing below them is the server's own.
const COPIES: &[&str] = &[
    r"[|]?[-=*_]{2,}[^\n]*?\b(?:copy|headers?|part|text|body|start|lines) of (?:the |your |this )?(?:source )?(?:original |returned )?(?:message|mail)",
    r"[|]?[-=*_]{2,}[^\n]*?\b(?:original|returned|unsent|forwarded) (?:message|mail)",
    r"[|]?[-=*_]{2,}[^\n]*?\bmessage (?:headers?|text|body)",
    r"[|]?[-=*_]{2,}[^\n]*?\bmensaje original",
    r"(?:the )?original message(?: headers?| details| as received)?[^\n@]{0,40}(?:follow|attached|below|:[ \t]*$)",
    r"(?:included|here|below|a|this)(?: is a)? (?:summary|copy) of (?:the|your) ",
    r"(?:your message reads|message headers follow|old message:)",
    r"the first [0-9]+ lines of your ",
    r"[>| ]*(?:Received|Return-Path|DKIM-Signature):[ \t]",
];
/// With these the server goes on trying.
const DELAYS: &[&str] = &[
    r"not yet been delivered",
    r"(?:has been|is|message) delayed",
    r"been postponed",
    r"delivery attempts will continue",
    r"will (?:be retried|continue to try|continue trying|continue to attempt)",
    r"still being retried",
    r"warning message only",
];
/// What a report says somewhere, when its subject does not.
const FAILURES: &[&str] = &[
    r"undeliver",
    r"(?:not|n't|unable)(?: \w+){0,3} (?:deliver|reach|accept)",
    r"deliver\w*(?: \w+)? (?:fail|error|delay)",
    r"fail(?:ed|ure)",
    r"reject",
    r"returned",
    r"unknown user|user unknown|no such user|no longer valid",
    r"(?:been|is) (?:delayed|postponed)",
    r"nicht zugestellt|unzustellbar|n['’]a pas pu|no (?:se )?(?:ha podido|pudo)|недоставлен|не может быть доставлено",
    r"无法|失败|退信|送信できません|配信できません",
];
/// A sentence with these, and none of the above, does not introduce those that failed.
const HARMLESS: &[&str] =
    &[r"contact", r"assistance", r"success", r"relayed", r"questions", r"\bhelp\b", r"write to"];

/// The phrases, compiled.
pub(super) struct Phrases {
    pub lists: Regex,
    /// The address after a phrase is group 1.
    pub leading: Regex,
    /// The address before a phrase is group 1.
    pub trailing: Regex,
    /// `<address>:` at the start of a line, as qmail and Postfix write it; group 1.
    pub entry: Regex,
    /// A line of a list, with its address as group 1.
    pub item: Regex,
    pub copy: Regex,
    pub delay: Regex,
    pub failure: Regex,
    pub harmless: Regex,
}

/// All phrases; `None` never happens, because a test compiles them.
pub(super) static PHRASES: LazyLock<Option<Phrases>> = LazyLock::new(|| Phrases::compile().ok());

impl Phrases {
    fn compile() -> Result<Self, regex::Error> {
        let label = r"(?:(?:final|original|failed|intended|e-?mail)[ \t])?(?:recipient|address|to|user|mailbox)(?:[ \t]address)?[ \t]*:[ \t]*";
        Ok(Self {
            lists: regex(&any(LISTS))?,
            leading: regex(&format!(r"\b{}{GAP}{ADDRESS}", any(LEADING)))?,
            trailing: regex(&format!(r"{ADDRESS}>?[ \t]*{}", any(TRAILING)))?,
            entry: regex(&format!(r"^<{ADDRESS}>(?:\s*\([^)\n]*\n?[^)\n]*\))?[ \t]*:"))?,
            item: regex(&format!(
                r#"\A[ \t>*•·-]*(?:{label})?(?:c=[^@\n]*SMTP=|\[?SMTP:)?["'<(\[]{{0,2}}{ADDRESS}"#
            ))?,
            copy: regex(&format!(r"^[ \t]*{}", any(COPIES)))?,
            delay: regex(&any(DELAYS))?,
            failure: regex(&any(FAILURES))?,
            harmless: regex(&any(HARMLESS))?,
        })
    }
}

/// One of `phrases`, each blank as blanks and at most one line end.
fn any(phrases: &[&str]) -> String {
    let blank = r"(?:[ \t]+|[ \t]*\n[ \t]*)";
    let of: Vec<String> = phrases.iter().map(|phrase| blanks(phrase, blank)).collect();
    format!("(?:{})", of.join("|"))
}

/// `phrase` with `blank` for its blanks, but not for those inside brackets.
fn blanks(phrase: &str, blank: &str) -> String {
    let mut out = String::with_capacity(phrase.len() * 2);
    let mut in_class = false;
    for c in phrase.chars() {
        in_class = match c {
            '[' => true,
            ']' => false,
            _ => in_class,
        };
        match c {
            ' ' if !in_class => out.push_str(blank),
            c => out.push(c),
        }
    }
    out
}

fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("(?im){pattern}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_compiles() {
        assert!(PHRASES.is_some());
    }
}
