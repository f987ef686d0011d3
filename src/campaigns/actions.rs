//! What changes a campaign's state.

use actix_web::{HttpResponse, post, web};
use sea_orm::{ActiveValue::Set, DatabaseTransaction};

use super::{
    api::{Campaign, CampaignCreate, change, find},
    entity::{CampaignState, campaign},
    scheduled,
};
use crate::{
    app::App,
    clock::Timestamp,
    http::{Answer, Caller, Code, Path, Problem},
    id::CampaignId,
    scripts::library,
};

use CampaignState::{Active, Draft, Stopped, Suspended};

/// Start a campaign: from now on its rules fire.
///
/// Their templates are published, and there is an account to send from.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    responses((status = 200, description = "The campaign.", body = Campaign, headers(("ETag" = String)))))]
#[post("/campaigns/{id}/start")]
pub async fn start_campaign(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CampaignId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let row = find(&*tx, *id).await?;
    let row = bring(&tx, now, row, &[Draft], Active, "campaign.started").await?;
    CampaignCreate::from(row.clone()).check(&tx, Active).await?;
    tx.commit().await?;
    answer(row, &caller)
}

/// Suspend a campaign: none of its rules fires, and what they made and nobody has sent yet is held back until it is resumed.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    responses((status = 200, description = "The campaign.", body = Campaign, headers(("ETag" = String)))))]
#[post("/campaigns/{id}/suspend")]
pub async fn suspend_campaign(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CampaignId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    let row = bring(&tx, now, row, &[Active], Suspended, "campaign.suspended").await?;
    scheduled::hold(&tx, now, row.id).await?;
    tx.commit().await?;
    answer(row, &caller)
}

/// Resume a suspended campaign: its rules fire again, and what was held back goes out at its time, or now when that is past.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    responses((status = 200, description = "The campaign.", body = Campaign, headers(("ETag" = String)))))]
#[post("/campaigns/{id}/resume")]
pub async fn resume_campaign(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CampaignId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    let row = bring(&tx, now, row, &[Suspended], Active, "campaign.resumed").await?;
    scheduled::release(&tx, now, row.id).await?;
    tx.commit().await?;
    answer(row, &caller)
}

/// Stop a campaign for good: what its rules made and nobody has sent yet is cancelled.
#[utoipa::path(tag = "campaigns", params(("id" = CampaignId, Path)),
    responses((status = 200, description = "The campaign.", body = Campaign, headers(("ETag" = String)))))]
#[post("/campaigns/{id}/stop")]
pub async fn stop_campaign(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CampaignId>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    let row = bring(&tx, now, row, &[Active, Suspended], Stopped, "campaign.stopped").await?;
    scheduled::cancel(&tx, now, row.id).await?;
    tx.commit().await?;
    answer(row, &caller)
}

async fn bring(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: campaign::Model,
    from: &[CampaignState],
    to: CampaignState,
    kind: &'static str,
) -> Result<campaign::Model, Problem> {
    if !from.contains(&row.state) {
        let detail = format!("the campaign is {}", serde_json::json!(row.state).as_str().unwrap_or_default());
        return Err(Problem::new(Code::InvalidState, detail));
    }
    let to = campaign::ActiveModel { state: Set(to), ..Default::default() };
    Ok(change(tx, now, &row, to, kind).await?)
}

fn answer(row: campaign::Model, caller: &Caller) -> Result<HttpResponse, Problem> {
    let version = row.version;
    Ok(Answer::ok(&Campaign::new(row, caller))?.versioned(version).into_response())
}
