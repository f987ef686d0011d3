//! A template's own fields: values that each send gives, or that are read from the customer, typed and with defaults.

use chrono::NaiveDate;
use minijinja::{
    ErrorKind, Expression,
    value::{Serde, Value},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::entity::Model;
use crate::{http::problem::FieldError, language::ENVIRONMENT};

/// Most fields of one template.
pub const MAX_FIELDS: usize = 50;
/// Most characters of a field that is text.
pub const MAX_TEXT: usize = 10_000;

/// What kind of value a field has.
///
/// - `string`: text of at most 10,000 characters.
/// - `number`: a number.
/// - `integer`: a whole number.
/// - `boolean`: true or false.
/// - `date`: a day, as `2026-03-02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Text.
    String,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A day, as `2026-03-02`.
    Date,
}

/// A value that a template reads by its name: given with the send, else taken from `source`, else `default`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "balance", "type": "number", "source": "customer.data.balance", "required": true
}))]
pub struct TemplateField {
    /// What the template reads it as; unique in the template.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z_][a-z0-9_]*$", examples("balance"))]
    pub name: String,
    /// What kind of value it has.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// An expression over `customer`, `campaign`, `to` and `account` that gives the value when the send does not.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 2000, examples("customer.data.balance"))]
    pub source: Option<String>,
    /// Whether a send without a value is refused; else the value is null then.
    #[serde(default)]
    #[schema(default = false)]
    pub required: bool,
    /// The value when neither the send nor the source gives one.
    #[serde(default)]
    #[schema(value_type = Json)]
    pub default: Option<Json>,
}

/// Why a template's fields cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FieldFault {
    /// The field.
    pub name: String,
    /// `missing_field`, `wrong_type`, `source_failed` or `unknown_field`.
    pub code: &'static str,
    /// A sentence for a person.
    pub detail: String,
}

impl FieldFault {
    fn new(name: &str, code: &'static str, detail: String) -> Self {
        Self { name: name.to_owned(), code, detail }
    }

    /// What is wrong at its place in a body with `variables`.
    pub fn at_variables(&self) -> FieldError {
        FieldError::new(format!("/variables/{}", self.name), self.code, &self.detail)
    }
}

impl FieldType {
    /// The value if it is of this type; a value that comes from a source may also be the text of one.
    fn take(self, value: &Json, from_source: bool) -> Option<Json> {
        match (self, value) {
            (Self::String, Json::String(text)) => (text.chars().count() <= MAX_TEXT).then(|| value.clone()),
            (Self::Number, Json::Number(_)) | (Self::Boolean, Json::Bool(_)) => Some(value.clone()),
            (Self::Integer, Json::Number(number)) if number.is_i64() || number.is_u64() => {
                Some(value.clone())
            }
            (Self::Date, Json::String(text)) => {
                let text = if from_source { text.get(..10).unwrap_or(text) } else { text };
                (text.len() == 10 && text.parse::<NaiveDate>().is_ok()).then(|| text.into())
            }
            (Self::String, Json::Number(_) | Json::Bool(_)) if from_source => Some(value.to_string().into()),
            (Self::Number | Self::Integer | Self::Boolean, Json::String(text)) if from_source => {
                let read: Json = serde_json::from_str(text.trim()).ok()?;
                (!read.is_string()).then(|| self.take(&read, false)).flatten()
            }
            _ => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::String => "a text of at most 10,000 characters",
            Self::Number => "a number",
            Self::Integer => "a whole number",
            Self::Boolean => "true or false",
            Self::Date => "a day such as 2026-03-02",
        }
    }
}

impl TemplateField {
    /// Whether its default is of its type, if it has one.
    pub(super) fn fits_default(&self) -> Result<(), String> {
        match &self.default {
            Some(value) if self.kind.take(value, false).is_none() => {
                Err(format!("the default of a {:?} is {}", self.kind, self.kind.words()).to_lowercase())
            }
            _ => Ok(()),
        }
    }
}

/// The fields of a stored template.
pub fn of(template: &Model) -> Vec<TemplateField> {
    serde_json::from_value(template.fields.clone()).unwrap_or_default()
}

/// A template's fields with their sources compiled.
#[derive(Debug)]
pub struct Fields(Vec<(TemplateField, Option<Expression<'static, 'static>>)>);

