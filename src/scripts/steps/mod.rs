//! The step types: one file each, and one line each in the list at the end of this file.
//!
//! A step's file holds its parameters, the outcomes it may leave by, what it refers to, its expressions, its bounds
//! and what it does. To add a type, write that file and add its line.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{Discriminator, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::definition::StepId;
use super::expression::Expr;
use super::problem::Report;
use super::turn::{Next, StepError, Turn};
use super::validate::References;

/// What the rest of the product needs to know of a step type.
pub trait StepKind {
    /// Every outcome the step may leave by, wired or not.
    fn exits(&self) -> Vec<Exit<'_>>;

    /// The step's expressions, each with its JSON pointer within the step.
    fn expressions(&self) -> Vec<(String, &Expr)> {
        Vec::new()
    }

    /// What the step refers to outside the script, each with its JSON pointer within the step.
    fn references(&self) -> Vec<(String, Reference)> {
        Vec::new()
    }

    /// The variables that the step changes, each with its JSON pointer within the step.
    fn assigns(&self) -> Vec<(String, &str)> {
        Vec::new()
    }

    /// Judges the step's own bounds.
    fn check(&self, _known: &dyn References, _report: &mut Report) {}

    /// Whether the run may stop here until something happens outside.
    fn waits(&self) -> bool {
        self.exits().iter().any(|exit| exit.after_wait)
    }

    /// Whether a run that comes here is over.
    fn ends(&self) -> bool {
        false
    }

    /// Does the step, or says what it waits for.
    fn enter(&self, turn: &mut Turn<'_>) -> Result<Next, StepError>;
}

/// One way out of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit<'a> {
    /// The outcome's name.
    pub outcome: Cow<'a, str>,
    /// The step it leads to; `None` while it is not wired.
    pub target: Option<&'a StepId>,
    /// Whether the step has always waited before it leaves this way.
    pub after_wait: bool,
    /// Whether a definition without it is incomplete.
    pub required: bool,
}

impl<'a> Exit<'a> {
    /// A required outcome that may come in the moment the step is entered.
    pub fn at_once(outcome: impl Into<Cow<'a, str>>, target: Option<&'a StepId>) -> Self {
        Self { outcome: outcome.into(), target, after_wait: false, required: true }
    }

    /// A required outcome that comes only after a wait.
    pub fn after_wait(outcome: impl Into<Cow<'a, str>>, target: Option<&'a StepId>) -> Self {
        Self { after_wait: true, ..Self::at_once(outcome, target) }
    }

    /// The same outcome, required only if `required`.
    #[must_use]
    pub fn required_if(mut self, required: bool) -> Self {
        self.required = required;
        self
    }
}

/// A mention of something that lives outside the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// What it is.
    pub kind: ReferenceKind,
    /// Its id.
    pub id: Uuid,
}

/// The kinds of thing that a script may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A queue.
    Queue,
    /// An agent.
    Agent,
    /// A calendar.
    Calendar,
    /// A template.
    Template,
    /// A class.
    Class,
    /// A skill.
    Skill,
    /// Another script.
    Script,
}

impl ReferenceKind {
    /// The word for it in problems and codes.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Agent => "agent",
            Self::Calendar => "calendar",
            Self::Template => "template",
            Self::Class => "class",
            Self::Skill => "skill",
            Self::Script => "script",
        }
    }
}

/// Declares the `next` of a step type: a field for each outcome, and `at_once` or `after_wait` for when it can come.
macro_rules! outcomes {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$about:meta])* $outcome:ident: $moment:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$about])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $outcome: Option<crate::scripts::definition::StepId>,)+
        }

        impl $name {
            fn exits(&self) -> Vec<crate::scripts::steps::Exit<'_>> {
                vec![$(crate::scripts::steps::Exit::$moment(stringify!($outcome), self.$outcome.as_ref())),+]
            }
        }
    };
}

/// Declares the modules, the `Step` enum and its schema from one list of step types.
macro_rules! step_types {
    ($($module:ident::$kind:ident = $tag:literal),+ $(,)?) => {
        $(pub mod $module;)+
        $(pub use $module::$kind;)+

        /// One step of a script; `type` says which.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        pub enum Step {
            $(#[doc = concat!("A `", $tag, "` step.")]
            #[serde(rename = $tag)]
            $kind($kind),)+
        }

        impl Step {
            /// The names of all step types.
            pub const TYPES: &'static [&'static str] = &[$($tag),+];

            /// The value of `type`.
            pub const fn type_name(&self) -> &'static str {
                match self { $(Self::$kind(_) => $tag),+ }
            }

            /// The step as what every step type is.
            pub fn kind(&self) -> &dyn StepKind {
                match self { $(Self::$kind(step) => step),+ }
            }
        }

        impl PartialSchema for Step {
            fn schema() -> RefOr<Schema> {
                let mut discriminator = Discriminator::new("type");
                let mut one_of = OneOfBuilder::new().description(Some("One step of a script; `type` says which."));
                $(let reference = Ref::from_schema_name(component::<$kind>());
                discriminator.mapping.insert($tag.to_owned(), reference.ref_location.clone());
                one_of = one_of.item(reference);)+
                one_of.discriminator(Some(discriminator)).into()
            }
        }

        impl ToSchema for Step {
            fn name() -> Cow<'static, str> {
                "Step".into()
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(schemas.push((component::<$kind>(), tagged::<$kind>($tag)));
                <$kind as ToSchema>::schemas(schemas);)+
            }
        }
    };
}

fn component<T: ToSchema>() -> String {
    format!("{}Step", T::name())
}

/// The schema of a step type's parameters with the `type` property in front.
fn tagged<T: ToSchema>(tag: &str) -> RefOr<Schema> {
    let mut schema = T::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        let property = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some([tag]))
            .description(Some("Which step type this is."));
        object.properties.insert("type".to_owned(), property.into());
        object.required.insert(0, "type".to_owned());
    }
    schema
}

step_types! {
    condition::Condition = "condition",
    switch::Switch = "switch",
    set::Set = "set",
    on_date::OnDate = "on_date",
    set_class::SetClass = "set_class",
    set_priority::SetPriority = "set_priority",
    enqueue::Enqueue = "enqueue",
    offer_last_agent::OfferLastAgent = "offer_last_agent",
    send_template::SendTemplate = "send_template",
    end::End = "end",
}
