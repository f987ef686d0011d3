//! The one place that mounts features and makes the OpenAPI document.

mod document;
mod told;

use std::{process::ExitCode, time::Duration};

use actix_cors::Cors;
use actix_web::{
    App as ActixApp, HttpRequest, HttpServer,
    dev::Server,
    middleware::from_fn,
    web::{self, Data},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};
use utoipa_actix_web::{AppExt, scope, service_config::ServiceConfig};
use utoipa_swagger_ui::SwaggerUi;
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

/// How long an idle connection is kept: longer than proxies and load balancers keep theirs (a minute, mostly), so that none of
/// them sends a request into a connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Adds every operation of every feature, behind the guard's second lock.
fn mount(config: &mut ServiceConfig<'_>) {
    config.service(scope::scope("").wrap(from_fn(only_admitted)).configure(|all: &mut ServiceConfig<'_>| {
        all.configure(service::api::mount_root)
            .configure(unsubscribes::api::mount)
            .service(scope::scope("/v1").configure(mount_v1));
    }));
}

fn mount_v1(v1: &mut ServiceConfig<'_>) {
    v1.configure(service::api::mount)
        .configure(access::api::mount)
        .configure(accounts::api::mount)
        .configure(classes::api::mount)
        .configure(events::api::mount)
        .configure(agents::api::mount)
        .configure(agents::groups::mount)
        .configure(agents::skills::mount)
        .configure(queues::api::mount)
        .configure(scripts::api::mount)
        .configure(templates::api::mount)
        .configure(outgoing::api::mount)
        .configure(dkim::api::mount)
        .configure(sends::api::mount)
        .configure(campaigns::api::mount)
        .configure(attempts::api::mount)
        .configure(suppressions::mount)
        .configure(customers::mount)
        .configure(broadcasts::api::mount)
        .configure(delivery::api::mount)
        .configure(conversations::notes::mount)
        .configure(answers::api::mount)
        .configure(answers::drafts::mount)
        .configure(answers::uploads::mount)
        .configure(inbound::api::mount)
        .configure(conversations::api::mount)
        .configure(conversations::messages::mount)
        .configure(conversations::source::mount)
        .configure(work::api::mount)
        .configure(sandbox::clock::mount);
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
    let document = document()?;
    let contract = Data::new(Contract::new(&document::whole()?)?);
    let (app_data, running, metrics) =
        (Data::new(app.clone()), Data::new(Running::default()), Data::new(metrics));
    let sealer = Data::new(app.sealer.clone());
    let settings = app.config.http.clone();
    let (limit, sandbox) = (BodyLimit(settings.max_body_bytes), app.config.sandbox.enabled);
    let workers = settings.workers;
    let mut server = HttpServer::new(move || {
        let swagger =
            SwaggerUi::new("/swagger-ui/{_:.*}").external_url_unchecked("/v1/openapi.json", document.clone());
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
            .service(swagger)
            .into_utoipa_app()
            .configure(mount)
            .into_app()
    });
    if workers > 0 {
        server = server.workers(workers);
    }
    let server = server.keep_alive(KEEP_ALIVE);
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
        .expose_headers(["ETag", "Location", "Retry-After", "X-Request-Id", "Idempotent-Replayed"])
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
