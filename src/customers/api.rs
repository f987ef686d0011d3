//! Operations on customers.

use actix_web::{HttpResponse, delete, get, patch, post, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, ModelTrait, Order, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    contact::{self, Details, Telephone},
    entity::{
        CustomerStatus, OutcomeCategory,
        customer::{ActiveModel, Column, Entity, Model},
    },
    rows::{change, find, told},
    state::{self, CustomerAction},
};
use crate::{
    app::App,
    clock::Timestamp,
    events,
    http::{
        Answer, Body, Caller, Idempotency, IfMatch, PageQuery, Patch, Path, Problem, Query,
        idempotency::Start,
    },
    id::{CustomerId, ListId},
    suppressions::AddressKeys,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(list_customers)
        .service(create_customer)
        .service(get_customer)
        .service(update_customer)
        .service(delete_customer);
}

/// A person to contact.
#[derive(Debug, Serialize, ToSchema)]
pub struct Customer {
    /// The customer's id.
    pub id: CustomerId,
    /// What other systems know them by; unique.
    #[schema(examples("C-4711"))]
    pub r#ref: String,
    /// The list that they are on.
    pub list_id: ListId,
    /// Their name.
    #[schema(examples("Anna Example"))]
    pub name: String,
    /// Their e-mail address.
    #[schema(examples("anna@example.org"))]
    pub email: Option<String>,
    /// Their number for texts, as `+` and digits (E.164).
    #[schema(examples("+442079460018"))]
    pub sms_number: Option<String>,
    /// Their telephone numbers, as they were written.
    #[schema(value_type = Vec<Telephone>)]
    pub telephones: Value,
    /// Their language (BCP 47).
    #[schema(examples("en-GB"))]
    pub locale: Option<String>,
    /// What else is known of them, by name.
    #[schema(value_type = Object, example = json!({ "contract": "Premium", "ends": "2026-03-31" }))]
    pub data: Value,
    /// Where they stand.
    pub status: CustomerStatus,
    /// When they are to be called back; only while the status is `callback`.
    pub callback: Option<CustomerCallback>,
    /// How they were given up; only while the status is `terminated`.
    pub termination: Option<CustomerTermination>,
    /// How often they were tried.
    #[schema(minimum = 0, examples(2))]
    pub attempts: i64,
    /// When they were last tried.
    pub last_attempt_at: Option<Timestamp>,
    /// What the caller can do with them now.
    pub allowed_actions: Vec<CustomerAction>,
    /// When what was known of them was erased.
    pub erased_at: Option<Timestamp>,
    /// When the messages that were exchanged with them were emptied, too; a while after `erased_at` when there are many.
    pub texts_erased_at: Option<Timestamp>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A time that was agreed with a customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomerCallback {
    /// When to call back.
    pub at: Timestamp,
    /// What to know then.
    #[schema(examples("After work, on the mobile"))]
    pub note: Option<String>,
}

/// How a customer was given up.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomerTermination {
    /// The outcome; none when the customer was erased before there was one.
    #[schema(examples("no_answer"))]
    pub code: Option<String>,
    /// What it meant then.
    pub category: Option<OutcomeCategory>,
    /// More about why.
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A customer to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "list_id": "019aa1b2-0000-7000-8000-000000000001", "ref": "C-4712", "name": "Ben Example",
    "email": "ben@example.org", "sms_number": "+44 20 7946 0018", "locale": "en-GB",
    "data": { "contract": "Premium", "ends": "2026-03-31" } }))]
pub struct CustomerCreate {
    /// The list that they come onto.
    pub list_id: ListId,
    /// What other systems know them by; unique.
    #[schema(
        min_length = 1,
        max_length = 128,
        examples("C-4711"),
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
    )]
    pub r#ref: String,
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

/// One page of customers.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomerList {
    /// The customers.
    pub items: Vec<Customer>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How customers may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum CustomerSort {
    /// Oldest first.
    #[serde(rename = "created_at")]
    CreatedAt,
    /// Newest first.
    #[serde(rename = "-created_at")]
    CreatedAtDescending,
}

/// Which customers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CustomerFilter {
    /// Only those of this list.
    list_id: Option<ListId>,
    /// Only those who stand there.
    #[param(inline)]
    status: Option<CustomerStatus>,
    /// Only the one whom other systems know by this.
    #[param(max_length = 128)]
    r#ref: Option<String>,
    /// Only those with this e-mail address, in any case.
    #[param(max_length = 320)]
    email: Option<String>,
    /// Only those with this number for texts, as `+` or `00` and digits.
    #[param(max_length = 40)]
    sms_number: Option<String>,
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<CustomerSort>,
}

