//! The table `raw_messages`.

use sea_orm::entity::prelude::*;

use crate::id::MessageId;

/// The raw source of one message.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "raw_messages")]
pub struct Model {
    /// The message.
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: MessageId,
    /// How many bytes.
    pub size_bytes: i64,
    /// Their SHA-256.
    pub sha256: Vec<u8>,
    /// The bytes, when they are small.
    pub data: Option<Vec<u8>>,
    /// Their key in the object store, when they are large.
    pub object_key: Option<String>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
