//! The command line of Postroom.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use actix_web::rt::{System, SystemRunner};
use anyhow::Context;
use clap::{Parser, Subcommand};
use postroom::{
    access::bootstrap,
    api,
    app::{App, migrate},
    clock::Clock,
    config::{Config, Log, LogFormat},
    sandbox, telemetry,
};

/// glibc's keeps tens of megabytes for each thread that had them once.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The e-mail and SMS side of a contact centre, as a REST service.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; `postroom.toml` in the working directory when it is left out.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve,
    /// Run the whole service on sample data in a temporary directory; nothing is sent, nothing is kept.
    Sandbox {
        /// Where to listen; 127.0.0.1:8080, or a free port when that is taken, if left out.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Print address and logins as one line of JSON.
        #[arg(long)]
        json: bool,
        /// What to log to standard error.
        #[arg(long, value_name = "FILTER", default_value = "warn")]
        log_level: String,
    },
    /// Bring the database up to date and end.
    Migrate,
    /// Print the OpenAPI document.
    Openapi,
    /// Check the settings and print them, without secrets.
    CheckConfig,
    /// Make a further administrator; prints a one-time password unless one is given.
    CreateAdmin {
        /// The login name.
        #[arg(long)]
        username: String,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "postroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Command::Openapi = arguments.command {
        return print(&serde_json::to_string_pretty(&api::document()?)?);
    }
    if let Command::Sandbox { listen, json, log_level } = arguments.command {
        return sandbox(listen, json, log_level);
    }
    let config = Config::load(arguments.config)?;
    if let Command::CheckConfig = arguments.command {
        return print(&serde_json::to_string_pretty(&config)?);
    }
    telemetry::start_logs(&config.log).context("log.level")?;
    install_tls();
    runtime()?.block_on(async move {
        match arguments.command {
            Command::Migrate => {
                std::fs::create_dir_all(&config.storage.data_dir)?;
                migrate(&config).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::CreateAdmin { username, password_stdin } => {
                create_admin(config, &username, password_stdin).await
            }
            _ => serve(config).await,
        }
    })
}

fn install_tls() {
    // A provider that was installed before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn sandbox(listen: Option<SocketAddr>, json: bool, level: String) -> anyhow::Result<ExitCode> {
    telemetry::start_logs(&Log { level, format: LogFormat::Text }).context("--log-level")?;
    install_tls();
    runtime()?.block_on(sandbox::run(listen, json))
}

/// Workers of the background loops, beside those that serve requests: one mailbox must not wait for another's parsing.
fn runtime() -> anyhow::Result<SystemRunner> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the runtime cannot be started")?;
    Ok(System::with_tokio_rt(|| runtime))
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(&config.http.listen)
        .with_context(|| format!("http.listen: cannot listen on {}", config.http.listen))?;
    listener.set_nonblocking(true)?;
    let metrics = telemetry::start_metrics()?;
    let app = App::open(config, Clock::system()).await?;
    bootstrap::first_admin(&app).await.context("the first administrator cannot be made")?;
    api::run(app, listener, metrics).await
}

async fn create_admin(config: Config, username: &str, password_stdin: bool) -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    if password_stdin {
        std::io::stdin().read_line(&mut line).context("--password-stdin")?;
    }
    let password = password_stdin.then(|| line.trim_end_matches(['\r', '\n']));
    let app = App::open(config, Clock::system()).await?;
    match bootstrap::create_admin(&app, username, password).await? {
        Some(one_time) => print(&format!("One-time password: {one_time}")),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