impl Customer {
    /// As the caller sees it.
    pub fn of(row: Model, caller: &Caller) -> Self {
        let allowed_actions = state::allowed(&row, caller);
        let callback = row.callback_at.map(|at| CustomerCallback { at, note: row.callback_note });
        let termination = row.terminated_at.map(|at| CustomerTermination {
            code: row.termination_code,
            category: row.termination_category,
            note: row.termination_note,
            at,
        });
        Self {
            id: row.id,
            r#ref: row.r#ref,
            list_id: row.list_id,
            name: row.name,
            email: row.email,
            sms_number: row.sms_number,
            telephones: row.telephones,
            locale: row.locale,
            data: row.data,
            status: row.status,
            callback,
            termination,
            attempts: row.attempt_count,
            last_attempt_at: row.last_attempt_at,
            allowed_actions,
            erased_at: row.erased_at,
            texts_erased_at: row.texts_erased_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl CustomerCreate {
    fn of(row: &Model) -> Self {
        let row = row.clone();
        Self {
            list_id: row.list_id,
            r#ref: row.r#ref,
            name: row.name,
            email: row.email,
            sms_number: row.sms_number,
            telephones: serde_json::from_value(row.telephones).unwrap_or_default(),
            locale: row.locale,
            data: serde_json::from_value(row.data).unwrap_or_default(),
        }
    }

    /// The columns that the body decides; its list is known to exist or not by the database.
    fn columns(self, keys: &AddressKeys) -> Result<ActiveModel, Problem> {
        let Self { list_id, r#ref, name, email, sms_number, telephones, locale, data } = self;
        contact::check_ref(&r#ref).map_err(|error| Problem::validation(vec![error]))?;
        let mut details = Details { name, email, sms_number, telephones, locale, data };
        details.check().map_err(Problem::validation)?;
        Ok(ActiveModel { list_id: Set(list_id), r#ref: Set(r#ref), ..details.columns(keys) })
    }
}

/// List customers.
#[utoipa::path(tag = "customers", params(PageQuery, CustomerFilter),
    responses((status = 200, description = "One page.", body = CustomerList)))]
#[get("/customers")]
pub async fn list_customers(
    app: web::Data<App>,
    caller: Caller,
    page: Query<PageQuery>,
    filter: Query<CustomerFilter>,
) -> Result<HttpResponse, Problem> {
    let (filter, keys) = (filter.0, AddressKeys::of(&app));
    let mut select = Entity::find();
    if let Some(list) = filter.list_id {
        select = select.filter(Column::ListId.eq(list));
    }
    if let Some(status) = filter.status {
        select = select.filter(Column::Status.eq(status));
    }
    if let Some(known_as) = filter.r#ref {
        select = select.filter(Column::Ref.eq(known_as));
    }
    if let Some(email) = filter.email {
        select = select.filter(Column::EmailKey.eq(keys.key(&email)));
    }
    if let Some(number) = filter.sms_number {
        select = select.filter(Column::SmsKey.eq(keys.key(&contact::number_asked(&number))));
    }
    let sort = filter.sort.map(|sort| match sort {
        CustomerSort::CreatedAt => (Column::Id, Order::Asc),
        CustomerSort::CreatedAtDescending => (Column::Id, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), select, Column::Id, sort).await?;
    let found = found.map(|row| Customer::of(row, &caller));
    Ok(HttpResponse::Ok().json(CustomerList { items: found.items, next_cursor: found.next_cursor }))
}

/// Create a customer.
#[utoipa::path(tag = "customers", request_body = CustomerCreate,
    responses((status = 201, description = "The new customer.", body = Customer, headers(("ETag" = String), ("Location" = String)))))]
#[post("/customers")]
pub async fn create_customer(
    app: web::Data<App>,
    caller: Caller,
    body: Body<CustomerCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    super::rows::check_list(&*work.tx, body.0.list_id).await?;
    let row = super::rows::fresh(body.0.columns(&AddressKeys::of(&app))?, now);
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![told("customer.created", &row)]).await?;
    let answer = Answer::created(format!("/v1/customers/{}", row.id), &Customer::of(row, &caller))?;
    work.commit(answer.versioned(1)).await
}

/// Read one customer.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 200, description = "The customer.", body = Customer, headers(("ETag" = String)))))]
#[get("/customers/{id}")]
pub async fn get_customer(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
) -> Result<HttpResponse, Problem> {
    let row = find(app.db.read(), *id).await?;
    let version = row.version;
    Ok(Answer::ok(&Customer::of(row, &caller))?.versioned(version).into_response())
}

/// Change what is known of a customer.
///
/// Where they stand is changed by actions. In `data`, a member of the patch replaces the one of the same name, and `null`
/// removes it.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)),
    request_body(content = ref("#/components/schemas/CustomerPatch"), content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The changed customer.", body = Customer, headers(("ETag" = String)))))]
#[patch("/customers/{id}")]
pub async fn update_customer(
    app: web::Data<App>,
    caller: Caller,
    id: Path<CustomerId>,
    if_match: IfMatch,
    patch: Patch<CustomerCreate>,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    state::require_known(&row)?;
    let wanted = patch.apply(&CustomerCreate::of(&row))?;
    if wanted.list_id != row.list_id {
        super::rows::check_list(&*tx, wanted.list_id).await?;
    }
    let row = change(&tx, now, &row, wanted.columns(&AddressKeys::of(&app))?).await?;
    events::append(&tx, now, vec![told("customer.updated", &row)]).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::ok(&Customer::of(row, &caller))?.versioned(version).into_response())
}

/// Delete a customer's record.
///
/// Its attempts go with it; messages to and from them stay. Nothing keeps the addresses from coming back with an import or
/// being written to: `POST /v1/customers/{id}/erase` does.
#[utoipa::path(tag = "customers", params(("id" = CustomerId, Path)),
    responses((status = 204, description = "It is gone.")))]
#[delete("/customers/{id}")]
pub async fn delete_customer(
    app: web::Data<App>,
    id: Path<CustomerId>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = find(&*tx, *id).await?;
    if_match.check(row.version)?;
    let event = told("customer.deleted", &row);
    row.delete(&*tx).await?;
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
