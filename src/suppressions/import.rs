//! The operation that reads suppressions from a file of any length.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, post, web};
use sea_orm::{DbErr, EntityTrait, QueryFilter};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{AddressKeys, api::SuppressionCreate, enter::enter, entity::Model, entry};
use crate::{
    app::App,
    campaigns::entity::campaign,
    db::{among, is_transient},
    events::{self, NewEvent},
    http::{
        Code, Problem,
        contract::Contract,
        problem::FieldError,
        rows::{BrokeOff, Content, Row, RowBody, RowFormat, RowReader, Rows, written},
    },
    id::{CampaignId, EventId},
};

/// Rows of one transaction.
const ROWS: usize = 500;
/// Errors that the answer tells; all are counted.
const ERRORS_TOLD: usize = 1000;
/// The columns of a CSV file; `created_at` is passed over.
const COLUMNS: [&str; 7] =
    ["address", "channel", "campaign_id", "reason", "note", "expires_at", "created_at"];
/// How often a batch is tried when PostgreSQL gives it up for another transaction.
const TRIES: u32 = 5;

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(import_suppressions);
}

/// What came of a file of suppressions.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct SuppressionImport {
    /// Rows that were read, good and bad; a header line is none.
    #[schema(minimum = 0, examples(1200))]
    pub rows_read: u64,
    /// Suppressions made.
    #[schema(minimum = 0, examples(1100))]
    pub created_count: u64,
    /// Suppressions that were there for the same reason and would have ended earlier.
    #[schema(minimum = 0, examples(3))]
    pub extended_count: u64,
    /// Rows whose address is suppressed already for the same reason, for the same campaign or for everything, and for as long;
    /// those stay as they are.
    #[schema(minimum = 0, examples(95))]
    pub unchanged_count: u64,
    /// Rows that were left out.
    #[schema(minimum = 0, examples(2))]
    pub failed_count: u64,
    /// Why rows were left out: the first 1,000 reasons.
    pub errors: Vec<SuppressionImportError>,
}

/// Why a row was left out.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuppressionImportError {
    /// The line of the file that the row begins on, from 1.
    #[schema(minimum = 1, examples(17))]
    pub line: u64,
    /// The member that is wrong; none when the row as a whole is.
    #[schema(examples("address"))]
    pub member: Option<String>,
    /// What is wrong, stable and in snake_case.
    #[schema(examples("invalid_address"))]
    pub code: String,
    /// What is wrong, for a person.
    #[schema(examples("an address has the form local@domain"))]
    pub detail: String,
}

/// Import suppressions.
///
/// The rows have the members of `SuppressionCreate`, of which `address` is needed: as CSV (`text/csv`, UTF-8) with a header line,
/// where empty cells say nothing, or as one JSON object a line (`application/x-ndjson`). They are read while they come in, 500 at a
/// time in one transaction; a file may have any length. An address that is suppressed already for the same reason is left
/// as it is, or extended when it would end earlier, so that a file can be sent again when its connection broke.
#[utoipa::path(tag = "suppressions",
    request_body(content(
        (Rows = "text/csv", example = "address,reason,note\r\nanna@example.org,unsubscribed,Taken over from the old system\r\n"),
        (Rows = "application/x-ndjson", example = "{\"address\":\"anna@example.org\",\"reason\":\"unsubscribed\"}\n"),
    )),
    responses((status = 200, description = "The file is read to its end.", body = SuppressionImport)))]
#[post("/suppressions/import")]
pub async fn import_suppressions(
    app: web::Data<App>,
    contract: web::Data<Contract>,
    rows: RowBody,
) -> Result<HttpResponse, Problem> {
    let mut reader = RowReader::new(rows.payload, rows.format, b',');
    let mut reading = Reading {
        app: &app,
        contract: &contract,
        header: None,
        batch: Vec::new(),
        report: SuppressionImport::default(),
    };
    if rows.format == RowFormat::Csv {
        let first = reader.next().await.map_err(broken)?;
        reading.header = Some(header(first)?);
    }
    loop {
        let row = match reader.next().await {
            Ok(row) => row,
            Err(error) => {
                // What came whole is kept.
                reading.write().await?;
                return Err(broken(error));
            }
        };
        let Some(row) = row else {
            reading.write().await?;
            return Ok(HttpResponse::Ok().json(reading.report));
        };
        reading.add(row);
        if reading.batch.len() == ROWS {
            reading.write().await?;
        }
    }
}

fn broken(error: BrokeOff) -> Problem {
    Problem::new(Code::BodyBrokeOff, error.to_string())
}

