//! The gateway program.

use anyhow::Context;
use clap::{Parser, Subcommand};
use gateway::{
    Gateway, Options,
    config::{self, LogFormat},
    identity::DevIssuer,
};
use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One front door for Node.js and Python services.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until stopped by SIGTERM or Ctrl-C; SIGHUP reloads.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Issue tokens to anybody on the admin listener. Development only; needs loopback listeners.
        #[arg(long)]
        dev_issuer: bool,
    },
    /// Check a configuration with this environment and exit.
    CheckConfig {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Print the OpenAPI document of the contracts.
    Openapi {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Include what services alone can call, on the internal listener.
        #[arg(long)]
        internal: bool,
    },
    /// Ask a running gateway whether it is ready; for containers.
    Healthcheck {
        /// What to ask.
        #[arg(long, default_value = "http://127.0.0.1:8080/readyz")]
        url: String,
    },
    /// Print an access token, signed with the configured HS256 secret.
    Token {
        /// The configuration file.
        #[arg(long, default_value = "gateway/gateway.toml")]
        config: PathBuf,
        /// Whom the token is for.
        #[arg(long)]
        sub: String,
        /// Scopes, separated by spaces.
        #[arg(long, default_value = "")]
        scope: String,
        /// How long it is valid.
        #[arg(long, default_value_t = 3600)]
        ttl_seconds: u64,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { config, dev_issuer } => run(config, dev_issuer),
        Command::CheckConfig { config } => check(&config),
        Command::Openapi { config, internal } => openapi(&config, internal),
        Command::Healthcheck { url } => healthcheck(&url),
        Command::Token { config, sub, scope, ttl_seconds } => token(&config, &sub, &scope, ttl_seconds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: PathBuf, dev_issuer: bool) -> anyhow::Result<()> {
    let config = config::load(&path)?;
    start_logs(&config.log)?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let gateway = Gateway::start(config, Options { source: Some(path), dev_issuer }).await?;
        until_stopped(&gateway).await?;
        tracing::info!("stopping");
        gateway.stop().await;
        Ok(())
    })
}

/// Every connection takes a file descriptor: as many as the system lets this process have.
fn raise_descriptors() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, most) {
            tracing::warn!(%error, "the limit of file descriptors stays at {:?}", limit.current);
        }
    }
}

/// Returns on SIGTERM or SIGINT; reloads on SIGHUP.
#[cfg(unix)]
async fn until_stopped(gateway: &Gateway) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt, mut hangup) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // The reloader logs what came of it.
            _ = hangup.recv() => drop(gateway.reload().await),
        }
    }
}

#[cfg(not(unix))]
async fn until_stopped(_gateway: &Gateway) -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

fn start_logs(log: &config::Log) -> anyhow::Result<()> {
    use tracing_subscriber::{
        Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
    };
    let filter: Targets = log.level.parse().with_context(|| {
        format!("log.level: {:?} is not valid: expected error, warn, info, debug, trace or off", log.level)
    })?;
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Human => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines).with(filter).init();
    Ok(())
}

fn check(path: &std::path::Path) -> anyhow::Result<()> {
    let config = config::load(path)?;
    Gateway::check(config)?;
    println!("{}: ok", path.display());
    Ok(())
}

fn openapi(path: &std::path::Path, internal: bool) -> anyhow::Result<()> {
    let document = Gateway::openapi(config::load(path)?, internal)?;
    println!("{document:#}");
    Ok(())
}

fn healthcheck(url: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?;
        client.get(url).send().await?.error_for_status()?;
        Ok(())
    })
}

fn token(path: &std::path::Path, sub: &str, scope: &str, ttl_seconds: u64) -> anyhow::Result<()> {
    let config = config::load(path)?;
    let secret = config.identity.hs256_secret.as_ref().context("identity.hs256_secret: is not set")?;
    let issuer = DevIssuer::new(&config.identity, secret.bytes());
    println!("{}", issuer.token(sub, scope, Duration::from_secs(ttl_seconds))?);
    Ok(())
}
