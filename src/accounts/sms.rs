//! The gateway of an SMS account: where texts go, how the gateway's mail is read, and which words people leave by.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::entity::{Channel, account};
use crate::{
    clock::Timestamp,
    http::problem::FieldError,
    mail::{
        number::Number,
        sms::{
            destination::{NumberIn, Route},
            gateway::{Gateway, ReceiptRule, Sender},
            inbound::{InboundRules, Rule, Source},
            keywords::{self, Keyword, Keywords},
            segments::measure,
        },
    },
};

/// Where in the gateway's mail the number stands when its address is the same for all numbers.
///
/// - `subject`: in the subject.
/// - `first_line`: in the first line of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsNumberIn {
    /// In the subject.
    #[default]
    Subject,
    /// In the first line of the text.
    FirstLine,
}

/// The part of a gateway's mail that a pattern is applied to.
///
/// - `from`: the sender, as `Name <address>` or the address alone.
/// - `subject`: the subject, decoded.
/// - `text`: the plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsSource {
    /// The sender.
    From,
    /// The subject.
    Subject,
    /// The plain text.
    Text,
}

/// Where something is found in a gateway's mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SmsPattern {
    /// Where it is looked for, in the first 64 KiB.
    pub source: SmsSource,
    /// A regular expression (the syntax of Rust's `regex`, much like RE2) with the group `number` or `text`; it matches
    /// anywhere unless it is anchored.
    #[schema(min_length = 1, max_length = 500, examples("^SMS from (?P<number>[+0-9 ]+)$"))]
    pub pattern: String,
}

/// How number and text are found in the gateway's mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SmsInboundPattern {
    /// With the group `number`; left out, it is what stands before the `@` of the sender's address.
    #[serde(default)]
    pub number: Option<SmsPattern>,
    /// With the group `text`; left out, it is the mail's whole text.
    #[serde(default)]
    pub text: Option<SmsPattern>,
}

/// How the gateway's delivery receipts are known: mail in which the pattern is found is no text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SmsReceiptPattern {
    /// Where it is looked for.
    pub source: SmsSource,
    /// A regular expression with the groups `number` and `status`.
    #[schema(min_length = 1, max_length = 500, examples("^Report (?P<number>[+0-9]+): (?P<status>.*)$"))]
    pub pattern: String,
    /// A status that has one of these in it says that the text arrived.
    #[serde(default = "delivered")]
    #[schema(max_items = 20, inline = false, default = json!(["delivered", "delivrd"]))]
    pub delivered: Vec<SmsWord>,
    /// A status that has one of these in it says that it will not; asked first.
    #[serde(default = "failed")]
    #[schema(max_items = 20, inline = false, default = json!(["undeliver", "undeliv", "failed", "rejected", "expired"]))]
    pub failed: Vec<SmsWord>,
}

/// A word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 30, examples("STOP"))]
pub struct SmsWord(pub String);

/// Whose mail is the gateway's: an address, or `@` and a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 3, max_length = 254, examples("@sms.example.com"))]
pub struct SmsSender(pub String);

