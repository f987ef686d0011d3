//! Operations on global variables: switches such as `centre_closed` that scripts read as `globals.centre_closed`.

use actix_web::{HttpResponse, delete, get, http::StatusCode, put, web};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ModelTrait,
    Order, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    app::App,
    clock::Timestamp,
    events::{self, NewEvent},
    http::{Answer, Body, Code, IfMatch, PageQuery, Path, Problem, Query},
    id::VariableId,
    scripts::{
        entity::{
            VariableType,
            variable::{ActiveModel, Column, Entity, Model},
        },
        known, library,
        turn::MAX_VARIABLE_BYTES,
    },
};

/// Most characters in a name.
const MAX_NAME: usize = 64;

/// Adds the operations.
pub(super) fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_variables).service(get_variable).service(put_variable).service(delete_variable);
}

/// A global variable.
#[derive(Debug, Serialize, ToSchema)]
pub struct Variable {
    /// Its name: scripts read it as `globals.NAME`.
    #[schema(examples("centre_closed"))]
    pub name: String,
    /// The variable's id, as events name it.
    pub id: VariableId,
    /// What it holds.
    pub r#type: VariableType,
    /// Its value.
    #[schema(examples(true))]
    pub value: Json,
    /// What it is for.
    #[schema(examples("Closes the centre at once"))]
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What a global variable is to hold.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "type": "boolean", "value": true, "description": "Closes the centre at once" }))]
pub struct VariablePut {
    /// What it holds; `value` is of this type.
    pub r#type: VariableType,
    /// Its value, at most 16 KiB of JSON.
    pub value: Json,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 2000, examples("Closes the centre at once"))]
    pub description: String,
}

/// One page of variables.
#[derive(Debug, Serialize, ToSchema)]
pub struct VariableList {
    /// The variables.
    pub items: Vec<Variable>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// How variables may be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub enum VariableSort {
    /// By name.
    #[serde(rename = "name")]
    Name,
    /// By name, last first.
    #[serde(rename = "-name")]
    NameDescending,
}

/// The order of a list of variables.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VariableOrder {
    /// The order; oldest first when it is left out.
    #[param(inline)]
    sort: Option<VariableSort>,
}

impl From<Model> for Variable {
    fn from(row: Model) -> Self {
        let Model { name, id, kind, value, description, created_at, updated_at, .. } = row;
        Self { name, id, r#type: kind, value, description, created_at, updated_at }
    }
}

impl VariablePut {
    fn check(&self) -> Result<(), Problem> {
        let fits = match self.r#type {
            VariableType::Boolean => self.value.is_boolean(),
            VariableType::Number => self.value.is_number(),
            VariableType::String => self.value.is_string(),
            VariableType::Json => true,
        };
        if !fits {
            return Err(Problem::invalid("/value", "type", "the value is not of the variable's type"));
        }
        if self.value.to_string().len() > MAX_VARIABLE_BYTES {
            let detail = format!("a variable holds at most {MAX_VARIABLE_BYTES} bytes of JSON");
            return Err(Problem::invalid("/value", "too_long", detail));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(legal) && starts_well {
        return Ok(());
    }
    let detail = format!("a variable's name has 1 to {MAX_NAME} of a-z, 0-9 and _, and no digit in front");
    Err(Problem::new(Code::InvalidParameter, detail))
}

async fn by_name(db: &impl ConnectionTrait, name: &str) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Name.eq(name)).one(db).await
}

/// What an event tells of a variable; its value may be large or private.
fn told(name: &str) -> Json {
    json!({ "name": name })
}

/// List global variables.
#[utoipa::path(tag = "scripts", params(PageQuery, VariableOrder),
    responses((status = 200, description = "One page.", body = VariableList)))]
#[get("/variables")]
pub async fn list_variables(
    app: web::Data<App>,
    page: Query<PageQuery>,
    order: Query<VariableOrder>,
) -> Result<HttpResponse, Problem> {
    let sort = order.0.sort.map(|sort| match sort {
        VariableSort::Name => (Column::Name, Order::Asc),
        VariableSort::NameDescending => (Column::Name, Order::Desc),
    });
    let found = page.0.fetch(app.db.read(), Entity::find(), Column::Id, sort).await?.map(Variable::from);
    Ok(HttpResponse::Ok().json(VariableList { items: found.items, next_cursor: found.next_cursor }))
}

