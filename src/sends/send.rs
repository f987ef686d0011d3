//! Sends one message: written outside the transaction, filed and put on its way in it.

use actix_web::HttpResponse;
use sea_orm::{DatabaseTransaction, EntityTrait};

use super::{
    api::{CreatedMessage, MessageCategory, MessageCreate},
    begin::{self, Beginning, Parts},
    plan::Plan,
    write,
};
use crate::{
    accounts::entity::{Channel, account},
    app::App,
    clock::Timestamp,
    conversations::outbound::{self, Filed},
    customers::rows::gone_among,
    http::{Answer, Caller, Idempotency, Problem, idempotency::Start},
    id::UserId,
    mail::sms::segments::measure,
    templates::entity::TemplateCategory,
};

/// What would be sent.
///
/// # Errors
/// Those of [`create`].
pub(super) async fn dry_run(app: &App, wanted: MessageCreate) -> Result<CreatedMessage, Problem> {
    let now = app.clock.now();
    let plan = Plan::of(app, app.db.read(), &wanted, now).await?;
    let parts = plan.parts(&wanted)?;
    plan.fields(plan.category(&wanted))?;
    Ok(shown(&plan, &wanted, parts, now))
}

/// Sends, once per idempotency key.
///
/// # Errors
/// `validation_failed` and `unknown_reference` for what cannot be sent.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    wanted: MessageCreate,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    let plan = Plan::of(app, &*work.tx, &wanted, now).await?;
    // Rendering, composing and the object store take their time, and no transaction waits for them.
    let paused = work.pause().await?;
    let files = plan.files(app).await?;
    let begun =
        Beginning { files, ..beginning(&plan, &wanted, plan.parts(&wanted)?, caller.user_id(), now)? };
    let filed = outbound::prepare(app, now, &plan.account, begun.letter(), "/content").await?;
    outbound::finish(app, paused, filed.object(), async |tx| {
        let created = file(app, tx, now, &plan, &wanted, &begun, begun.remembered(filed)).await?;
        Answer::created(format!("/v1/messages/{}", begun.id), &created)
    })
    .await
}

/// The message to be, of what was asked for.
///
/// # Errors
/// Those of [`Plan::fields`].
pub(super) fn beginning(
    plan: &Plan,
    wanted: &MessageCreate,
    parts: Parts,
    author_id: Option<UserId>,
    now: Timestamp,
) -> Result<Beginning, Problem> {
    Ok(Beginning {
        id: plan.id,
        place: plan.place,
        to: plan.to.clone(),
        parts,
        files: Vec::new(),
        fields: plan.fields(plan.category(wanted))?,
        author_id,
        about: plan.about(wanted),
        not_before: wanted.send_at.filter(|at| *at > now),
        window: None,
        barred: plan.barred,
    })
}

/// Files it, if its account still sends.
///
/// # Errors
/// `validation_failed`.
pub(super) async fn file(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    plan: &Plan,
    wanted: &MessageCreate,
    begun: &Beginning,
    filed: Filed,
) -> Result<CreatedMessage, Problem> {
    let gone = gone_among(tx, begun.about.customer_id).await?;
    write::check_customer(&gone, begun.about.customer_id)?;
    // The account may have been taken out of service meanwhile.
    let account = account::Entity::find_by_id(plan.account.id).one(tx).await?;
    let account = account.ok_or_else(|| Problem::unknown_reference("/account_id", "account"))?;
    write::check_account(&account, plan.channel, "/account_id")?;
    let header = filed.message.message_id_header.clone();
    let state = begin::file(app, tx, now, vec![(begun, &account, filed)]).await?.pop();
    Ok(CreatedMessage {
        id: Some(begun.id),
        conversation_id: Some(begun.place.conversation_id),
        state,
        message_id_header: header,
        ..shown(plan, wanted, begun.parts.clone(), now)
    })
}

/// What is said of it before it is filed.
pub(super) fn shown(plan: &Plan, wanted: &MessageCreate, parts: Parts, now: Timestamp) -> CreatedMessage {
    CreatedMessage {
        id: None,
        conversation_id: None,
        channel: plan.channel,
        account_id: plan.account.id,
        template_id: wanted.template_id,
        variant: parts.variant,
        customer_id: plan.customer.as_ref().map(|customer| customer.id),
        campaign_id: wanted.campaign_id,
        category: match plan.category(wanted) {
            TemplateCategory::Transactional => MessageCategory::Transactional,
            TemplateCategory::Marketing => MessageCategory::Marketing,
        },
        state: None,
        to: plan.to.clone(),
        segments: (plan.channel == Channel::Sms).then(|| measure(parts.text.trim_end())),
        subject: parts.subject,
        text: Some(parts.text),
        html: parts.html,
        message_id_header: None,
        send_at: wanted.send_at.filter(|at| *at > now),
        external_ref: wanted.external_ref.clone(),
        suppressed_by: plan.barred,
        dry_run: wanted.dry_run,
        created_at: now,
    }
}
