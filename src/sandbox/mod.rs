//! `postroom sandbox`: the whole service on a temporary directory, seeded through its own API, with a movable clock.

mod client;
pub mod clock;
mod mails;
mod people;
mod samples;
mod seed;
mod welcome;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;

use crate::{api, app::App, clock::Clock, config::Config, telemetry};
use welcome::Welcome;

/// Where the sandbox listens when nothing else is asked for and the port is free.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// Runs the sandbox until a signal ends it; its directory goes with it.
///
/// When it is seeded it says so on standard output: as text, or with `json` as one line.
///
/// # Errors
/// When the address is taken, or the sandbox cannot be seeded.
pub async fn run(listen: Option<SocketAddr>, json: bool) -> anyhow::Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("postroom-sandbox-").tempdir()?;
    let listener = bind(listen)?;
    let address = listener.local_addr()?;
    let app = App::open(settings(dir.path(), address)?, Clock::system()).await?;
    let url = app.config.public_url();
    let opening = async {
        let opened = tokio::select! {
            opened = open(&app, &url, json) => opened,
            () = app.shutdown.stopping() => Ok(()),
        };
        if opened.is_err() {
            app.shutdown.stop();
        }
        opened
    };
    let metrics = telemetry::start_metrics()?;
    let (code, opened) = tokio::join!(Box::pin(api::run(app.clone(), listener, metrics)), Box::pin(opening));
    opened.context("the sandbox cannot be seeded")?;
    dir.close().context("the sandbox's directory cannot be removed")?;
    code
}

/// The settings of a sandbox in `dir`; no file and no variable has a say.
fn settings(dir: &Path, address: SocketAddr) -> anyhow::Result<Config> {
    let text = format!(
        "[storage]\ndata_dir = {:?}\n[http]\nlisten = \"{address}\"\nworkers = 2\n[sandbox]\nenabled = true\n",
        dir.display().to_string()
    );
    Ok(Config::from_toml(&text)?)
}

/// The address asked for, which has to be free; otherwise the usual one, or any free port.
fn bind(listen: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let listener = match listen {
        Some(address) => {
            TcpListener::bind(address).with_context(|| format!("--listen: cannot listen on {address}"))?
        }
        None => TcpListener::bind(DEFAULT_LISTEN).or_else(|_| TcpListener::bind("127.0.0.1:0"))?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn open(app: &App, url: &str, json: bool) -> anyhow::Result<()> {
    people::make(app).await?;
    seed::seed(app, url).await?;
    Welcome::new(url).say(json)
}