impl Fields {
    /// Compiles the sources.
    ///
    /// # Errors
    /// Which one does not compile.
    pub fn compile(fields: Vec<TemplateField>) -> Result<Self, FieldFault> {
        let compile = |field: TemplateField| {
            let source = field.source.as_ref().map(|source| {
                ENVIRONMENT
                    .compile_expression_owned(source.clone())
                    .map_err(|error| FieldFault::new(&field.name, "invalid_expression", error.to_string()))
            });
            Ok((source.transpose()?, field))
        };
        let compiled =
            fields.into_iter().map(compile).map(|pair| pair.map(|(source, field)| (field, source)));
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// What the sources read, with the place of each field.
    pub(super) fn paths(&self) -> impl Iterator<Item = (usize, Vec<String>)> {
        let paths = |source: &Expression<'_, '_>| source.undeclared_variables(true).into_iter().collect();
        self.0.iter().enumerate().filter_map(move |(i, (_, source))| Some((i, source.as_ref().map(paths)?)))
    }

    /// The value of each field for one send; `context` is what the sources read.
    ///
    /// # Errors
    /// The first field that has no value though it is required, or one of another type; or a variable that is no field.
    pub fn resolve(
        &self,
        variables: &Map<String, Json>,
        context: &impl Serialize,
    ) -> Result<Map<String, Json>, FieldFault> {
        let (values, faults) = self.fill(variables, context);
        let stranger = variables.keys().find(|name| !self.0.iter().any(|(field, _)| field.name == **name));
        if let Some(name) = stranger {
            let detail = format!("the template has no field `{name}`");
            return Err(FieldFault::new(name, "unknown_field", detail));
        }
        faults.into_iter().next().map_or(Ok(values), Err)
    }

    /// The value of each field that has one, and what is wrong with the others; variables may be anything.
    pub fn fill(
        &self,
        variables: &Map<String, Json>,
        context: &impl Serialize,
    ) -> (Map<String, Json>, Vec<FieldFault>) {
        let (mut values, mut faults) = (Map::new(), Vec::new());
        if self.0.is_empty() {
            return (values, faults);
        }
        let context = Value::from(Serde(context));
        for (field, source) in &self.0 {
            match value_of(field, source.as_ref(), variables, &context) {
                Ok(value) => drop(values.insert(field.name.clone(), value)),
                Err(fault) => faults.push(fault),
            }
        }
        (values, faults)
    }
}

fn value_of(
    field: &TemplateField,
    source: Option<&Expression<'static, 'static>>,
    variables: &Map<String, Json>,
    context: &Value,
) -> Result<Json, FieldFault> {
    let fault = |code, detail| FieldFault::new(&field.name, code, detail);
    let (found, from_source) = match variables.get(&field.name).filter(|value| !value.is_null()) {
        Some(given) => (Some(given.clone()), false),
        None => {
            let read = source.map(|source| read(source, context)).transpose();
            (read.map_err(|detail| fault("source_failed", detail))?.flatten(), true)
        }
    };
    if let Some(found) = found {
        let wrong = || fault("wrong_type", format!("`{}` is to be {}", field.name, field.kind.words()));
        return field.kind.take(&found, from_source).ok_or_else(wrong);
    }
    match &field.default {
        Some(default) => Ok(default.clone()),
        None if field.required => {
            Err(fault("missing_field", format!("the template needs a value for `{}`", field.name)))
        }
        None => Ok(Json::Null),
    }
}

/// What a source gives; nothing when what it reads is not there or null.
fn read(source: &Expression<'static, 'static>, context: &Value) -> Result<Option<Json>, String> {
    match source.eval(context.clone()) {
        Ok(value) if value.is_undefined() || value.is_none() => Ok(None),
        Ok(value) => serde_json::to_value(&value).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::UndefinedError => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(fields: Json) -> Fields {
        Fields::compile(serde_json::from_value(fields).unwrap()).unwrap()
    }

    fn resolve(of: Json, variables: Json, context: Json) -> Result<Json, (String, &'static str)> {
        let found = fields(of).resolve(variables.as_object().unwrap(), &context);
        found.map(Json::Object).map_err(|fault| (fault.name, fault.code))
    }

    #[test]
    fn a_value_is_given_or_read_or_the_default() {
        let due = json!([{ "name": "due", "type": "number", "source": "customer.data.due", "default": 7 }]);
        let known = json!({ "customer": { "data": { "due": 12.5 } } });
        assert_eq!(resolve(due.clone(), json!({ "due": 3 }), known.clone()), Ok(json!({ "due": 3 })));
        assert_eq!(resolve(due.clone(), json!({ "due": null }), known), Ok(json!({ "due": 12.5 })));
        for nothing in [
            json!({}),
            json!({ "customer": { "data": {} } }),
            json!({ "customer": { "data": { "due": null } } }),
        ] {
            assert_eq!(resolve(due.clone(), json!({}), nothing), Ok(json!({ "due": 7 })));
        }
    }

    #[test]
    fn what_is_required_and_missing_or_of_another_type_is_said() {
        let one = |kind: &str, required: bool| json!([{ "name": "x", "type": kind, "source": "customer.x", "required": required }]);
        assert_eq!(resolve(one("string", true), json!({}), json!({})), Err(("x".into(), "missing_field")));
        assert_eq!(resolve(one("string", false), json!({}), json!({})), Ok(json!({ "x": null })));
        for (kind, value) in [
            ("string", json!(1)),
            ("number", json!("1")),
            ("integer", json!(1.5)),
            ("boolean", json!("true")),
            ("date", json!("2026-02-30")),
            ("date", json!("2026-3-2")),
            ("string", json!("x".repeat(10_001))),
            ("string", json!({})),
        ] {
            assert_eq!(
                resolve(one(kind, false), json!({ "x": value }), json!({})),
                Err(("x".into(), "wrong_type")),
                "{kind}"
            );
        }
        assert_eq!(
            resolve(one("string", false), json!({ "y": 1 }), json!({})),
            Err(("y".into(), "unknown_field"))
        );
        let failing = json!([{ "name": "x", "type": "string", "source": "customer.x | matches('(')" }]);
        assert_eq!(
            resolve(failing, json!({}), json!({ "customer": { "x": "a" } })),
            Err(("x".into(), "source_failed"))
        );
    }

    #[test]
    fn a_source_may_give_the_text_of_a_value() {
        for (kind, text, value) in [
            ("number", "12.50", json!(12.5)),
            ("integer", " 7 ", json!(7)),
            ("boolean", "true", json!(true)),
            ("date", "2026-03-02T09:00:00Z", json!("2026-03-02")),
            ("string", "a", json!("a")),
        ] {
            let field = json!([{ "name": "x", "type": kind, "source": "customer.x" }]);
            let known = json!({ "customer": { "x": text } });
            assert_eq!(resolve(field, json!({}), known), Ok(json!({ "x": value })), "{kind}");
        }
        let number = json!([{ "name": "x", "type": "string", "source": "customer.x" }]);
        assert_eq!(resolve(number, json!({}), json!({ "customer": { "x": 7 } })), Ok(json!({ "x": "7" })));
    }
}