/// The columns, in the order of the file.
fn header(first: Option<Row>) -> Result<Vec<String>, Problem> {
    let cells = match first.map(|row| row.content) {
        Some(Ok(Content::Cells(cells))) => cells,
        Some(Err(fault)) => return Err(Problem::invalid("/header", fault.code(), fault.to_string())),
        Some(Ok(Content::Object(_))) | None => Vec::new(),
    };
    let names: Vec<String> = cells.iter().map(|cell| cell.trim().to_ascii_lowercase()).collect();
    let mut wrong = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let place = format!("/header/{index}");
        if !COLUMNS.contains(&name.as_str()) {
            let detail = format!("a column is one of {}", COLUMNS.join(", "));
            wrong.push(FieldError::new(place, "unknown_column", detail));
        } else if names[..index].contains(name) {
            wrong.push(FieldError::new(place, "not_unique", "the column is there twice"));
        }
    }
    if !names.iter().any(|name| name == "address") {
        let detail = "the first line names the columns, and one of them is `address`";
        wrong.insert(0, FieldError::new("/header/address", "required", detail));
    }
    if wrong.is_empty() { Ok(names) } else { Err(Problem::validation(wrong)) }
}

struct Reading<'a> {
    app: &'a App,
    contract: &'a Contract,
    header: Option<Vec<String>>,
    /// Rows that are not written yet, and the lines that they begin on.
    batch: Vec<(u64, Model)>,
    report: SuppressionImport,
}

impl Reading<'_> {
    fn add(&mut self, row: Row) {
        self.report.rows_read += 1;
        let fault = |code: &str, detail: String| vec![FieldError::new("", code, detail)];
        let wanted = match row.content {
            Ok(Content::Object(members)) => Ok(members),
            Ok(Content::Cells(cells)) => self.members(&cells),
            Err(wrong) => Err(fault(wrong.code(), wrong.to_string())),
        };
        match wanted.and_then(|members| self.check(members)) {
            Ok(one) => self.batch.push((row.line, one)),
            Err(wrong) => self.fail(row.line, wrong),
        }
    }

    fn fail(&mut self, line: u64, wrong: Vec<FieldError>) {
        self.report.failed_count += 1;
        let room = ERRORS_TOLD.saturating_sub(self.report.errors.len());
        self.report.errors.extend(wrong.into_iter().take(room).map(|error| SuppressionImportError {
            line,
            member: error.pointer.strip_prefix('/').map(str::to_owned),
            code: error.code,
            detail: error.detail,
        }));
    }

    fn members(&self, cells: &[String]) -> Result<Map<String, Value>, Vec<FieldError>> {
        let names = self.header.as_deref().unwrap_or_default();
        if names.len() != cells.len() {
            let detail = format!("the row has {} cells and the header {}", cells.len(), names.len());
            return Err(vec![FieldError::new("", "wrong_number_of_cells", detail)]);
        }
        let said = names.iter().zip(cells).filter(|(_, cell)| !cell.trim().is_empty());
        Ok(said.map(|(name, cell)| (name.clone(), written(cell).trim().into())).collect())
    }

    /// Holds a row against the schema that a single suppression must fit.
    fn check(&self, mut members: Map<String, Value>) -> Result<Model, Vec<FieldError>> {
        members.remove("created_at");
        let value = Value::Object(members);
        self.contract.check("SuppressionCreate", &value).map_err(|problem| problem.errors)?;
        let wanted: SuppressionCreate = serde_json::from_value(value)
            .map_err(|error| vec![FieldError::new("", "invalid", error.to_string())])?;
        entry::row(wanted, &AddressKeys::of(self.app), self.app.clock.now())
    }

    async fn write(&mut self) -> Result<(), Problem> {
        let rows = self.only_of_known_campaigns().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let count = rows.len() as u64;
        let mut tries = 0;
        let (created, extended) = loop {
            tries += 1;
            match insert(self.app, rows.clone()).await {
                Err(error) if is_transient(&error) && tries < TRIES => {}
                done => break done?,
            }
        };
        self.report.created_count += created;
        self.report.extended_count += extended;
        self.report.unchanged_count += count - created - extended;
        Ok(())
    }

    async fn only_of_known_campaigns(&mut self) -> Result<Vec<Model>, DbErr> {
        let batch = std::mem::take(&mut self.batch);
        let named: BTreeSet<CampaignId> = batch.iter().filter_map(|(_, row)| row.campaign_id).collect();
        let mut known = BTreeSet::new();
        if !named.is_empty() {
            let found = campaign::Entity::find().filter(among(campaign::Column::Id, named));
            known.extend(found.all(self.app.db.read()).await?.into_iter().map(|row| row.id));
        }
        let mut rows = Vec::with_capacity(batch.len());
        for (line, row) in batch {
            match row.campaign_id {
                Some(id) if !known.contains(&id) => {
                    let unknown =
                        FieldError::new("/campaign_id", "unknown_reference", "there is no such campaign");
                    self.fail(line, vec![unknown]);
                }
                _ => rows.push(row),
            }
        }
        Ok(rows)
    }
}

/// Enters the rows; says how many are new, and how many extend what was known.
async fn insert(app: &App, rows: Vec<Model>) -> Result<(u64, u64), DbErr> {
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let entered = enter(&tx, now, rows).await?;
    let (created, extended) = (entered.created.len() as u64, entered.extended.len() as u64);
    if created + extended > 0 {
        let data = json!({ "count": created + extended });
        let event = NewEvent::new("suppression.imported", EventId::new(now).uuid(), &data);
        events::append(&tx, now, vec![event.for_supervisors()]).await?;
    }
    tx.commit().await?;
    Ok((created, extended))
}
