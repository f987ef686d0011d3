//! The operation that writes a list's customers into a file.

use actix_web::{
    HttpResponse, get,
    web::{self, Bytes},
};
use futures::Stream;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    entity::{
        CustomerStatus,
        customer::{Column, Entity, Model},
    },
    lists,
};
use crate::{
    app::App,
    http::{
        Path, Problem, Query,
        rows::{CsvLine, RowFormat, Rows, download},
    },
    id::ListId,
};

/// Rows that are read and written at once: what an export holds in memory.
const PAGE: u64 = 500;
const HEADER: &str = "ref,name,email,sms_number,telephones,locale,data,status,callback_at,callback_note,\
                      termination_code,termination_category,attempts,last_attempt_at,created_at,updated_at\r\n";

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(export_customers);
}

/// What to write, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// What the file is written in; CSV when it is left out.
    #[param(inline)]
    format: Option<RowFormat>,
    /// Only those who stand there.
    #[param(inline)]
    status: Option<CustomerStatus>,
}

/// Export a list's customers.
///
/// The rows are written while they are read, oldest first, so that a list of any length can be exported; customers that are
/// changed meanwhile may be in it as they were before or after. The file can be imported again: `telephones` and `data` are JSON
/// in their cells. In CSV, a cell that begins with `=`, `+`, `-`, `@`, a tabulator or CR has an apostrophe in front, so that no
/// spreadsheet runs it as a formula; an import takes it away again. An export that ends without closing its connection properly
/// is not complete.
#[utoipa::path(tag = "lists", params(("id" = ListId, Path), ExportQuery),
    responses((status = 200, description = "The file.",
        content((Rows = "text/csv"), (Rows = "application/x-ndjson")))))]
#[get("/lists/{id}/customers/export")]
pub async fn export_customers(
    app: web::Data<App>,
    id: Path<ListId>,
    query: Query<ExportQuery>,
) -> Result<HttpResponse, Problem> {
    lists::find(app.db.read(), *id).await?;
    let format = query.0.format.unwrap_or(RowFormat::Csv);
    let rows = pages(app.get_ref().clone(), *id, query.0.status, format);
    Ok(download(format, "customers").streaming(Box::pin(rows)))
}

/// The file, page by page; an error breaks the answer off.
fn pages(
    app: App,
    list: ListId,
    status: Option<CustomerStatus>,
    format: RowFormat,
) -> impl Stream<Item = Result<Bytes, DbErr>> {
    async_stream::try_stream! {
        if format == RowFormat::Csv {
            yield Bytes::from_static(HEADER.as_bytes());
        }
        let mut last = None;
        loop {
            let mut select = Entity::find().filter(Column::ListId.eq(list));
            if let Some(status) = status {
                select = select.filter(Column::Status.eq(status));
            }
            if let Some(last) = last {
                select = select.filter(Column::Id.gt(last));
            }
            let rows = select.order_by_asc(Column::Id).limit(PAGE).all(app.db.read()).await?;
            let is_last = (rows.len() as u64) < PAGE;
            last = rows.last().map(|row| row.id).or(last);
            let mut page = String::new();
            for row in rows {
                match format {
                    RowFormat::Csv => csv(&mut page, &row),
                    RowFormat::Ndjson => ndjson(&mut page, &row),
                }
            }
            if !page.is_empty() {
                yield Bytes::from(page);
            }
            if is_last {
                break;
            }
        }
    }
}

fn csv(page: &mut String, row: &Model) {
    let plain = |list: &Value| {
        if list.as_array().is_some_and(Vec::is_empty) { String::new() } else { list.to_string() }
    };
    let data = if row.data == json!({}) { String::new() } else { row.data.to_string() };
    CsvLine::new(page)
        .cell(&row.r#ref)
        .cell(&row.name)
        .optional(row.email.as_ref())
        .optional(row.sms_number.as_ref())
        .cell(&plain(&row.telephones))
        .optional(row.locale.as_ref())
        .cell(&data)
        .cell(&word(row.status))
        .optional(row.callback_at.map(|at| at.to_string()))
        .optional(row.callback_note.as_ref())
        .optional(row.termination_code.as_ref())
        .optional(row.termination_category.map(word))
        .cell(&row.attempt_count.to_string())
        .optional(row.last_attempt_at.map(|at| at.to_string()))
        .cell(&row.created_at.to_string())
        .cell(&row.updated_at.to_string())
        .end();
}

fn ndjson(page: &mut String, row: &Model) {
    let line = json!({
        "ref": row.r#ref, "name": row.name, "email": row.email, "sms_number": row.sms_number,
        "telephones": row.telephones, "locale": row.locale, "data": row.data, "status": row.status,
        "callback_at": row.callback_at, "callback_note": row.callback_note,
        "termination_code": row.termination_code, "termination_category": row.termination_category,
        "attempts": row.attempt_count, "last_attempt_at": row.last_attempt_at,
        "created_at": row.created_at, "updated_at": row.updated_at,
    });
    page.push_str(&line.to_string());
    page.push('\n');
}

/// The word by which the API knows a value.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
