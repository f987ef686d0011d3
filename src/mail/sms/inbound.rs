//! Reads the telephone number and the text out of a gateway's mail, by regular expressions that an administrator wrote.

use regex::{Regex, RegexBuilder};

use crate::mail::number::{Number, NumberError};

/// Longest pattern in bytes.
const PATTERN_MAX: usize = 1000;
/// Most memory that a compiled pattern may take, in bytes.
const COMPILED_MAX: usize = 1024 * 1024;
/// How much of a mail's part is looked at, in bytes.
const INPUT_MAX: usize = 64 * 1024;
/// The group that holds the number.
const NUMBER: &str = "number";
/// The group that holds the text.
const TEXT: &str = "text";

/// The part of a mail that a pattern is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The sender: `Name <address>`, or the address alone.
    From,
    /// The subject, decoded.
    Subject,
    /// The plain text.
    Text,
}

/// A pattern as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where to look.
    pub source: Source,
    /// What to find, with the group `number` or `text`.
    pub pattern: String,
}

/// A compiled pattern with a group named `number`, one named `text`, or both.
///
/// The pattern finds its match anywhere unless its author anchors it; `(?m)` and `(?s)` may be set within it. Matching
/// takes time linear in the input.
#[derive(Debug, Clone)]
pub struct InboundPattern(Regex);

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression; says where and why, over several lines.
    #[error("it is not a regular expression that can be used: {0}")]
    Syntax(String),
    /// It is longer than 1000 bytes, or repeats so much that it would take too much memory.
    #[error("the regular expression is too large")]
    TooLarge,
    /// It has no group with the name that is needed.
    #[error("it has no group named {0}")]
    NoGroup(&'static str),
}

impl InboundPattern {
    /// Compiles a pattern in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// Those of [`PatternError`]; [`PatternError::NoGroup`] when it has neither group.
    pub fn compile(pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > PATTERN_MAX {
            return Err(PatternError::TooLarge);
        }
        let compiled =
            RegexBuilder::new(pattern).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build();
        let compiled = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            other => PatternError::Syntax(other.to_string()),
        })?;
        let pattern = Self(compiled);
        if pattern.has(NUMBER) || pattern.has(TEXT) {
            Ok(pattern)
        } else {
            Err(PatternError::NoGroup(NUMBER))
        }
    }

    pub(super) fn has(&self, group: &str) -> bool {
        self.0.capture_names().flatten().any(|name| name == group)
    }

    /// The groups at the first match.
    pub(super) fn captures<'h>(&self, input: &'h str) -> Option<regex::Captures<'h>> {
        self.0.captures(input)
    }

    /// What the group holds at the first match, trimmed.
    pub(super) fn find<'h>(&self, group: &str, input: &'h str) -> Option<&'h str> {
        Some(self.0.captures(input)?.name(group)?.as_str().trim())
    }
}

/// The parts of a gateway's mail that patterns are applied to.
#[derive(Debug, Clone, Copy)]
pub struct GatewayMail<'a> {
    /// The sender: `Name <address>`, or the address alone.
    pub from: &'a str,
    /// The subject, decoded.
    pub subject: &'a str,
    /// The plain text.
    pub text: &'a str,
}

impl<'a> GatewayMail<'a> {
    pub(super) fn part(&self, source: Source) -> &'a str {
        let part = match source {
            Source::From => self.from,
            Source::Subject => self.subject,
            Source::Text => self.text,
        };
        &part[..part.floor_char_boundary(INPUT_MAX)]
    }
}

/// A text message as it was found in a gateway's mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundText {
    /// Who sent it.
    pub number: Number,
    /// What it says, trimmed; it may be empty.
    pub text: String,
}

/// Why a gateway's mail gives no text message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// The pattern for the number does not match.
    #[error("the pattern for the number does not match")]
    NumberNotFound,
    /// What was found in the number's place is none.
    #[error("what was found in place of the number is not one: {0}")]
    NumberInvalid(#[from] NumberError),
    /// The pattern for the text does not match.
    #[error("the pattern for the text does not match")]
    TextNotFound,
}

/// How the mail of one gateway is read.
#[derive(Debug, Clone, Default)]
pub struct InboundRules {
    number: Option<(Source, InboundPattern)>,
    text: Option<(Source, InboundPattern)>,
    /// The code of the country whose own numbers begin with a single 0.
    country: Option<String>,
}

