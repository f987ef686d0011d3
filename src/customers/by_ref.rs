//! Operations on customers by what other systems know them by.

use actix_web::{HttpResponse, get, put, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    api::Customer,
    contact::{self, Details, Telephone},
    entity::customer::{ActiveModel, Column, Entity, Model},
    rows::{self, change, told},
};
use crate::{
    app::App,
    events,
    http::{Answer, Body, Caller, Code, IfMatch, Path, Problem},
    id::ListId,
    suppressions::AddressKeys,
};

/// What an upsert writes to a customer who is there already.
const WRITTEN: [Column; 8] = [
    Column::Name,
    Column::Email,
    Column::EmailKey,
    Column::SmsNumber,
    Column::SmsKey,
    Column::Telephones,
    Column::Locale,
    Column::Data,
];

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(get_customer_by_ref).service(put_customer_by_ref);
}

/// A customer as another system knows them: all that is not said is emptied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "list_id": "019aa1b2-0000-7000-8000-000000000001", "name": "Anna Example", "email": "anna@example.org",
    "data": { "contract": "Premium", "ends": "2026-03-31" } }))]
pub struct CustomerReplace {
    /// The list that they come onto, or move to.
    pub list_id: ListId,
    /// Their name.
    #[serde(default)]
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", examples("Anna Example"))]
    pub name: String,
    /// Their e-mail address.
    #[serde(default)]
    #[schema(max_length = 320, examples("anna@example.org"))]
    pub email: Option<String>,
    /// Their number for texts with its country code; kept as `+` and 6 to 15 digits (E.164).
    #[serde(default)]
    #[schema(max_length = 40, examples("+44 20 7946 0018"))]
    pub sms_number: Option<String>,
    /// Their telephone numbers, as they are written.
    #[serde(default)]
    #[schema(max_items = 10)]
    pub telephones: Vec<Telephone>,
    /// Their language (BCP 47).
    #[serde(default)]
    #[schema(
        max_length = 35,
        pattern = "^[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{5,8})?$",
        examples("en-GB")
    )]
    pub locale: Option<String>,
    /// What else is known of them, by names of 1 to 64 characters: any JSON, up to 4,096 bytes a value and 65,536 together.
    #[serde(default)]
    #[schema(schema_with = contact::data_schema, required = false)]
    pub data: Map<String, Value>,
}

impl CustomerReplace {
    fn columns(self, known_as: &str, keys: &AddressKeys) -> Result<ActiveModel, Problem> {
        let Self { list_id, name, email, sms_number, telephones, locale, data } = self;
        let mut details = Details { name, email, sms_number, telephones, locale, data };
        details.check().map_err(Problem::validation)?;
        Ok(ActiveModel { list_id: Set(list_id), r#ref: Set(known_as.to_owned()), ..details.columns(keys) })
    }
}

/// Read a customer by `ref`.
///
/// What is special in a path is written with `%`: a customer `A/7` is `/v1/customers/by-ref/A%2F7`.
#[utoipa::path(tag = "customers", params(("ref" = String, Path, description = "What other systems know them by.", min_length = 1, max_length = 128,
    pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$", example = "C-4711")),
    responses((status = 200, description = "The customer.", body = Customer, headers(("ETag" = String)))))]
#[get("/customers/by-ref/{ref}")]
pub async fn get_customer_by_ref(
    app: web::Data<App>,
    caller: Caller,
    known_as: Path<String>,
) -> Result<HttpResponse, Problem> {
    let row = Entity::find().filter(Column::Ref.eq(known_as.as_str())).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("customer"))?;
    let version = row.version;
    Ok(Answer::ok(&Customer::of(row, &caller))?.versioned(version).into_response())
}

/// Create or replace a customer by `ref`.
///
/// The body stands for all that is known of them: what it leaves out is emptied, and so are members that its `data` leaves
/// out. Where they stand, their call-back and their
/// attempts are kept. The same call again changes nothing but the ETag.
#[utoipa::path(tag = "customers", params(("ref" = String, Path, description = "What other systems know them by.", min_length = 1, max_length = 128,
    pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$", example = "C-4711")),
    request_body = CustomerReplace,
    responses((status = 200, description = "The changed customer.", body = Customer, headers(("ETag" = String))),
        (status = 201, description = "The new customer.", body = Customer, headers(("ETag" = String), ("Location" = String)))))]
#[put("/customers/by-ref/{ref}")]
pub async fn put_customer_by_ref(
    app: web::Data<App>,
    caller: Caller,
    known_as: Path<String>,
    if_match: IfMatch,
    body: Body<CustomerReplace>,
) -> Result<HttpResponse, Problem> {
    contact::check_ref(&known_as).map_err(|error| Problem::new(Code::InvalidParameter, error.detail))?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    rows::check_list(&*tx, body.0.list_id).await?;
    let columns = body.0.columns(&known_as, &AddressKeys::of(&app))?;
    let row = match by_ref(&tx, &known_as).await? {
        Some(row) => {
            if_match.check(row.version)?;
            change(&tx, now, &row, columns).await?
        }
        None => {
            if_match.check_absent()?;
            // Another caller may make the same customer at this moment: then this one changes it.
            rows::upsert(&tx, now, vec![columns], &WRITTEN, &[]).await?;
            let row = by_ref(&tx, &known_as).await?;
            row.ok_or_else(|| DbErr::RecordNotFound("the customer that was just written".into()))?
        }
    };
    let version = row.version;
    let kind = if version == 1 { "customer.created" } else { "customer.updated" };
    events::append(&tx, now, vec![told(kind, &row)]).await?;
    tx.commit().await?;
    let location = format!("/v1/customers/{}", row.id);
    let shown = Customer::of(row, &caller);
    let answer = if version == 1 { Answer::created(location, &shown) } else { Answer::ok(&shown) };
    Ok(answer?.versioned(version).into_response())
}

async fn by_ref(tx: &DatabaseTransaction, known_as: &str) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Ref.eq(known_as)).one(tx).await
}
