//! The table `template_files`: the bytes; what else is known of a file is in its template's row.

use sea_orm::entity::prelude::*;

use crate::id::{TemplateAttachmentId, TemplateId};

/// The bytes of one file.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "template_files")]
pub struct Model {
    /// The attachment's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TemplateAttachmentId,
    /// The template that it goes out with.
    pub template_id: TemplateId,
    /// SHA-256 of the bytes.
    pub sha256: Vec<u8>,
    /// The bytes, when they are few.
    pub data: Option<Vec<u8>>,
    /// The object that holds them otherwise.
    pub object_key: Option<String>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
