//! What goes along with an answer: the agent's uploads, and the files of a message that is passed on.

use std::collections::HashSet;

use bytes::Bytes;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{bodies::Wanted, original::Original};
use crate::{
    app::App,
    conversations::{
        entity::{MessageState, upload},
        source::raw_problem,
    },
    db::among,
    http::{Caller, Problem},
    id::UploadId,
    mail::{
        compose::OutgoingAttachment,
        parse::{self, Attachment},
    },
};

/// Most files of a message that are passed on: each is looked for from the message's start.
const FORWARDED_MAX: usize = 100;

/// Makes sure that the uploads are the caller's, and that all files together are not too large.
///
/// # Errors
/// `unknown_reference` and `validation_failed` at `/attachment_ids`.
pub(super) async fn check(
    db: &impl ConnectionTrait,
    caller: &Caller,
    original: &Original,
    wanted: &Wanted,
    limit: usize,
) -> Result<(), Problem> {
    let known: Vec<(UploadId, i64)> = upload::Entity::find()
        .select_only()
        .columns([upload::Column::Id, upload::Column::SizeBytes])
        .filter(among(upload::Column::Id, wanted.attachment_ids.iter().copied()))
        .filter(upload::Column::OwnerId.eq(caller.id))
        .into_tuple()
        .all(db)
        .await?;
    let mut seen = HashSet::new();
    for (at, id) in wanted.attachment_ids.iter().enumerate() {
        let pointer = format!("/attachment_ids/{at}");
        if !known.iter().any(|(known, _)| known == id) {
            return Err(Problem::unknown_reference(&pointer, "upload of yours"));
        }
        if !seen.insert(id) {
            return Err(Problem::invalid(pointer, "not_unique", "the upload is attached already"));
        }
    }
    let uploaded: u64 = known.iter().map(|(_, size)| u64::try_from(*size).unwrap_or_default()).sum();
    let forwarded = forwarded(original, wanted);
    let size = uploaded + forwarded.iter().map(|file| file.size_bytes).sum::<u64>();
    let pointer = if forwarded.is_empty() { "/attachment_ids" } else { "/include_attachments" };
    if size > limit as u64 {
        let detail = format!("the files have {size} bytes, the limit is {limit}");
        return Err(Problem::invalid(pointer, "too_large", detail));
    }
    if forwarded.len() > FORWARDED_MAX {
        let detail = format!("the message has more than {FORWARDED_MAX} files");
        return Err(Problem::invalid(pointer, "too_long", detail));
    }
    Ok(())
}

/// Reads the files that [`check`] let through.
///
/// # Errors
/// `unknown_reference` when an upload is gone meanwhile; whatever the stores say.
pub(super) async fn load(
    app: &App,
    caller: &Caller,
    original: &Original,
    wanted: &Wanted,
) -> Result<Vec<OutgoingAttachment>, Problem> {
    let rows = upload::Entity::find()
        .filter(among(upload::Column::Id, wanted.attachment_ids.iter().copied()))
        .filter(upload::Column::OwnerId.eq(caller.id));
    let mut rows = rows.all(app.db.read()).await?;
    let mut files = Vec::with_capacity(rows.len());
    for (at, id) in wanted.attachment_ids.iter().enumerate() {
        let found = rows.iter().position(|row| row.id == *id).map(|index| rows.swap_remove(index));
        let gone = || Problem::unknown_reference(&format!("/attachment_ids/{at}"), "upload of yours");
        files.push(uploaded(found.ok_or_else(gone)?, wanted));
    }
    let passed_on = forwarded(original, wanted).to_vec();
    let unreadable = wanted.include_attachments && original.message.state == MessageState::Unparsed;
    if passed_on.is_empty() && !unreadable {
        return Ok(files);
    }
    let raw = app.raw.load(app.db.read(), original.message.id).await.map_err(raw_problem)?;
    let Some(raw) = raw else { return Ok(files) };
    let taken =
        tokio::task::spawn_blocking(
            move || {
                if unreadable { vec![whole(raw)] } else { extract(&raw, &passed_on) }
            },
        );
    files.extend(taken.await.map_err(Problem::internal)?);
    Ok(files)
}

fn forwarded<'a>(original: &'a Original, wanted: &Wanted) -> &'a [Attachment] {
    if wanted.include_attachments { &original.mail.attachments } else { &[] }
}

fn uploaded(row: upload::Model, wanted: &Wanted) -> OutgoingAttachment {
    let id = row.id.to_string();
    let shown = wanted.html.as_deref().is_some_and(|html| html.contains(&format!("cid:{id}")));
    OutgoingAttachment {
        filename: row.filename,
        content_type: row.content_type,
        bytes: row.data.into(),
        content_id: shown.then_some(id),
    }
}

/// Files keep their bytes; those that were shown within the text are passed on as files.
fn extract(raw: &[u8], files: &[Attachment]) -> Vec<OutgoingAttachment> {
    let name = |file: &Attachment| match &file.filename {
        Some(name) => name.clone(),
        None if file.content_type == "message/rfc822" => format!("message-{}.eml", file.index + 1),
        None => format!("attachment-{}", file.index + 1),
    };
    let read = |file: &Attachment| {
        let found = parse::attachment(raw, file.index)?;
        Some(OutgoingAttachment {
            filename: name(file),
            content_type: found.content_type,
            bytes: found.bytes.into(),
            content_id: None,
        })
    };
    files.iter().filter_map(read).collect()
}

/// A message that could not be read is passed on as it came.
fn whole(raw: Bytes) -> OutgoingAttachment {
    OutgoingAttachment {
        filename: "message.eml".to_owned(),
        content_type: "application/octet-stream".to_owned(),
        bytes: raw,
        content_id: None,
    }
}
