//! What a template includes, as it is now or was when it was published.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};

use super::entity::{partial, revision};
use crate::{
    db::among,
    templates::{
        entity::{Model, TemplateState},
        render::Part,
        variants::{self, Content},
        words::includes,
    },
};

/// Most partials that one template may include, by whatever way.
pub const MAX_PARTIALS: usize = 100;
/// How deep partials may include each other: what the renderer bears.
pub const MAX_DEPTH: usize = 4;

/// A partial's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialText {
    /// What subjects and texts get.
    pub text: String,
    /// What HTML gets.
    pub html: Option<String>,
}

/// Partials by name.
pub type Frozen = BTreeMap<String, PartialText>;

impl PartialText {
    /// What a part of a template gets.
    pub fn source(&self, part: Part) -> Option<&str> {
        if part == Part::Html { self.html.as_deref() } else { Some(&self.text) }
    }
}

/// What a template that was published keeps.
pub fn of(template: &Model) -> Frozen {
    serde_json::from_value(template.partials.clone()).unwrap_or_default()
}

/// The names that these sources include themselves.
pub fn named<'a>(sources: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    sources.flat_map(|source| includes(source).unwrap_or_default()).map(|one| one.name.to_owned()).collect()
}

/// The names that a template's parts include themselves.
pub fn named_by(template: &Model) -> BTreeSet<String> {
    let variants = variants::of(template);
    let contents = Content::of(template, &variants);
    named(contents.iter().flat_map(Content::parts).map(|(_, source)| source))
}

/// The partials that a template includes, by whatever way, as they are now; those that there are.
///
/// # Errors
/// Whatever the database says.
pub async fn gather(db: &impl ConnectionTrait, template: &Model) -> Result<Frozen, DbErr> {
    let mut found = Frozen::new();
    let mut asked = named_by(template);
    let mut wanted = asked.clone();
    while !wanted.is_empty() && found.len() <= MAX_PARTIALS {
        let rows = partial::Entity::find().filter(among(partial::Column::Name, wanted)).all(db).await?;
        wanted = named(rows.iter().flat_map(|row| [Some(&*row.text), row.html.as_deref()]).flatten());
        wanted.retain(|name| asked.insert(name.clone()));
        let texts = rows.into_iter().map(|row| (row.name, PartialText { text: row.text, html: row.html }));
        found.extend(texts);
    }
    Ok(found)
}

/// The template with what it includes: a draft has the partials as they are now.
///
/// # Errors
/// Whatever the database says.
pub async fn filled(db: &impl ConnectionTrait, template: Model) -> Result<Model, DbErr> {
    if template.state != TemplateState::Draft {
        return Ok(template);
    }
    let partials = serde_json::to_value(gather(db, &template).await?).unwrap_or_default();
    Ok(Model { partials, ..template })
}

/// The template as it was when it had been published so often.
///
/// # Errors
/// Whatever the database says.
pub async fn at_revision(db: &impl ConnectionTrait, template: Model, wanted: i64) -> Result<Model, DbErr> {
    if wanted == template.revision {
        return Ok(template);
    }
    let kept = revision::Entity::find_by_id((template.id, wanted)).one(db).await?;
    Ok(match kept {
        Some(kept) => kept.over(template),
        None => template,
    })
}
