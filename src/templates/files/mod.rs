//! Files that go out with every mail of a template: attached to its draft, frozen when it is published.

pub mod api;
pub mod entity;

use std::sync::LazyLock;

use regex::Regex;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::entity::Model;
use crate::{
    app::App,
    clock::Timestamp,
    id::{TemplateAttachmentId, TemplateId},
    mail::compose::OutgoingAttachment,
    raw::{Kept, RawError},
};

/// Most files of one template.
pub const MAX_FILES: usize = 20;

/// A picture in HTML that is in the mail itself (RFC 2392).
static SHOWN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(?i)["'(=]\s*cid:([^"'\s)>]+)"#).ok());

/// A file that goes out with every mail of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateAttachment {
    /// The attachment's id.
    pub id: TemplateAttachmentId,
    /// Its name.
    #[schema(examples("terms.pdf"))]
    pub filename: String,
    /// Its media type.
    #[schema(examples("application/pdf"))]
    pub content_type: String,
    /// Its size.
    #[schema(minimum = 0, examples(48_213))]
    pub size_bytes: i64,
    /// What the HTML shows it as, after `cid:`; none of a file that is only attached.
    #[schema(examples("logo"))]
    pub content_id: Option<String>,
    /// When it was attached.
    pub created_at: Timestamp,
}

/// The files of a stored template.
pub fn of(template: &Model) -> Vec<TemplateAttachment> {
    serde_json::from_value(template.attachments.clone()).unwrap_or_default()
}

/// How many bytes the files of a template have together.
pub fn total_bytes(template: &Model) -> i64 {
    of(template).iter().map(|file| file.size_bytes).sum()
}

/// What HTML shows after `cid:`.
pub fn shown(html: &str) -> Vec<String> {
    let found = SHOWN.iter().flat_map(|pattern| pattern.captures_iter(html));
    found.filter_map(|one| Some(one.get(1)?.as_str().to_owned())).collect()
}

/// Reads the files of a template, to be sent along; not within a transaction, because the object store takes its time.
///
/// # Errors
/// Whatever the database or the object store says.
pub async fn load(app: &App, template: &Model) -> Result<Vec<OutgoingAttachment>, RawError> {
    let files = of(template);
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let rows = entity::Entity::find().filter(entity::Column::TemplateId.eq(template.id));
    let mut rows = rows.all(app.db.read()).await?;
    let mut loaded = Vec::with_capacity(files.len());
    for file in files {
        let found = rows.iter().position(|row| row.id == file.id).map(|at| rows.swap_remove(at));
        // A draft may lose one while it is read.
        let Some(entity::Model { id, sha256, data, object_key, .. }) = found else { continue };
        loaded.push(OutgoingAttachment {
            filename: file.filename,
            content_type: file.content_type,
            bytes: app.raw.read(id.uuid(), Kept { data, object_key }, &sha256).await?,
            content_id: file.content_id,
        });
    }
    Ok(loaded)
}

/// The objects that hold the files of a template.
///
/// # Errors
/// Whatever the database says.
pub async fn objects(db: &impl ConnectionTrait, id: TemplateId) -> Result<Vec<String>, DbErr> {
    entity::Entity::find()
        .select_only()
        .column(entity::Column::ObjectKey)
        .filter(entity::Column::TemplateId.eq(id))
        .filter(entity::Column::ObjectKey.is_not_null())
        .into_tuple()
        .all(db)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_where_html_shows_them() {
        let html = r#"<img src="cid:logo"><img src='CID:a.b@x'><p style="background:url( cid:bg)">Placid: no</p><img src=cid:bare>"#;
        assert_eq!(shown(html), ["logo", "a.b@x", "bg", "bare"]);
        assert_eq!(shown("acid:x and cid:y"), [""; 0]);
    }
}
