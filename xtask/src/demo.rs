//! `cargo xtask demo`: sends the samples to a running stack, then WebSocket, server-sent events and gRPC by
//! hand, and shows each request, its response, and where the time went.

mod chat;
mod collab;
mod expect;
mod http_file;
mod json_path;
mod live;
mod protocol;
mod report;
mod rpc;
mod samples;
mod sse;
mod timing;
mod tokens;
mod variables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use self::report::Report;
pub use self::timing::Hop;
pub use self::tokens::Tokens;

use self::report::Printer;
use crate::running::Running;
use crate::token::{http_client, runtime};

/// What `cargo xtask demo` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The gateway's public address [default: the running stack's]
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Take the tokens from the composed stack's gateway (docker compose exec)
    #[arg(long)]
    compose: bool,
    /// Print the results as JSON instead
    #[arg(long)]
    json: bool,
    /// The folder with the .http files [default: the repository's]
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// The folder with the contracts, for gRPC [default: proto beside the samples]
    #[arg(long, value_name = "DIR")]
    proto: Option<PathBuf>,
}

/// A running stack and who asks it.
pub struct Target {
    /// `http://host:port` of the public listener.
    pub base: String,
    /// The tokens of the two users that the samples know.
    pub tokens: Tokens,
    client: reqwest::Client,
}

impl Target {
    /// `base` without a path.
    pub fn new(base: &str, tokens: Tokens) -> Result<Self> {
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { client: http_client(&base)?, base, tokens })
    }
}

/// `false` when a sample failed.
pub fn run(args: &Args) -> Result<bool> {
    let root = crate::root();
    let base = match (&args.base, args.compose) {
        (Some(base), _) => base.clone(),
        (None, true) => "http://127.0.0.1:8080".into(),
        (None, false) => Running::url(&root, "public")?,
    };
    let samples = args.samples.clone().unwrap_or_else(|| root.join("samples"));
    let proto =
        args.proto.clone().unwrap_or_else(|| samples.parent().unwrap_or(Path::new(".")).join("proto"));
    let reports = runtime()?.block_on(async {
        let tokens = Tokens::get(&root, args.compose).await?;
        execute(&Target::new(&base, tokens)?, &samples, &proto, !args.json).await
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(reports.iter().all(|report| report.ok))
}

/// Runs everything, and prints it if `verbose`. An error means that it could not run; failures are in the reports.
pub async fn execute(target: &Target, samples: &Path, proto: &Path, verbose: bool) -> Result<Vec<Report>> {
    let mut printer = Printer::new(verbose, target);
    target.client.get(format!("{}/healthz", target.base)).send().await.with_context(|| {
        format!(
            "nothing answers at {}: start the stack with `cargo xtask up`, or name it with --base",
            target.base
        )
    })?;
    samples::run(target, samples, &mut printer).await?;
    live::change_feed(target, &mut printer).await;
    collab::edit_together(target, &mut printer).await;
    chat::resume(target, &mut printer).await;
    rpc::run(target, proto, &mut printer).await;
    Ok(printer.finish())
}
