//! The tables `template_partials`, `template_includes`, `partial_includes` and `template_revisions`.

/// One partial.
pub mod partial {
    use sea_orm::entity::prelude::*;

    use crate::{clock::Timestamp, id::PartialId};

    /// The row.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "template_partials")]
    pub struct Model {
        /// The partial's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: PartialId,
        /// The unique name that templates include it by.
        pub name: String,
        /// What it is for, in words.
        pub description: String,
        /// What subjects and texts get, in MiniJinja.
        pub text: String,
        /// What HTML gets, in MiniJinja; values are escaped.
        pub html: Option<String>,
        /// The row's ETag.
        pub version: i64,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it was last changed.
        pub updated_at: Timestamp,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// That a template includes a partial: a draft directly, a published one also by way of another partial.
pub mod template_include {
    use sea_orm::entity::prelude::*;

    use crate::id::TemplateId;

    /// The row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "template_includes")]
    pub struct Model {
        /// The template.
        #[sea_orm(primary_key, auto_increment = false)]
        pub template_id: TemplateId,
        /// The partial's name.
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// That a partial includes another one.
pub mod partial_include {
    use sea_orm::entity::prelude::*;

    use crate::id::PartialId;

    /// The row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "partial_includes")]
    pub struct Model {
        /// The partial that includes.
        #[sea_orm(primary_key, auto_increment = false)]
        pub partial_id: PartialId,
        /// The name of the one that is included.
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What a template was each time that it was published; broadcasts stay with the one that they began with.
pub mod revision {
    use sea_orm::entity::prelude::*;

    use crate::{
        clock::Timestamp,
        id::TemplateId,
        templates::entity::{self as template, TemplateCategory},
    };

    /// The row.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "template_revisions")]
    pub struct Model {
        /// The template.
        #[sea_orm(primary_key, auto_increment = false)]
        pub template_id: TemplateId,
        /// How often it had been published then.
        #[sea_orm(primary_key, auto_increment = false)]
        pub revision: i64,
        /// What it included: see [`super::super::freeze::Frozen`].
        pub partials: Json,
        /// Whether people asked for it.
        pub category: TemplateCategory,
        /// The subject.
        pub subject: String,
        /// The text.
        pub text: String,
        /// The HTML.
        pub html: Option<String>,
        /// The same in other languages.
        pub variants: Json,
        /// What it was given for each send.
        pub fields: Json,
        /// The files that went out with it.
        pub attachments: Json,
        /// When it was published.
        pub published_at: Timestamp,
    }

    impl Model {
        /// A template as it is published now.
        pub fn of(template: template::Model, now: Timestamp) -> Self {
            Self {
                template_id: template.id,
                revision: template.revision,
                partials: template.partials,
                category: template.category,
                subject: template.subject,
                text: template.text,
                html: template.html,
                variants: template.variants,
                fields: template.fields,
                attachments: template.attachments,
                published_at: now,
            }
        }

        /// The template as it was then.
        pub fn over(self, template: template::Model) -> template::Model {
            let with_partials =
                template::Model { partials: self.partials, revision: self.revision, ..template };
            // Written by a version that knew no contents of revisions.
            if self.text.is_empty() {
                return with_partials;
            }
            template::Model {
                category: self.category,
                subject: self.subject,
                text: self.text,
                html: self.html,
                variants: self.variants,
                fields: self.fields,
                attachments: self.attachments,
                ..with_partials
            }
        }
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
