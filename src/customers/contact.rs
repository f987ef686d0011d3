//! What is written of a customer: bounds, normal forms, and the keys that suppressions know their addresses by. No I/O.

use std::sync::LazyLock;

use regex::Regex;
use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::schema::{AdditionalProperties, Object, ObjectBuilder},
};

use super::entity::customer;
use crate::{
    http::problem::FieldError,
    mail::{address::Address, number::Number},
    suppressions::AddressKeys,
};

/// Most characters of a `ref`.
const REF_MAX: usize = 128;
const NAME_MAX: usize = 200;
const TELEPHONES_MAX: usize = 10;
const TELEPHONE_MAX: usize = 40;
const LABEL_MAX: usize = 50;
/// Most members of `data`.
const DATA_MEMBERS: usize = 64;
/// Most characters of a member's name.
const DATA_NAME_MAX: usize = 64;
/// Most bytes of a member's value, as JSON.
const DATA_VALUE_BYTES: usize = 4096;
/// Most bytes of all values together.
const DATA_BYTES: usize = 64 << 10;

/// A language, in short: BCP 47 with a script and a region at most, and one variant.
const LOCALE: &str = "^[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{5,8})?$";

/// A telephone number of a customer, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Telephone {
    /// The number.
    #[schema(min_length = 1, max_length = 40, examples("+44 20 7946 0018"))]
    pub number: String,
    /// Which one it is.
    #[serde(default)]
    #[schema(max_length = 50, examples("work"))]
    pub label: String,
}

/// What is known of a customer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Their name.
    pub name: String,
    /// Their e-mail address.
    pub email: Option<String>,
    /// Their number for texts.
    pub sms_number: Option<String>,
    /// Their telephone numbers.
    pub telephones: Vec<Telephone>,
    /// Their language.
    pub locale: Option<String>,
    /// What else is known.
    pub data: Map<String, Value>,
}

impl Details {
    /// Holds everything against its rules and brings addresses and numbers into their normal form.
    ///
    /// # Errors
    /// All that is wrong, each with its pointer.
    pub fn check(&mut self) -> Result<(), Vec<FieldError>> {
        let mut wrong = Vec::new();
        if let Some(error) = too_long("/name", &self.name, NAME_MAX) {
            wrong.push(error);
        } else if self.name.chars().any(char::is_control) {
            wrong.push(FieldError::new("/name", "control_character", "a name has no control characters"));
        }
        self.email = self.email.take().filter(|text| !text.trim().is_empty());
        if let Some(email) = &mut self.email {
            match Address::parse(email.trim()) {
                Ok(address) => address.as_str().clone_into(email),
                Err(error) => wrong.push(FieldError::new("/email", "invalid_address", error.to_string())),
            }
        }
        self.sms_number = self.sms_number.take().filter(|text| !text.trim().is_empty());
        if let Some(number) = &mut self.sms_number {
            match Number::parse(number) {
                Ok(normal) => normal.as_str().clone_into(number),
                Err(error) => wrong.push(FieldError::new("/sms_number", "invalid_number", error.to_string())),
            }
        }
        if self.locale.as_deref().is_some_and(|locale| !is_locale(locale)) {
            wrong.push(FieldError::new("/locale", "pattern", "a language is written as in en or de-CH"));
        }
        check_telephones(&self.telephones, &mut wrong);
        check_data(&self.data, &mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The columns that hold it, with the keys of its addresses: the one place where they are made.
    pub fn columns(self, keys: &AddressKeys) -> customer::ActiveModel {
        customer::ActiveModel {
            name: Set(self.name),
            email_key: Set(self.email.as_deref().map(|address| keys.key(address))),
            email: Set(self.email),
            sms_key: Set(self.sms_number.as_deref().map(|number| keys.key(number))),
            sms_number: Set(self.sms_number),
            telephones: Set(json!(self.telephones)),
            locale: Set(self.locale),
            data: Set(Value::Object(self.data)),
            ..Default::default()
        }
    }
}

/// The schema of `data`.
pub fn data_schema() -> Object {
    let about = format!(
        "What else is known of them, by names of 1 to {DATA_NAME_MAX} characters: any JSON, up to {DATA_VALUE_BYTES} bytes a value \
         and {DATA_BYTES} together."
    );
    ObjectBuilder::new()
        .description(Some(about))
        .max_properties(Some(DATA_MEMBERS))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .examples([json!({ "contract": "Premium" })])
        .build()
}

/// Whether the text can be a `ref`.
///
/// # Errors
/// What is wrong with it.
pub fn check_ref(text: &str) -> Result<(), FieldError> {
    let wrong = |code, detail: &str| Err(FieldError::new("/ref", code, detail));
    if text.is_empty() {
        return wrong("required", "a ref has at least one character");
    }
    if let Some(error) = too_long("/ref", text, REF_MAX) {
        return Err(error);
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return wrong("pattern", "a ref has no control characters, and no spaces at its ends");
    }
    Ok(())
}

/// The form in which a number that is looked for may be stored.
pub fn number_asked(text: &str) -> String {
    Number::parse(text).map_or_else(|_| text.to_owned(), |number| number.to_string())
}

fn is_locale(text: &str) -> bool {
    static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(LOCALE).ok());
    PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

fn too_long(pointer: &str, text: &str, most: usize) -> Option<FieldError> {
    // Bytes are never fewer than characters, and quicker to count.
    (text.len() > most && text.chars().count() > most)
        .then(|| FieldError::new(pointer, "too_long", format!("it is longer than {most} characters")))
}

fn check_telephones(telephones: &[Telephone], wrong: &mut Vec<FieldError>) {
    if telephones.len() > TELEPHONES_MAX {
        let detail = format!("there are more than {TELEPHONES_MAX}");
        wrong.push(FieldError::new("/telephones", "too_long", detail));
        return;
    }
    for (index, telephone) in telephones.iter().enumerate() {
        let number = format!("/telephones/{index}/number");
        if telephone.number.trim().is_empty() {
            wrong.push(FieldError::new(number.clone(), "required", "the number is empty"));
        }
        wrong.extend(too_long(&number, &telephone.number, TELEPHONE_MAX));
        wrong.extend(too_long(&format!("/telephones/{index}/label"), &telephone.label, LABEL_MAX));
    }
}

fn check_data(data: &Map<String, Value>, wrong: &mut Vec<FieldError>) {
    if data.len() > DATA_MEMBERS {
        let detail = format!("there are more than {DATA_MEMBERS} members");
        wrong.push(FieldError::new("/data", "too_long", detail));
        return;
    }
    let mut all = 0;
    for (name, value) in data {
        // A name that is none may be very long: it is not said again.
        if name.is_empty() || name.chars().count() > DATA_NAME_MAX || name.chars().any(char::is_control) {
            let detail =
                format!("a name has 1 to {DATA_NAME_MAX} characters, none of them a control character");
            wrong.push(FieldError::new("/data", "invalid_name", detail));
            continue;
        }
        let bytes = size(value);
        all += bytes;
        if bytes > DATA_VALUE_BYTES {
            let detail = format!("the value takes more than {DATA_VALUE_BYTES} bytes");
            wrong.push(FieldError::new(format!("/data/{}", escaped(name)), "too_many_bytes", detail));
        }
    }
    if all > DATA_BYTES {
        let detail = format!("the values take more than {DATA_BYTES} bytes together");
        wrong.push(FieldError::new("/data", "too_many_bytes", detail));
    }
}

/// The bytes of a value, as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        other => other.to_string().len(),
    }
}