impl InboundRules {
    /// Compiles the rules of an account. Without one for the number it is the local part of the sender's address; without
    /// one for the text it is the mail's whole text.
    ///
    /// # Errors
    /// Those of [`PatternError`], with whether the rule is that for the number or for the text.
    pub fn compile(
        number: Option<&Rule>,
        text: Option<&Rule>,
        country: Option<String>,
    ) -> Result<Self, RuleError> {
        let compile = |rule: Option<&Rule>, group: &'static str| {
            let Some(rule) = rule else { return Ok(None) };
            let failed = |error| RuleError { group, error };
            let pattern = InboundPattern::compile(&rule.pattern).map_err(failed)?;
            if pattern.has(group) {
                Ok(Some((rule.source, pattern)))
            } else {
                Err(failed(PatternError::NoGroup(group)))
            }
        };
        Ok(Self { number: compile(number, NUMBER)?, text: compile(text, TEXT)?, country })
    }

    /// Reads a number as the gateway writes it.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, text: &str) -> Result<Number, NumberError> {
        Number::of_gateway(text, self.country.as_deref())
    }

    /// Finds number and text in the first 64 KiB of the mail's parts.
    ///
    /// # Errors
    /// Those of [`InboundError`].
    pub fn read(&self, mail: &GatewayMail<'_>) -> Result<InboundText, InboundError> {
        let number = match &self.number {
            Some((source, pattern)) => pattern.find(NUMBER, mail.part(*source)),
            None => Some(local_part(mail.part(Source::From))),
        };
        let text = match &self.text {
            Some((source, pattern)) => pattern.find(TEXT, mail.part(*source)),
            None => Some(mail.part(Source::Text).trim()),
        };
        Ok(InboundText {
            number: self.number(number.ok_or(InboundError::NumberNotFound)?)?,
            text: text.ok_or(InboundError::TextNotFound)?.to_owned(),
        })
    }
}

/// Which rule cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern for the {group}: {error}")]
pub struct RuleError {
    /// `number` or `text`.
    pub group: &'static str,
    /// Why.
    pub error: PatternError,
}

