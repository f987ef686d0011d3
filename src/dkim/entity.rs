//! The table `dkim_keys`.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, id::DkimKeyId, mail::dkim::KeyKind};

/// The algorithm of a key.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DkimAlgorithm {
    /// RSA with SHA-256, which every receiver can check.
    Rsa,
    /// Ed25519 with SHA-256 (RFC 8463), which not every receiver can check.
    Ed25519,
}

impl From<KeyKind> for DkimAlgorithm {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Rsa => Self::Rsa,
            KeyKind::Ed25519 => Self::Ed25519,
        }
    }
}

impl From<DkimAlgorithm> for KeyKind {
    fn from(algorithm: DkimAlgorithm) -> Self {
        match algorithm {
            DkimAlgorithm::Rsa => Self::Rsa,
            DkimAlgorithm::Ed25519 => Self::Ed25519,
        }
    }
}

/// Whether mail is signed with a key.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DkimKeyState {
    /// Not yet: its record is to be published first.
    Draft,
    /// It is.
    Active,
    /// Not any more.
    Retired,
}

/// One key.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dkim_keys")]
pub struct Model {
    /// The key's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DkimKeyId,
    /// The signing domain, in lower case and ASCII.
    pub domain: String,
    /// The selector, in lower case.
    pub selector: String,
    /// The algorithm.
    pub algorithm: DkimAlgorithm,
    /// Whether mail is signed with it.
    pub state: DkimKeyState,
    /// What is to be published.
    pub dns_record: String,
    /// The private key in PEM, sealed for `dkim_key:{id}`; it never changes.
    pub private_key_sealed: Vec<u8>,
    /// When mail was first, or again, signed with it.
    pub activated_at: Option<Timestamp>,
    /// When that ended.
    pub retired_at: Option<Timestamp>,
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
