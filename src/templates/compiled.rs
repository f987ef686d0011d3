//! Templates that are ready to be rendered any number of times, in all their languages and with what they include.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::{
    Environment, UndefinedBehavior,
    value::{Serde, Value},
};
use serde::Serialize;

use super::{
    entity::{Model, TemplateChannel, TemplateState},
    fields::{self, Fields},
    locale::lookup,
    partials::freeze,
    render::{Part, RenderError, Rendered, assemble, environment, failed, partial_name},
    variants::{self, Content},
};
use crate::id::TemplateId;

/// Most published templates that are kept compiled.
const MAX_COMPILED: usize = 256;

/// A template ready to be rendered any number of times, from any thread.
#[derive(Debug)]
pub struct Compiled {
    env: Environment<'static>,
    /// The default language, then the variants.
    languages: Vec<Language>,
    /// What it is sent over.
    pub channel: TemplateChannel,
    /// The template's fields.
    pub fields: Fields,
}

/// What the environment knows the parts of one language by.
#[derive(Debug)]
struct Language {
    locale: Option<String>,
    parts: Vec<(Part, String)>,
}

impl Compiled {
    /// Compiles the parts, what they include and the sources of the fields; what is missing when it is rendered is an error.
    ///
    /// # Errors
    /// Which part is no template.
    pub fn new(template: &Model) -> Result<Self, RenderError> {
        Self::within(environment(UndefinedBehavior::Strict), template)
    }

    /// As [`Compiled::new`], but what is missing when it is rendered is left out.
    ///
    /// # Errors
    /// Which part is no template.
    pub fn lenient(template: &Model) -> Result<Self, RenderError> {
        Self::within(environment(UndefinedBehavior::Chainable), template)
    }

    fn within(mut env: Environment<'static>, template: &Model) -> Result<Self, RenderError> {
        let mut add = |part: Part, name: String, source: &str| {
            env.add_template_owned(name, source.to_owned()).map_err(|error| failed(part, &error))
        };
        for (name, partial) in freeze::of(template) {
            for part in [Part::Text, Part::Html] {
                if let Some(source) = partial.source(part) {
                    add(part, partial_name(part, &name), source)?;
                }
            }
        }
        let variants = variants::of(template);
        let mut languages = Vec::with_capacity(variants.len() + 1);
        for (at, content) in Content::of(template, &variants).into_iter().enumerate() {
            let mut parts = Vec::with_capacity(3);
            for (part, source) in content.parts() {
                let name = format!("{}@{at}", part.name());
                add(part, name.clone(), source)?;
                parts.push((part, name));
            }
            languages.push(Language { locale: content.locale.map(str::to_owned), parts });
        }
        let fields = Fields::compile(fields::of(template)).map_err(|fault| RenderError {
            part: Part::Text,
            code: "invalid_field",
            detail: fault.to_string(),
        })?;
        Ok(Self { env, languages, channel: template.channel, fields })
    }

    /// The template compiled; a published one, which is frozen, only once.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn of(template: &Model) -> Result<Arc<Self>, RenderError> {
        type Kept = HashMap<(TemplateId, i64), Arc<Compiled>>;
        static PUBLISHED: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
        if template.state == TemplateState::Draft {
            return Self::new(template).map(Arc::new);
        }
        let key = (template.id, template.revision);
        let kept = || PUBLISHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept().get(&key) {
            return Ok(Arc::clone(found));
        }
        let compiled = Arc::new(Self::new(template)?);
        let mut kept = kept();
        if kept.len() >= MAX_COMPILED {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Makes the parts of a mail in the language that serves `locale` best; what the template reads and the context has not,
    /// or has as null, is an error.
    ///
    /// # Errors
    /// Which part fails, and why.
    pub fn render(&self, locale: Option<&str>, context: impl Serialize) -> Result<Rendered, RenderError> {
        let Some(language) = self.language(locale) else {
            let detail = "the template is empty".to_owned();
            return Err(RenderError { part: Part::Text, code: "render_failed", detail });
        };
        let context = Value::from(Serde(context));
        assemble(language.locale.clone(), |part| {
            let Some((_, name)) = language.parts.iter().find(|(known, _)| *known == part) else {
                return Ok(None);
            };
            let template = self.env.get_template(name).map_err(|error| failed(part, &error))?;
            template.render(context.clone()).map(Some).map_err(|error| failed(part, &error))
        })
    }

    /// Which language of the template serves `locale` best: the tag of a variant; none for the default.
    pub fn variant(&self, locale: Option<&str>) -> Option<&str> {
        self.language(locale)?.locale.as_deref()
    }

    fn language(&self, locale: Option<&str>) -> Option<&Language> {
        let tags = self.languages.iter().skip(1).map(|one| one.locale.as_deref().unwrap_or_default());
        let at = locale.and_then(|asked| lookup(asked, tags)).map_or(0, |at| at + 1);
        self.languages.get(at)
    }
}
