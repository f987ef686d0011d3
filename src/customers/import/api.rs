//! Operations on imports.

use actix_web::{HttpResponse, get, post, put, web};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, sea_query::Expr};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{run::run, write::told};
use crate::{
    app::App,
    clock::Timestamp,
    customers::{
        entity::{
            Delimiter, ImportState,
            import::{ActiveModel, Column, Entity, Model},
        },
        lists,
    },
    events,
    http::{
        Answer, Body, Caller, Code, Idempotency, PageQuery, Path, Problem, Query,
        idempotency::Start,
        rows::{RowBody, RowFormat, Rows},
    },
    id::{ImportId, ListId, UserId},
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config
        .service(create_import)
        .service(list_imports)
        .service(get_import)
        .service(put_import_rows)
        .service(cancel_import);
}

/// What can be done with an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportAction {
    /// Send the file, or send it again.
    PutRows,
    /// Call it off.
    Cancel,
}

/// Customers that are read from a file.
#[derive(Debug, Serialize, ToSchema)]
pub struct Import {
    /// The import's id.
    pub id: ImportId,
    /// The list that the customers come onto.
    pub list_id: ListId,
    /// What the file is written in.
    pub format: RowFormat,
    /// What separates the cells of a CSV file.
    pub delimiter: Delimiter,
    /// Where it stands.
    pub state: ImportState,
    /// Why it was interrupted.
    #[schema(examples("the body broke off: a payload reached EOF, but is not complete"))]
    pub state_reason: Option<String>,
    /// The file's length, where its sender says it.
    pub size_bytes: Option<i64>,
    /// How much of the file is read and written.
    #[schema(minimum = 0, examples(4_812_044))]
    pub bytes_read: i64,
    /// Rows that were read, good and bad; a header line is none.
    #[schema(minimum = 0, examples(50_000))]
    pub rows_read: i64,
    /// Customers made.
    #[schema(minimum = 0, examples(49_100))]
    pub created_count: i64,
    /// Customers changed. Two rows of one customer that come close together count as one.
    #[schema(minimum = 0, examples(880))]
    pub updated_count: i64,
    /// Rows that were left out.
    #[schema(minimum = 0, examples(20))]
    pub failed_count: i64,
    /// What was wrong with them; the first 10,000 are kept.
    #[schema(minimum = 0, examples(23))]
    pub error_count: i64,
    /// The user who made it; none for an API key.
    pub author_id: Option<UserId>,
    /// What can be done with it now.
    pub allowed_actions: Vec<ImportAction>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last moved on.
    pub updated_at: Timestamp,
}

/// An import to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "format": "csv" }))]
pub struct ImportCreate {
    /// What the file is written in.
    pub format: RowFormat,
    /// What separates the cells of a CSV file.
    #[serde(default = "comma")]
    #[schema(default = "comma")]
    pub delimiter: Delimiter,
}

fn comma() -> Delimiter {
    Delimiter::Comma
}

/// One page of imports.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportList {
    /// The imports.
    pub items: Vec<Import>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

/// Which imports to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImportFilter {
    /// Only those of this list.
    list_id: Option<ListId>,
    /// Only those that stand there.
    #[param(inline)]
    state: Option<ImportState>,
}

impl Import {
    /// As it is at this time of the leases: whose reader gave no sign for too long was interrupted.
    fn of(row: Model, lease_now: Timestamp) -> Self {
        let is_dead = row.state == ImportState::Running && row.lease_until <= lease_now;
        let state = if is_dead { ImportState::Interrupted } else { row.state };
        let allowed_actions = match state {
            ImportState::Waiting | ImportState::Interrupted => {
                vec![ImportAction::PutRows, ImportAction::Cancel]
            }
            ImportState::Running => vec![ImportAction::Cancel],
            ImportState::Completed | ImportState::Cancelled => Vec::new(),
        };
        let state_reason = if is_dead { Some("its reader is gone".to_owned()) } else { row.state_reason };
        Self {
            id: row.id,
            list_id: row.list_id,
            format: row.format,
            delimiter: row.delimiter,
            state,
            state_reason,
            size_bytes: row.size_bytes,
            bytes_read: row.bytes_read,
            rows_read: row.rows_read,
            created_count: row.created_count,
            updated_count: row.updated_count,
            failed_count: row.failed_count,
            error_count: row.error_count,
            author_id: row.author_id,
            allowed_actions,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Prepare an import of customers.
///
/// Then send the file with `PUT /v1/imports/{id}/rows`.
#[utoipa::path(tag = "lists", params(("id" = ListId, Path)), request_body = ImportCreate,
    responses((status = 201, description = "It waits for its rows.", body = Import, headers(("Location" = String)))))]
#[post("/lists/{id}/imports")]
pub async fn create_import(
    app: web::Data<App>,
    caller: Caller,
    list: Path<ListId>,
    body: Body<ImportCreate>,
    idempotency: Idempotency,
) -> Result<HttpResponse, Problem> {
    let now = app.clock.now();
    let work = match idempotency.start(&app.db, now).await? {
        Start::Replay(answer) => return Ok(answer),
        Start::Run(work) => work,
    };
    lists::find(&*work.tx, *list).await?;
    let row = ActiveModel {
        id: Set(ImportId::new(now)),
        list_id: Set(*list),
        format: Set(body.0.format),
        state: Set(ImportState::Waiting),
        delimiter: Set(body.0.delimiter),
        author_id: Set(caller.user_id()),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    let row = Entity::insert(row).exec_with_returning(&*work.tx).await?;
    events::append(&work.tx, now, vec![told("import.created", &row)]).await?;
    work.commit(Answer::created(format!("/v1/imports/{}", row.id), &Import::of(row, now))?).await
}

/// List imports, oldest first.
#[utoipa::path(tag = "lists", params(PageQuery, ImportFilter),
    responses((status = 200, description = "One page.", body = ImportList)))]
