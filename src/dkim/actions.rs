//! What brings a DKIM key into force and out of it.

use actix_web::{HttpResponse, post, web};
use sea_orm::ActiveValue::Set;

use super::{
    api::{change, find},
    bodies::DkimKey,
    entity::{ActiveModel, DkimKeyState, Model},
    signers::open,
};
use crate::{
    app::App,
    clock::Timestamp,
    http::{Answer, Caller, Code, Path, Problem},
    id::DkimKeyId,
};

/// Sign with a DKIM key from now on.
///
/// Its record should be published by then. A retired key can be brought back. Two active keys of one domain both sign.
#[utoipa::path(tag = "DKIM keys", params(("id" = DkimKeyId, Path)),
    responses((status = 200, description = "The key.", body = DkimKey, headers(("ETag" = String)))))]
#[post("/dkim-keys/{id}/activate")]
pub async fn activate_dkim_key(
    app: web::Data<App>,
    caller: Caller,
    id: Path<DkimKeyId>,
) -> Result<HttpResponse, Problem> {
    bring(&app, &caller, *id, DkimKeyState::Active, |now| ActiveModel {
        state: Set(DkimKeyState::Active),
        activated_at: Set(Some(now)),
        retired_at: Set(None),
        ..Default::default()
    })
    .await
}

/// Sign with a DKIM key no more.
///
/// Mail that is composed already keeps its signature, also when it is to go out later: leave the record published until
/// that has arrived.
#[utoipa::path(tag = "DKIM keys", params(("id" = DkimKeyId, Path)),
    responses((status = 200, description = "The key.", body = DkimKey, headers(("ETag" = String)))))]
#[post("/dkim-keys/{id}/retire")]
pub async fn retire_dkim_key(
    app: web::Data<App>,
    caller: Caller,
    id: Path<DkimKeyId>,
) -> Result<HttpResponse, Problem> {
    bring(&app, &caller, *id, DkimKeyState::Retired, |now| ActiveModel {
        state: Set(DkimKeyState::Retired),
        retired_at: Set(Some(now)),
        ..Default::default()
    })
    .await
}

async fn bring(
    app: &App,
    caller: &Caller,
    id: DkimKeyId,
    to: DkimKeyState,
    row_of: impl Fn(Timestamp) -> ActiveModel,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, id).await?;
    let kind = fits(app, &row, to)?;
    let row = change(&tx, now, &row, row_of(now), kind).await?;
    tx.commit().await?;
    app.dkim.changed();
    let version = row.version;
    Ok(Answer::ok(&DkimKey::new(row, caller))?.versioned(version).into_response())
}

/// What happens when a key is brought into the state.
fn fits(app: &App, row: &Model, to: DkimKeyState) -> Result<&'static str, Problem> {
    let is_active = row.state == DkimKeyState::Active;
    match to {
        DkimKeyState::Active if is_active => Err(Problem::new(Code::InvalidState, "the key signs already")),
        DkimKeyState::Active => {
            if open(&app.sealer, row).is_err() {
                let detail = "the stored key cannot be opened: it was sealed under another secret key";
                return Err(Problem::new(Code::InvalidState, detail));
            }
            Ok("dkim_key.activated")
        }
        DkimKeyState::Draft | DkimKeyState::Retired if is_active => Ok("dkim_key.retired"),
        DkimKeyState::Draft | DkimKeyState::Retired => {
            Err(Problem::new(Code::InvalidState, "the key does not sign"))
        }
    }
}
