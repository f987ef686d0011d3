//! What the mail that comes to an SMS account is: a text, a receipt for one, or neither. No I/O.

use regex::Captures;

use super::{
    inbound::{GatewayMail, InboundError, InboundPattern, InboundRules, PatternError, Rule, Source},
    keywords::{Keyword, Keywords},
};
use crate::mail::number::Number;

/// The group that holds what a receipt says.
const STATUS: &str = "status";
/// The most of a receipt's words that is kept, in characters.
const WORDS_MAX: usize = 200;

/// Whose mail is the gateway's: an address, or all of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(String);

/// It is neither an address nor `@` and a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither an address nor @ and a domain")]
pub struct BadSender;

impl Sender {
    /// Reads `sms@gw.example` or `@gw.example`.
    ///
    /// # Errors
    /// [`BadSender`].
    pub fn parse(text: &str) -> Result<Self, BadSender> {
        let sample = if text.starts_with('@') { format!("1{text}") } else { text.to_owned() };
        match crate::mail::address::Address::parse(&sample) {
            Ok(_) => Ok(Self(text.to_lowercase())),
            Err(_) => Err(BadSender),
        }
    }

    fn sent(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        if self.0.starts_with('@') { address.ends_with(&self.0) } else { address == self.0 }
    }
}

/// What a receipt says of a text that we sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Delivered,
    /// It will not arrive.
    Failed,
    /// Something else, which changes nothing.
    Reported,
}

/// How receipts are known and read.
#[derive(Debug, Clone)]
pub struct ReceiptRule {
    source: Source,
    pattern: InboundPattern,
    delivered: Vec<String>,
    failed: Vec<String>,
}

impl ReceiptRule {
    /// Compiles the rule. Its pattern has the groups `number` and `status`; a status that contains one of the words is
    /// that fate, the ones for failing asked first.
    ///
    /// # Errors
    /// Those of the pattern.
    pub fn compile(rule: &Rule, delivered: Vec<String>, failed: Vec<String>) -> Result<Self, PatternError> {
        let pattern = InboundPattern::compile(&rule.pattern)?;
        for group in ["number", STATUS] {
            if !pattern.has(group) {
                return Err(PatternError::NoGroup(group));
            }
        }
        let lower = |words: Vec<String>| words.into_iter().map(|word| word.to_lowercase()).collect();
        Ok(Self { source: rule.source, pattern, delivered: lower(delivered), failed: lower(failed) })
    }

    fn fate(&self, status: &str) -> Fate {
        let status = status.to_lowercase();
        let says = |words: &[String]| words.iter().any(|word| status.contains(word.as_str()));
        if says(&self.failed) {
            Fate::Failed
        } else if says(&self.delivered) {
            Fate::Delivered
        } else {
            Fate::Reported
        }
    }
}

/// How the mail of one SMS account is read.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    /// Whose mail is read; nobody's when there are none.
    pub senders: Vec<Sender>,
    /// How number and text are found.
    pub rules: InboundRules,
    /// How receipts are known.
    pub receipts: Option<ReceiptRule>,
    /// The words that ask for something.
    pub keywords: Keywords,
}

/// What a gateway's mail holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// A text from somebody.
    Text {
        /// Who sent it.
        number: Number,
        /// What it says.
        text: String,
        /// What it asks for, when it is one of the words.
        keyword: Option<Keyword>,
    },
    /// What became of a text of ours.
    Receipt {
        /// Whom the text was for.
        number: Number,
        /// What became of it.
        fate: Fate,
        /// The gateway's word.
        words: String,
    },
}

/// Why a mail is neither a text nor a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    /// It is not from the gateway, so nothing in it is believed.
    #[error("the sender is not the account's gateway")]
    NotFromGateway,
    /// The patterns find no text in it.
    #[error(transparent)]
    Unreadable(#[from] InboundError),
}

impl NoText {
    /// A stable word for the kind of error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFromGateway => "not_from_gateway",
            Self::Unreadable(InboundError::NumberNotFound) => "number_not_found",
            Self::Unreadable(InboundError::NumberInvalid(_)) => "invalid_number",
            Self::Unreadable(InboundError::TextNotFound) => "text_not_found",
        }
    }
}