/// Read one global variable.
#[utoipa::path(tag = "scripts", params(("name" = String, Path, min_length = 1, max_length = 64, pattern = "^[a-z_][a-z0-9_]*$")),
    responses((status = 200, description = "The variable.", body = Variable, headers(("ETag" = String)))))]
#[get("/variables/{name}")]
pub async fn get_variable(app: web::Data<App>, name: Path<String>) -> Result<HttpResponse, Problem> {
    check_name(&name)?;
    let row = by_name(app.db.read(), &name).await?.ok_or_else(|| Problem::not_found("variable"))?;
    let version = row.version;
    Ok(Answer::ok(&Variable::from(row))?.versioned(version).into_response())
}

/// Set a global variable, which is made when it is not there. Scripts see it from this answer on.
#[utoipa::path(tag = "scripts", params(("name" = String, Path, min_length = 1, max_length = 64, pattern = "^[a-z_][a-z0-9_]*$")),
    request_body = VariablePut,
    responses((status = 200, description = "The changed variable.", body = Variable, headers(("ETag" = String))),
        (status = 201, description = "The new variable.", body = Variable, headers(("ETag" = String)))))]
#[put("/variables/{name}")]
pub async fn put_variable(
    app: web::Data<App>,
    name: Path<String>,
    if_match: IfMatch,
    body: Body<VariablePut>,
) -> Result<HttpResponse, Problem> {
    check_name(&name)?;
    body.0.check()?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let known = by_name(&*tx, &name).await?;
    if_match.check(known.as_ref().map_or(0, |row| row.version))?;
    let (status, kind, row) = match known {
        Some(row) => (StatusCode::OK, "variable.updated", change(&tx, now, &row, body.0).await?),
        None => (StatusCode::CREATED, "variable.created", insert(&tx, now, &name, body.0).await?),
    };
    let event = NewEvent::new(kind, row.id.uuid(), &told(&row.name)).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(Answer::new(status, &Variable::from(row))?.versioned(version).into_response())
}

async fn insert(
    tx: &DatabaseTransaction,
    now: Timestamp,
    name: &str,
    wanted: VariablePut,
) -> Result<Model, DbErr> {
    let row = ActiveModel {
        id: Set(VariableId::new(now)),
        name: Set(name.to_owned()),
        kind: Set(wanted.r#type),
        value: Set(wanted.value),
        description: Set(wanted.description),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    Entity::insert(row).exec_with_returning(tx).await
}

async fn change(
    tx: &DatabaseTransaction,
    now: Timestamp,
    row: &Model,
    wanted: VariablePut,
) -> Result<Model, DbErr> {
    let change = ActiveModel {
        kind: Set(wanted.r#type),
        value: Set(wanted.value),
        description: Set(wanted.description),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    };
    let guarded = Entity::update_many()
        .set(change)
        .filter(Column::Id.eq(row.id))
        .filter(Column::Version.eq(row.version));
    guarded.exec_with_returning(tx).await?.pop().ok_or(DbErr::RecordNotUpdated)
}

/// Delete a global variable that no active version of a script reads.
#[utoipa::path(tag = "scripts", params(("name" = String, Path, min_length = 1, max_length = 64, pattern = "^[a-z_][a-z0-9_]*$")),
    responses((status = 204, description = "It is gone.")))]
#[delete("/variables/{name}")]
pub async fn delete_variable(
    app: web::Data<App>,
    name: Path<String>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    check_name(&name)?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    library::touch(&tx, now).await?;
    let row = by_name(&*tx, &name).await?.ok_or_else(|| Problem::not_found("variable"))?;
    if_match.check(row.version)?;
    if known::reads_variable(&*tx, &name).await? {
        return Err(Problem::new(Code::InUse, "an active version of a script reads this variable"));
    }
    let id = row.id;
    row.delete(&*tx).await?;
    let event = NewEvent::new("variable.deleted", id.uuid(), &told(&name)).for_supervisors();
    events::append(&tx, now, vec![event]).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
