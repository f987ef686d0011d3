//! `/healthz`, `/readyz`, `/metrics` and the table of problems.

use actix_web::{HttpResponse, get, web};
use metrics_exporter_prometheus::PrometheusHandle;
use postroom_migrations::Migrator;
use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    app::App,
    http::problem::{Code, Problem},
};

/// Adds the operations outside `/v1`.
pub fn mount_root(config: &mut ServiceConfig<'_>) {
    config.service(get_health).service(get_readiness).service(get_metrics);
}

/// Adds the operations below `/v1`.
pub fn mount(config: &mut ServiceConfig<'_>) {
    config.service(list_problems);
}

/// A service that answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    #[schema(examples("ok"))]
    status: String,
    /// The program's version.
    #[schema(examples("0.1.0"))]
    version: String,
}

/// What has to hold before traffic is sent here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// The database answers.
    database: bool,
    /// All migrations that this program knows are applied.
    migrations: bool,
    /// No background task has crashed, and none is stopping.
    workers: bool,
}

/// One row of the table of problems.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemKind {
    /// The stable name.
    #[schema(examples("not_found"))]
    code: String,
    /// The HTTP status.
    #[schema(examples(404))]
    status: u16,
    /// The one-line summary.
    #[schema(examples("There is no such resource"))]
    title: String,
}

/// The table of problems.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemKindList {
    /// Every problem that an operation can answer with.
    items: Vec<ProblemKind>,
}

/// Is the process alive?
#[utoipa::path(tag = "service", responses((status = 200, description = "It is.", body = Health)))]
#[get("/healthz")]
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}

/// Can the process serve requests?
#[utoipa::path(tag = "service", responses((status = 200, description = "It can.", body = Readiness)))]
#[get("/readyz")]
pub async fn get_readiness(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let database = app.db.read().ping().await.is_ok();
    let pending = Migrator::get_pending_migrations(app.db.read()).await;
    let readiness = Readiness {
        database,
        migrations: pending.is_ok_and(|pending| pending.is_empty()),
        workers: !app.shutdown.is_stopping() && app.tasks.alive() > 0,
    };
    if readiness.database && readiness.migrations && readiness.workers {
        return Ok(HttpResponse::Ok().json(readiness));
    }
    let detail = format!(
        "database: {}, migrations: {}, workers: {}",
        readiness.database, readiness.migrations, readiness.workers
    );
    Err(Problem::new(Code::Unavailable, detail).retry_after(1))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(tag = "service", responses(
    (status = 200, description = "The metrics.", body = String, content_type = "text/plain")
))]
#[get("/metrics")]
pub async fn get_metrics(metrics: web::Data<PrometheusHandle>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(metrics.render())
}

/// List every problem code.
///
/// Each error answer has one of these codes; `type` is this path with the code as its fragment.
#[utoipa::path(tag = "service", responses((status = 200, description = "The table.", body = ProblemKindList)))]
#[get("/problems")]
pub async fn list_problems() -> HttpResponse {
    let kind = |code: &Code| ProblemKind {
        code: code.name().into(),
        status: code.status(),
        title: code.title().into(),
    };
    HttpResponse::Ok().json(ProblemKindList { items: Code::ALL.iter().map(kind).collect() })
}