/// The gateway of an SMS account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "destination": "@sms.example.com", "country_code": "44" }))]
pub struct SmsSettings {
    /// The gateway's address for a number: the number is put in front of a destination that begins with `@`, and, with an
    /// `@`, of a domain; in any other it takes the place of `{number}`. An address without `{number}` serves all numbers,
    /// and the number stands where `number_in` says.
    #[serde(default)]
    #[schema(max_length = 254, default = "", examples("@sms.example.com"))]
    pub destination: String,
    /// What stands in front of a number's digits, which begin with the country code.
    #[serde(default)]
    #[schema(max_length = 2, pattern = r"^(\+|00)?$", default = "", examples("+"))]
    pub number_prefix: String,
    /// Where the number stands when one address serves all of them.
    #[serde(default)]
    pub number_in: SmsNumberIn,
    /// The subject of the mail to the gateway, for gateways that read a key there; `{number}` in it stands for the number.
    #[serde(default)]
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f]*$", default = "")]
    pub subject: String,
    /// The code of the country whose own numbers the gateway writes with a single 0 in front.
    #[serde(default)]
    #[schema(max_length = 3, pattern = "^[1-9][0-9]{0,2}$", examples("44"))]
    pub country_code: Option<String>,
    /// Whose mail is the gateway's; everybody at the destination's domain when it is empty. Mail from anybody else is no
    /// text, whatever it says: it becomes an `unparsed` message that an agent can open.
    #[serde(default)]
    #[schema(max_items = 50, inline = false)]
    pub senders: Vec<SmsSender>,
    /// How number and text are found in the gateway's mail.
    #[serde(default)]
    pub inbound_pattern: SmsInboundPattern,
    /// How the gateway's delivery receipts are known; none are expected when it is left out.
    #[serde(default)]
    pub receipt_pattern: Option<SmsReceiptPattern>,
    /// For how long after its last message a closed conversation with a number goes on with the number's next text, in
    /// seconds; 7 days by default. Later texts begin a new one. An open conversation always goes on.
    #[serde(default = "reopen_within_s")]
    #[schema(minimum = 0, maximum = 31_536_000, default = 604_800)]
    pub reopen_within_s: u32,
    /// The most segments that a text may take.
    #[serde(default = "max_segments")]
    #[schema(minimum = 1, maximum = 20, default = 6)]
    pub max_segments: u8,
    /// A message that is one of these words, in any case, wants no more texts: the number is suppressed.
    #[serde(default = "stop_words")]
    #[schema(max_items = 50, inline = false, default = json!(["STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL"]))]
    pub stop_words: Vec<SmsWord>,
    /// One of these words lifts what a stop word set.
    #[serde(default = "start_words")]
    #[schema(max_items = 50, inline = false, default = json!(["START", "UNSTOP"]))]
    pub start_words: Vec<SmsWord>,
    /// One of these words is answered with `help_reply`, when there is one; else it is an ordinary message.
    #[serde(default = "help_words")]
    #[schema(max_items = 50, inline = false, default = json!(["HELP", "INFO"]))]
    pub help_words: Vec<SmsWord>,
    /// The answer to a stop word, at most once in 7 days; none when it is empty.
    #[serde(default = "stop_reply")]
    #[schema(
        max_length = 480,
        default = "You will get no more texts from us. Text START to get them again."
    )]
    pub stop_reply: String,
    /// The answer to a start word; none when it is empty.
    #[serde(default = "start_reply")]
    #[schema(max_length = 480, default = "You will get our texts again. Text STOP to end them.")]
    pub start_reply: String,
    /// The answer to a help word.
    #[serde(default)]
    #[schema(max_length = 480, default = "", examples("Example Shop, +44 20 7946 0018. Text STOP to end."))]
    pub help_reply: String,
}

fn words(list: &[&str]) -> Vec<SmsWord> {
    list.iter().map(|word| SmsWord((*word).to_owned())).collect()
}

fn delivered() -> Vec<SmsWord> {
    words(&["delivered", "delivrd"])
}

fn failed() -> Vec<SmsWord> {
    words(&["undeliver", "undeliv", "failed", "rejected", "expired"])
}

fn stop_words() -> Vec<SmsWord> {
    words(&keywords::STOP)
}

fn start_words() -> Vec<SmsWord> {
    words(&keywords::START)
}

fn help_words() -> Vec<SmsWord> {
    words(&keywords::HELP)
}

fn stop_reply() -> String {
    "You will get no more texts from us. Text START to get them again.".into()
}

fn start_reply() -> String {
    "You will get our texts again. Text STOP to end them.".into()
}

const fn reopen_within_s() -> u32 {
    7 * 24 * 3600
}

const fn max_segments() -> u8 {
    6
}

impl SmsPattern {
    fn rule(&self) -> Rule {
        let source = match self.source {
            SmsSource::From => Source::From,
            SmsSource::Subject => Source::Subject,
            SmsSource::Text => Source::Text,
        };
        Rule { source, pattern: self.pattern.clone() }
    }
}

impl SmsSettings {
    /// The stored settings; none of an account for e-mail.
    pub fn of(row: &account::Model) -> Option<Self> {
        let sms = row.sms.as_ref().filter(|_| row.channel == Channel::Sms)?;
        Self::deserialize(sms).ok()
    }

    /// Since when a closed conversation's last message must be for it to go on.
    pub fn reopened_since(&self, now: Timestamp) -> Timestamp {
        now.plus_s(-i64::from(self.reopen_within_s))
    }

