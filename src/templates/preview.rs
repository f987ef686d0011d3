//! The operation that shows what a template makes of given values.

use actix_web::{HttpResponse, post, web};
use sea_orm::EntityTrait;
use serde_json::Value as Json;

use super::{
    api::find,
    bodies::{TemplatePreview, TemplatePreviewRequest},
    check,
    compiled::Compiled,
    context::{GeneralContext, RecipientContext},
    entity::TemplateChannel,
    fields,
    partials::freeze,
    render::Rendered,
};
use crate::{
    app::App,
    customers::{context, entity::customer},
    http::{Body, Path, Problem},
    id::TemplateId,
    mail::sms::segments::measure,
};

/// See what a template makes of given values or of a customer, and which it misses. Changes nothing and sends nothing.
///
/// The customer's language chooses the variant, or `locale` when it is given; the answer says which it is.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)), request_body = TemplatePreviewRequest,
    responses((status = 200, description = "The rendered parts.", body = TemplatePreview)))]
#[post("/templates/{id}/preview")]
pub async fn preview_template(
    app: web::Data<App>,
    id: Path<TemplateId>,
    body: Body<TemplatePreviewRequest>,
) -> Result<HttpResponse, Problem> {
    let row = freeze::filled(app.db.read(), find(app.db.read(), *id).await?).await?;
    let mut locale = body.0.locale.clone();
    let mut given = GeneralContext {
        unsubscribe_url: Some(format!("{}/u/preview", app.config.public_url())),
        ..GeneralContext::default()
    };
    if let Some(id) = body.0.customer_id {
        let customer = customer::Entity::find_by_id(id).one(app.db.read()).await?;
        let customer = customer.ok_or_else(|| Problem::unknown_reference("/customer_id", "customer"))?;
        given.customer = Some(context::of(&customer));
        locale = locale.or_else(|| customer.locale.clone());
        let name = Some(customer.name).filter(|name| !name.is_empty());
        let address = if row.channel == TemplateChannel::Sms { customer.sms_number } else { customer.email };
        given.to = address.map(|address| RecipientContext { name, address });
    }
    let mut whole = given.into_map();
    whole.extend(body.0.variables.clone());
    let unreadable =
        |failed: super::render::RenderError| Problem::invalid("/variables", failed.code, failed.to_string());
    let compiled = Compiled::lenient(&row).map_err(unreadable)?;
    let (values, faults) = compiled.fields.fill(&body.0.variables, &whole);
    let (absent, wrong): (Vec<_>, Vec<_>) =
        faults.into_iter().partition(|fault| fault.code == "missing_field");
    if !wrong.is_empty() {
        return Err(Problem::validation(wrong.iter().map(fields::FieldFault::at_variables).collect()));
    }
    whole.extend(values);
    let whole = Json::Object(whole);
    let has = |path: &str| path.split('.').try_fold(&whole, |value, name| value.get(name)).is_some();
    let mut missing = check::missing(&row, compiled.variant(locale.as_deref()), has);
    missing.extend(absent.into_iter().map(|fault| fault.name));
    missing.sort_unstable();
    missing.dedup();
    let Rendered { subject, text, html, variant } =
        compiled.render(locale.as_deref(), &whole).map_err(unreadable)?;
    let segments = (row.channel == TemplateChannel::Sms).then(|| measure(text.trim_end()));
    Ok(HttpResponse::Ok().json(TemplatePreview { segments, subject, text, html, variant, missing }))
}
