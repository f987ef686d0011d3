//! The operation that writes suppressions into a file.

use actix_web::{
    HttpResponse, get,
    web::{self, Bytes},
};
use futures::Stream;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

use super::entity::{Column, Entity, Model};
use crate::{
    app::App,
    http::{
        Problem, Query,
        rows::{CsvLine, RowFormat, Rows, download},
    },
};

/// Rows that are read and written at once: what an export holds in memory.
const PAGE: u64 = 500;
const HEADER: &str = "address,channel,campaign_id,reason,note,expires_at,created_at\r\n";

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(export_suppressions);
}

/// How to write them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SuppressionExportQuery {
    /// What the file is written in; CSV when it is left out.
    #[param(inline)]
    format: Option<RowFormat>,
}

/// Export suppressions.
///
/// Those in force whose address is known, oldest first; the file can be imported again. Those of erased customers have no address,
/// and stay only here. In CSV, a cell that begins with `=`, `+`, `-`, `@`, a tabulator or CR has an apostrophe in front, so that no
/// spreadsheet runs it as a formula; an import takes it away again. An export that ends without closing its connection properly
/// is not complete.
#[utoipa::path(tag = "suppressions", params(SuppressionExportQuery),
    responses((status = 200, description = "The file.",
        content((Rows = "text/csv"), (Rows = "application/x-ndjson")))))]
#[get("/suppressions/export")]
pub async fn export_suppressions(
    app: web::Data<App>,
    query: Query<SuppressionExportQuery>,
) -> Result<HttpResponse, Problem> {
    let format = query.0.format.unwrap_or(RowFormat::Csv);
    Ok(download(format, "suppressions").streaming(Box::pin(pages(app.get_ref().clone(), format))))
}

/// The file, page by page; an error breaks the answer off.
fn pages(app: App, format: RowFormat) -> impl Stream<Item = Result<Bytes, DbErr>> {
    async_stream::try_stream! {
        if format == RowFormat::Csv {
            yield Bytes::from_static(HEADER.as_bytes());
        }
        let mut last = None;
        loop {
            let mut select = Entity::find().filter(Column::Address.is_not_null());
            if let Some(last) = last {
                select = select.filter(Column::Id.gt(last));
            }
            let rows = select.order_by_asc(Column::Id).limit(PAGE).all(app.db.read()).await?;
            let is_last = (rows.len() as u64) < PAGE;
            last = rows.last().map(|row| row.id).or(last);
            let (mut page, now) = (String::new(), app.clock.now());
            for row in rows.into_iter().filter(|row| row.expires_at.is_none_or(|at| at > now)) {
                write(&mut page, &row, format);
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

fn write(page: &mut String, row: &Model, format: RowFormat) {
    if format == RowFormat::Ndjson {
        let line = json!({
            "address": row.address, "channel": row.channel, "campaign_id": row.campaign_id, "reason": row.reason,
            "note": row.note, "expires_at": row.expires_at, "created_at": row.created_at,
        });
        page.push_str(&line.to_string());
        page.push('\n');
        return;
    }
    CsvLine::new(page)
        .optional(row.address.as_ref())
        .cell(&word(row.channel))
        .optional(row.campaign_id.map(|id| id.to_string()))
        .cell(&word(row.reason))
        .optional(row.note.as_ref())
        .optional(row.expires_at.map(|at| at.to_string()))
        .cell(&row.created_at.to_string())
        .end();
}

/// The word by which the API knows a value.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