    /// How texts are addressed.
    pub fn route(&self) -> Route {
        Route {
            destination: self.destination.clone(),
            prefix: self.number_prefix.clone(),
            number_in: match self.number_in {
                SmsNumberIn::Subject => NumberIn::Subject,
                SmsNumberIn::FirstLine => NumberIn::FirstLine,
            },
            subject: self.subject.clone(),
        }
    }

    /// What is said in answer to a word; none when nothing is.
    pub fn reply_to(&self, keyword: Keyword) -> Option<&str> {
        let reply = match keyword {
            Keyword::Stop => &self.stop_reply,
            Keyword::Start => &self.start_reply,
            Keyword::Help => &self.help_reply,
        };
        Some(reply.trim()).filter(|reply| !reply.is_empty())
    }

    /// How the gateway's mail is read.
    ///
    /// # Errors
    /// All that is wrong with the settings, with pointers into them.
    pub fn gateway(&self) -> Result<Gateway, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |pointer: String, code: &str, detail: String| {
            errors.push(FieldError::new(pointer, code, detail));
        };
        let mut senders = Vec::new();
        for (i, SmsSender(sender)) in self.senders.iter().enumerate() {
            match Sender::parse(sender.trim()) {
                Ok(sender) => senders.push(sender),
                Err(error) => wrong(format!("/senders/{i}"), "invalid_address", error.to_string()),
            }
        }
        if self.senders.is_empty() {
            senders
                .extend(self.route().domain().and_then(|domain| Sender::parse(&format!("@{domain}")).ok()));
        }
        let [number, text] = [&self.inbound_pattern.number, &self.inbound_pattern.text]
            .map(|one| one.as_ref().map(SmsPattern::rule));
        let rules = InboundRules::compile(number.as_ref(), text.as_ref(), self.country_code.clone());
        let rules = rules.unwrap_or_else(|error| {
            let pointer = format!("/inbound_pattern/{}/pattern", error.group);
            wrong(pointer, "invalid_pattern", error.error.to_string());
            InboundRules::default()
        });
        let receipts = self.receipt_pattern.as_ref().and_then(|receipt| {
            let rule = SmsPattern { source: receipt.source, pattern: receipt.pattern.clone() }.rule();
            let plain = |list: &[SmsWord]| list.iter().map(|word| word.0.clone()).collect();
            ReceiptRule::compile(&rule, plain(&receipt.delivered), plain(&receipt.failed))
                .map_err(|error| {
                    wrong("/receipt_pattern/pattern".into(), "invalid_pattern", error.to_string())
                })
                .ok()
        });
        let keywords = self.keywords(&mut wrong);
        if errors.is_empty() { Ok(Gateway { senders, rules, receipts, keywords }) } else { Err(errors) }
    }

    fn keywords(&self, wrong: &mut impl FnMut(String, &str, String)) -> Keywords {
        let mut known = Keywords::default();
        let help: &[SmsWord] = if self.help_reply.trim().is_empty() { &[] } else { &self.help_words };
        let lists = [
            ("stop_words", self.stop_words.as_slice(), Keyword::Stop),
            ("start_words", &self.start_words, Keyword::Start),
            ("help_words", help, Keyword::Help),
        ];
        for (name, list, keyword) in lists {
            for (i, SmsWord(word)) in list.iter().enumerate() {
                if let Err(error) = known.add(word, keyword) {
                    wrong(format!("/{name}/{i}"), "invalid_word", error.to_string());
                }
            }
        }
        known
    }

    /// Everything that is wrong, with pointers into an account.
    pub(super) fn wrong(&self) -> Vec<FieldError> {
        let mut found = self.gateway().err().unwrap_or_default();
        let sample = Number::parse("+491701234567").map(|number| self.route().to(&number));
        if let Ok(Err(error)) = sample {
            found.push(FieldError::new("/destination", "address", error.to_string()));
        }
        let replies = [
            ("stop_reply", &self.stop_reply),
            ("start_reply", &self.start_reply),
            ("help_reply", &self.help_reply),
        ];
        for (name, reply) in replies {
            let segments = measure(reply.trim()).segments;
            if segments > usize::from(self.max_segments) {
                let detail =
                    format!("it takes {segments} segments, at most {} are allowed", self.max_segments);
                found.push(FieldError::new(format!("/{name}"), "too_many_segments", detail));
            }
        }
        for error in &mut found {
            error.pointer.insert_str(0, "/sms");
        }
        found
    }
}
