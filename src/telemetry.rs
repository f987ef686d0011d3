//! Logs and metrics. Neither holds addresses, subjects or secrets in clear.

use std::{io::IsTerminal, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    shutdown::Shutdown,
};

/// Buckets in seconds, from a fast read to a slow relay.
const SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How often measured values are folded into the buckets.
const FOLD: Duration = Duration::from_secs(5);

/// Starts logging to standard error.
///
/// # Errors
/// When the filter is not valid or logging was started before.
pub fn start_logs(settings: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours would be noise in a file, and would break up what is searched for.
    let subscriber = subscriber.with_ansi(std::io::stderr().is_terminal());
    let started = match settings.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error))
}

/// Starts the process's metrics, or gives those already started.
///
/// # Errors
/// When the recorder cannot be installed.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: std::sync::Mutex<Option<PrometheusHandle>> = std::sync::Mutex::new(None);
    let mut handle = HANDLE.lock().map_err(|_| anyhow::anyhow!("the metrics are poisoned"))?;
    if let Some(started) = handle.as_ref() {
        return Ok(started.clone());
    }
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    let started = builder.install_recorder()?;
    Ok(handle.insert(started).clone())
}

/// Folds what was measured into the buckets every few seconds until the soft stop: histograms keep every single value until
/// then, and nobody has to ask for `/metrics`.
///
/// # Errors
/// None; the type is that of tasks.
pub async fn fold_metrics(metrics: PrometheusHandle, shutdown: Shutdown) -> anyhow::Result<()> {
    while tokio::time::timeout(FOLD, shutdown.stopping()).await.is_err() {
        metrics.run_upkeep();
    }
    Ok(())
}