#[get("/imports")]
pub async fn list_imports(
    app: web::Data<App>,
    page: Query<PageQuery>,
    filter: Query<ImportFilter>,
) -> Result<HttpResponse, Problem> {
    let lease_now = app.db.now(&app.clock).await?;
    let mut select = Entity::find();
    if let Some(list) = filter.0.list_id {
        select = select.filter(Column::ListId.eq(list));
    }
    let running = || Condition::all().add(Column::State.eq(ImportState::Running));
    match filter.0.state {
        None => {}
        Some(ImportState::Running) => select = select.filter(running().add(Column::LeaseUntil.gt(lease_now))),
        Some(ImportState::Interrupted) => {
            let dead = running().add(Column::LeaseUntil.lte(lease_now));
            select =
                select.filter(Condition::any().add(Column::State.eq(ImportState::Interrupted)).add(dead));
        }
        Some(state) => select = select.filter(Column::State.eq(state)),
    }
    let found = page.0.fetch(app.db.read(), select, Column::Id, None).await?;
    let found = found.map(|row| Import::of(row, lease_now));
    Ok(HttpResponse::Ok().json(ImportList { items: found.items, next_cursor: found.next_cursor }))
}

/// Read one import, and how far it is.
#[utoipa::path(tag = "lists", params(("id" = ImportId, Path)),
    responses((status = 200, description = "The import.", body = Import)))]
#[get("/imports/{id}")]
pub async fn get_import(app: web::Data<App>, id: Path<ImportId>) -> Result<HttpResponse, Problem> {
    let lease_now = app.db.now(&app.clock).await?;
    let row = Entity::find_by_id(*id).one(app.db.read()).await?;
    let row = row.ok_or_else(|| Problem::not_found("import"))?;
    Ok(HttpResponse::Ok().json(Import::of(row, lease_now)))
}

/// Send the file of an import.
///
/// The rows are read while they come in, some hundred at a time in one transaction; a file may have any length. Each row is
/// taken as a whole or left out, and `GET /v1/imports/{id}/errors` says why. A customer whose `ref` is known is changed: what
/// the row names is replaced, what it does not name stays, and so do status, call-back and attempts; one of another list
/// moves to this one. Of two rows with one `ref` the later one wins.
///
/// - **CSV** (`text/csv`, UTF-8): the first line names the columns. `ref`, `name`, `email`, `sms_number`, `telephones` (numbers
///   separated by `;`, or a JSON list), `locale` and `data` (a JSON object) are members of the customer; `data.x`, and every
///   column of another name, is the member of that name of `data`, as text; an empty cell takes it away. Members without a
///   column stay, but a column `data` replaces all of them. Columns that only an export has, such as `status`, are passed over:
///   write `data.status` for one of your own.
/// - **NDJSON** (`application/x-ndjson`): each line is a JSON object with these members; `null` empties one, and `data` replaces
///   all that was known there.
///
/// Empty lines are passed over. A row has 131,072 bytes at most.
///
/// When the connection breaks, the import is `interrupted`, and what was read is kept: send the same file again, from its
/// beginning, and the rows that were read are skipped (`another_file` when it does not begin as it did). Its process gone, an
/// import counts as interrupted after a minute.
#[utoipa::path(tag = "lists", params(("id" = ImportId, Path)),
    request_body(content(
        (Rows = "text/csv", example = "ref,name,email,sms_number,plan\r\nC-4711,Anna Example,anna@example.org,+44 20 7946 0018,Premium\r\n"),
        (Rows = "application/x-ndjson", example = "{\"ref\":\"C-4711\",\"name\":\"Anna Example\",\"data\":{\"plan\":\"Premium\"}}\n"),
    )),
    responses((status = 200, description = "The file is read to its end.", body = Import)))]
#[put("/imports/{id}/rows")]
pub async fn put_import_rows(
    app: web::Data<App>,
    id: Path<ImportId>,
    rows: RowBody,
) -> Result<HttpResponse, Problem> {
    let row = Box::pin(run(&app, *id, rows)).await?;
    Ok(HttpResponse::Ok().json(Import::of(row, Timestamp::ZERO)))
}

/// Call an import off.
///
/// What was read stays.
#[utoipa::path(tag = "lists", params(("id" = ImportId, Path)),
    responses((status = 200, description = "No more rows are read.", body = Import)))]
#[post("/imports/{id}/cancel")]
pub async fn cancel_import(app: web::Data<App>, id: Path<ImportId>) -> Result<HttpResponse, Problem> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let row = Entity::find_by_id(*id).one(&*tx).await?.ok_or_else(|| Problem::not_found("import"))?;
    if matches!(row.state, ImportState::Completed | ImportState::Cancelled) {
        return Err(Problem::new(Code::InvalidState, "the import has ended"));
    }
    let ended = Entity::update_many()
        .col_expr(Column::State, Expr::val(ImportState::Cancelled))
        .col_expr(Column::StateReason, Expr::val(None::<String>))
        .col_expr(Column::UpdatedAt, Expr::val(now))
        .filter(Column::Id.eq(*id))
        .filter(Column::State.eq(row.state))
        .exec_with_returning(&*tx)
        .await?;
    let row = ended.into_iter().next().ok_or(DbErr::RecordNotUpdated)?;
    events::append(&tx, now, vec![told("import.cancelled", &row)]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(Import::of(row, Timestamp::ZERO)))
}
