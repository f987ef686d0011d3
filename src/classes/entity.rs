//! The table `classes`.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, id::ClassId};

/// One class of contact.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "classes")]
pub struct Model {
    /// The class's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ClassId,
    /// Its unique name.
    pub name: String,
    /// What it is for.
    pub description: String,
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
