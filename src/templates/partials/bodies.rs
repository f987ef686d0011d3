//! What the operations on partials take and show.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::entity::partial::Model;
use crate::{
    clock::Timestamp,
    http::{Problem, problem::FieldError},
    id::PartialId,
    templates::{
        entity::TemplateState,
        render::{Part, reads},
        words::includes,
    },
};

/// What several templates include.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplatePartial {
    /// The partial's id.
    pub id: PartialId,
    /// The name that templates include it by: `{% include "imprint" %}`.
    #[schema(examples("imprint"))]
    pub name: String,
    /// What it is for, in words.
    #[schema(examples("Who we are, below every mail"))]
    pub description: String,
    /// What subjects and texts get.
    #[schema(examples("Paper Lantern, 12 Harbour Street"))]
    pub text: String,
    /// What HTML gets.
    #[schema(examples("<p>Paper Lantern, 12 Harbour Street</p>"))]
    pub html: Option<String>,
    /// Who includes it.
    pub used_by: Vec<PartialUser>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What includes a partial.
///
/// - `template`: a template.
/// - `partial`: another partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartialUserKind {
    /// A template.
    Template,
    /// Another partial.
    Partial,
}

/// A template or partial that includes a partial.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PartialUser {
    /// What it is.
    pub kind: PartialUserKind,
    /// Its id.
    #[schema(examples("019aa1b2-0000-7000-8000-000000000001"))]
    pub id: Uuid,
    /// Its name.
    #[schema(examples("Reminder"))]
    pub name: String,
    /// Where the template stands; none of a partial.
    pub state: Option<TemplateState>,
    /// Whether the template was published before the partial was changed: publish it again.
    pub outdated: bool,
}

/// A partial to be made; its parts are MiniJinja and read what the template that includes them is given.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "imprint", "text": "{{ account.display_name }}, 12 Harbour Street",
    "html": "<p>{{ account.display_name }}, 12 Harbour Street</p>"
}))]
pub struct TemplatePartialCreate {
    /// The unique name that templates include it by; it stays while anything includes it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9][a-z0-9_-]*$", examples("imprint"))]
    pub name: String,
    /// What it is for, in words.
    #[serde(default)]
    #[schema(default = "", max_length = 2000, examples("Who we are, below every mail"))]
    pub description: String,
    /// What subjects and texts get.
    #[schema(max_length = 65536, examples("{{ account.display_name }}, 12 Harbour Street"))]
    pub text: String,
    /// What HTML gets; values are escaped in it. A template with HTML needs it.
    #[serde(default)]
    #[schema(max_length = 262144, examples("<p>{{ account.display_name }}, 12 Harbour Street</p>"))]
    pub html: Option<String>,
}

/// One page of partials.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplatePartialList {
    /// The partials.
    pub items: Vec<TemplatePartial>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

impl TemplatePartialCreate {
    /// Rules that the schema cannot say.
    ///
    /// # Errors
    /// `validation_failed` with all that is wrong.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let parts = [(Part::Text, Some(&self.text)), (Part::Html, self.html.as_ref())];
        let wrong = parts.into_iter().filter_map(|(part, source)| {
            let source = source?;
            let detail = reads(part, source).err().or_else(|| includes(source).err())?;
            Some(FieldError::new(format!("/{}", part.name()), "invalid_template", detail))
        });
        let wrong: Vec<FieldError> = wrong.collect();
        if wrong.is_empty() { Ok(()) } else { Err(Problem::validation(wrong)) }
    }

    /// Its sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        [Some(&*self.text), self.html.as_deref()].into_iter().flatten()
    }
}

impl From<Model> for TemplatePartialCreate {
    fn from(row: Model) -> Self {
        let Model { name, description, text, html, .. } = row;
        Self { name, description, text, html }
    }
}

impl TemplatePartial {
    /// With who includes it.
    pub(super) fn new(row: Model, used_by: Vec<PartialUser>) -> Self {
        let Model { id, name, description, text, html, created_at, updated_at, .. } = row;
        Self { id, name, description, text, html, used_by, created_at, updated_at }
    }
}
