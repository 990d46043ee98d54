//! `cargo xtask token`: a user's token from the running gateway's development issuer.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::running::Running;

/// What a demo user may do: everything that the samples do.
pub const SCOPES: &str = "notes text.embed text.analyze text.extract assistant.chat";

/// What `cargo xtask token` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose token: the samples know alice and bob
    subject: String,
    /// The scopes, separated by spaces
    #[arg(long, default_value = SCOPES)]
    scope: String,
    /// How long it is valid, in seconds
    #[arg(long, default_value_t = 3600)]
    ttl: u64,
    /// The gateway's admin listener [default: the running stack's]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

/// Prints the token alone, so that `ALICE=$(cargo xtask token alice)` works.
pub fn run(args: &Args) -> Result<bool> {
    let admin = match &args.admin {
        Some(admin) => admin.clone(),
        None => Running::url(&crate::root(), "admin")?,
    };
    println!("{}", runtime()?.block_on(fetch(&admin, &args.subject, &args.scope, args.ttl))?);
    Ok(true)
}

/// Asks the development issuer for a token.
pub async fn fetch(admin: &str, subject: &str, scope: &str, ttl_seconds: u64) -> Result<String> {
    let url = format!("{}/dev/token", admin.trim_end_matches('/'));
    let body = json!({ "sub": subject, "scope": scope, "ttl_seconds": ttl_seconds });
    let request = http_client(&url)?.post(&url).json(&body);
    let response = request.send().await.with_context(|| {
        format!("no gateway answers at {url}: start the stack with `cargo xtask up`, or name it with --admin")
    })?;
    let status = response.status();
    let text = response.text().await?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    match answer["token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => {
            bail!("{url} answers {status} instead of a token (its development issuer may be off): {text}")
        }
    }
}

/// A runtime for a command's requests.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// An HTTP client for one base URL; without TLS it needs no certificates, which a small image may lack.
pub(crate) fn http_client(base: &str) -> Result<reqwest::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let builder = if base.starts_with("https:") { builder } else { builder.tls_certs_only([]) };
    builder.build().context("cannot make an HTTP client")
}