/// A name as a part of a JSON pointer (RFC 6901 section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Details)) -> Vec<(String, String)> {
        let mut details = Details::default();
        change(&mut details);
        let errors = details.check().err().unwrap_or_default();
        errors.into_iter().map(|error| (error.pointer, error.code)).collect()
    }

    #[test]
    fn addresses_and_numbers_get_their_normal_form_and_empty_ones_are_none() {
        let mut details = Details {
            email: Some(" Anna@Bücher.Example ".into()),
            sms_number: Some("0044 (20) 7946-0018".into()),
            ..Details::default()
        };
        details.check().unwrap();
        assert_eq!(details.email.as_deref(), Some("Anna@xn--bcher-kva.example"));
        assert_eq!(details.sms_number.as_deref(), Some("+442079460018"));
        let mut empty =
            Details { email: Some(" ".into()), sms_number: Some(String::new()), ..Details::default() };
        empty.check().unwrap();
        assert_eq!((empty.email, empty.sms_number), (None, None));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let found = wrong(|details| {
            details.name = "a\nb".into();
            details.email = Some("nobody".into());
            details.sms_number = Some("12".into());
            details.locale = Some("english".into());
            details.telephones = vec![Telephone { number: " ".into(), label: "x".repeat(51) }];
            details.data = json!({ "a/b": "x".repeat(4096), "": 1 }).as_object().unwrap().clone();
        });
        let expected = [
            ("/name", "control_character"),
            ("/email", "invalid_address"),
            ("/sms_number", "invalid_number"),
            ("/locale", "pattern"),
            ("/telephones/0/number", "required"),
            ("/telephones/0/label", "too_long"),
            ("/data/a~1b", "too_many_bytes"),
            ("/data", "invalid_name"),
        ];
        assert_eq!(found, expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    }

    #[test]
    fn data_is_bounded_in_members_and_bytes() {
        let many: Map<String, Value> = (0..65).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(wrong(|details| details.data = many), [("/data".into(), "too_long".into())]);
        let large: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!("x".repeat(4000)))).collect();
        assert_eq!(wrong(|details| details.data = large), [("/data".into(), "too_many_bytes".into())]);
        let fits: Map<String, Value> = (0..64).map(|n| (n.to_string(), json!("x".repeat(1000)))).collect();
        assert_eq!(wrong(|details| details.data = fits), []);
    }

    #[test]
    fn a_ref_is_any_text_that_can_stand_in_a_line() {
        assert!(check_ref("Kunde 7/ä#?").is_ok());
        for text in ["", " a", "a ", "a\nb", &"x".repeat(129)] {
            assert!(check_ref(text).is_err(), "{text:?}");
        }
    }
}
