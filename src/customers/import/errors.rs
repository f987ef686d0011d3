//! The operation that tells what was wrong with an import's rows.

use actix_web::{HttpResponse, get, web};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    app::App,
    customers::entity::{
        import,
        import_error::{Column, Entity, Model},
    },
    http::{PageQuery, Path, Problem, Query},
    id::ImportId,
};

/// Adds the operations.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_import_errors);
}

/// Why a row was left out.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportError {
    /// The line of the file that the row begins on, from 1.
    #[schema(minimum = 1, examples(17))]
    pub line: i64,
    /// The row's `ref`, where it could be read.
    #[schema(examples("C-4711"))]
    pub r#ref: Option<String>,
    /// The member that is wrong; none when the row as a whole is.
    #[schema(examples("email"))]
    pub member: Option<String>,
    /// What is wrong, stable and in snake_case.
    #[schema(examples("invalid_address"))]
    pub code: String,
    /// What is wrong, for a person.
    #[schema(examples("an address has the form local@domain"))]
    pub detail: String,
}

/// One page of errors.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportErrorList {
    /// The errors, in the order of the file.
    pub items: Vec<ImportError>,
    /// The cursor of the next page.
    pub next_cursor: Option<String>,
}

impl From<Model> for ImportError {
    fn from(row: Model) -> Self {
        let Model { line, customer_ref, member, code, detail, .. } = row;
        Self { line, r#ref: customer_ref, member, code, detail }
    }
}

/// List what was wrong with an import's rows.
///
/// A row can have several errors. The first 10,000 of an import are kept; `error_count` counts them all.
#[utoipa::path(tag = "lists", params(("id" = ImportId, Path), PageQuery),
    responses((status = 200, description = "One page.", body = ImportErrorList)))]
#[get("/imports/{id}/errors")]
pub async fn list_import_errors(
    app: web::Data<App>,
    id: Path<ImportId>,
    page: Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let import = import::Entity::find_by_id(*id).one(app.db.read()).await?;
    import.ok_or_else(|| Problem::not_found("import"))?;
    let select = Entity::find().filter(Column::ImportId.eq(*id));
    let found = page.0.fetch(app.db.read(), select, Column::Id, None).await?.map(ImportError::from);
    Ok(HttpResponse::Ok().json(ImportErrorList { items: found.items, next_cursor: found.next_cursor }))
}