/// What stands before the `@` of `Name <local@domain>` or `local@domain`.
fn local_part(from: &str) -> &str {
    let address = match from.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => from,
    };
    address.rsplit_once('@').map_or(address, |(local, _)| local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(source: Source, pattern: &str) -> Option<Rule> {
        Some(Rule { source, pattern: pattern.to_owned() })
    }

    fn rules(number: Option<Rule>, text: Option<Rule>) -> InboundRules {
        InboundRules::compile(number.as_ref(), text.as_ref(), Some("44".to_owned())).unwrap()
    }

    const MAIL: GatewayMail<'_> = GatewayMail {
        from: "SMS gateway <447700900123@gw.example>",
        subject: "SMS from +44 7700 900456 [id 9]",
        text: "From: 07700 900789\r\nMessage:\r\n Hello\r\nthere \r\n-- \r\nsent by gw.example\r\n",
    };

    #[test]
    fn without_rules_the_number_is_the_senders_local_part_and_the_text_the_whole_text() {
        for (from, number) in [
            ("447700900123@gw.example", "+447700900123"),
            ("+447700900123@gw.example", "+447700900123"),
            ("Gate <\"Way\"> <447700900123@gw.example>", "+447700900123"),
            ("447700900123", "+447700900123"),
        ] {
            let found =
                InboundRules::default().read(&GatewayMail { from, text: "\r\n Hi there \r\n\r\n", ..MAIL });
            let found = found.unwrap();
            assert_eq!(
                (found.number.to_string().as_str(), found.text.as_str()),
                (number, "Hi there"),
                "{from}"
            );
        }
    }

    #[test]
    fn a_sender_that_is_no_number_is_none_without_a_rule() {
        for from in ["anna@example.com", "", "@gw.example", "4477@gw.example"] {
            let error = InboundRules::default().read(&GatewayMail { from, ..MAIL }).unwrap_err();
            assert!(matches!(error, InboundError::NumberInvalid(_)), "{from}: {error}");
        }
    }

    #[test]
    fn number_and_text_are_found_where_the_rules_look() {
        let cases = [
            (Source::From, r"<(?<number>\d+)@gw\.example>$", "+447700900123"),
            (Source::Subject, r"^SMS from (?P<number>[+\d ]+) \[", "+447700900456"),
            (Source::Text, r"(?m)^From: (?<number>.+?)\r?$", "+447700900789"),
        ];
        let text = r"(?sm)^Message:\s*(?<text>.*?)\r?\n-- \r?$";
        for (source, pattern, number) in cases {
            let found = rules(rule(source, pattern), rule(Source::Text, text)).read(&MAIL).unwrap();
            assert_eq!(found.number.to_string(), number, "{pattern}");
            assert_eq!(found.text, "Hello\r\nthere");
        }
    }

    #[test]
    fn one_pattern_may_serve_for_both() {
        let both = r"^(?<number>\d+): (?<text>.*)$";
        let rules = rules(rule(Source::Subject, both), rule(Source::Subject, both));
        let found = rules.read(&GatewayMail { subject: "447700900123: see you", ..MAIL }).unwrap();
        assert_eq!((found.number.digits(), found.text.as_str()), ("447700900123", "see you"));
    }

    #[test]
    fn a_pattern_that_does_not_match_is_told_and_nothing_guessed() {
        let never = |group| rule(Source::Subject, &format!("^never (?<{group}>.+)$"));
        assert_eq!(rules(never("number"), None).read(&MAIL), Err(InboundError::NumberNotFound));
        assert_eq!(rules(None, never("text")).read(&MAIL), Err(InboundError::TextNotFound));
        let optional = rule(Source::Subject, "^SMS(?<number> x)?");
        assert_eq!(rules(optional, None).read(&MAIL), Err(InboundError::NumberNotFound));
        let word = rule(Source::Subject, "^(?<number>SMS)");
        assert!(matches!(rules(word, None).read(&MAIL), Err(InboundError::NumberInvalid(_))));
    }

    #[test]
    fn a_group_may_be_empty() {
        let found = rules(None, rule(Source::Subject, "^(?<text>)")).read(&MAIL).unwrap();
        assert_eq!(found.text, "");
    }

    #[test]
    fn patterns_without_their_group_or_of_no_use_are_refused() {
        let compile = |pattern: &str| InboundPattern::compile(pattern).map(|_| ());
        assert_eq!(compile("^.*$"), Err(PatternError::NoGroup("number")));
        assert_eq!(compile(""), Err(PatternError::NoGroup("number")));
        assert!(matches!(compile("(?<number>"), Err(PatternError::Syntax(_))));
        assert!(matches!(compile(r"(?<number>\d+)(?!x)"), Err(PatternError::Syntax(_))));
        assert_eq!(compile(r"(?<number>\w{1000}){1000}"), Err(PatternError::TooLarge));
        assert_eq!(compile(&format!("(?<number>{})", "a".repeat(PATTERN_MAX))), Err(PatternError::TooLarge));
    }

    #[test]
    fn a_rule_needs_its_own_group() {
        let text = rule(Source::Text, "(?<text>.*)");
        let error = InboundRules::compile(text.as_ref(), None, None).unwrap_err();
        assert_eq!(error, RuleError { group: "number", error: PatternError::NoGroup("number") });
        let number = rule(Source::Text, "(?<number>.*)");
        let error = InboundRules::compile(None, number.as_ref(), None).unwrap_err();
        assert_eq!(error.to_string(), "the pattern for the text: it has no group named text");
    }

    #[test]
    fn only_the_first_64_kib_are_looked_at() {
        let number = rule(Source::Text, r"(?<number>\d+)");
        let with_digit_at = |at: usize| "a".repeat(at) + "447700900123";
        let read = |text: &str| rules(number.clone(), None).read(&GatewayMail { text, ..MAIL });
        assert!(read(&with_digit_at(INPUT_MAX - 12)).is_ok());
        assert_eq!(read(&with_digit_at(INPUT_MAX)), Err(InboundError::NumberNotFound));
        let cut_in_a_character = "a".to_owned() + &"é".repeat(INPUT_MAX);
        let found = InboundRules::default().read(&GatewayMail { text: &cut_in_a_character, ..MAIL }).unwrap();
        assert_eq!(found.text.len(), INPUT_MAX - 1);
    }
}
