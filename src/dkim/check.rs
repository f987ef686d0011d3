//! Whether a DKIM key would work, told in steps. Nothing is looked up: who asks says what is published.

use actix_web::{HttpResponse, post, web};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{api::find, entity::Model, signers::open};
use crate::{
    accounts::entity::{AccountState, Channel, account},
    app::App,
    http::{Body, Path, Problem},
    id::DkimKeyId,
    mail::dkim::{Signer, record},
};

/// What is known of the published record.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "published": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" }))]
pub struct DkimKeyProbe {
    /// The TXT record that is found at `dns_name`, as `dig +short TXT` prints it or plain. The service looks nothing up.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 4000)]
    pub published: Option<String>,
}

/// One step of a check.
#[derive(Debug, Serialize, ToSchema)]
pub struct DkimKeyStep {
    /// `key`: the stored key can be used; `accounts`: there is mail for it to sign; `record`: what is published is its
    /// public half.
    #[schema(examples("key"))]
    pub name: String,
    /// Whether all is well.
    pub ok: bool,
    /// What was found.
    #[schema(examples("the stored key can be opened and fits its record"))]
    pub detail: String,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct DkimKeyCheck {
    /// Whether every step is well.
    pub ok: bool,
    /// The steps; `record` only when it was said what is published.
    #[schema(max_items = 3)]
    pub steps: Vec<DkimKeyStep>,
}

impl DkimKeyStep {
    fn new(name: &str, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, detail: detail.into() }
    }
}

/// Check a DKIM key: whether it can be used, for which accounts, and whether what is published fits it.
#[utoipa::path(tag = "DKIM keys", params(("id" = DkimKeyId, Path)), request_body = DkimKeyProbe,
    responses((status = 200, description = "The steps.", body = DkimKeyCheck)))]
#[post("/dkim-keys/{id}/check")]
pub async fn check_dkim_key(
    app: web::Data<App>,
    id: Path<DkimKeyId>,
    body: Body<DkimKeyProbe>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let opened = open(&app.sealer, &row);
    let mut steps = vec![key_step(&opened, &row)];
    if let Ok(signer) = &opened {
        steps.push(accounts_step(&app, signer).await?);
    }
    if let Some(published) = &body.0.published {
        steps.push(match record::matches(&row.dns_record, published) {
            Ok(()) => DkimKeyStep::new("record", true, "receivers can check signatures with it"),
            Err(fault) => DkimKeyStep::new("record", false, fault.to_string()),
        });
    }
    Ok(HttpResponse::Ok().json(DkimKeyCheck { ok: steps.iter().all(|step| step.ok), steps }))
}

fn key_step(opened: &anyhow::Result<Signer>, row: &Model) -> DkimKeyStep {
    match opened {
        Ok(signer) if signer.dns_record() == row.dns_record => {
            DkimKeyStep::new("key", true, "the stored key can be opened and fits its record")
        }
        Ok(_) => DkimKeyStep::new("key", false, "the stored key does not fit its record"),
        Err(error) => DkimKeyStep::new("key", false, error.to_string()),
    }
}

async fn accounts_step(app: &App, signer: &Signer) -> Result<DkimKeyStep, Problem> {
    let addresses: Vec<String> = account::Entity::find()
        .select_only()
        .column(account::Column::Address)
        .filter(account::Column::Channel.eq(Channel::Email))
        .filter(account::Column::State.ne(AccountState::Disabled))
        .into_tuple()
        .all(app.db.read())
        .await?;
    let domains = addresses.iter().filter_map(|address| Some(address.rsplit_once('@')?.1));
    let count = domains.filter(|domain| signer.is_aligned(domain)).count();
    let domain = signer.domain();
    Ok(match count {
        0 => DkimKeyStep::new("accounts", false, format!("no account has an address in {domain}")),
        1 => DkimKeyStep::new("accounts", true, format!("one account has an address in {domain}")),
        _ => DkimKeyStep::new("accounts", true, format!("{count} accounts have addresses in {domain}")),
    })
}
