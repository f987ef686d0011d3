//! The table `templates`.

use sea_orm::entity::prelude::*;

use crate::{accounts::entity::Channel, clock::Timestamp, id::TemplateId};

/// What a template is sent over.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum TemplateChannel {
    /// E-mail.
    Email,
    /// Texts: neither a subject nor HTML.
    Sms,
}

impl From<TemplateChannel> for Channel {
    fn from(channel: TemplateChannel) -> Self {
        match channel {
            TemplateChannel::Email => Self::Email,
            TemplateChannel::Sms => Self::Sms,
        }
    }
}

/// What a template is for.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum TemplatePurpose {
    /// An automatic answer that says that a message has come.
    Receipt,
    /// Anything else.
    General,
}

/// Whether people asked for what is sent.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum TemplateCategory {
    /// It belongs to something they did.
    Transactional,
    /// It advertises.
    Marketing,
}

/// Where a template stands.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// Being written; never sent.
    Draft,
    /// Frozen, and sent.
    Published,
    /// Frozen, and no longer sent.
    Archived,
}

/// One template.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "templates")]
pub struct Model {
    /// The template's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TemplateId,
    /// Its unique name.
    pub name: String,
    /// What it is for, in words.
    pub description: String,
    /// What it is sent over.
    pub channel: TemplateChannel,
    /// What it is for.
    pub purpose: TemplatePurpose,
    /// Whether people asked for it.
    pub category: TemplateCategory,
    /// The subject, in MiniJinja.
    pub subject: String,
    /// The text, in MiniJinja.
    pub text: String,
    /// The HTML, in MiniJinja; values are escaped.
    pub html: Option<String>,
    /// The same in other languages: see [`super::variants::TemplateVariant`].
    pub variants: Json,
    /// What it is given for each send, by name: see [`super::fields::TemplateField`].
    pub fields: Json,
    /// What it includes, by name, as it was when it was published: see [`super::partials::freeze::Frozen`].
    pub partials: Json,
    /// The files that go out with it: see [`super::files::TemplateAttachment`].
    pub attachments: Json,
    /// How often it was published.
    pub revision: i64,
    /// Where it stands.
    pub state: TemplateState,
    /// The published template whose place this draft takes when it is published.
    pub revises: Option<TemplateId>,
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
