//! What a template says: its default content, and the same in other languages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{entity::Model, render::Part};

/// A template's content in another language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "locale": "de", "subject": "Ihre Nachricht: {{ message.subject }}", "text": "Danke für Ihre Nachricht."
}))]
pub struct TemplateVariant {
    /// The language as a BCP 47 tag; each once, in whatever case.
    #[schema(
        min_length = 2,
        max_length = 35,
        pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
        examples("de", "pt-BR")
    )]
    pub locale: String,
    /// The subject, on one line; a text (SMS) has none.
    #[serde(default)]
    #[schema(
        default = "",
        max_length = 998,
        pattern = "^[^\\r\\n]*$",
        examples("Ihre Nachricht: {{ message.subject }}")
    )]
    pub subject: String,
    /// The text.
    #[schema(min_length = 1, max_length = 65536, examples("Danke für Ihre Nachricht."))]
    pub text: String,
    /// The HTML; values are escaped in it.
    #[serde(default)]
    #[schema(max_length = 262144, examples("<p>Danke für Ihre Nachricht.</p>"))]
    pub html: Option<String>,
}

/// The variants of a stored template.
pub fn of(template: &Model) -> Vec<TemplateVariant> {
    serde_json::from_value(template.variants.clone()).unwrap_or_default()
}

/// One language of a template.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    /// Its tag; none for the default.
    pub locale: Option<&'a str>,
    /// Where it is in the template, as a JSON pointer.
    pub pointer: String,
    subject: &'a str,
    text: &'a str,
    html: Option<&'a str>,
}

impl<'a> Content<'a> {
    /// The default content and that of the variants.
    pub fn all(
        subject: &'a str,
        text: &'a str,
        html: Option<&'a str>,
        variants: &'a [TemplateVariant],
    ) -> Vec<Self> {
        let default = Self { locale: None, pointer: String::new(), subject, text, html };
        let others = variants.iter().enumerate().map(|(at, one)| Self {
            locale: Some(&one.locale),
            pointer: format!("/variants/{at}"),
            subject: &one.subject,
            text: &one.text,
            html: one.html.as_deref(),
        });
        std::iter::once(default).chain(others).collect()
    }

    /// All languages of a stored template, whose variants these are.
    pub fn of(template: &'a Model, variants: &'a [TemplateVariant]) -> Vec<Self> {
        Self::all(&template.subject, &template.text, template.html.as_deref(), variants)
    }

    /// The parts with their sources.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &'a str)> + use<'a> {
        let html = self.html.map(|html| (Part::Html, html));
        [(Part::Subject, self.subject), (Part::Text, self.text)].into_iter().chain(html)
    }
}