impl Gateway {
    /// Reads a mail whose sender's address is `address`.
    ///
    /// # Errors
    /// Why it is neither a text nor a receipt.
    pub fn read(&self, address: &str, mail: &GatewayMail<'_>) -> Result<Held, NoText> {
        if !self.senders.iter().any(|sender| sender.sent(address)) {
            return Err(NoText::NotFromGateway);
        }
        if let Some(rule) = &self.receipts
            && let Some(found) = rule.pattern.captures(mail.part(rule.source))
        {
            return self.receipt(rule, &found);
        }
        let found = self.rules.read(mail)?;
        let keyword = self.keywords.meaning(&found.text);
        Ok(Held::Text { number: found.number, text: found.text, keyword })
    }

    fn receipt(&self, rule: &ReceiptRule, found: &Captures<'_>) -> Result<Held, NoText> {
        let group = |name: &str| found.name(name).map(|group| group.as_str().trim());
        let number = group("number").ok_or(InboundError::NumberNotFound)?;
        let number = self.rules.number(number).map_err(InboundError::from)?;
        let status = group(STATUS).unwrap_or_default();
        let words = status.chars().take(WORDS_MAX).collect();
        Ok(Held::Receipt { number, fate: rule.fate(status), words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Gateway {
        let mut gateway =
            Gateway { senders: vec![Sender::parse("@GW.example").unwrap()], ..Gateway::default() };
        gateway.keywords.add("STOP", Keyword::Stop).unwrap();
        let rule = Rule {
            source: Source::Subject,
            pattern: r"^Report (?<number>\+?\d+): (?<status>.*)$".to_owned(),
        };
        let words = |word: &str| vec![word.to_owned()];
        gateway.receipts =
            Some(ReceiptRule::compile(&rule, words("Delivered"), words("undelivered")).unwrap());
        gateway
    }

    fn mail<'a>(subject: &'a str, text: &'a str) -> GatewayMail<'a> {
        GatewayMail { from: "447700900123@gw.example", subject, text }
    }

    const ADDRESS: &str = "447700900123@GW.example";

    #[test]
    fn a_text_a_word_and_a_receipt_are_told_apart() {
        let number = || Number::parse("+447700900123").unwrap();
        let text = |text: &str, keyword| Ok(Held::Text { number: number(), text: text.to_owned(), keyword });
        assert_eq!(gateway().read(ADDRESS, &mail("", "Where is it?\n")), text("Where is it?", None));
        assert_eq!(gateway().read(ADDRESS, &mail("", "stop!")), text("stop!", Some(Keyword::Stop)));
        for (status, fate) in
            [("DELIVERED", Fate::Delivered), ("Undelivered (9)", Fate::Failed), ("queued", Fate::Reported)]
        {
            let held = gateway().read(ADDRESS, &mail(&format!("Report 447700900123: {status}"), ""));
            assert_eq!(held, Ok(Held::Receipt { number: number(), fate, words: status.to_owned() }));
        }
    }

    #[test]
    fn nothing_is_believed_of_mail_that_is_not_the_gateways() {
        for stranger in
            ["447700900123@evil.example", "447700900123@gw.example.evil.example", "", "gw.example"]
        {
            assert_eq!(gateway().read(stranger, &mail("", "x")), Err(NoText::NotFromGateway), "{stranger}");
        }
        assert_eq!(Gateway::default().read(ADDRESS, &mail("", "x")), Err(NoText::NotFromGateway));
        let one = Gateway { senders: vec![Sender::parse("sms@gw.example").unwrap()], ..gateway() };
        assert_eq!(one.read("xsms@gw.example", &mail("", "x")), Err(NoText::NotFromGateway));
        assert!(one.read("SMS@gw.example", &mail("", "x")).is_ok());
    }

    #[test]
    fn a_sender_is_an_address_or_a_domain() {
        for wrong in ["", "@", "gw.example", "a b@gw.example", "sms@"] {
            assert_eq!(Sender::parse(wrong), Err(BadSender), "{wrong}");
        }
    }

    #[test]
    fn the_reasons_have_codes() {
        let read = |address, mail: &GatewayMail<'_>| gateway().read(address, mail).unwrap_err().code();
        let nobody = GatewayMail { from: "sms@gw.example", ..mail("", "x") };
        assert_eq!(read("sms@gw.example", &nobody), "invalid_number");
        assert_eq!(read("x@y.example", &nobody), "not_from_gateway");
    }
}
