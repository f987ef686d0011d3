//! The operation that sends a template once to somebody who looks at it.

use actix_web::{HttpResponse, post, web};
use sea_orm::EntityTrait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    api::{CreatedMessage, MessageCreate},
    begin::from_compiled,
    plan::Plan,
    send,
    to::MessageTo,
    write,
};
use crate::{
    accounts::entity::Channel,
    app::App,
    conversations::{outbound, source::raw_problem, texts::segments},
    customers::entity::customer,
    http::{Answer, Body, Caller, Code, Idempotency, Path, Problem, idempotency::Start},
    id::{AccountId, CustomerId, TemplateId},
    templates::{
        compiled::Compiled,
        entity::{self as template, TemplatePurpose},
        files,
        partials::freeze,
    },
};

/// What marks a test.
const MARK: &str = "[Test] ";

/// Who looks at a template, and what it is filled with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": { "name": "Eve Editor", "address": "editor@example.org" }, "variables": { "balance": 12.5 } }))]
pub struct TemplateTestSend {
    /// Who gets it.
    pub to: MessageTo,
    /// Values of the template's fields, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub variables: Map<String, Value>,
    /// The customer whom it reads; they get nothing.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// The language to see it in; the customer's when it is left out.
    #[serde(default)]
    #[schema(max_length = 35, pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", examples("de-AT"))]
    pub locale: Option<String>,
    /// The account that it is sent from; needed when there are several.
    #[serde(default)]
    pub account_id: Option<AccountId>,
}

/// Send a template once to somebody who looks at it, also as a draft.
///
/// The subject, or the text of a template for SMS, begins with `[Test]`. An address that may not be written to gets no tests
/// either, but who unsubscribed does. A link to unsubscribe works: whoever follows it gets no more marketing.
#[utoipa::path(tag = "templates", params(("id" = TemplateId, Path)), request_body = TemplateTestSend,
    responses((status = 201, description = "It is on its way.", body = CreatedMessage, headers(("Location" = String)))))]
#[post("/templates/{id}/test-send")]
pub async fn test_send_template(
    app: web::Data<App>,
    caller: Caller,
    id: Path<TemplateId>,
    body: Body<TemplateTestSend>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let template = template::Entity::find_by_id(*id).one(&*work.tx).await?;
    let template = template.ok_or_else(|| Problem::not_found("template"))?;
    let template = freeze::filled(&*work.tx, template).await?;
    if template.purpose != TemplatePurpose::General {
        let detail = "only templates of the purpose `general` are sent as a test";
        return Err(Problem::new(Code::InvalidState, detail));
    }
    let TemplateTestSend { to, variables, customer_id, locale, account_id } = body.0;
    // The text is put in when it is rendered.
    let wanted = MessageCreate { account_id, ..MessageCreate::saying(to, template.channel.into(), "-") };
    let mut plan = Plan::of(&app, &*work.tx, &wanted, now).await?;
    if let Some(id) = customer_id {
        let found = customer::Entity::find_by_id(id).one(&*work.tx).await?;
        plan.customer = Some(found.ok_or_else(|| Problem::unknown_reference("/customer_id", "customer"))?);
    }
    let paused = work.pause().await?;
    let compiled = Compiled::of(&template).map_err(|failed| write::unwritten(&failed.into()))?;
    let parts = from_compiled(&compiled, &variables, plan.context(), locale.as_deref());
    let mut parts = parts.map_err(|why| write::unwritten(&why))?;
    let marked = if plan.channel == Channel::Email { &mut parts.subject } else { &mut parts.text };
    marked.insert_str(0, MARK);
    if plan.channel == Channel::Sms {
        segments(&plan.account, &parts.text)
            .map_err(|detail| Problem::invalid("/variables", "too_many_segments", detail))?;
    }
    let mut begun = send::beginning(&plan, &wanted, parts, caller.user_id(), now)?;
    begun.files = files::load(&app, &template).await.map_err(raw_problem)?;
    begun.fields = plan.fields(template.category)?;
    begun.about.template_id = Some(template.id);
    begun.about.customer_id = None;
    let filed = outbound::prepare(&app, now, &plan.account, begun.letter(), "/variables").await?;
    outbound::finish(&app, paused, filed.object(), async |tx| {
        let created = send::file(&app, tx, now, &plan, &wanted, &begun, begun.remembered(filed)).await?;
        let created = CreatedMessage { template_id: Some(template.id), customer_id: None, ..created };
        Answer::created(format!("/v1/messages/{}", begun.id), &created)
    })
    .await
}
