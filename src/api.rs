//! The one place that mounts features and makes the OpenAPI document.

mod document;
mod told;

use std::{process::ExitCode, time::Duration};

use actix_cors::Cors;
use actix_web::{
    App as ActixApp, HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    guard::Get,
    http::header::ContentType,
    middleware::from_fn,
    web::{self, Data},
};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_swagger_ui::{self as swagger, SwaggerUi};
use uuid::Uuid;

pub use document::document;

use crate::{
    access::{
        self,
        guard::{guard, only_admitted},
    },
    accounts, agents, answers,
    app::App,
    attempts, broadcasts, campaigns, classes, conversations, customers, delivery, dkim, events,
    http::{
        body::BodyLimit,
        contract::Contract,
        idempotency::Running,
        observe::observe,
        problem::{Code, Problem},
    },
    inbound, outgoing, queues, sandbox, scripts, sends, service, suppressions, telemetry, templates,
    unsubscribes, work,
};

/// Where the OpenAPI document is.
const DOCUMENT: &str = "/v1/openapi.json";

/// How long an idle connection is kept: longer than proxies and load balancers keep theirs (a minute, mostly), so that none of
/// them sends a request into a connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long the head of a request may take. It is long enough for one that waits in its socket while the machine is busy: that
/// one is late through no fault of its client.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

type Mount = fn(&mut ServiceConfig<'_>);

/// Mounts the operations outside of `/v1`.
const ROOT: &[Mount] = &[service::api::mount_root, unsubscribes::api::mount];

/// Mounts the operations of every feature.
const V1: &[Mount] = &[
    service::api::mount,
    access::api::mount,
    accounts::api::mount,
    classes::api::mount,
    events::api::mount,
    agents::api::mount,
    agents::groups::mount,
    agents::skills::mount,
    queues::api::mount,
    scripts::api::mount,
    templates::api::mount,
    outgoing::api::mount,
    dkim::api::mount,
    sends::api::mount,
    campaigns::api::mount,
    attempts::api::mount,
    suppressions::mount,
    customers::mount,
    broadcasts::api::mount,
    delivery::api::mount,
    conversations::notes::mount,
    answers::api::mount,
    answers::drafts::mount,
    answers::uploads::mount,
    inbound::api::mount,
    conversations::api::mount,
    conversations::messages::mount,
    conversations::source::mount,
    work::api::mount,
    sandbox::clock::mount,
];

/// Adds every operation of every feature, behind the guard's second lock.
fn routes(config: &mut web::ServiceConfig) {
    config.service(web::scope("").wrap(from_fn(only_admitted)).configure(|all| {
        each(all, ROOT);
        all.service(web::scope("/v1").configure(|v1| each(v1, V1)));
    }));
}

/// Each one's schemas are forgotten before the next one brings its own: all of them together are tens of megabytes.
fn each(config: &mut web::ServiceConfig, mounts: &[Mount]) {
    for mount in mounts {
        mount(&mut ServiceConfig::new(config));
    }
}

/// The OpenAPI document as it is served.
#[derive(Clone)]
struct Served(Bytes);

async fn openapi(document: Data<Served>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(document.0.clone())
}

/// Starts the HTTP server; it stops when the application does.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve(
    app: &App,
    listener: std::net::TcpListener,
    metrics: PrometheusHandle,
) -> anyhow::Result<Server> {
    let whole = document::whole()?;
    let contract = Data::new(Contract::new(&whole)?);
    let document = Data::new(Served(serde_json::to_vec(&document::published(whole))?.into()));
    let (app_data, running, metrics) =
        (Data::new(app.clone()), Data::new(Running::default()), Data::new(metrics));
    let sealer = Data::new(app.sealer.clone());
    let settings = app.config.http.clone();
    let (limit, sandbox) = (BodyLimit(settings.max_body_bytes), app.config.sandbox.enabled);
    let workers = settings.workers;
    let mut server = HttpServer::new(move || {
        let swagger = SwaggerUi::new("/swagger-ui/{_:.*}").config(swagger::Config::from(DOCUMENT));
        let parameters = web::PathConfig::default().error_handler(|error, request| {
            let detail = no_uuid(request).unwrap_or_else(|| error.to_string());
            Problem::new(Code::InvalidParameter, detail).into()
        });
        ActixApp::new()
            .wrap(from_fn(guard))
            .wrap(cors(&settings.cors_origins, sandbox))
            .wrap(from_fn(observe))
            .app_data(app_data.clone())
            .app_data(contract.clone())
            .app_data(running.clone())
            .app_data(metrics.clone())
            .app_data(sealer.clone())
            .app_data(limit)
            .app_data(parameters)
            // Before the scope `/v1`, which would answer 404 for the document's path below it.
            .service(web::redirect("/", "/swagger-ui/"))
            .service(web::redirect("/swagger-ui", "/swagger-ui/"))
            .service(web::resource(DOCUMENT).guard(Get()).app_data(document.clone()).to(openapi))
            .service(swagger)
            .configure(routes)
    });
    if workers > 0 {
        server = server.workers(workers);
    }
    let server = server.keep_alive(KEEP_ALIVE).client_request_timeout(HEAD_TIMEOUT);
    Ok(server.disable_signals().shutdown_timeout(crate::app::DRAIN.as_secs()).listen(listener)?.run())
}

/// Names the id of the path that is no UUID, if that is what is wrong.
fn no_uuid(request: &HttpRequest) -> Option<String> {
    let id = request.match_info().get("id")?;
    Uuid::parse_str(id).is_err().then(|| "id: not a UUID".to_owned())
}

/// Browsers on the configured origins may call the API and read the headers that it answers with.
fn cors(origins: &[String], sandbox: bool) -> Cors {
    let cors = Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers([
            "ETag",
            "Location",
            "Retry-After",
            "X-Request-Id",
            "Idempotent-Replayed",
            "Content-Disposition",
        ])
        .max_age(3600);
    if sandbox || origins.iter().any(|origin| origin == "*") {
        return cors.allow_any_origin();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// Runs the application until a signal or a crashed part ends it.
///
/// SIGTERM and SIGINT drain for up to 10 seconds, a second one aborts.
///
/// # Errors
/// When the server cannot start.
pub async fn run(
    app: App,
    listener: std::net::TcpListener,
    metrics: PrometheusHandle,
) -> anyhow::Result<ExitCode> {
    let address = format!("http://{}", listener.local_addr()?);
    let folding = telemetry::fold_metrics(metrics.clone(), app.shutdown.clone());
    let server = serve(&app, listener, metrics)?;
    let handle = server.handle();
    app.start();
    app.tasks.spawn("metrics", folding);
    let stopping = app.clone();
    app.tasks.spawn("signals", async move { watch_signals(&stopping).await });
    let serving = actix_web::rt::spawn(server);
    tracing::info!(url = %address, "listening");
    app.shutdown.stopping().await;
    let drained = async {
        tokio::join!(handle.stop(true), app.stop());
    };
    tokio::select! {
        () = drained => {}
        () = app.shutdown.aborting() => {}
    }
    serving.abort();
    Ok(if app.shutdown.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn watch_signals(app: &App) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = app.shutdown.stopping() => {}
    }
    tracing::info!("stopping");
    app.shutdown.stop();
    let aborting = app.shutdown.clone();
    app.tasks.watch_abort(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        aborting.abort();
    });
    Ok(())
}
